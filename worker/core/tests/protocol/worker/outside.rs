//! What is outside the transaction: checkpoints and the external sink.

use super::*;

impl Worker {
    pub(super) fn upload_step(&mut self) {
        let Some(mut upload) = self.upload.take() else {
            return;
        };
        let manifest = upload.reference.manifest.clone();
        let (object_name, object) = match upload.state.tasks.get(upload.stored) {
            Some(task) => (part(&manifest, upload.stored), Object::Part(task.clone())),
            None => (manifest, Object::Manifest),
        };
        let parts_done = upload.stored + 1 == PARTITIONS;
        {
            let mut world = self.world();
            let dice = if world.fault(10) {
                world.rng.u8(..3)
            } else {
                3
            };
            match dice {
                0 => {}
                1 => world.storage.hold(&object_name, object),
                2 => world.storage.put(&object_name, object),
                _ => {
                    world.storage.put(&object_name, object);
                    upload.stored += 1;
                }
            }
        }
        let early =
            self.has(Bug::PointerBeforeManifest) && parts_done && upload.stored == PARTITIONS;
        let complete = upload.stored > PARTITIONS && !self.has(Bug::PointerBeforeManifest);
        if complete || early {
            self.take(Fact::CheckpointUploaded(upload.reference.clone()));
        }
        if upload.stored <= PARTITIONS {
            self.upload = Some(upload);
        }
    }

    pub(super) fn delete(&mut self, reference: &CheckpointRef) {
        let mut world = self.world();
        world.check_delete(&reference.manifest);
        world.storage.delete(&reference.manifest);
    }

    pub(super) fn release(&mut self, epoch: u64, sinks: &[String]) {
        if sinks.is_empty() {
            self.kept.remove(&epoch);
            return;
        }
        if let Some(last) = self.protocol.last().filter(|last| last.epoch == epoch) {
            let version = last.sink_timestamp;
            self.kept
                .entry(epoch)
                .and_modify(|kept| kept.version = version);
        }
        if self.has(Bug::AppliedWhenSent) {
            self.take(Fact::ExternalApplied {
                sink: SINK.into(),
                epoch,
            });
        }
        self.to_apply.push_back(epoch);
    }

    pub(super) fn apply_step(&mut self) {
        let Some(epoch) = self.to_apply.front().copied() else {
            return;
        };
        if self.world().fault(30) {
            return;
        }
        self.to_apply.pop_front();
        if let Some(kept) = self.kept.remove(&epoch) {
            let mut world = self.world.borrow_mut();
            world.check_apply(epoch);
            world.external.apply(kept.version, &kept.rows);
        }
        self.to_report.push_back(epoch);
    }

    pub(super) fn report_step(&mut self) {
        if let Some(epoch) = self.to_report.pop_front() {
            self.take(Fact::ExternalApplied {
                sink: SINK.into(),
                epoch,
            });
        }
    }
}
