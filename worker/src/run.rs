//! The life of a job in this process: sets up, starts a thread for each slot, waits for their ends, brings it down.
//!
//! What has to be known before is resolved in `setup`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use streamjob_core::commit::{Identity, Settings, SlotProtocol, Term};
use streamjob_core::engine::input_name;
use streamjob_core::output::Target;
use streamjob_core::plan::{JournalPlan, SinkKind, plan_hash};

use crate::checkpoint::{CheckpointError, Checkpoints, StorageConfig};
use crate::cli::args::{LogFormat, RunArgs};
use crate::cli::job::Job;
use crate::cli::{ExitCode, Failure};
use crate::commit::file::FileLedger;
use crate::commit::kafka::{InternalInput, KafkaLedger, KafkaLedgerPlan};
use crate::commit::{Committer, Ledger};
use crate::driver::{Driver, DriverError, Ended};
use crate::http::Server;
use crate::journal::file::FileJournal;
use crate::metrics::Metrics;
use crate::names;
use crate::peers::{Peers, journals};
use crate::progress::{Progress, Show};
use crate::report::SlotReport;
use crate::secrets::Secrets;
use crate::setup::{JobJournal, Kafkas, Names, Setup, noted_checkpoints, refused, unreachable};
use crate::sink::ExternalSink;
use crate::sink::file::{Existing, FileSink};
use crate::sink::stdout::StdoutSink;
use crate::status::{Board, JobIdentity};
use crate::ticker::Ticker;

/// Runs the job until its end or a signal.
pub fn run(job: &Job, args: &RunArgs) -> Result<ExitCode, Failure> {
    let names = Names::of(job, args);
    let folder = args.secrets_dir.clone();
    let secrets = Secrets::new(folder.unwrap_or_else(|| job.folder.join("secrets")));
    let stop = Arc::new(AtomicBool::new(false));
    watch_signals(stop.clone())?;
    let kafkas = Kafkas::connect(job, &secrets, &names)?;
    let storage = storage(job, args)?;
    let checkpoints = Checkpoints::open(&storage, &names.uid, &secrets).map_err(bad_storage)?;
    if args.fresh {
        forget(job, &names, &kafkas, &args.state_dir, &checkpoints)?;
    }
    let setup = Setup::resolve(job, &names, &kafkas, &args.state_dir)?;
    let slots = setup.hosted(args)?;

    let identity = JobIdentity {
        namespace: names.namespace.clone(),
        name: names.name.clone(),
        uid: names.uid.clone(),
    };
    let metrics = Metrics::new(&identity).map_err(refused)?;
    let board = Arc::new(Board::new(identity));
    board.expect(slots.len());
    board.job_has(setup.layout.slots);
    let server = Server::start(args.listen, board.clone(), metrics.clone())
        .map_err(|error| Failure::new(ExitCode::Usage, error))?;
    tracing::info!("listening on http://{}", server.address());
    let _progress = Progress::start(board.clone(), show(job, args)).map_err(refused)?;
    let starter = Starter {
        job,
        args,
        names: &names,
        setup: &setup,
        checkpoints: &checkpoints,
        board: &board,
        metrics: &metrics,
    };
    let outcome = starter.run_slots(&slots, &stop);
    checkpoints.settle(Duration::from_secs(5));
    outcome
}

fn watch_signals(stop: Arc<AtomicBool>) -> Result<(), Failure> {
    crate::signals::on_terminate(move || stop.store(true, Ordering::Release))
        .map_err(|error| Failure::new(ExitCode::Refused, error))
}

fn storage(job: &Job, args: &RunArgs) -> Result<StorageConfig, Failure> {
    StorageConfig::of(&job.plan.spec, &job.folder, &args.state_dir).ok_or_else(|| {
        let told = anyhow!("checkpoint.storage names no S3 connection");
        Failure::new(ExitCode::BadManifest, told)
    })
}

/// A secret, bucket or folder that is wrong is the user's to mend; a server that does not answer may come back.
fn bad_storage(error: CheckpointError) -> Failure {
    let code = match error.is_unreachable() {
        true => ExitCode::Unreachable,
        false => ExitCode::BadManifest,
    };
    Failure::new(code, error)
}

/// How progress is shown beside the rows that the job itself prints.
fn show(job: &Job, args: &RunArgs) -> Show {
    let mut sinks = job.plan.sinks.iter();
    let on_stdout = sinks.any(|sink| matches!(sink.kind, SinkKind::Stdout));
    Show::suitable(args.quiet, args.log_format == LogFormat::Json, on_stdout)
}

