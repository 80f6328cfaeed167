//! From the first look at the journal to a slot that runs: fence, read again, claim, restore, replay. And the way
//! back behind the fence after a commit that was not clean.

use std::collections::BTreeMap;

use super::{Pending, SlotProtocol, State, all_ended};
use crate::commit::checkpoints::{Checkpoints, Naming};
use crate::commit::record::{CheckpointRef, JobFacts, JournalRecord, RecordKind};
use crate::commit::{Decision, Lineage, StopReason, check_facts};

impl SlotProtocol {
    pub(super) fn on_peeked(
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
    pub(super) fn on_read(
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
                let known = lineage.last().map(known_facts);
                self.last = lineage.last().cloned();
                self.lineage = lineage;
                self.go(State::Resolving, Decision::ResolveFacts { known })
            }
        }
    }

    pub(super) fn settle(
        &mut self,
        pending: Pending,
        lineage: &Lineage,
    ) -> Result<Vec<Decision>, StopReason> {
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

    pub(super) fn on_resolved(
        &mut self,
        facts: JobFacts,
        start: BTreeMap<String, i64>,
    ) -> Result<Vec<Decision>, StopReason> {
        let term = self
            .term
            .ok_or_else(|| self.internal("no term at the claim"))?;
        let mut record = match &self.last {
            Some(last) => {
                check_facts(&last.facts, &facts, &self.settings.inputs)?;
                self.check_returned(last)?;
                let mut record = last.clone();
                record.facts.update(facts);
                for (input, position) in start {
                    record.positions.entry(input).or_insert(position);
                }
                record.plan_hash = self.settings.plan_hash.clone();
                record
            }
            None => self.first_record(facts, start),
        };
        record.kind = RecordKind::Claim;
        record.term = term;
        record.owner = self.identity.owner.clone();
        record.incarnation = self.identity.incarnation.clone();
        record.engine_version = self.settings.engine_version.clone();
        record.idle_advances.clear();
        record.idle.clear();
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

    /// The topic of an exchange that the job did without for a while has rows from before.
    fn check_returned(&self, last: &JournalRecord) -> Result<(), StopReason> {
        let is_of = |input: &String, name: &String| {
            input
                .strip_prefix(&**name)
                .is_some_and(|rest| rest.starts_with('/'))
        };
        let unread = |name: &&String| !last.positions.keys().any(|input| is_of(input, name));
        let mut returned = self.settings.exchanges.iter().filter(unread);
        match returned.find(|name| last.facts.topics.contains_key(*name)) {
            Some(step) => Err(StopReason::StepReturned { step: step.clone() }),
            None => Ok(()),
        }
    }

    pub(super) fn first_record(
        &self,
        facts: JobFacts,
        start: BTreeMap<String, i64>,
    ) -> JournalRecord {
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
            idle: Vec::new(),
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

    /// A sink that the journal does not know starts here: what is committed already is not for it. One that the job has no more
    /// stays in the claim, in case the change is taken back.
    pub(super) fn applied_at_claim(&self, last: &JournalRecord) -> BTreeMap<String, u64> {
        let applied = |sink: &String| last.applied.get(sink).copied().unwrap_or(last.epoch);
        let sinks = self.settings.external_sinks.iter();
        let mut all = last.applied.clone();
        all.extend(sinks.map(|sink| (sink.clone(), applied(sink))));
        all
    }

    /// The claim is committed, and `lineage` is the line as read before or with it.
    pub(super) fn on_claimed(&mut self) -> Result<Vec<Decision>, StopReason> {
        let last = self
            .last
            .clone()
            .ok_or_else(|| self.internal("claimed nothing"))?;
        self.claimed = true;
        self.attempt = 0;
        self.applied = last.applied.clone();
        let sinks = &self.settings.external_sinks;
        self.applied.retain(|sink, _| sinks.contains(sink));
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

    pub(super) fn on_restored(
        &mut self,
        from: Option<CheckpointRef>,
    ) -> Result<Vec<Decision>, StopReason> {
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

    pub(super) fn on_replayed(
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

    pub(super) fn run(&mut self) -> Result<Vec<Decision>, StopReason> {
        let last = self
            .last
            .clone()
            .ok_or_else(|| self.internal("nothing to go on from"))?;
        self.live = true;
        self.go_idle(vec![Decision::Run {
            last: Box::new(last),
        }])
    }
}

/// What the journal knows of the inputs that the job has read until now. (A source that was left out for a while starts anew.)
fn known_facts(last: &JournalRecord) -> JobFacts {
    let mut facts = last.facts.clone();
    let is_read = |input: &String| last.positions.contains_key(input);
    facts.start.retain(|input, _| is_read(input));
    facts.end.retain(|input, _| is_read(input));
    facts
}
