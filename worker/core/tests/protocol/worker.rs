//! A worker: carries out decisions as the real one does, one request at a time, with faults at every one. Between
//! any two steps others may run, or it may be gone.

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

    // ── Journal and producer ─────────────────────────────────────────────────────────────────────────────────

    async fn read_journal(&mut self) {
        self.pause().await;
        let mut records: Vec<JournalRecord> = {
            let world = self.world();
            world
                .kafka
                .records(world.kafka.start)
                .map(|(_, record)| record.clone())
                .collect()
        };
        let trimmed = self.world().kafka.start > 0;
        let behind_fence = std::mem::replace(&mut self.fenced, false);
        if self.has(Bug::IgnoreTerm) {
            self.take_for_own(&mut records);
        }
        let epoch = self.protocol.next_epoch().saturating_sub(1);
        let uncertain = self.running && self.kept.get(&epoch).is_some_and(|kept| kept.sent);
        if uncertain && behind_fence && records.last().is_some_and(|last| last.epoch == epoch) {
            self.world().report.skipped += 1;
        }
        let again = self.has(Bug::SkipSecondRead) && !self.running
            || self.has(Bug::ResendWithoutReading) && uncertain;
        if behind_fence && again {
            records = self.last_read.clone();
        }
        if behind_fence && uncertain && self.has(Bug::BoundaryByPosition) {
            self.judge_by_position(&mut records);
        }
        self.last_read = records.clone();
        self.pause().await;
        self.take(Fact::JournalRead { records, trimmed });
    }

    async fn initialise(&mut self) {
        self.producer = None;
        let guarantee = self.world().guarantee;
        let id = match guarantee {
            Guarantee::ExactlyOnce if !self.has(Bug::ClaimWithoutFencing) => JOB.to_string(),
            _ => format!("{JOB}-{}", self.identity.incarnation),
        };
        loop {
            self.pause().await;
            let result = self.world().kafka.initialise(&id);
            let lost = self.world().fault(5);
            match result {
                Ok(producer) if !lost => {
                    self.producer = Some(producer);
                    self.fenced = true;
                    return self.take(Fact::ProducerReady);
                }
                Ok(_) if self.world().rng.bool() => {
                    return self.take(Fact::ProducerFailed(Failure::Uncertain));
                }
                _ => {}
            }
        }
    }

    async fn commit(&mut self, record: JournalRecord) {
        let epoch = record.epoch;
        if record.kind == RecordKind::Epoch {
            self.before_commit(&record);
        }
        let outcome = self.transact(&record).await;
        if outcome == Err(Failure::Uncertain) {
            self.world().report.unclean += 1;
        }
        if record.kind == RecordKind::Epoch
            && let Some(kept) = self.kept.get_mut(&epoch)
        {
            kept.sent = true;
        }
        match outcome {
            Ok(()) => {
                self.last_read.push(record);
                self.take(Fact::Committed);
            }
            Err(failure) => self.take(Fact::CommitFailed(failure)),
        }
    }

    /// Output, then the record, then the end.
    async fn transact(&mut self, record: &JournalRecord) -> Result<(), Failure> {
        let mut sends: Vec<(usize, Payload)> = Vec::new();
        if record.kind == RecordKind::Epoch {
            let rows = self
                .kept
                .get(&record.epoch)
                .map(|kept| kept.rows.clone())
                .unwrap_or_default();
            sends.extend(
                rows.into_iter()
                    .map(|row| (row.partition, Payload::Row(row))),
            );
        }
        sends.push((JOURNAL, Payload::Record(Box::new(record.clone()))));
        for (target, payload) in sends {
            self.send(target, payload).await?;
        }
        if self.world().guarantee == Guarantee::AtLeastOnce {
            return Ok(());
        }
        let abort = self.world().fault(4);
        self.end(!abort).await
    }

    async fn send(&mut self, target: usize, payload: Payload) -> Result<(), Failure> {
        let Some(mut producer) = self.producer.take() else {
            return Err(Failure::Uncertain);
        };
        let sequence = producer.sequences.entry(target).or_default();
        *sequence += 1;
        let sequence = *sequence;
        self.producer = Some(producer.clone());
        loop {
            self.pause().await;
            let dice = if self.world().fault(6) {
                self.world().rng.u8(..4)
            } else {
                4
            };
            match dice {
                0 => {}
                1 => self
                    .world()
                    .kafka
                    .hold_produce(&producer, target, sequence, payload.clone()),
                2 => {
                    let _ =
                        self.world()
                            .kafka
                            .produce(&producer, target, sequence, payload.clone());
                }
                3 => return Err(Failure::Uncertain),
                _ => {
                    let result =
                        self.world()
                            .kafka
                            .produce(&producer, target, sequence, payload.clone());
                    match result {
                        Ok(()) => return Ok(()),
                        Err(Error::Concurrent) => {}
                        Err(Error::Fenced) => return Err(Failure::Fenced),
                        Err(Error::Invalid) => return Err(Failure::Uncertain),
                    }
                }
            }
        }
    }

    /// As librdkafka does it: tries again on its own, and in the end says "Ok".
    async fn end(&mut self, commit: bool) -> Result<(), Failure> {
        let Some(producer) = self.producer.clone() else {
            return Err(Failure::Uncertain);
        };
        let mut clean = commit;
        loop {
            self.pause().await;
            let dice = if self.world().fault(15) {
                self.world().rng.u8(..4)
            } else {
                4
            };
            match dice {
                0 => clean = false,
                1 => {
                    self.world().kafka.hold_end(&producer, commit);
                    clean = false;
                }
                2 => {
                    let _ = self.world().kafka.end(&producer, commit);
                    clean = false;
                }
                3 => return Err(Failure::Uncertain),
                _ => {
                    let result = self.world().kafka.end(&producer, commit);
                    match result {
                        Ok(()) if clean || commit && self.has(Bug::ReuseProducer) => return Ok(()),
                        Ok(()) | Err(Error::Invalid) => return Err(Failure::Uncertain),
                        Err(Error::Fenced) => return Err(Failure::Fenced),
                        Err(Error::Concurrent) => clean = false,
                    }
                }
            }
        }
    }

    // ── State ────────────────────────────────────────────────────────────────────────────────────────────────

    async fn restore(&mut self, candidates: Vec<CheckpointRef>) {
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

    async fn replay(&mut self, cuts: Vec<JournalRecord>) {
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

    fn compute(&mut self, cut: &JournalRecord) -> Vec<Row> {
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

    fn process(&mut self) {
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

    fn close_epoch(&mut self) {
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

    // ── Checkpoints and the external sink ────────────────────────────────────────────────────────────────────

    fn upload_step(&mut self) {
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

    fn delete(&mut self, reference: &CheckpointRef) {
        let mut world = self.world();
        world.check_delete(&reference.manifest);
        world.storage.delete(&reference.manifest);
    }

    fn release(&mut self, epoch: u64, sinks: &[String]) {
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

    fn apply_step(&mut self) {
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

    fn report_step(&mut self) {
        if let Some(epoch) = self.to_report.pop_front() {
            self.take(Fact::ExternalApplied {
                sink: SINK.into(),
                epoch,
            });
        }
    }

    // ── Planted bugs ─────────────────────────────────────────────────────────────────────────────────────────

    fn before_commit(&mut self, record: &JournalRecord) {
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

    fn take_for_own(&self, records: &mut [JournalRecord]) {
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
    fn judge_by_position(&self, records: &mut Vec<JournalRecord>) {
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
    fn closed_positions(&self) -> BTreeMap<String, i64> {
        let mut positions = self.engine.positions();
        for row in &self.draft {
            if let Some(position) = positions.get_mut(&name(row.partition)) {
                *position = (*position).min(row.offset);
            }
        }
        positions
    }
}
