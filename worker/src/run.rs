//! The life of a job in this process: opens what it needs, starts its slots, waits for their ends, brings it down.
//!
//! What has to be known before is resolved in `setup`; slots have their threads in `fleet`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use crossbeam_channel::{Receiver, never, select, unbounded};
use streamjob_core::commit::Term;
use streamjob_core::plan::SinkKind;

use crate::checkpoint::{Checkpoints, StorageConfig};
use crate::cli::args::{HostArgs, LogFormat, RunArgs};
use crate::cli::job::Job;
use crate::cli::{ExitCode, Failure};
use crate::driver::{DriverError, Ended};
use crate::fleet::{Fleet, Outcome};
use crate::forget::forget_state;
use crate::http::Server;
use crate::metrics::Metrics;
use crate::progress::{Progress, Show};
use crate::secrets::Secrets;
use crate::setup::{Kafkas, Names, Setup, bad_setting, refused};
use crate::status::{Board, JobIdentity};
use crate::version::Earlier;

/// Runs the job until its end or a signal.
pub fn run(job: &Job, args: &RunArgs) -> Result<ExitCode, Failure> {
    if let Some(from) = &job.plan.spec.restore_from {
        tracing::warn!(
            "restoreFrom is for clusters, and not looked at here: `streamjob-worker restore` lets a job go on from a snapshot such as `{}`",
            from.snapshot
        );
    }
    let stopped = stop_signal()?;
    let host = Host::open(job, &args.host, args.fresh)?;
    let slots = host.setup.hosted(args)?;
    host.board.expect(slots.len());
    let _progress = Progress::start(host.board.clone(), show(job, args)).map_err(refused)?;
    let mut fleet = Fleet::new(&host, args.fresh)?;
    let term = args.term.map_or(Term::AfterLast, Term::Given);
    for slot in slots {
        fleet.start(slot, term, None)?;
    }
    let outcomes = until_all_have_ended(&mut fleet, stopped);
    host.checkpoints.settle(SETTLE);
    conclude(outcomes)
}

/// How long deletes of old checkpoints may take at the end.
pub const SETTLE: Duration = Duration::from_secs(5);

/// Hears of the first signal.
pub fn stop_signal() -> Result<Receiver<()>, Failure> {
    let (stop, stopped) = unbounded();
    // Who does not listen any more is ending already.
    crate::signals::on_terminate(move || _ = stop.send(())).map_err(refused)?;
    Ok(stopped)
}

/// What is open before any slot starts.
pub struct Host<'a> {
    pub job: &'a Job,
    pub names: Names,
    pub checkpoints: Checkpoints,
    pub setup: Setup,
    pub earlier: Arc<Earlier>,
    pub board: Arc<Board>,
    pub metrics: Metrics,
    _server: Server,
}

impl<'a> Host<'a> {
    /// Serves HTTP, dials servers, resolves the job. `fresh`: forgets what it has noted.
    pub fn open(job: &'a Job, args: &HostArgs, fresh: bool) -> Result<Self, Failure> {
        let names = Names::of(job, args);
        let identity = JobIdentity {
            namespace: names.namespace.clone(),
            name: names.name.clone(),
            uid: names.uid.clone(),
        };
        let metrics = Metrics::new(&identity).map_err(refused)?;
        let board = Arc::new(Board::new(identity));
        let server = Server::start(args.listen, board.clone(), metrics.clone())
            .map_err(|error| Failure::new(ExitCode::Usage, error))?;
        tracing::info!("listening on http://{}", server.address());
        let folder = args.secrets_dir.clone();
        let secrets = Secrets::new(folder.unwrap_or_else(|| job.folder.join("secrets")));
        let kafkas = Kafkas::connect(job, &secrets, &names)?;
        let storage = storage(job, args)?;
        let checkpoints = Checkpoints::open(&storage, &names.uid, &secrets)
            .map_err(|error| bad_setting(error.is_unreachable(), error))?;
        if fresh {
            forget_state(job, &names, &kafkas, &args.state_dir, &checkpoints)?;
        }
        let setup = Setup::resolve(job, &names, &kafkas, &args.state_dir)?;
        board.job_has(setup.slot_count());
        let earlier = Earlier::new(job, &names, secrets, args.state_dir.clone());
        Ok(Host {
            job,
            names,
            checkpoints,
            setup,
            earlier: Arc::new(earlier),
            board,
            metrics,
            _server: server,
        })
    }
}

/// The first slot that must not go on brings the others down in good order, and so does a signal.
fn until_all_have_ended(fleet: &mut Fleet, mut stopped: Receiver<()>) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let ended = fleet.ended();
    while fleet.hosts_any() {
        select! {
            recv(stopped) -> _ => {
                stopped = never();
                fleet.end_all();
            }
            recv(ended) -> gone => if let Ok(gone) = gone {
                let outcome = fleet.gone(gone);
                if outcome.is_err() {
                    fleet.end_all();
                }
                outcomes.push(outcome);
            },
        }
    }
    outcomes
}

/// Where the job keeps its checkpoints.
pub fn storage(job: &Job, args: &HostArgs) -> Result<StorageConfig, Failure> {
    StorageConfig::of(&job.plan.spec, &job.folder, &args.state_dir).ok_or_else(|| {
        let told = anyhow!("checkpoint.storage names no S3 connection");
        Failure::new(ExitCode::BadManifest, told)
    })
}

/// How progress is shown beside the rows that the job itself prints.
fn show(job: &Job, args: &RunArgs) -> Show {
    let mut sinks = job.plan.sinks.iter();
    let on_stdout = sinks.any(|sink| matches!(sink.kind, SinkKind::Stdout));
    Show::suitable(
        args.quiet,
        args.host.log_format == LogFormat::Json,
        on_stdout,
    )
}

/// What the ends of all slots come to: the first failure, if there is one.
fn conclude(outcomes: Vec<Outcome>) -> Result<ExitCode, Failure> {
    let mut done = true;
    for outcome in outcomes {
        done &= outcome.map_err(failure)? == Ended::Done;
    }
    match done {
        true => tracing::info!("done: all input is read, all rows are out"),
        false => tracing::info!("stopped; the next run goes on from here"),
    }
    Ok(ExitCode::Done)
}

pub fn failure(error: DriverError) -> Failure {
    let code = error.exit_code();
    match error {
        DriverError::Stopped(reason) => {
            Failure::new(code, anyhow!("{reason}\n  {}", reason.hint()))
        }
        other => Failure::new(code, other),
    }
}
