//! The slots of this process: each has a thread. Slots are added and released while the others go on.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};
use streamjob_core::commit::{Identity, Settings, SlotProtocol, Term};
use streamjob_core::engine::input_name;
use streamjob_core::output::Target;
use streamjob_core::plan::SinkKind;

use crate::cli::{ExitCode, Failure};
use crate::commit::file::FileLedger;
use crate::commit::kafka::{InternalInput, KafkaLedger, KafkaLedgerPlan};
use crate::commit::{Committer, Ledger};
use crate::driver::{Asked, Driver, DriverError, Ended};
use crate::journal::file::FileJournal;
use crate::peers::Peers;
use crate::peers::journals::{self, Hosted};
use crate::report::SlotReport;
use crate::run::Host;
use crate::setup::{JobJournal, refused};
use crate::sink::ExternalSink;
use crate::sink::file::{Existing, FileSink};
use crate::sink::stdout::StdoutSink;
use crate::ticker::Ticker;
use crate::version::Version;

/// How a slot's thread ended.
pub type Outcome = Result<Ended, DriverError>;

pub struct Fleet<'a> {
    host: &'a Host<'a>,
    peers: Arc<Peers>,
    hosted: Arc<Hosted>,
    /// Tells idle tasks here how far the slots of other processes are.
    _elsewhere: Option<Ticker>,
    files: BTreeMap<usize, FileSink>,
    slots: BTreeMap<u32, Running>,
    ending: Sender<Gone>,
    ended: Receiver<Gone>,
}

struct Running {
    request: Arc<Request>,
    thread: JoinHandle<()>,
}

/// What a slot's thread is asked to do. An end that was asked for is not taken back.
#[derive(Default)]
struct Request(AtomicU8);

impl Request {
    fn ask(&self, asked: Asked) {
        self.0.fetch_max(asked as u8, Ordering::AcqRel);
    }

    fn asked(&self) -> Asked {
        const LET_GO: u8 = Asked::LetGo as u8;
        match self.0.load(Ordering::Acquire) {
            0 => Asked::GoOn,
            LET_GO => Asked::LetGo,
            _ => Asked::End,
        }
    }
}

/// A slot whose thread has nothing more to do; give it to [`Fleet::gone`].
pub struct Gone {
    pub slot: u32,
    outcome: Outcome,
}

impl<'a> Fleet<'a> {
    /// Without slots. `fresh`: output files are emptied.
    pub fn new(host: &'a Host<'a>, fresh: bool) -> Result<Self, Failure> {
        let peers = Arc::new(Peers::new(host.setup.layout.all_tasks()));
        let hosted = Arc::new(Hosted::default());
        let (ending, ended) = unbounded();
        Ok(Fleet {
            _elsewhere: follow_others(host, &peers, &hosted)?,
            files: file_sinks(host, fresh)?,
            host,
            peers,
            hosted,
            slots: BTreeMap::new(),
            ending,
            ended,
        })
    }

    /// Starts a slot. `since`: when it stood still on its way from another worker.
    pub fn start(&mut self, slot: u32, term: Term, since: Option<Instant>) -> Result<(), Failure> {
        self.hosted.add(slot);
        let mut driver = self.driver(slot, term)?;
        driver.report.placed(term, since);
        let request = Arc::new(Request::default());
        let (asked, ending) = (request.clone(), self.ending.clone());
        let thread = std::thread::Builder::new().name(format!("slot-{slot}"));
        let thread = thread
            .spawn(move || {
                let run = || driver.run(&|| asked.asked());
                let outcome = catch_unwind(AssertUnwindSafe(run));
                let outcome = outcome.unwrap_or(Err(DriverError::Panicked));
                // The fleet listens as long as it is there.
                let _ = ending.send(Gone { slot, outcome });
            })
            .map_err(refused)?;
        self.slots.insert(slot, Running { request, thread });
        Ok(())
    }

    /// Asks a slot to end for the sake of another worker, which waits for it.
    pub fn let_go(&self, slot: u32) {
        if let Some(running) = self.slots.get(&slot) {
            running.request.ask(Asked::LetGo);
        }
    }

    /// Asks all slots to commit, checkpoint and end.
    pub fn end_all(&self) {
        for running in self.slots.values() {
            running.request.ask(Asked::End);
        }
    }

    pub fn hosts_any(&self) -> bool {
        !self.slots.is_empty()
    }

    /// Slots that end come here.
    pub fn ended(&self) -> Receiver<Gone> {
        self.ended.clone()
    }

    /// Takes note that a slot has ended, and says how.
    pub fn gone(&mut self, gone: Gone) -> Outcome {
        self.hosted.remove(gone.slot);
        if let Some(running) = self.slots.remove(&gone.slot) {
            // It has said its last word.
            let _ = running.thread.join();
        }
        gone.outcome
    }

