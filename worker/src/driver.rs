//! The loop of one slot: rows in, epochs out.
//!
//! The driver owns the slot's engine, inputs and external sinks; the committer (its own thread) owns the protocol, the
//! journal and the producer. They talk through two channels: facts and closed epochs there, decisions back. While one
//! epoch commits, the next is processed; while that one is full and the commit is still under way, reading pauses: that is
//! all the back-pressure there is.
//!
//! ```text
//!  inputs ──rows──► engine ──close──► committer ──► Kafka (transaction: output + journal record)
//!     ▲               │ save                │
//!     └── pauses      └──► checkpoints      └── Release(epoch) ──► external sinks
//! ```

pub mod capture;
mod change;
mod farewell;
pub mod inputs;
mod pace;
mod restore;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use streamjob_core::chunk::Millis;
use streamjob_core::commit::record::JournalRecord;
use streamjob_core::commit::{Decision, EpochDraft, Fact, StopReason};
use streamjob_core::engine::{ClosedEpoch, EngineError, SlotEngine, TaskId, input_name};
use streamjob_core::output::{EpochOutput, Target};

use crate::checkpoint::{CheckpointData, CheckpointError, Checkpoints};
use crate::cli::{ExitCode, Failure};
use crate::commit::{Committer, CommitterGone, Message};
use crate::peers::Peers;
use crate::peers::journals::Hosted;
use crate::report::SlotReport;
use crate::resolve::ResolveError;
use crate::sink::{ExternalSink, SinkError, not_ahead};
use crate::source::SourceError;
use crate::status::Phase;
use crate::version::{Earlier, Version};
use farewell::CheckpointClock;
use inputs::{Inputs, Read};
use pace::Pace;

/// Longest nap while there is nothing to do: idle clocks and checkpoints are looked at this often.
const NAP: Duration = Duration::from_millis(50);
/// How often idle partitions look at the others, and so how often they commit while nothing comes.
const IDLE_LOOK: Duration = Duration::from_millis(250);
/// Drained means drained within this long; after that the worker leaves without a last checkpoint, which is safe.
const DRAIN: Duration = Duration::from_secs(25);

#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("sink `{sink}`: {source}")]
    Sink { sink: String, source: SinkError },
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("{0}")]
    Stopped(StopReason),
    #[error(transparent)]
    CommitterGone(#[from] CommitterGone),
    #[error("the protocol asked for {0} out of turn")]
    OutOfTurn(&'static str),
    #[error("the job as it was: {0}")]
    Earlier(Failure),
    #[error("a slot's thread panicked: see above, and please report it")]
    Panicked,
}

impl DriverError {
    /// What the process says to its supervisor.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            DriverError::Stopped(StopReason::TakenOver { .. }) => ExitCode::TakenOver,
            DriverError::Sink {
                source: SinkError::ReaderGone,
                ..
            } => ExitCode::Done,
            DriverError::Checkpoint(error) if error.is_unreachable() => ExitCode::Unreachable,
            DriverError::Earlier(failure) => failure.code,
            DriverError::Resolve(error) if error.unreachable() => ExitCode::Unreachable,
            _ => ExitCode::Refused,
        }
    }
}

/// What a slot is asked to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    #[default]
    GoOn,
    /// Another worker is to have it: checkpoint while it runs, then commit and end, so that its rows hardly stand still.
    LetGo,
    /// Commit, checkpoint at that edge and end, so that nothing is left to replay.
    End,
}

/// How a slot ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All its inputs are bounded and done.
    Done,
    /// It was asked to stop: committed, and checkpointed if there was time.
    Drained,
}

/// Everything a slot's driver works with.
pub struct Driver {
    pub job: String,
    pub slot: u32,
    pub version: Version,
    /// Those of before, if the job was changed.
    pub earlier: Arc<Earlier>,
    pub committer: Committer,
    pub checkpoints: Checkpoints,
    /// Outside the transaction, by index in the plan.
    pub sinks: BTreeMap<usize, (String, Box<dyn ExternalSink>)>,
    pub peers: Arc<Peers>,
    pub report: SlotReport,
    pub term: u64,
    pub incarnation: String,
    /// Slots in this process: epochs lengthen with them.
    pub hosted: Arc<Hosted>,
}

/// An epoch that was closed and whose commit is not known yet, or not applied everywhere.
struct Pending {
    epoch: u64,
    output: Arc<EpochOutput>,
    sink_timestamp: i64,
    positions: BTreeMap<TaskId, i64>,
}

