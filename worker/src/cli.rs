//! The command line: its words, its help and its exit codes.

pub mod args;
pub mod exit;
pub mod job;
mod produce;

use std::io::{self, Write};
use std::path::Path;

use clap::Parser;
use streamjob_core::plan::{self, JobPlan, SourceKind};

use crate::forget;
use crate::logging;
use crate::run;
use crate::serve;
use crate::snapshot;
use crate::source::file::resolve;
use args::{
    Arguments, Command, ForgetArgs, JobArgs, RestoreArgs, RunArgs, ServeArgs, SnapshotArgs,
};
pub use exit::{ExitCode, Failure};
use job::Job;

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
    let outcome = match &arguments.command {
        Command::Run(run) => run_job(run),
        Command::Serve(serve) => serve_job(serve),
        Command::Snapshot(snapshot) => take_snapshot(snapshot),
        Command::Restore(restore) => restore_job(restore),
        Command::Forget(forget) => forget_job(forget),
        Command::Validate(job) => validate(job),
        Command::Explain(job) => explain(job),
        Command::Produce(produce) => produce::produce(produce),
    };
    outcome.unwrap_or_else(|failure| {
        eprintln!("{failure}");
        failure.code
    })
}

fn run_job(args: &RunArgs) -> Result<ExitCode, Failure> {
    let job = load(&args.job)?;
    run::run(&job, args)
}

fn serve_job(args: &ServeArgs) -> Result<ExitCode, Failure> {
    let job = load(&args.job)?;
    serve::serve(&job, args)
}

fn take_snapshot(args: &SnapshotArgs) -> Result<ExitCode, Failure> {
    let job = load(&args.job)?;
    snapshot::take::take(&job, args)
}

fn restore_job(args: &RestoreArgs) -> Result<ExitCode, Failure> {
    let job = load(&args.job)?;
    snapshot::restore::restore(&job, args)
}

fn forget_job(args: &ForgetArgs) -> Result<ExitCode, Failure> {
    let job = load(&args.job)?;
    forget::forget(&job, args)
}

fn validate(args: &JobArgs) -> Result<ExitCode, Failure> {
    let job = load(args)?;
    print(&format!(
        "{}: job {}/{} is valid\n",
        args.path.display(),
        job.namespace,
        job.name
    ))
}

fn explain(args: &JobArgs) -> Result<ExitCode, Failure> {
    let job = Job::load(&args.path)?;
    let partitions = partitions(&job.plan, &job.folder);
    print(&plan::explain(&job.plan, partitions.as_deref()))
}

/// Reads the job, and tells what is doubtful about it.
fn load(args: &JobArgs) -> Result<Job, Failure> {
    let job = Job::load(&args.path)?;
    if !job.warnings.is_empty() {
        eprint!("{}", job.warnings);
    }
    Ok(job)
}

/// Partitions by source, where none has to be asked for: `None` for a job with Kafka sources or missing files.
fn partitions(plan: &JobPlan, folder: &Path) -> Option<Vec<u32>> {
    let sources = plan.sources.iter().map(|source| match &source.kind {
        SourceKind::Kafka(_) => None,
        SourceKind::File(file) => {
            let files = resolve(folder, &file.path).ok()?;
            u32::try_from(files.len()).ok()
        }
        SourceKind::Generate(generate) => Some(generate.partitions),
    });
    sources.collect()
}

/// To the standard output. A reader that has gone wants no more.
fn print(text: &str) -> Result<ExitCode, Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(ExitCode::Usage, error))
        }
        _ => Ok(ExitCode::Done),
    }
}
