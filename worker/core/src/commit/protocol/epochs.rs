//! An epoch from its end to its release, and what its commit sets free.

use streamjob_crds::Guarantee;

use super::{Pending, SlotProtocol, State};
use crate::commit::record::{JournalRecord, RecordKind};
use crate::commit::{Decision, EpochDraft, Lineage, StopReason};

impl SlotProtocol {
    pub(super) fn on_closed(&mut self, draft: EpochDraft) -> Result<Vec<Decision>, StopReason> {
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
            idle: draft.idle,
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

    pub(super) fn on_committed(&mut self) -> Result<Vec<Decision>, StopReason> {
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
    pub(super) fn release(&mut self, epoch: u64, outputs: u64) -> Vec<String> {
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

    pub(super) fn on_applied(&mut self, sink: String, epoch: u64) -> Vec<Decision> {
        if let Some(applied) = self.applied.get_mut(&sink) {
            *applied = (*applied).max(epoch);
        }
        self.pass_empty_epochs();
        Vec::new()
    }

    /// An epoch without rows counts as applied as soon as those before it are.
    pub(super) fn pass_empty_epochs(&mut self) {
        let (owed, released) = (&self.owed, self.released);
        for applied in self.applied.values_mut() {
            let next_owed = owed.range(applied.saturating_add(1)..).next();
            *applied = next_owed.map_or(released.max(*applied), |next| next.saturating_sub(1));
        }
        let done = self.applied.values().copied().min().unwrap_or(released);
        self.owed.retain(|epoch| *epoch > done);
    }

    /// Whether something follows from the last commit that cannot be taken back.
    pub(super) fn irrevocable(&self) -> bool {
        self.unverified.trim_through.is_some() || self.finished()
    }

    pub(super) fn on_verified(
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

    pub(super) fn free(&mut self, decisions: &mut Vec<Decision>, lineage: Option<&Lineage>) {
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
}