impl Driver {
    /// Runs the slot until its inputs are done, it is `asked` to end, or it must not go on.
    pub fn run(mut self, asked: &dyn Fn() -> Asked) -> Result<Ended, DriverError> {
        match self.start(&|| asked() != Asked::GoOn)? {
            Start::Done => {
                self.report.phase(Phase::Done);
                Ok(Ended::Done)
            }
            Start::Stopped => Ok(Ended::Drained),
            Start::Running(running) => running.run(asked),
        }
    }

    /// The start of a slot, as the protocol orders it: resolve, restore, replay. It may be left at any moment: the next
    /// start does it again.
    fn start(&mut self, asked_to_stop: &dyn Fn() -> bool) -> Result<Start<'_>, DriverError> {
        let mut restored: Option<restore::Restored> = None;
        loop {
            if asked_to_stop() {
                return Ok(Start::Stopped);
            }
            let Some(decision) = self.committer.try_decision()? else {
                self.committer.wait(NAP);
                continue;
            };
            match decision {
                Decision::ResolveFacts { known } => {
                    let (facts, start) = self
                        .version
                        .resolver
                        .resolve(&self.version.tasks, known.as_ref())?;
                    self.tell(Fact::FactsResolved { facts, start });
                }
                Decision::Restore { candidates, facts } => {
                    self.report.phase(Phase::Restoring);
                    let state = restore::restore(self, &candidates, &facts)?;
                    self.tell(Fact::Restored {
                        checkpoint: state.checkpoint.clone(),
                    });
                    restored = Some(state);
                }
                Decision::Replay(cuts) => {
                    let state = restored
                        .as_mut()
                        .ok_or(DriverError::OutOfTurn("a replay"))?;
                    self.report.phase(Phase::Replaying);
                    restore::replay(self, state, cuts, asked_to_stop)?;
                }
                Decision::Release { epoch, sinks } => {
                    let state = restored
                        .as_mut()
                        .ok_or(DriverError::OutOfTurn("rows to apply again"))?;
                    restore::apply_again(self, state, epoch, &sinks)?;
                }
                Decision::Run { last } => {
                    let restored = restored.take().ok_or(DriverError::OutOfTurn("a run"))?;
                    let (loaded, changed) = restored.state.into_loaded(self)?;
                    self.check_sinks(last.epoch)?;
                    let mut running = Running::new(self, loaded, *last);
                    if changed {
                        // From it the next start does not need the job as it was.
                        running.checkpoint.force();
                    }
                    return Ok(Start::Running(Box::new(running)));
                }
                Decision::DeleteCheckpoints(list) => list
                    .into_iter()
                    .for_each(|old| self.checkpoints.delete(old)),
                Decision::Done => return Ok(Start::Done),
                Decision::Stop(reason) => return Err(DriverError::Stopped(reason)),
                // The committer's own: they do not come here.
                Decision::ReadJournal
                | Decision::InitProducer { .. }
                | Decision::Commit(_)
                | Decision::TrimJournal { .. } => {}
            }
        }
    }

    fn tell(&self, fact: Fact) {
        self.committer.send(Message::Fact(fact));
    }

    /// External sinks must not have epochs that the journal does not: they would skip the new ones of these numbers.
    fn check_sinks(&mut self, journal: u64) -> Result<(), DriverError> {
        for (name, sink) in self.sinks.values_mut() {
            sink.applied(self.slot)
                .and_then(|applied| not_ahead(name, self.slot, applied, journal))
                .map_err(|source| DriverError::Sink {
                    sink: name.clone(),
                    source,
                })?;
        }
        Ok(())
    }

    /// Gives the rows of a committed epoch to the external sinks that want them.
    fn apply(&mut self, pending: &Pending, sinks: &[String]) -> Result<(), DriverError> {
        for (index, (name, sink)) in &mut self.sinks {
            if !sinks.contains(name) {
                continue;
            }
            let target = Target::Sink(*index);
            let rows: Vec<_> = pending
                .output
                .targets
                .iter()
                .filter(|part| part.target == target)
                .collect();
            sink.apply(self.slot, pending.epoch, pending.sink_timestamp, &rows)
                .map_err(|source| DriverError::Sink {
                    sink: name.clone(),
                    source,
                })?;
            self.committer.send(Message::Fact(Fact::ExternalApplied {
                sink: name.clone(),
                epoch: pending.epoch,
            }));
        }
        Ok(())
    }
}

enum Start<'a> {
    Done,
    Stopped,
    Running(Box<Running<'a>>),
}

