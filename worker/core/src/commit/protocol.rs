//! The decision machine of one slot. See the parent module for the protocol it follows.
//!
//! Owns: which record is uncommitted, what the journal's last record is, which checkpoints are kept, what external
//! sinks have applied. Does not own: output bytes, state, producers, time.

mod epochs;
mod journal;
mod start;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::checkpoints::{Checkpoints, Naming};
use super::record::{JournalRecord, RecordKind};
use super::{Decision, Fact, Failure, Identity, Lineage, Settings, StopReason, Term};

/// Where the slot stands: mostly, which answer is awaited.
#[derive(Clone, Debug, PartialEq)]
enum State {
    Created,
    /// Reading the journal without a producer: may we go on at all?
    Peeking,
    Initialising,
    /// Reading the journal behind the fence: what is committed?
    Reading,
    Resolving,
    Committing,
    /// Without a fence: does the journal have our record in its line?
    Verifying,
    Restoring,
    Replaying,
    Idle,
    Over,
}

/// A record that is not known to be committed, and what its commit sets free.
#[derive(Clone, Debug)]
struct Pending {
    record: JournalRecord,
    naming: Naming,
}

pub struct SlotProtocol {
    identity: Identity,
    settings: Settings,
    state: State,
    /// Ours, once it is decided.
    term: Option<u64>,
    /// Whether a claim of ours is known to be committed.
    claimed: bool,
    /// Whether state is current: restored and replayed.
    live: bool,
    /// The last record known to be committed.
    last: Option<JournalRecord>,
    pending: Option<Pending>,
    /// Freed by commits that are not verified yet (at least once).
    unverified: Naming,
    /// Epochs still to be replayed, next one last.
    replay: Vec<JournalRecord>,
    /// The line as last read, until it is replayed.
    lineage: Lineage,
    checkpoints: Checkpoints,
    /// Epochs applied, by external sink.
    applied: BTreeMap<String, u64>,
    /// The last epoch whose rows may be applied, and epochs up to it with rows that not every sink has applied.
    released: u64,
    owed: BTreeSet<u64>,
    /// Attempts to get a producer and a commit through since the last success.
    attempt: u32,
}

impl SlotProtocol {
    pub fn new(identity: Identity, settings: Settings) -> Self {
        let term = match identity.term {
            Term::Given(term) => Some(term),
            Term::AfterLast => None,
        };
        SlotProtocol {
            identity,
            settings,
            state: State::Created,
            term,
            claimed: false,
            live: false,
            last: None,
            pending: None,
            unverified: Naming::default(),
            replay: Vec::new(),
            lineage: Lineage::default(),
            checkpoints: Checkpoints::default(),
            applied: BTreeMap::new(),
            released: 0,
            owed: BTreeSet::new(),
            attempt: 0,
        }
    }

    /// The first decision. Once.
    pub fn start(&mut self) -> Vec<Decision> {
        self.state = State::Peeking;
        vec![Decision::ReadJournal]
    }

    /// Takes one fact; what is decided is to be carried out in order. After `Done` or `Stop` facts change nothing.
    pub fn handle(&mut self, fact: Fact) -> Vec<Decision> {
        if self.state == State::Over {
            return Vec::new();
        }
        match self.decide(fact) {
            Ok(decisions) => {
                if decisions.contains(&Decision::Done) {
                    self.state = State::Over;
                }
                decisions
            }
            Err(reason) => {
                self.state = State::Over;
                vec![Decision::Stop(reason)]
            }
        }
    }

    /// Whether `EpochClosed` may come: the slot runs and no epoch is uncommitted.
    pub fn ready_for_epoch(&self) -> bool {
        self.live && self.state == State::Idle && self.pending.is_none()
    }

    /// Number of the epoch that is closed next.
    pub fn next_epoch(&self) -> u64 {
        let last = self.last.as_ref().map_or(0, |record| record.epoch);
        last.saturating_add(1 + u64::from(self.pending.as_ref().is_some_and(Pending::is_epoch)))
    }

    /// Whether an epoch should be closed though there is no data: to name a checkpoint, or to note that all rows of a
    /// job that has ended are applied.
    pub fn wants_epoch(&self) -> bool {
        let ended_unnoted = self
            .last
            .as_ref()
            .is_some_and(|last| all_ended(last) && !self.caught_up(last, &last.applied));
        self.ready_for_epoch()
            && (self.checkpoints.has_nameable(self.applied_by_all())
                || ended_unnoted && self.applied_by_all() >= self.committed_epoch())
    }

    /// The last record known to be committed, a claim or an epoch.
    pub fn last(&self) -> Option<&JournalRecord> {
        self.last.as_ref()
    }

    pub fn committed_epoch(&self) -> u64 {
        self.last.as_ref().map_or(0, |record| record.epoch)
    }

