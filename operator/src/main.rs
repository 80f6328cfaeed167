//! `streamjob-operator`: turns StreamJobs into running fleets. See `streamjob-operator run --help`.
//!
//! In reading order: `run` starts the `controller`, whose `reconcile` observes (`cluster`, `probe`), validates, decides
//! (`placement`, `autoscale`), plans, applies, and reports (`status`). `snapshot`, `restore` and `deletion` have the worker do
//! what needs the job's servers, by a `task`. Beside it all the `webhook` refuses what is wrong at once.

mod apply;
mod autoscale;
mod cli;
mod cluster;
mod controller;
mod decide;
mod deletion;
mod events;
mod finalizer;
mod generated;
mod http;
mod merge;
mod metrics;
mod names;
mod observe;
mod placement;
mod plan;
mod probe;
mod restore;
mod run;
mod snapshot;
mod status;
mod task;
mod upgrade;
mod validate;
mod webhook;
mod workers;

use std::io::IsTerminal;

use clap::Parser;
use cli::{Arguments, Command, RunArgs};
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Run(args) => run(args)?,
        Command::Crds { plural } => print!("{}", generated::crds(plural.as_deref())?),
        Command::Reference => print!("{}", generated::reference()?),
    }
    Ok(())
}

fn run(args: RunArgs) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(run::run(args))
}