/// A slot that reads, computes and commits.
struct Running<'a> {
    driver: &'a mut Driver,
    engine: SlotEngine,
    inputs: Inputs,
    pace: Pace,
    /// The epoch being filled.
    epoch: u64,
    rows: usize,
    opened: Option<Instant>,
    /// Closed epochs, oldest first, until everybody has them.
    pending: VecDeque<Pending>,
    committing: bool,
    /// Watermarks to move at the end of this epoch.
    advances: BTreeMap<TaskId, Millis>,
    checkpoint: CheckpointClock,
    punctuated: Instant,
    looked: Instant,
    /// A reason to commit an epoch without rows: a checkpoint to name, an end, an idle state to tell.
    due: bool,
    /// Of the last epoch: grows with every one.
    sink_timestamp: i64,
    told_idle: Vec<TaskId>,
    /// The record from which it goes on.
    base: JournalRecord,
}

impl<'a> Running<'a> {
    fn new(driver: &'a mut Driver, state: change::Loaded, last: JournalRecord) -> Self {
        let interval = driver.version.plan.spec.checkpoint.interval.to_std();
        let pace = Pace::new(
            driver.version.plan.spec.epoch.interval.to_std(),
            driver.hosted.count(),
        );
        driver.report.running(last.epoch, last.term);
        driver.term = last.term;
        Running {
            engine: state.engine,
            inputs: state.inputs,
            pace,
            epoch: last.epoch + 1,
            rows: 0,
            opened: None,
            pending: VecDeque::new(),
            committing: false,
            advances: BTreeMap::new(),
            checkpoint: CheckpointClock::new(interval),
            punctuated: Instant::now(),
            looked: Instant::now(),
            due: true,
            sink_timestamp: last.sink_timestamp,
            told_idle: Vec::new(),
            base: last,
            driver,
        }
    }

    fn run(mut self, asked: &dyn Fn() -> Asked) -> Result<Ended, DriverError> {
        loop {
            while let Some(decision) = self.driver.committer.try_decision()? {
                if let Some(ended) = self.obey(decision)? {
                    return Ok(ended);
                }
            }
            match asked() {
                Asked::GoOn => {}
                Asked::LetGo if !self.checkpoint.has_bid_farewell() => {}
                Asked::LetGo => return self.drain(true),
                Asked::End => return self.drain(false),
            }
            let read = self.read()?;
            self.look_at_clocks()?;
            if self.may_close(&read) {
                self.close()?;
            } else if read.rows == 0 {
                self.inputs.wait(&self.driver.committer, self.nap());
            }
        }
    }

    /// Carries out what the committer decided; `Some` ends the slot.
    fn obey(&mut self, decision: Decision) -> Result<Option<Ended>, DriverError> {
        match decision {
            Decision::Release { epoch, sinks } => self.release(epoch, &sinks)?,
            Decision::DeleteCheckpoints(list) => list
                .into_iter()
                .for_each(|old| self.driver.checkpoints.delete(old)),
            Decision::Done => {
                self.driver.report.phase(Phase::Done);
                return Ok(Some(Ended::Done));
            }
            Decision::Stop(reason) => return Err(DriverError::Stopped(reason)),
            _ => {}
        }
        Ok(None)
    }

