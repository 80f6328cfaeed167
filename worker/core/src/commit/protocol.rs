//! The decision machine of one slot. See the parent module for the protocol it follows.
//!
//! Owns: which record is uncommitted, what the journal's last record is, which checkpoints are kept, what external
//! sinks have applied. Does not own: output bytes, state, producers, time.

use std::collections::{BTreeMap, BTreeSet};

use streamjob_crds::Guarantee;

use super::checkpoints::{Checkpoints, Naming};
use super::record::{CheckpointRef, JobFacts, JournalRecord, RecordKind};
use super::{
    Decision, EpochDraft, Fact, Failure, Identity, Lineage, Settings, StopReason, Term, check_facts,
};

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

    // ── Start ────────────────────────────────────────────────────────────────────────────────────────────────

    fn on_peeked(
        &mut self,
        records: Vec<JournalRecord>,
        trimmed: bool,
    ) -> Result<Vec<Decision>, StopReason> {
        let lineage = self.examine(records, trimmed)?;
        let nothing_left =
            |last: &JournalRecord| all_ended(last) && self.caught_up(last, &last.applied);
        if !self.claimed && lineage.last().is_some_and(nothing_left) {
            return Ok(vec![Decision::Done]);
        }
        let attempt = self.attempt;
        self.go(State::Initialising, Decision::InitProducer { attempt })
    }

    /// Behind the fence: whatever was uncertain is decided by what the journal has.
    fn on_read(
        &mut self,
        records: Vec<JournalRecord>,
        trimmed: bool,
    ) -> Result<Vec<Decision>, StopReason> {
        let lineage = self.examine(records, trimmed)?;
        match self.pending.take() {
            Some(pending) if pending.is_epoch() => self.settle(pending, &lineage),
            _ if self.live => self.go_idle(Vec::new()),
            Some(_) if lineage.last().is_some_and(|last| self.is_ours(last)) => {
                self.last = lineage.last().cloned();
                self.lineage = lineage;
                self.on_claimed()
            }
            _ => {
                let known = lineage.last().map(|last| last.facts.clone());
                self.last = lineage.last().cloned();
                self.lineage = lineage;
                self.go(State::Resolving, Decision::ResolveFacts { known })
            }
        }
    }

    fn settle(&mut self, pending: Pending, lineage: &Lineage) -> Result<Vec<Decision>, StopReason> {
        let committed = lineage.last().map_or(0, |last| last.epoch);
        let epoch = pending.record.epoch;
        let record = Box::new(pending.record.clone());
        self.pending = Some(pending);
        if committed == epoch {
            self.on_committed()
        } else if committed == self.committed_epoch() {
            self.go(State::Committing, Decision::Commit(record))
        } else {
            Err(self.conflict(format!("it ends with epoch {committed}, ours is {epoch}")))
        }
    }

    fn on_resolved(
        &mut self,
        facts: JobFacts,
        start: BTreeMap<String, i64>,
    ) -> Result<Vec<Decision>, StopReason> {
        let slot = self.identity.slot;
        let term = self
            .term
            .ok_or_else(|| self.internal("no term at the claim"))?;
        let mut record = match &self.last {
            Some(last) => {
                check_facts(&last.facts, &facts)?;
                if last.plan_hash != self.settings.plan_hash {
                    let (before, now) = (last.plan_hash.clone(), self.settings.plan_hash.clone());
                    return Err(StopReason::PlanIncompatible { slot, before, now });
                }
                last.clone()
            }
            None => self.first_record(facts, start),
        };
        record.kind = RecordKind::Claim;
        record.term = term;
        record.owner = self.identity.owner.clone();
        record.incarnation = self.identity.incarnation.clone();
        record.engine_version = self.settings.engine_version.clone();
        record.idle_advances.clear();
        record.digest.clear();
        record.outputs = 0;
        record.applied = self.applied_at_claim(&record);
        let decision = Decision::Commit(Box::new(record.clone()));
        self.pending = Some(Pending {
            record,
            naming: Naming::default(),
        });
        self.go(State::Committing, decision)
    }

    fn first_record(&self, facts: JobFacts, start: BTreeMap<String, i64>) -> JournalRecord {
        JournalRecord {
            job: self.identity.job.clone(),
            slot: self.identity.slot,
            kind: RecordKind::Claim,
            term: 0,
            owner: String::new(),
            incarnation: String::new(),
            epoch: 0,
            positions: start,
            watermarks: BTreeMap::new(),
            idle_advances: BTreeMap::new(),
            ended: Vec::new(),
            applied: BTreeMap::new(),
            checkpoints: Vec::new(),
            sink_timestamp: 0,
            digest: String::new(),
            outputs: 0,
            plan_hash: self.settings.plan_hash.clone(),
            engine_version: String::new(),
            facts,
        }
    }

    /// A sink that the journal does not know starts here: what is committed already is not for it.
    fn applied_at_claim(&self, last: &JournalRecord) -> BTreeMap<String, u64> {
        let applied = |sink: &String| last.applied.get(sink).copied().unwrap_or(last.epoch);
        self.settings
            .external_sinks
            .iter()
            .map(|sink| (sink.clone(), applied(sink)))
            .collect()
    }

    /// The claim is committed, and `lineage` is the line as read before or with it.
    fn on_claimed(&mut self) -> Result<Vec<Decision>, StopReason> {
        let last = self
            .last
            .clone()
            .ok_or_else(|| self.internal("claimed nothing"))?;
        self.claimed = true;
        self.attempt = 0;
        self.applied = last.applied.clone();
        if self.lineage.last() != Some(&last) {
            self.lineage.records.push(last.clone());
        }
        self.checkpoints = Checkpoints::of(&self.lineage.records, self.settings.retain);
        let candidates = self.checkpoints.kept().to_vec();
        self.go(
            State::Restoring,
            Decision::Restore {
                candidates,
                facts: last.facts,
            },
        )
    }

    fn on_restored(&mut self, from: Option<CheckpointRef>) -> Result<Vec<Decision>, StopReason> {
        if !self.checkpoints.restored(from.as_ref()) {
            return Err(self.internal(format!("restored {from:?}, which was no candidate")));
        }
        let base = from.map_or(0, |from| from.epoch);
        let Some(cuts) = std::mem::take(&mut self.lineage).epochs_after(base) else {
            let (slot, epoch) = (self.identity.slot, self.committed_epoch());
            return Err(StopReason::StateLost { slot, epoch });
        };
        if cuts.is_empty() {
            return self.run();
        }
        self.replay = cuts.iter().rev().cloned().collect();
        self.go(State::Replaying, Decision::Replay(cuts))
    }

    fn on_replayed(
        &mut self,
        epoch: u64,
        digest: String,
        outputs: u64,
    ) -> Result<Vec<Decision>, StopReason> {
        let Some(cut) = self.replay.pop().filter(|cut| cut.epoch == epoch) else {
            return Err(self.internal(format!("replayed epoch {epoch} out of turn")));
        };
        if cut.digest != digest || cut.outputs != outputs {
            return Err(StopReason::DigestMismatch {
                slot: self.identity.slot,
                epoch,
                journalled: format!("{} rows, digest {}", cut.outputs, cut.digest),
                now: format!("{outputs} rows, digest {digest}"),
            });
        }
        let mut decisions = Vec::new();
        let sinks = self.release(epoch, outputs);
        if !sinks.is_empty() {
            decisions.push(Decision::Release { epoch, sinks });
        }
        if self.replay.is_empty() {
            decisions.extend(self.run()?);
        }
        Ok(decisions)
    }

    fn run(&mut self) -> Result<Vec<Decision>, StopReason> {
        let last = self
            .last
            .clone()
            .ok_or_else(|| self.internal("nothing to go on from"))?;
        self.live = true;
        self.go_idle(vec![Decision::Run {
            last: Box::new(last),
        }])
    }

    // ── Epochs ───────────────────────────────────────────────────────────────────────────────────────────────

    fn on_closed(&mut self, draft: EpochDraft) -> Result<Vec<Decision>, StopReason> {
        let last = self
            .last
            .as_ref()
            .ok_or_else(|| self.internal("an epoch before the claim"))?;
        if let Some((input, before)) = last
            .positions
            .iter()
            .find(|(input, before)| draft.positions.get(*input) < Some(before))
        {
            let now = draft.positions.get(input);
            return Err(self.internal(format!("{input} went back from {before} to {now:?}")));
        }
        let epoch = last
            .epoch
            .checked_add(1)
            .ok_or_else(|| self.internal("epochs exhausted"))?;
        let record = JournalRecord {
            kind: RecordKind::Epoch,
            epoch,
            positions: draft.positions,
            watermarks: draft.watermarks,
            idle_advances: draft.idle_advances,
            ended: draft.ended,
            applied: self.applied.clone(),
            sink_timestamp: last.sink_timestamp.saturating_add(1).max(draft.now_us),
            digest: draft.digest,
            outputs: draft.outputs,
            checkpoints: Vec::new(),
            ..last.clone()
        };
        let naming = self.checkpoints.name(self.applied_by_all());
        let record = JournalRecord {
            checkpoints: naming.list.clone(),
            ..record
        };
        let decision = Decision::Commit(Box::new(record.clone()));
        self.pending = Some(Pending { record, naming });
        self.go(State::Committing, decision)
    }

    fn on_committed(&mut self) -> Result<Vec<Decision>, StopReason> {
        let pending = self
            .pending
            .take()
            .ok_or_else(|| self.internal("committed nothing"))?;
        let Pending { record, naming } = pending;
        self.attempt = 0;
        if record.kind == RecordKind::Claim {
            self.last = Some(record);
            return match self.settings.guarantee {
                Guarantee::ExactlyOnce => self.on_claimed(),
                Guarantee::AtLeastOnce => self.go(State::Verifying, Decision::ReadJournal),
            };
        }
        let (epoch, outputs) = (record.epoch, record.outputs);
        self.last = Some(record);
        let mut decisions = vec![Decision::Release {
            epoch,
            sinks: self.release(epoch, outputs),
        }];
        self.unverified.merge(naming);
        match self.settings.guarantee {
            Guarantee::AtLeastOnce if self.irrevocable() => {
                decisions.extend(self.go(State::Verifying, Decision::ReadJournal)?);
                Ok(decisions)
            }
            _ => {
                self.free(&mut decisions, None);
                self.go_idle(decisions)
            }
        }
    }

    /// The sinks that have yet to apply an epoch.
    fn release(&mut self, epoch: u64, outputs: u64) -> Vec<String> {
        self.released = epoch;
        if outputs > 0 {
            self.owed.insert(epoch);
        }
        self.pass_empty_epochs();
        let behind = self
            .applied
            .iter()
            .filter(|(_, applied)| **applied < epoch && outputs > 0);
        behind.map(|(sink, _)| sink.clone()).collect()
    }

    fn on_applied(&mut self, sink: String, epoch: u64) -> Vec<Decision> {
        if let Some(applied) = self.applied.get_mut(&sink) {
            *applied = (*applied).max(epoch);
        }
        self.pass_empty_epochs();
        Vec::new()
    }

    /// An epoch without rows counts as applied as soon as those before it are.
    fn pass_empty_epochs(&mut self) {
        let (owed, released) = (&self.owed, self.released);
        for applied in self.applied.values_mut() {
            let next_owed = owed.range(applied.saturating_add(1)..).next();
            *applied = next_owed.map_or(released.max(*applied), |next| next.saturating_sub(1));
        }
        let done = self.applied.values().copied().min().unwrap_or(released);
        self.owed.retain(|epoch| *epoch > done);
    }

    /// Whether something follows from the last commit that cannot be taken back.
    fn irrevocable(&self) -> bool {
        self.unverified.trim_through.is_some() || self.finished()
    }

    fn on_verified(
        &mut self,
        records: Vec<JournalRecord>,
        trimmed: bool,
    ) -> Result<Vec<Decision>, StopReason> {
        let claimed = self.claimed;
        let lineage = self.examine(records, trimmed)?;
        let ours = lineage.last().is_some_and(|last| self.is_ours(last));
        if !claimed {
            self.last = lineage.last().cloned();
            let known = self.last.as_ref().map(|last| last.facts.clone());
            self.lineage = lineage;
            return match ours {
                true => self.on_claimed(),
                // Somebody's record came between our reading and our claim, which is void.
                false => self.go(State::Resolving, Decision::ResolveFacts { known }),
            };
        }
        let mut decisions = Vec::new();
        self.free(&mut decisions, Some(&lineage));
        self.go_idle(decisions)
    }

    fn free(&mut self, decisions: &mut Vec<Decision>, lineage: Option<&Lineage>) {
        let freed = std::mem::take(&mut self.unverified);
        if !freed.doomed.is_empty() {
            decisions.push(Decision::DeleteCheckpoints(freed.doomed));
        }
        if let Some(through) = freed.trim_through
            && lineage.is_none_or(|lineage| lineage.may_trim(through))
        {
            decisions.push(Decision::TrimJournal { through });
        }
    }

    // ── Failures ─────────────────────────────────────────────────────────────────────────────────────────────

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

    // ── What the journal says ────────────────────────────────────────────────────────────────────────────────

    /// The line of valid records, if we may go on in view of it.
    fn examine(
        &mut self,
        records: Vec<JournalRecord>,
        trimmed: bool,
    ) -> Result<Lineage, StopReason> {
        let slot = self.identity.slot;
        if records.is_empty() && (trimmed || self.claimed) {
            return Err(StopReason::JournalMissing { slot });
        }
        if let Some(other) = records
            .iter()
            .find(|record| record.job != self.identity.job)
        {
            let (job, found) = (self.identity.job.clone(), other.job.clone());
            return Err(StopReason::OtherJob { job, found });
        }
        if let Some(other) = records.iter().find(|record| record.slot != slot) {
            return Err(self.conflict(format!("it holds records of slot {}", other.slot)));
        }
        let lineage = Lineage::of(records);
        if let Some(stray) = lineage.strays.first()
            && self.settings.guarantee == Guarantee::ExactlyOnce
        {
            let (epoch, owner) = (stray.record.epoch, &stray.record.owner);
            return Err(self.conflict(format!(
                "epoch {epoch} of {owner} does not follow epoch {}",
                stray.after
            )));
        }
        self.check_owner(lineage.last())?;
        Ok(lineage)
    }

    fn check_owner(&mut self, last: Option<&JournalRecord>) -> Result<(), StopReason> {
        let Some(last) = last else {
            self.term.get_or_insert(1);
            return Ok(());
        };
        let term = *self.term.get_or_insert(last.term.saturating_add(1));
        if self.is_ours(last) {
            return Ok(());
        }
        let (slot, owner) = (self.identity.slot, last.owner.clone());
        // The same pod, restarted, may claim again under its term; the one before must then give way.
        let again = last.term == term && last.owner == self.identity.owner;
        if (again || last.term < term) && !self.claimed {
            return Ok(());
        }
        if last.term < term {
            return Err(self.conflict(format!(
                "{owner} wrote under term {}, ours is {term}",
                last.term
            )));
        }
        if last.term == term && !again && self.identity.term != Term::AfterLast {
            return Err(StopReason::TwoOwners { slot, owner, term });
        }
        Err(StopReason::TakenOver {
            slot,
            owner,
            term: last.term,
        })
    }

    fn is_ours(&self, record: &JournalRecord) -> bool {
        Some(record.term) == self.term
            && record.owner == self.identity.owner
            && record.incarnation == self.identity.incarnation
    }

    // ── Small things ─────────────────────────────────────────────────────────────────────────────────────────

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
