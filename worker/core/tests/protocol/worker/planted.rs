//! The bugs that take more than a line.

use super::*;

impl Worker {
    pub(super) fn before_commit(&mut self, record: &JournalRecord) {
        let again = self.kept.get(&record.epoch).is_some_and(|kept| kept.sent);
        if again {
            self.world().report.resent += 1;
        }
        if again && self.has(Bug::RecomputeAfterAbort) {
            let before = self
                .protocol
                .last()
                .map(|last| last.positions.clone())
                .unwrap_or_default();
            let mut engine = self.engine.clone();
            for (partition, task) in engine.tasks.iter_mut().enumerate() {
                task.next = before.get(&name(partition)).copied().unwrap_or(0);
            }
            std::mem::swap(&mut engine, &mut self.engine);
            let rows = self.compute(record);
            std::mem::swap(&mut engine, &mut self.engine);
            self.kept
                .entry(record.epoch)
                .and_modify(|kept| kept.rows = rows);
        }
        if self.has(Bug::DeleteBeforeCommit) {
            let before = self
                .protocol
                .last()
                .map(|last| last.checkpoints.clone())
                .unwrap_or_default();
            for reference in before
                .iter()
                .filter(|before| !record.checkpoints.contains(before))
            {
                self.delete(reference);
            }
        }
        if self.has(Bug::ExternalBeforeCommit)
            && let Some(kept) = self.kept.get(&record.epoch).cloned()
        {
            let mut world = self.world();
            world.check_apply(record.epoch);
            world.external.apply(record.sink_timestamp, &kept.rows);
        }
    }

    pub(super) fn take_for_own(&self, records: &mut [JournalRecord]) {
        let own = self.protocol.last().map_or(0, |last| last.term);
        if !self.running {
            return;
        }
        for record in records.iter_mut().filter(|record| record.term >= own) {
            record.term = own;
            record.owner = self.identity.owner.clone();
            record.incarnation = self.identity.incarnation.clone();
        }
    }

    /// If positions are those of the uncertain epoch it counts as committed.
    pub(super) fn judge_by_position(&self, records: &mut Vec<JournalRecord>) {
        let (Some(last), epoch) = (records.last().cloned(), self.protocol.next_epoch() - 1) else {
            return;
        };
        if last.epoch + 1 == epoch && last.positions == self.closed_positions() {
            records.push(JournalRecord {
                kind: RecordKind::Epoch,
                epoch,
                ..last
            });
        }
    }

    /// Of the epoch that was closed last: the engine's, less what is in progress.
    pub(super) fn closed_positions(&self) -> BTreeMap<String, i64> {
        let mut positions = self.engine.positions();
        for row in &self.draft {
            if let Some(position) = positions.get_mut(&name(row.partition)) {
                *position = (*position).min(row.offset);
            }
        }
        positions
    }
}
