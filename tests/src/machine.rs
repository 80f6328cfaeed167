//! Processes of this machine that are nobody's children here: found by what they are, signalled by their id.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

/// Processes that run `program` with this text among their arguments.
pub fn running(program: &str, argument: &str) -> Vec<i32> {
    let is_it = |folder: &Path| {
        let line = fs::read(folder.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let mut arguments = line.split('\0');
        let name = arguments.next().and_then(|path| path.rsplit('/').next());
        name == Some(program) && arguments.any(|given| given.contains(argument))
    };
    found(is_it)
}

/// Processes that run `program` with this line in their environment.
pub fn running_with(program: &str, variable: &str) -> Vec<i32> {
    let runs = running(program, "");
    let is_it = |folder: &Path| {
        let environment = fs::read(folder.join("environ")).unwrap_or_default();
        let mut lines = environment.split(|byte| *byte == 0);
        lines.any(|line| line == variable.as_bytes())
    };
    found(is_it)
        .into_iter()
        .filter(|pid| runs.contains(pid))
        .collect()
}

/// Sends a signal to each of them; there must be some.
pub fn signal(pids: &[i32], signal: i32) -> Result<()> {
    ensure!(!pids.is_empty(), "there is no process to signal");
    for pid in pids {
        // SAFETY: plain system call.
        let sent = unsafe { libc::kill(*pid, signal) };
        ensure!(sent == 0, "cannot signal process {pid}");
    }
    Ok(())
}

fn found(is_it: impl Fn(&Path) -> bool) -> Vec<i32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            is_it(&entry.path()).then_some(pid)
        })
        .collect()
}
