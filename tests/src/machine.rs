//! Processes of this machine that are nobody's children here: found by what they are, signalled by their id.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

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

/// CPU time that a process has used so far (user and system) and its resident memory in bytes, from `/proc`.
pub fn usage(pid: i32) -> Result<(Duration, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name, which may hold spaces: state is field 3, utime 14, stime 15, rss 24.
    let rest = stat
        .rsplit_once(')')
        .context("no name in /proc/PID/stat")?
        .1;
    let fields: Vec<u64> = rest
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    // SAFETY: plain system calls.
    let (tick, page) = unsafe {
        (
            libc::sysconf(libc::_SC_CLK_TCK),
            libc::sysconf(libc::_SC_PAGESIZE),
        )
    };
    let cpu = Duration::from_secs_f64((fields[11] + fields[12]) as f64 / tick as f64);
    Ok((cpu, fields[21] * page.unsigned_abs()))
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
