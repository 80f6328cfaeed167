//! Child processes that cannot outlive the test process, however that one ends.
//!
//! Each is started with `PR_SET_PDEATHSIG`, from a thread that lives as long as the process: the signal comes when the
//! *thread* that started a child ends, and test threads end early.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::failure::failing;
use crate::machine;

/// How often conditions are looked at.
pub const LOOK: Duration = Duration::from_millis(20);

static CHILDREN: Mutex<Vec<i32>> = Mutex::new(Vec::new());

/// A running (or ended) child. Killed when dropped.
pub struct Process {
    name: String,
    pid: i32,
    child: Mutex<Child>,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command`; its output is appended to `<folder>/<name>.out` and `<folder>/<name>.log` (standard error).
    pub fn start(mut command: Command, name: &str, folder: &Path) -> Result<Process> {
        let stdout = folder.join(format!("{name}.out"));
        let stderr = folder.join(format!("{name}.log"));
        command
            .stdin(Stdio::null())
            .stdout(append(&stdout)?)
            .stderr(append(&stderr)?);
        let child = spawn(command).with_context(|| format!("starting {name}"))?;
        let pid = i32::try_from(child.id()).context("process ids fit 31 bits")?;
        lock(&CHILDREN).push(pid);
        Ok(Process {
            name: name.into(),
            pid,
            child: Mutex::new(child),
            stdout,
            stderr,
        })
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// What it has written so far to standard output, since the file was begun.
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// What it has written so far to standard error, since the file was begun.
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    pub fn stderr_path(&self) -> &Path {
        &self.stderr
    }

    /// Sends a signal, unless the process has ended.
    pub fn signal(&self, signal: i32) {
        // Under the lock, so that nobody reaps the child (and frees its id) in between.
        let mut child = lock(&self.child);
        if matches!(child.try_wait(), Ok(None)) {
            // SAFETY: plain system call on a child that has not been reaped.
            unsafe { libc::kill(self.pid, signal) };
        }
    }

    /// Ends it at once, and waits until it is gone.
    pub fn kill9(&self) {
        self.signal(libc::SIGKILL);
        let _ = lock(&self.child).wait();
        lock(&CHILDREN).retain(|pid| *pid != self.pid);
    }

    pub fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Freezes it (SIGSTOP).
    pub fn freeze(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&self) {
        self.signal(libc::SIGCONT);
    }

    /// Its exit status, if it has ended.
    pub fn ended(&self) -> Option<ExitStatus> {
        lock(&self.child).try_wait().ok().flatten()
    }

    /// Waits for it to end by itself, and says how: its exit code, or minus the signal that killed it.
    pub fn wait(&self, limit: Duration) -> Result<i32> {
        let status = wait_until(limit, || self.ended());
        match status {
            Some(status) => Ok(status
                .code()
                .unwrap_or_else(|| -status.signal().unwrap_or(0))),
            None => bail!(
                "{} (pid {}) still runs after {limit:?}; its log ends:\n{}",
                self.name,
                self.pid,
                self.tail()
            ),
        }
    }

    /// The end of its log, for messages.
    pub fn tail(&self) -> String {
        let text = self.stderr();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// CPU time used so far and resident memory in bytes.
    pub fn usage(&self) -> Result<(Duration, u64)> {
        machine::usage(self.pid)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
        if failing() {
            eprintln!(
                "{} (pid {}) logged to {}; it ends:\n{}",
                self.name,
                self.pid,
                self.stderr.display(),
                self.tail()
            );
        }
    }
}

/// Looks until something is found, or gives up after `limit`.
pub fn wait_until<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if start.elapsed() > limit {
            return None;
        }
        thread::sleep(LOOK);
    }
}

/// Ends what still runs. For the end of the test process only.
pub fn kill_all_children() {
    for pid in lock(&CHILDREN).drain(..) {
        // SAFETY: plain system calls on our own children, which nobody else reaps any more.
        unsafe {
            libc::kill(pid, libc::SIGKILL);
            libc::waitpid(pid, std::ptr::null_mut(), 0);
        }
    }
}

/// What a panic elsewhere left is as good as anything a failing test can see.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn read_lossy(path: &Path) -> String {
    std::fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

type Order = (Command, Sender<io::Result<Child>>);

fn spawn(mut command: Command) -> Result<Child> {
    static SPAWNER: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, received) = channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in received {
                // Whoever ordered it waits for the answer.
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    // SAFETY: only an async-signal-safe call between fork and exec.
    unsafe {
        command.pre_exec(
            || match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            },
        );
    }
    let (reply, answer) = channel();
    lock(spawner)
        .send((command, reply))
        .context("the thread that starts processes is gone")?;
    Ok(answer
        .recv()
        .context("the thread that starts processes is gone")??)
}
