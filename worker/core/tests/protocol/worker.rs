//! A worker: carries out decisions as the real one does, one request at a time, with faults at every one. Between
//! any two steps others may run, or it may be gone.

mod outside;
mod planted;
mod requests;
mod state;

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use streamjob_core::commit::record::{CheckpointRef, JobFacts, JournalRecord, RecordKind};
use streamjob_core::commit::{
    Decision, EpochDraft, Fact, Failure, Identity, Settings, SlotProtocol, StopReason,
};
use streamjob_crds::Guarantee;

use crate::bug::Bug;
use crate::engine::{Engine, PARTITIONS, Row, digest, name};
use crate::kafka::{Error, JOURNAL, Payload, Producer};
use crate::storage::{Object, part};
use crate::world::{JOB, SINK, World};

#[derive(Debug)]
pub enum Ended {
    Done,
    Stopped(StopReason),
}

/// Output kept until it may go.
#[derive(Clone, Debug)]
struct Kept {
    rows: Vec<Row>,
    version: i64,
    /// Whether a first attempt to commit it was made.
    sent: bool,
}

struct Upload {
    reference: CheckpointRef,
    state: Engine,
    stored: usize,
}

pub struct Worker {
    world: Rc<RefCell<World>>,
    identity: Identity,
    protocol: SlotProtocol,
    decisions: VecDeque<Decision>,
    producer: Option<Producer>,
    engine: Engine,
    /// Rows of the epoch in progress, once the slot runs.
    draft: Vec<Row>,
    running: bool,
    kept: BTreeMap<u64, Kept>,
    /// Epochs for the external sink, and those it has but that are not reported.
    to_apply: VecDeque<u64>,
    to_report: VecDeque<u64>,
    upload: Option<Upload>,
    /// The last reading, for bugs that use it again.
    last_read: Vec<JournalRecord>,
    /// Whether a producer was initialised since the last reading.
    fenced: bool,
}

/// Lets others run.
struct Yield(bool);

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        match std::mem::replace(&mut self.0, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Worker {
    pub fn new(world: Rc<RefCell<World>>, identity: Identity) -> Self {
        let settings = Settings {
            guarantee: world.borrow().guarantee,
            plan_hash: "plan".into(),
            engine_version: "1".into(),
            retain: 2,
            external_sinks: vec![SINK.into()],
            inputs: vec!["events".into()],
            exchanges: Vec::new(),
        };
        Worker {
            world,
            protocol: SlotProtocol::new(identity.clone(), settings),
            identity,
            decisions: VecDeque::new(),
            producer: None,
            engine: Engine::default(),
            draft: Vec::new(),
            running: false,
            kept: BTreeMap::new(),
            to_apply: VecDeque::new(),
            to_report: VecDeque::new(),
            upload: None,
            last_read: Vec::new(),
            fenced: false,
        }
    }

    pub async fn run(mut self) -> Ended {
        let first = self.protocol.start();
        self.decisions.extend(first);
        loop {
            match self.decisions.pop_front() {
                Some(Decision::Done) => return Ended::Done,
                Some(Decision::Stop(reason)) => return Ended::Stopped(reason),
                Some(decision) => self.carry_out(decision).await,
                None => {
                    self.pause().await;
                    self.close_epoch();
                }
            }
        }
    }

    async fn carry_out(&mut self, decision: Decision) {
        match decision {
            Decision::ReadJournal => self.read_journal().await,
            Decision::InitProducer { .. } => self.initialise().await,
            Decision::ResolveFacts { known } => {
                self.pause().await;
                let start: BTreeMap<String, i64> = (0..PARTITIONS).map(|p| (name(p), 0)).collect();
                let fresh = JobFacts {
                    slots: 1,
                    start: start.clone(),
                    ..JobFacts::default()
                };
                self.take(Fact::FactsResolved {
                    facts: known.unwrap_or(fresh),
                    start,
                });
            }
            Decision::Commit(record) => self.commit(*record).await,
            Decision::Restore { candidates, .. } => self.restore(candidates).await,
            Decision::Replay(cuts) => self.replay(cuts).await,
            Decision::Run { .. } => self.running = true,
            Decision::Release { epoch, sinks } => self.release(epoch, &sinks),
            Decision::DeleteCheckpoints(references) => {
                for reference in references {
                    self.pause().await;
                    self.delete(&reference);
                }
            }
            Decision::TrimJournal { through } => {
                self.pause().await;
                self.world().kafka.trim(through);
            }
            Decision::Done | Decision::Stop(_) => unreachable!("handled by run"),
        }
    }

    fn take(&mut self, fact: Fact) {
        let decisions = self.protocol.handle(fact);
        self.decisions.extend(decisions);
    }

    fn world(&self) -> RefMut<'_, World> {
        self.world.borrow_mut()
    }

    fn has(&self, bug: Bug) -> bool {
        self.world.borrow().bug == Some(bug)
    }

    /// Others run; then a piece of what goes on beside the commit.
    async fn pause(&mut self) {
        Yield(false).await;
        let dice = self.world().rng.u8(..6);
        match dice {
            0 | 1 if self.running => self.process(),
            2 | 3 => self.upload_step(),
            4 => self.apply_step(),
            5 => self.report_step(),
            _ => {}
        }
    }
}
