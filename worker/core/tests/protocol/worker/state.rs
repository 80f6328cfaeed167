//! The engine beside the protocol: restore, replay, the epoch in progress.

use super::*;

impl Worker {
    pub(super) async fn restore(&mut self, candidates: Vec<CheckpointRef>) {
        let newest = candidates.first().cloned();
        for reference in candidates {
            self.pause().await;
            let loaded = self.world().storage.load(&reference.manifest);
            if let Some(tasks) = loaded {
                self.engine = Engine { tasks };
                self.world().report.restored += 1;
                if newest.as_ref() != Some(&reference) {
                    self.world().report.fallbacks += 1;
                }
                return self.take(Fact::Restored {
                    checkpoint: Some(reference),
                });
            }
        }
        self.engine = Engine::default();
        self.take(Fact::Restored { checkpoint: None });
    }

    pub(super) async fn replay(&mut self, cuts: Vec<JournalRecord>) {
        for cut in cuts {
            self.pause().await;
            let rows = self.compute(&cut);
            self.world().report.replayed += 1;
            let (epoch, outputs, version) = (cut.epoch, rows.len() as u64, cut.sink_timestamp);
            let digest = digest(&rows);
            self.kept.insert(
                epoch,
                Kept {
                    rows,
                    version,
                    sent: false,
                },
            );
            self.take(Fact::Replayed {
                epoch,
                digest,
                outputs,
            });
        }
    }

    pub(super) fn compute(&mut self, cut: &JournalRecord) -> Vec<Row> {
        let more = self.has(Bug::ReplayOtherCuts);
        let world = self.world.borrow();
        let mut rows = Vec::new();
        for partition in 0..PARTITIONS {
            let to = cut.positions[&name(partition)];
            let to = if more {
                (to + 1).min(world.input[partition].len() as i64)
            } else {
                to
            };
            self.engine.advance(&world.input, partition, to, &mut rows);
            if cut.ended.contains(&name(partition)) {
                self.engine.end(partition, &mut rows);
            }
        }
        rows
    }

    pub(super) fn process(&mut self) {
        let mut world = self.world.borrow_mut();
        let partition = world.rng.usize(..PARTITIONS);
        let length = world.input[partition].len() as i64;
        let next = self.engine.tasks[partition].next;
        if next == length {
            // Not always in the epoch that read the last event.
            self.engine.end(partition, &mut self.draft);
        } else if self.draft.len() < 6 {
            let to = (next + world.rng.i64(1..4)).min(length);
            self.engine
                .advance(&world.input, partition, to, &mut self.draft);
        }
    }

    pub(super) fn close_epoch(&mut self) {
        let ready = self.running && self.protocol.ready_for_epoch();
        let eager =
            !self.draft.is_empty() && self.world().rng.bool() || self.world().rng.u8(..40) == 0;
        if !ready || !(self.protocol.wants_epoch() || eager) {
            return;
        }
        let epoch = self.protocol.next_epoch();
        // In the order in which a replay puts them out.
        self.draft.sort_by_key(|row| (row.partition, row.offset));
        let rows = std::mem::take(&mut self.draft);
        let draft = EpochDraft {
            positions: self.engine.positions(),
            ended: self.engine.ended(),
            digest: digest(&rows),
            outputs: rows.len() as u64,
            now_us: self.world().kafka.now as i64,
            ..EpochDraft::default()
        };
        self.kept.insert(
            epoch,
            Kept {
                rows,
                version: 0,
                sent: false,
            },
        );
        if self.upload.is_none() && self.world().rng.u8(..4) == 0 {
            let manifest = format!("{}-{epoch}", self.identity.incarnation);
            let reference = CheckpointRef { epoch, manifest };
            self.upload = Some(Upload {
                reference,
                state: self.engine.clone(),
                stored: 0,
            });
        }
        self.take(Fact::EpochClosed(draft));
    }
}