    fn decide(&mut self, fact: Fact) -> Result<Vec<Decision>, StopReason> {
        match (&self.state, fact) {
            (_, Fact::Refused(reason)) => Err(reason),
            (_, Fact::JournalMissing) => Err(StopReason::JournalMissing {
                slot: self.identity.slot,
            }),
            (_, Fact::ExternalApplied { sink, epoch }) => Ok(self.on_applied(sink, epoch)),
            (_, Fact::CheckpointUploaded(reference)) => {
                self.checkpoints.add_uploaded(reference);
                Ok(Vec::new())
            }
            (State::Peeking, Fact::JournalRead { records, trimmed }) => {
                self.on_peeked(records, trimmed)
            }
            (State::Initialising, Fact::ProducerReady) => {
                self.go(State::Reading, Decision::ReadJournal)
            }
            (State::Reading, Fact::JournalRead { records, trimmed }) => {
                self.on_read(records, trimmed)
            }
            (State::Verifying, Fact::JournalRead { records, trimmed }) => {
                self.on_verified(records, trimmed)
            }
            (State::Idle, Fact::JournalRead { records, trimmed }) => {
                self.examine(records, trimmed)?;
                Ok(Vec::new())
            }
            (State::Resolving, Fact::FactsResolved { facts, start }) => {
                self.on_resolved(facts, start)
            }
            (State::Committing, Fact::Committed) => self.on_committed(),
            (
                State::Initialising | State::Committing | State::Idle,
                Fact::ProducerFailed(failure),
            )
            | (State::Committing, Fact::CommitFailed(failure)) => self.on_failure(failure),
            (State::Restoring, Fact::Restored { checkpoint }) => self.on_restored(checkpoint),
            (
                State::Replaying,
                Fact::Replayed {
                    epoch,
                    digest,
                    outputs,
                },
            ) => self.on_replayed(epoch, digest, outputs),
            (State::Idle, Fact::EpochClosed(draft)) if self.ready_for_epoch() => {
                self.on_closed(draft)
            }
            (state, fact) => Err(self.internal(format!("{fact:?} while {state:?}"))),
        }
    }

    fn on_failure(&mut self, failure: Failure) -> Result<Vec<Decision>, StopReason> {
        let attempt = self.attempt;
        self.attempt = attempt.saturating_add(1);
        match failure {
            // Whoever fenced us may have a higher term: do not fence them in turn before we know.
            Failure::Fenced => self.go(State::Peeking, Decision::ReadJournal),
            Failure::Uncertain => self.go(State::Initialising, Decision::InitProducer { attempt }),
            Failure::Fatal(what) => Err(StopReason::CommitImpossible {
                slot: self.identity.slot,
                what,
            }),
        }
    }

    fn go(&mut self, state: State, decision: Decision) -> Result<Vec<Decision>, StopReason> {
        self.state = state;
        Ok(vec![decision])
    }

    fn go_idle(&mut self, mut decisions: Vec<Decision>) -> Result<Vec<Decision>, StopReason> {
        self.state = State::Idle;
        if self.finished() {
            decisions.push(Decision::Done);
        }
        Ok(decisions)
    }

    fn finished(&self) -> bool {
        let finished =
            |last: &JournalRecord| all_ended(last) && self.caught_up(last, &last.applied);
        self.last.as_ref().is_some_and(finished)
    }

    /// Whether, by `applied`, every external sink has the rows of all epochs up to the record's.
    fn caught_up(&self, record: &JournalRecord, applied: &BTreeMap<String, u64>) -> bool {
        let empty = record.kind == RecordKind::Epoch && record.outputs == 0;
        let needed = record.epoch.saturating_sub(u64::from(empty));
        let sinks = &self.settings.external_sinks;
        sinks
            .iter()
            .all(|sink| applied.get(sink).copied().unwrap_or(record.epoch) >= needed)
    }

    /// The last epoch that every external sink has applied; no sinks: the last committed.
    fn applied_by_all(&self) -> u64 {
        let committed = self.committed_epoch();
        self.applied
            .values()
            .copied()
            .min()
            .map_or(committed, |applied| applied.min(committed))
    }

    fn conflict(&self, what: String) -> StopReason {
        StopReason::JournalConflict {
            slot: self.identity.slot,
            what,
        }
    }

    fn internal(&self, what: impl Into<String>) -> StopReason {
        StopReason::Internal {
            slot: self.identity.slot,
            what: what.into(),
        }
    }
}

impl Pending {
    fn is_epoch(&self) -> bool {
        self.record.kind == RecordKind::Epoch
    }
}

impl Naming {
    fn merge(&mut self, later: Naming) {
        self.doomed.extend(later.doomed);
        self.trim_through = later.trim_through.or(self.trim_through);
    }
}

fn all_ended(record: &JournalRecord) -> bool {
    record
        .positions
        .keys()
        .all(|input| record.ended.contains(input))
}