    fn release(&mut self, epoch: u64, sinks: &[String]) -> Result<(), DriverError> {
        if self
            .pending
            .back()
            .is_some_and(|newest| newest.epoch == epoch)
        {
            self.committing = false;
        }
        while let Some(pending) = self.pending.pop_front_if(|pending| pending.epoch <= epoch) {
            self.driver.report.committed(pending.epoch);
            self.driver.version.resolver.committed(&pending.positions);
            self.driver.apply(&pending, sinks)?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Read, DriverError> {
        let budget = self.pace.budget(self.rows);
        let read = self.inputs.read(&mut self.engine, budget)?;
        if read.rows > 0 {
            self.opened.get_or_insert_with(Instant::now);
            self.rows += read.rows;
            self.checkpoint.changed();
        }
        Ok(read)
    }

    /// Idle partitions, ends of inputs and checkpoints that have come in.
    fn look_at_clocks(&mut self) -> Result<(), DriverError> {
        if self.looked.elapsed() >= IDLE_LOOK {
            self.looked = Instant::now();
            self.advances = self.inputs.idle_advances(&self.engine, &self.driver.peers);
            self.due |= !self.advances.is_empty() || self.inputs.idle_tasks() != self.told_idle;
        }
        self.due |= self.inputs.newly_ended(&self.engine).next().is_some();
        if let Some(outcome) = self.checkpoint.outcome() {
            self.checkpoint_came(outcome);
        }
        self.due |= self.checkpoint.is_due();
        self.driver.report.tell(&self.engine, &self.inputs, false);
        Ok(())
    }

    fn checkpoint_came(&mut self, outcome: Result<crate::checkpoint::Uploaded, CheckpointError>) {
        match outcome {
            Ok(uploaded) => {
                self.driver.report.checkpointed(&uploaded);
                self.due = true;
                self.driver
                    .tell(Fact::CheckpointUploaded(uploaded.reference));
            }
            Err(error) => {
                self.driver.report.checkpoint_failed(&error);
                self.checkpoint.changed();
            }
        }
    }

    fn may_close(&self, read: &Read) -> bool {
        if self.committing {
            return false;
        }
        self.due
            || self.driver.committer.wants_epoch()
            || self
                .opened
                .is_some_and(|opened| self.pace.full(self.rows, opened.elapsed(), read.backlog))
    }

    fn nap(&self) -> Duration {
        match self.opened {
            Some(opened) if !self.committing => self
                .pace
                .interval(false)
                .saturating_sub(opened.elapsed())
                .min(NAP),
            _ => NAP,
        }
    }

    /// Ends the epoch, hands it to the committer, and checkpoints at its edge if it is time.
    fn close(&mut self) -> Result<(), DriverError> {
        let ends: Vec<TaskId> = self.inputs.newly_ended(&self.engine).collect();
        let punctuate = self.punctuated.elapsed() >= Duration::from_millis(100)
            || !ends.is_empty()
            || !self.advances.is_empty();
        if punctuate {
            self.punctuated = Instant::now();
        }
        let closed = self.engine.close(&self.advances, &ends, punctuate)?;
        self.inputs.closed(&self.engine, &self.driver.peers);
        self.told_idle = self.inputs.idle_tasks();
        let draft = self.draft(&closed);
        self.sink_timestamp = draft.now_us;
        let sink_timestamp = self.sink_timestamp;
        let output = Arc::new(closed.output);
        self.pending.push_back(Pending {
            epoch: self.epoch,
            output: output.clone(),
            sink_timestamp,
            positions: closed.positions,
        });
        self.driver.report.closed();
        self.committing = true;
        self.driver.committer.send(Message::Epoch { draft, output });
        if self.checkpoint.is_due() {
            self.begin_checkpoint()?;
        }
        (self.epoch, self.rows, self.opened, self.due) = (self.epoch + 1, 0, None, false);
        self.advances.clear();
        Ok(())
    }

    fn draft(&self, closed: &ClosedEpoch) -> EpochDraft {
        let name = |task: &TaskId| input_name(&self.driver.version.plan, *task);
        let by_name = |map: &BTreeMap<TaskId, i64>| {
            map.iter()
                .map(|(task, value)| (name(task), *value))
                .collect()
        };
        EpochDraft {
            positions: by_name(&closed.positions),
            watermarks: by_name(&closed.watermarks),
            idle_advances: by_name(&self.advances),
            ended: closed.ended.iter().map(name).collect(),
            idle: self.told_idle.iter().map(name).collect(),
            digest: closed.output.digest(),
            outputs: closed.output.rows(),
            now_us: inputs::now_us().max(self.sink_timestamp.saturating_add(1)),
        }
    }

    /// Copies the state at the edge of the epoch just closed; the upload goes on in the background.
    fn begin_checkpoint(&mut self) -> Result<(), DriverError> {
        let parts = restore::save(&self.engine)?;
        self.checkpoint
            .begun(self.driver.checkpoints.upload(CheckpointData {
                job: self.driver.job.clone(),
                slot: self.driver.slot,
                epoch: self.epoch,
                term: self.driver.term,
                incarnation: self.driver.incarnation.clone(),
                plan: self.driver.version.text.clone(),
                parts,
            }));
        Ok(())
    }

    /// Commits what was read, checkpoints unless that is done, and ends.
    fn drain(mut self, mut last_checkpoint: bool) -> Result<Ended, DriverError> {
        self.driver.report.phase(Phase::Draining);
        let until = Instant::now() + DRAIN;
        self.checkpoint.give_up();
        loop {
            if !self.committing {
                let done = last_checkpoint && !self.checkpoint.is_on_its_way();
                if done && !self.due && self.rows == 0 {
                    return Ok(Ended::Drained);
                }
                if self.rows > 0 || self.due || !last_checkpoint {
                    if !last_checkpoint {
                        self.checkpoint.force();
                        last_checkpoint = true;
                    }
                    self.close()?;
                }
            }
            if Instant::now() > until {
                tracing::warn!(
                    slot = self.driver.slot,
                    "left without a last checkpoint: the next start replays a little more"
                );
                return Ok(Ended::Drained);
            }
            self.driver.committer.wait(NAP);
            while let Some(decision) = self.driver.committer.try_decision()? {
                if let Some(ended) = self.obey(decision)? {
                    return Ok(ended);
                }
            }
            if let Some(outcome) = self.checkpoint.outcome() {
                self.checkpoint_came(outcome);
            }
        }
    }
}
