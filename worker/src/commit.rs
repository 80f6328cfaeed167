//! The only executor of the commit protocol: a thread for each slot that carries out what `streamjob_core::commit` decides.
//! Of its own it decides nothing: it reads, initialises, writes, and says how it went.
//!
//! The driver talks to it through a [`Committer`]: facts and closed epochs go in, the decisions that are the driver's
//! (restore, replay, run, release, stop …) come out. The rest it does itself, on a [`Ledger`]: the journal and the
//! transactions of Kafka, or a local file.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use prometheus::IntCounter;
use streamjob_core::commit::record::{JournalRecord, RecordKind};
use streamjob_core::commit::{Decision, EpochDraft, Fact, Failure, SlotProtocol, StopReason};
use streamjob_core::output::EpochOutput;

pub mod file;
pub mod kafka;
pub mod producer;

/// Wait before the n-th attempt at a producer, and its limit.
const BACK_OFF: Duration = Duration::from_millis(50);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(2);

/// Where a slot's epochs are written, and its journal with them.
pub trait Ledger: Send {
    /// Whether there is the journal that there was.
    fn find(&mut self) -> Result<(), LedgerError>;

    /// The slot's records from the start of its journal to its end.
    fn read(&mut self) -> Result<Journal, LedgerError>;

    /// Drops the producer there is, makes a new one, and fences others.
    fn init(&mut self) -> Result<(), Failure>;

    /// Writes an epoch's output (none: a claim) and its record, both or neither. `Ok`: both are written, and nothing is
    /// under way any more.
    fn commit(
        &mut self,
        record: &JournalRecord,
        output: Option<&Arc<EpochOutput>>,
    ) -> Result<(), Failure>;

    /// Deletes the records that lead up to `through`, as far as that is possible. Best effort; must not block for long.
    fn trim(&mut self, through: u64);
}

/// A slot's journal as it was read.
#[derive(Clone, Debug)]
pub struct Journal {
    pub records: Vec<JournalRecord>,
    /// Whether earlier records have been deleted.
    pub trimmed: bool,
}

#[derive(Debug)]
pub enum LedgerError {
    /// There is no journal where there was one.
    Missing,
    /// Reading may be tried again.
    Unreachable(String),
    Refused(StopReason),
}

/// From the driver.
#[derive(Debug)]
pub enum Message {
    Fact(Fact),
    /// The epoch that the driver has closed. Its bytes are kept until it is committed.
    Epoch {
        draft: EpochDraft,
        output: Arc<EpochOutput>,
    },
}

/// The commit thread has ended, with or without a last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the commit thread has ended")]
pub struct CommitterGone;

/// The driver's end of a slot's commit thread. Dropping it ends the thread.
pub struct Committer {
    messages: Option<Sender<Message>>,
    decisions: Receiver<Decision>,
    wants_epoch: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Starts the thread, and with it the protocol.
    /// Producers given up are counted in `restarts`.
    pub fn spawn(
        slot: u32,
        protocol: SlotProtocol,
        ledger: Box<dyn Ledger>,
        restarts: IntCounter,
    ) -> std::io::Result<Self> {
        // Every message is answered or waited for by the protocol: there are never many.
        let (messages, incoming) = crossbeam_channel::unbounded();
        let (outgoing, decisions) = crossbeam_channel::unbounded();
        let stop = Arc::new(AtomicBool::new(false));
        let wants_epoch = Arc::new(AtomicBool::new(false));
        let executor = Executor {
            slot,
            protocol,
            ledger,
            incoming,
            outgoing,
            outputs: VecDeque::new(),
            wants_epoch: wants_epoch.clone(),
            stop: stop.clone(),
            initialised: false,
            restarts,
        };
        let thread = std::thread::Builder::new()
            .name(format!("commit-{slot}"))
            .spawn(move || executor.run())?;
        Ok(Committer {
            messages: Some(messages),
            decisions,
            wants_epoch,
            stop,
            thread: Some(thread),
        })
    }

    /// A thread that has ended hears nothing any more: why it ended is among the decisions that are still to be taken.
    pub fn send(&self, message: Message) {
        if let Some(messages) = &self.messages {
            let _ = messages.send(message);
        }
    }

