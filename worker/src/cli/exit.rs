//! How the worker ends: exit codes, and failures that carry one.

use std::fmt;

/// What the process tells whoever started it. A supervisor restarts on `Unreachable` and anything unexpected, and on no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// The bounded input is done, or a signal ended the job in good order.
    Done = 0,
    /// The manifest (or what it names on this machine) is wrong; nothing ran.
    BadManifest = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Going on would risk lost or doubled rows. The message names what a user may do about it.
    Refused = 70,
    /// Servers cannot be reached: start again later.
    Unreachable = 75,
    /// Another worker has taken over: starting again would take it back.
    TakenOver = 78,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        std::process::ExitCode::from(code as u8)
    }
}

/// All that is wrong with a job file, rendered for a terminal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Problems(pub String);

/// Why a command ends early, and with which code. Printed as `error: …`, causes below.
#[derive(Debug)]
pub struct Failure {
    pub code: ExitCode,
    pub error: anyhow::Error,
}

impl Failure {
    pub fn new(code: ExitCode, error: impl Into<anyhow::Error>) -> Self {
        Failure {
            code,
            error: error.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(problems) = self.error.downcast_ref::<Problems>() {
            return write!(f, "{}", problems.0.trim_end());
        }
        write!(f, "error: {}", self.error)?;
        let mut last = self.error.to_string();
        for cause in self.error.chain().skip(1) {
            let text = cause.to_string();
            // Transparent errors repeat their cause.
            if text != last {
                write!(f, "\n  because {text}")?;
            }
            last = text;
        }
        Ok(())
    }
}
