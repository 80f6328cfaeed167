//! Logs: to stderr, as text or as JSON, filtered by `RUST_LOG`. The standard output is for rows.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::args::LogFormat;
use crate::progress;

/// Starts logging for the whole process; a second call changes nothing.
pub fn start((format, quiet): (LogFormat, bool)) {
    let level = if quiet { "warn" } else { "info" };
    // What libraries say at info is about themselves.
    let default = format!("warn,streamjob_worker={level},streamjob_core={level}");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(AboveProgress);
    // Only a logger that is there already can be in the way, and that one then logs.
    let _ = match format {
        LogFormat::Text => builder
            .with_target(false)
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// Writes a log line above the progress line, which is drawn again below it.
#[derive(Clone, Copy)]
struct AboveProgress;

impl<'a> MakeWriter<'a> for AboveProgress {
    type Writer = AboveProgress;

    fn make_writer(&'a self) -> AboveProgress {
        AboveProgress
    }
}

impl Write for AboveProgress {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        progress::print_above(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