    /// The next decision, if there is one.
    pub fn try_decision(&self) -> Result<Option<Decision>, CommitterGone> {
        match self.decisions.try_recv() {
            Ok(decision) => Ok(Some(decision)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(CommitterGone),
        }
    }

    /// Whether an epoch should be closed though there are no rows: a checkpoint is to be named, or the end to be noted.
    pub fn wants_epoch(&self) -> bool {
        self.wants_epoch.load(Ordering::Acquire)
    }

    /// To wait for decisions and other things at once.
    pub fn decisions(&self) -> &Receiver<Decision> {
        &self.decisions
    }

    /// Waits until there is a decision, or the time is up.
    pub fn wait(&self, most: Duration) {
        let mut select = crossbeam_channel::Select::new();
        select.recv(&self.decisions);
        // Either way the caller looks.
        let _ = select.ready_timeout(most);
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        drop(self.messages.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a commit thread had panicked");
        }
    }
}

struct Executor {
    slot: u32,
    protocol: SlotProtocol,
    ledger: Box<dyn Ledger>,
    incoming: Receiver<Message>,
    outgoing: Sender<Decision>,
    /// Bytes of epochs that are not known to be committed.
    outputs: VecDeque<(u64, Arc<EpochOutput>)>,
    wants_epoch: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    /// Whether there was a producer before.
    initialised: bool,
    restarts: IntCounter,
}

impl Executor {
    fn run(mut self) {
        let mut todo: VecDeque<Decision> = self.protocol.start().into();
        loop {
            while let Some(decision) = todo.pop_front() {
                if self.stop.load(Ordering::Acquire) {
                    return;
                }
                let last = matches!(decision, Decision::Done | Decision::Stop(_));
                if let Some(fact) = self.carry_out(decision) {
                    todo.extend(self.protocol.handle(fact));
                }
                if last {
                    return;
                }
            }
            self.wants_epoch
                .store(self.protocol.wants_epoch(), Ordering::Release);
            let Ok(message) = self.incoming.recv() else {
                return;
            };
            let fact = match message {
                Message::Fact(fact) => fact,
                Message::Epoch { draft, output } => {
                    self.outputs.push_back((self.protocol.next_epoch(), output));
                    Fact::EpochClosed(draft)
                }
            };
            todo.extend(self.protocol.handle(fact));
        }
    }

    /// Does what is the executor's and returns its answer; hands everything else to the driver.
    fn carry_out(&mut self, decision: Decision) -> Option<Fact> {
        match decision {
            Decision::ReadJournal => Some(self.read()),
            Decision::InitProducer { attempt } => {
                if std::mem::replace(&mut self.initialised, true) {
                    self.restarts.inc();
                }
                self.wait_before(attempt);
                Some(match self.ledger.init() {
                    Ok(()) => Fact::ProducerReady,
                    Err(failure) => {
                        tracing::warn!(slot = self.slot, attempt, ?failure, "no producer");
                        self.final_word(&failure)
                            .unwrap_or(Fact::ProducerFailed(failure))
                    }
                })
            }
            Decision::Commit(record) => Some(self.commit(&record)),
            Decision::TrimJournal { through } => {
                self.ledger.trim(through);
                None
            }
            Decision::Release { epoch, .. } => {
                self.outputs.retain(|(kept, _)| *kept > epoch);
                self.tell(decision)
            }
            _ => self.tell(decision),
        }
    }

    fn tell(&self, decision: Decision) -> Option<Fact> {
        // A driver that is gone has dropped its end of `incoming` too: the loop ends there.
        let _ = self.outgoing.send(decision);
        None
    }

    /// Tries until it is answered: without the journal nothing can be decided.
    fn read(&mut self) -> Fact {
        for attempt in 1.. {
            match self.ledger.read() {
                Ok(Journal { records, trimmed }) => return Fact::JournalRead { records, trimmed },
                Err(LedgerError::Missing) => return Fact::JournalMissing,
                Err(LedgerError::Refused(reason)) => return Fact::Refused(reason),
                Err(LedgerError::Unreachable(what)) => {
                    tracing::warn!(slot = self.slot, attempt, "cannot read the journal: {what}");
                }
            }
            self.wait_before(attempt);
            if self.stop.load(Ordering::Acquire) {
                break;
            }
        }
        // The driver is gone: nobody hears this.
        Fact::Refused(StopReason::Internal {
            slot: self.slot,
            what: "stopped while reading the journal".into(),
        })
    }

    fn commit(&mut self, record: &JournalRecord) -> Fact {
        let output = match record.kind {
            RecordKind::Claim => None,
            RecordKind::Epoch => {
                let kept = self
                    .outputs
                    .iter()
                    .find(|(epoch, _)| *epoch == record.epoch);
                let Some((_, output)) = kept else {
                    let what = format!("the bytes of epoch {} are not kept any more", record.epoch);
                    return Fact::Refused(StopReason::Internal {
                        slot: self.slot,
                        what,
                    });
                };
                Some(output)
            }
        };
        match self.ledger.commit(record, output) {
            Ok(()) => Fact::Committed,
            Err(failure) => {
                tracing::warn!(
                    slot = self.slot,
                    epoch = record.epoch,
                    ?failure,
                    "an epoch's commit failed or is uncertain"
                );
                self.final_word(&failure)
                    .unwrap_or(Fact::CommitFailed(failure))
            }
        }
    }

    /// What cannot be written any more may be the journal itself: that it is gone says more than how a write failed.
    fn final_word(&mut self, failure: &Failure) -> Option<Fact> {
        if !matches!(failure, Failure::Fatal(_)) {
            return None;
        }
        match self.ledger.find() {
            Err(LedgerError::Missing) => Some(Fact::JournalMissing),
            Err(LedgerError::Refused(reason)) => Some(Fact::Refused(reason)),
            Ok(()) | Err(LedgerError::Unreachable(_)) => None,
        }
    }

    /// Sleeps before the n-th attempt, unless the driver is gone.
    fn wait_before(&self, attempt: u32) {
        if attempt == 0 {
            return;
        }
        let mut left = BACK_OFF
            .saturating_mul(1 << attempt.min(10))
            .min(LONGEST_BACK_OFF);
        while !left.is_zero() && !self.stop.load(Ordering::Acquire) {
            let nap = left.min(BACK_OFF);
            std::thread::sleep(nap);
            left -= nap;
        }
    }
}

#[cfg(test)]
mod tests;
