//! The command line: its words, its help and its exit codes.

pub mod args;
pub mod exit;

use clap::Parser;

use crate::logging;
use args::{Arguments, Command};
pub use exit::{ExitCode, Failure};

/// Parses the command line, does what it says, and tells the user why if that fails.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(told) => {
            // Help and version are no errors; a reader that has gone is none of ours.
            let _ = told.print();
            return match told.use_stderr() {
                true => ExitCode::Usage,
                false => ExitCode::Done,
            };
        }
    };
    logging::start(arguments.logging());
    let outcome = match arguments.command {
        Command::Run(_) | Command::Validate(_) | Command::Explain(_) | Command::Produce(_) => {
            Ok(ExitCode::Done)
        }
    };
    outcome.unwrap_or_else(|failure: Failure| {
        eprintln!("{failure}");
        failure.code
    })
}