/// Deletes what the job has noted: checkpoints, journal, internal topics. Output files are emptied when they are opened.
fn forget(
    job: &Job,
    names: &Names,
    kafkas: &Kafkas,
    state_dir: &Path,
    checkpoints: &Checkpoints,
) -> Result<(), Failure> {
    match noted_checkpoints(job, names, kafkas, state_dir) {
        Ok(noted) => noted.into_iter().for_each(|old| checkpoints.delete(old)),
        // A journal that cannot be read is no obstacle to forgetting it.
        Err(failure) => tracing::warn!("the checkpoints of before are left: {failure}"),
    }
    if let JournalPlan::Kafka { connection } = &job.plan.journal {
        let (_, admin) = kafkas.get(connection)?;
        let exchanges = job
            .plan
            .exchanges
            .iter()
            .map(|exchange| names::exchange_topic(&names.uid, &exchange.name));
        let topics: Vec<String> = std::iter::once(names::journal_topic(&names.uid))
            .chain(exchanges)
            .collect();
        let there: Vec<&str> = topics.iter().map(String::as_str).collect();
        admin.delete(&there).map_err(unreachable)?;
        admin
            .delete_group(&names::group(&names.uid))
            .map_err(unreachable)?;
    }
    let folder = state_dir.join(&names.uid);
    match std::fs::remove_dir_all(&folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(refused(anyhow!(
            "cannot delete {}: {error}",
            folder.display()
        ))),
    }
}

/// Starts slots and waits for them.
struct Starter<'a> {
    job: &'a Job,
    args: &'a RunArgs,
    names: &'a Names,
    setup: &'a Setup,
    checkpoints: &'a Checkpoints,
    board: &'a Arc<Board>,
    metrics: &'a Metrics,
}

