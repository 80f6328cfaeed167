//! The built `streamjob-worker` as a process: started, watched over HTTP, frozen, killed.

use std::env;
use std::ffi::OsStr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::{Process, wait_until};

/// Exit codes of the command line.
pub mod exit {
    pub const DONE: i32 = 0;
    pub const BAD_MANIFEST: i32 = 1;
    pub const USAGE: i32 = 2;
    pub const REFUSED: i32 = 70;
    pub const UNREACHABLE: i32 = 75;
    pub const TAKEN_OVER: i32 = 78;
    /// As `Process::wait` tells a death by SIGKILL.
    pub const KILLED: i32 = -9;
}

/// How long a small run may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

static NEXT: AtomicU32 = AtomicU32::new(0);

pub struct Worker {
    process: Process,
}

impl Worker {
    /// `streamjob-worker <arguments>`, its output in `folder`. Runs in `folder` too.
    pub fn start<A: AsRef<OsStr>>(
        folder: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Worker> {
        let name = format!("worker-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut command = Command::new(binary("streamjob-worker")?);
        command
            .args(arguments)
            .current_dir(folder)
            .env("RUST_BACKTRACE", "1");
        command.env("AWS_ACCESS_KEY_ID", crate::servers::s3::ACCESS_KEY);
        command.env("AWS_SECRET_ACCESS_KEY", crate::servers::s3::SECRET_KEY);
        Ok(Worker {
            process: Process::start(command, &name, folder)?,
        })
    }

    /// `streamjob-worker run <job> <arguments>`.
    pub fn run(folder: &Path, job: &Path, arguments: &[&str]) -> Result<Worker> {
        let mut all = vec![OsStr::new("run"), job.as_os_str()];
        all.extend(arguments.iter().map(OsStr::new));
        Worker::start(folder, all)
    }

    /// Where it serves HTTP: read from what it prints.
    pub fn address(&self) -> Result<String> {
        let found = wait_until(PATIENCE, || {
            let printed = self.stdout() + &self.stderr();
            let address = http_address(&printed);
            (address.is_some() || self.ended().is_some()).then_some(address)
        });
        match found.flatten() {
            Some(address) => Ok(address),
            None => bail!(
                "the worker printed no HTTP address; its log ends:\n{}",
                self.tail()
            ),
        }
    }

    /// Body of `GET <path>`.
    pub fn get(&self, path: &str) -> Result<String> {
        let url = format!("http://{}{path}", self.address()?);
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(5)))
            .build()
            .new_agent();
        agent
            .get(&url)
            .call()
            .with_context(|| url.clone())?
            .body_mut()
            .read_to_string()
            .context(url)
    }

    /// `GET /status`.
    pub fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.get("/status")?)?)
    }

    /// The value of a metric in `GET /metrics`, summed over its labels.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let text = self.get("/metrics")?;
        let samples = text
            .lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name));
        Ok(samples
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }

    /// Waits for an exit and insists on its code.
    pub fn expect_exit(&self, code: i32) -> Result<()> {
        let got = self.wait(PATIENCE)?;
        if got != code {
            bail!(
                "the worker exited with {got} instead of {code}; its log ends:\n{}",
                self.tail()
            );
        }
        Ok(())
    }

    /// Everything it has printed, on both outputs.
    pub fn said(&self) -> String {
        self.stdout() + &self.stderr()
    }

    /// Waits until it has printed `text`.
    pub fn expect_said(&self, text: &str) -> Result<()> {
        wait_until(PATIENCE, || self.said().contains(text).then_some(())).with_context(|| {
            format!(
                "the worker does not say `{text}`; its log ends:\n{}",
                self.tail()
            )
        })
    }
}

impl Deref for Worker {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

/// `<host>:<port>` in the line that tells it.
fn http_address(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("listening on http://")?;
    // A line that is still being written has no end yet.
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !".:[]-".contains(c))?;
    Some(rest[..end].to_string())
}

/// A binary of this workspace: in `$STREAMJOB_BIN_DIR`, else beside the test's own executable.
pub fn binary(name: &str) -> Result<PathBuf> {
    if let Some(folder) = env::var_os("STREAMJOB_BIN_DIR") {
        return Ok(PathBuf::from(folder).join(name));
    }
    let test = env::current_exe()?;
    let found = test
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    found.with_context(|| {
        format!("{name} is not beside {}: build the workspace first (`make test` does), or set STREAMJOB_BIN_DIR", test.display())
    })
}
