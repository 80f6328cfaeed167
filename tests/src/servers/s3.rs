//! An S3 server (versitygw over a folder). Its bucket is a folder, its objects are files: easy to look at.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{install, ports};
use crate::process::{Process, lock, wait_until};
use crate::scratch::Scratch;

pub const BUCKET: &str = "streams";
pub const REGION: &str = "us-east-1";
pub const ACCESS_KEY: &str = "streamjob-access";
pub const SECRET_KEY: &str = "streamjob-secret";

pub struct S3 {
    // The process goes before its data.
    process: Mutex<Option<Process>>,
    host: String,
    port: u16,
    scratch: Scratch,
}

impl S3 {
    pub fn start() -> Result<S3> {
        S3::start_on("127.0.0.1")
    }

    /// On another address of this machine.
    pub fn start_on(host: &str) -> Result<S3> {
        let scratch = Scratch::new("s3");
        let server = S3 {
            process: Mutex::new(None),
            host: host.to_owned(),
            port: ports::free_port(),
            scratch,
        };
        std::fs::create_dir_all(server.bucket_folder())?;
        server.resume()?;
        Ok(server)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}:{}", self.host, self.port)
    }

    /// Where the bucket's objects are, as files.
    pub fn bucket_folder(&self) -> PathBuf {
        self.scratch.path().join("root").join(BUCKET)
    }

    /// Kills the server; the objects stay.
    pub fn stop(&self) {
        *lock(&self.process) = None;
    }

    /// Starts it again, on the same port.
    pub fn resume(&self) -> Result<()> {
        let mut command = Command::new(install::s3_binary()?);
        command.args([
            "--quiet",
            "--port",
            &format!("{}:{}", self.host, self.port),
            "posix",
        ]);
        command.arg(self.scratch.path().join("root"));
        command
            .env("ROOT_ACCESS_KEY", ACCESS_KEY)
            .env("ROOT_SECRET_KEY", SECRET_KEY);
        let process = Process::start(command, "s3", self.scratch.path())?;
        wait_until(Duration::from_secs(20), || {
            TcpStream::connect((self.host.as_str(), self.port)).ok()
        })
        .with_context(|| format!("the S3 server does not answer:\n{}", process.tail()))?;
        *lock(&self.process) = Some(process);
        Ok(())
    }
}