impl Starter<'_> {
    /// Each slot has a thread. The first that must not go on brings the others down in good order.
    fn run_slots(&self, slots: &[u32], stop: &AtomicBool) -> Result<ExitCode, Failure> {
        let peers = Arc::new(Peers::new(self.setup.layout.all_tasks()));
        let _elsewhere = self.follow_others(slots, &peers)?;
        let files = self.file_sinks()?;
        let drivers = slots
            .iter()
            .map(|slot| self.driver(*slot, slots.len() as u32, &peers, &files))
            .collect::<Result<Vec<_>, _>>()?;
        let outcomes = std::thread::scope(|scope| {
            let threads: Vec<_> = drivers
                .into_iter()
                .map(|driver| {
                    scope.spawn(move || {
                        let outcome = driver.run(&|| stop.load(Ordering::Acquire));
                        if outcome.is_err() {
                            stop.store(true, Ordering::Release);
                        }
                        outcome
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join())
                .collect::<Vec<_>>()
        });
        conclude(outcomes)
    }

    /// Slots of other processes tell idle tasks here how far they are.
    fn follow_others(&self, slots: &[u32], peers: &Arc<Peers>) -> Result<Option<Ticker>, Failure> {
        let layout = &self.setup.layout;
        let elsewhere: Vec<u32> = (0..layout.slots)
            .filter(|slot| !slots.contains(slot))
            .collect();
        let JobJournal::Kafka { journal, .. } = &self.setup.journal else {
            return Ok(None);
        };
        if elsewhere.is_empty() {
            return Ok(None);
        }
        let here = slots
            .iter()
            .flat_map(|slot| self.setup.tasks(*slot))
            .collect();
        let names = layout
            .all_tasks()
            .into_iter()
            .map(|task| (input_name(&self.job.plan, task), task))
            .collect();
        journals::follow(peers.clone(), journal.clone(), here, elsewhere, names)
            .map(Some)
            .map_err(refused)
    }

    fn driver(
        &self,
        slot: u32,
        hosted: u32,
        peers: &Arc<Peers>,
        files: &BTreeMap<usize, FileSink>,
    ) -> Result<Driver, Failure> {
        let plan = &self.job.plan;
        let sinks = self.external_sinks(files);
        let identity = Identity {
            job: self.names.uid.clone(),
            slot,
            term: self.args.term.map_or(Term::AfterLast, Term::Given),
            owner: self.names.owner.clone(),
            incarnation: self.names.incarnation.clone(),
        };
        let settings = Settings {
            guarantee: plan.spec.guarantee,
            plan_hash: plan_hash(plan),
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
            retain: plan.spec.checkpoint.retain as usize,
            external_sinks: sinks.values().map(|(name, _)| name.clone()).collect(),
        };
        let committer = Committer::spawn(
            slot,
            SlotProtocol::new(identity, settings),
            self.ledger(slot)?,
            self.metrics.producer_restarts.clone(),
        )
        .map_err(refused)?;
        Ok(Driver {
            job: self.names.uid.clone(),
            slot,
            plan: plan.clone(),
            text: self.job.text.clone(),
            layout: self.setup.layout.clone(),
            tasks: self.setup.tasks(slot),
            committer,
            checkpoints: self.checkpoints.clone(),
            sinks,
            resolver: self.setup.resolver.clone(),
            peers: peers.clone(),
            report: SlotReport::new(plan.clone(), self.board.clone(), self.metrics.clone(), slot),
            term: 0,
            incarnation: self.names.incarnation.clone(),
            hosted,
        })
    }

    fn ledger(&self, slot: u32) -> Result<Box<dyn Ledger>, Failure> {
        match &self.setup.journal {
            JobJournal::File { folder } => Ok(Box::new(FileLedger::new(
                FileJournal::open(folder).map_err(refused)?,
            ))),
            JobJournal::Kafka {
                kafka,
                admin,
                journal,
            } => {
                let plan = KafkaLedgerPlan {
                    uid: self.names.uid.clone(),
                    slot,
                    guarantee: self.job.plan.spec.guarantee,
                    topics: self.topics(),
                    internal_inputs: self.internal_inputs(slot),
                };
                Ok(Box::new(KafkaLedger::new(
                    kafka.clone(),
                    admin.clone(),
                    journal.clone(),
                    plan,
                )))
            }
        }
    }

    /// Topics that are written in the transaction.
    fn topics(&self) -> BTreeMap<Target, String> {
        let sinks = self
            .job
            .plan
            .sinks
            .iter()
            .enumerate()
            .filter_map(|(index, sink)| match &sink.kind {
                SinkKind::Kafka(kafka) => Some((Target::Sink(index), kafka.topic.clone())),
                _ => None,
            });
        let exchanges = self
            .setup
            .exchange_topics
            .iter()
            .map(|(index, topic)| (Target::Exchange(*index), topic.topic.clone()));
        sinks.chain(exchanges).collect()
    }

    fn internal_inputs(&self, slot: u32) -> Vec<InternalInput> {
        let plan = &self.job.plan;
        let tasks = self.setup.tasks(slot).into_iter();
        tasks
            .filter_map(|task| {
                let exchange = task.stage.checked_sub(plan.sources.len())?;
                let topic = self.setup.exchange_topics.get(&exchange)?;
                Some(InternalInput {
                    input: input_name(plan, task),
                    topic: topic.topic.clone(),
                    partition: task.partition,
                })
            })
            .collect()
    }

    /// Output files are opened once and shared by the slots.
    fn file_sinks(&self) -> Result<BTreeMap<usize, FileSink>, Failure> {
        let mut files = BTreeMap::new();
        for (index, sink) in self.job.plan.sinks.iter().enumerate() {
            if let SinkKind::File(file) = &sink.kind {
                let existing = Existing {
                    overwrite: file.overwrite,
                    fresh: self.args.fresh,
                };
                let path = self.job.folder.join(&file.path);
                let opened = FileSink::open(&path, &self.names.uid, existing);
                files.insert(
                    index,
                    opened.map_err(|error| Failure::new(ExitCode::BadManifest, error))?,
                );
            }
        }
        Ok(files)
    }

    fn external_sinks(
        &self,
        files: &BTreeMap<usize, FileSink>,
    ) -> BTreeMap<usize, (String, Box<dyn ExternalSink>)> {
        let of = |index: usize| -> Option<Box<dyn ExternalSink>> {
            match &self.job.plan.sinks[index].kind {
                SinkKind::Kafka(_) => None,
                SinkKind::File(_) => files
                    .get(&index)
                    .map(|file| Box::new(file.clone()) as Box<dyn ExternalSink>),
                SinkKind::Stdout => Some(Box::<StdoutSink>::default()),
            }
        };
        (0..self.job.plan.sinks.len())
            .filter_map(|index| {
                Some((index, (self.job.plan.sinks[index].name.clone(), of(index)?)))
            })
            .collect()
    }
}

/// What the ends of all slots come to: the first failure, if there is one.
fn conclude(
    outcomes: Vec<std::thread::Result<Result<Ended, DriverError>>>,
) -> Result<ExitCode, Failure> {
    let mut done = true;
    for outcome in outcomes {
        match outcome {
            Ok(Ok(ended)) => done &= ended == Ended::Done,
            Ok(Err(error)) => return Err(failure(error)),
            Err(_) => {
                let told = "a slot's thread panicked: see above, and please report it";
                return Err(refused(anyhow!(told)));
            }
        }
    }
    match done {
        true => tracing::info!("done: all input is read, all rows are out"),
        false => tracing::info!("stopped; the next run goes on from here"),
    }
    Ok(ExitCode::Done)
}

fn failure(error: DriverError) -> Failure {
    let code = error.exit_code();
    match error {
        DriverError::Stopped(reason) => {
            Failure::new(code, anyhow!("{reason}\n  {}", reason.hint()))
        }
        other => Failure::new(code, other),
    }
}