    /// A slot that has not begun.
    pub fn driver(&self, slot: u32, term: Term) -> Result<Driver, Failure> {
        let Host {
            job,
            names,
            board,
            metrics,
            ..
        } = self.host;
        let version = Version::new(job, &self.host.setup, slot);
        let report = SlotReport::new(job.plan.clone(), board.clone(), metrics.clone(), slot);
        let plan = &job.plan;
        let sinks = self.external_sinks();
        let identity = Identity {
            job: names.uid.clone(),
            slot,
            term,
            owner: names.owner.clone(),
            incarnation: names.incarnation.clone(),
        };
        let inputs = plan.sources.iter().map(|source| source.name.clone());
        let exchanges = plan.exchanges.iter().map(|exchange| exchange.name.clone());
        let settings = Settings {
            guarantee: plan.spec.guarantee,
            plan_hash: version.hash.clone(),
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
            retain: plan.spec.checkpoint.retain as usize,
            external_sinks: sinks.values().map(|(name, _)| name.clone()).collect(),
            inputs: inputs.chain(exchanges.clone()).collect(),
            exchanges: exchanges.collect(),
        };
        let committer = Committer::spawn(
            slot,
            SlotProtocol::new(identity, settings),
            self.ledger(slot)?,
            self.host.metrics.producer_restarts.clone(),
        )
        .map_err(refused)?;
        Ok(Driver {
            job: names.uid.clone(),
            slot,
            version,
            earlier: self.host.earlier.clone(),
            committer,
            checkpoints: self.host.checkpoints.clone(),
            sinks,
            peers: self.peers.clone(),
            report,
            term: 0,
            incarnation: names.incarnation.clone(),
            hosted: self.hosted.clone(),
        })
    }

    /// Where the slot's epochs and its journal are written.
    pub fn ledger(&self, slot: u32) -> Result<Box<dyn Ledger>, Failure> {
        match &self.host.setup.journal {
            JobJournal::File { folder } => Ok(Box::new(FileLedger::new(
                FileJournal::open(folder).map_err(refused)?,
            ))),
            JobJournal::Kafka {
                kafka,
                admin,
                journal,
            } => {
                let plan = KafkaLedgerPlan {
                    uid: self.host.names.uid.clone(),
                    slot,
                    guarantee: self.host.job.plan.spec.guarantee,
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
            .host
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
            .host
            .setup
            .exchange_topics
            .iter()
            .map(|(index, topic)| (Target::Exchange(*index), topic.topic.clone()));
        sinks.chain(exchanges).collect()
    }

    /// Partitions of internal topics that the slot reads.
    pub fn internal_inputs(&self, slot: u32) -> Vec<InternalInput> {
        let plan = &self.host.job.plan;
        let tasks = self.host.setup.tasks(slot).into_iter();
        tasks
            .filter_map(|task| {
                let exchange = task.stage.checked_sub(plan.sources.len())?;
                let topic = self.host.setup.exchange_topics.get(&exchange)?;
                Some(InternalInput {
                    input: input_name(plan, task),
                    topic: topic.topic.clone(),
                    partition: task.partition,
                })
            })
            .collect()
    }

    fn external_sinks(&self) -> BTreeMap<usize, (String, Box<dyn ExternalSink>)> {
        let of = |index: usize| -> Option<Box<dyn ExternalSink>> {
            match &self.host.job.plan.sinks[index].kind {
                SinkKind::Kafka(_) => None,
                SinkKind::File(_) => self
                    .files
                    .get(&index)
                    .map(|file| Box::new(file.clone()) as Box<dyn ExternalSink>),
                SinkKind::Stdout => Some(Box::<StdoutSink>::default()),
            }
        };
        (0..self.host.job.plan.sinks.len())
            .filter_map(|index| {
                Some((
                    index,
                    (self.host.job.plan.sinks[index].name.clone(), of(index)?),
                ))
            })
            .collect()
    }
}

impl Drop for Fleet<'_> {
    fn drop(&mut self) {
        self.end_all();
        for (_, running) in std::mem::take(&mut self.slots) {
            // What it said last is nobody's business any more.
            let _ = running.thread.join();
        }
    }
}

/// Slots of other processes tell idle tasks here how far they are.
fn follow_others(
    host: &Host,
    peers: &Arc<Peers>,
    hosted: &Arc<Hosted>,
) -> Result<Option<Ticker>, Failure> {
    let JobJournal::Kafka { journal, .. } = &host.setup.journal else {
        return Ok(None);
    };
    let layout = host.setup.layout.clone();
    let names = layout
        .all_tasks()
        .into_iter()
        .map(|task| (input_name(&host.job.plan, task), task))
        .collect();
    journals::follow(
        peers.clone(),
        journal.clone(),
        hosted.clone(),
        layout,
        names,
    )
    .map(Some)
    .map_err(refused)
}

/// Output files are opened once and shared by the slots.
fn file_sinks(host: &Host, fresh: bool) -> Result<BTreeMap<usize, FileSink>, Failure> {
    let mut files = BTreeMap::new();
    for (index, sink) in host.job.plan.sinks.iter().enumerate() {
        if let SinkKind::File(file) = &sink.kind {
            let existing = Existing {
                overwrite: file.overwrite,
                fresh,
            };
            let path = host.job.folder.join(&file.path);
            let opened = FileSink::open(&path, &host.names.uid, existing);
            files.insert(
                index,
                opened.map_err(|error| Failure::new(ExitCode::BadManifest, error))?,
            );
        }
    }
    Ok(files)
}
