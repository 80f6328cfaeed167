//! A certificate authority of our own and a broker's certificate for 127.0.0.1, made with `openssl`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::install::run;

/// PEM files.
pub struct Certificates {
    pub ca: PathBuf,
    /// Key and certificate chain in one file, as Kafka's PEM key stores are.
    pub broker: PathBuf,
}

pub fn make(folder: &Path) -> Result<Certificates> {
    fs::create_dir_all(folder)?;
    fs::write(
        folder.join("san"),
        // Loopback, and the host as pods of a cluster reach it.
        "subjectAltName=IP:127.0.0.1,IP:10.244.0.1,DNS:localhost\n",
    )?;
    openssl(
        folder,
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 30 -subj /CN=streamjob-tests",
    )?;
    openssl(
        folder,
        "req -newkey rsa:2048 -nodes -keyout broker.key -out broker.csr -subj /CN=localhost",
    )?;
    openssl(
        folder,
        "x509 -req -in broker.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out broker.crt -days 30 -extfile san",
    )?;
    let parts = ["broker.key", "broker.crt", "ca.crt"].map(|part| fs::read(folder.join(part)));
    let mut chain = Vec::new();
    for part in parts {
        chain.extend(part?);
    }
    let broker = folder.join("broker.pem");
    fs::write(&broker, chain)?;
    Ok(Certificates {
        ca: folder.join("ca.crt"),
        broker,
    })
}

fn openssl(folder: &Path, arguments: &str) -> Result<()> {
    run(Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder))
}
