//! What a slot's driver tells the outside: its place on the status board and in the metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use streamjob_core::chunk::{Millis, W_END, W_START};
use streamjob_core::commit::Term;
use streamjob_core::engine::{SlotEngine, TaskCounters, TaskId};
use streamjob_core::plan::{JobPlan, StageInput};

use crate::checkpoint::{CheckpointError, Uploaded};
use crate::driver::inputs::{Inputs, now_ms};
use crate::metrics::Metrics;
use crate::status::{Board, CheckpointStatus, InputStatus, Phase, SlotStatus, WorkerCondition};

/// How often the board hears of a slot that goes its way.
const EVERY: Duration = Duration::from_millis(500);

pub struct SlotReport {
    plan: Arc<JobPlan>,
    board: Arc<Board>,
    metrics: Metrics,
    status: SlotStatus,
    told: Instant,
    /// Counters as they were when last added to the metrics.
    counted: BTreeMap<TaskId, TaskCounters>,
    closed: Option<Instant>,
    /// Since when the slot stands still, on its way from another worker.
    since: Option<Instant>,
    stale_after: Duration,
    /// Rows read from all inputs; those that had been when the last checkpoint came, and since when there are others.
    rows_read: u64,
    rows_saved: u64,
    unsaved_since: Instant,
}

impl SlotReport {
    pub fn new(plan: Arc<JobPlan>, board: Arc<Board>, metrics: Metrics, slot: u32) -> Self {
        // Three intervals without a checkpoint is more than bad luck.
        let stale_after = (plan.spec.checkpoint.interval.to_std() * 3).max(Duration::from_secs(5));
        let status = SlotStatus {
            slot,
            ..SlotStatus::default()
        };
        board.update(status.clone());
        let now = Instant::now();
        SlotReport {
            plan,
            board,
            metrics,
            status,
            told: now,
            counted: BTreeMap::new(),
            closed: None,
            since: None,
            stale_after,
            rows_read: 0,
            rows_saved: 0,
            unsaved_since: now,
        }
    }

    /// Says with which term the slot was placed here, and since when it stands still on its way.
    pub fn placed(&mut self, term: Term, since: Option<Instant>) {
        if let Term::Given(term) = term {
            self.status.term = term;
        }
        self.since = since;
        self.board.update(self.status.clone());
    }

    pub fn phase(&mut self, phase: Phase) {
        self.status.phase = phase;
        self.board.update(self.status.clone());
    }

    pub fn running(&mut self, epoch: u64, term: u64) {
        (self.status.epoch, self.status.term) = (epoch, term);
        let pause = self.since.take().map(|since| since.elapsed().as_millis());
        self.status.pause_ms = pause.map(|millis| millis as u64);
        self.phase(Phase::Running);
    }

    pub fn closed(&mut self) {
        self.closed = Some(Instant::now());
    }

    pub fn committed(&mut self, epoch: u64) {
        self.status.epoch = epoch;
        self.metrics.epochs.inc();
        if let Some(closed) = self.closed.take() {
            self.metrics
                .commit_seconds
                .observe(closed.elapsed().as_secs_f64());
        }
    }

    pub fn checkpointed(&mut self, uploaded: &Uploaded) {
        self.metrics
            .checkpoint_seconds
            .observe(uploaded.took.as_secs_f64());
        self.metrics.checkpoint_bytes.inc_by(uploaded.bytes);
        self.rows_saved = self.rows_read;
        self.unsaved_since = Instant::now();
        self.status.checkpoint = Some(CheckpointStatus {
            epoch: uploaded.reference.epoch,
            at: now_ms(),
            bytes: uploaded.bytes,
            took_ms: uploaded.took.as_millis() as u64,
        });
    }

    pub fn checkpoint_failed(&mut self, error: &CheckpointError) {
        self.metrics.checkpoint_failures.inc();
        tracing::warn!(slot = self.status.slot, %error, "checkpoint failed; commits go on, it is tried again");
    }

    /// Brings board and metrics up to date, now and then; `always` does it at once.
    pub fn tell(&mut self, engine: &SlotEngine, inputs: &Inputs, always: bool) {
        if !always && self.told.elapsed() < EVERY {
            return;
        }
        self.told = Instant::now();
        self.count(engine);
        // A slot that reads nothing has nothing to save.
        if self.rows_read == self.rows_saved {
            self.unsaved_since = self.told;
        }
        self.status.inputs = inputs
            .each()
            .map(|input| InputStatus {
                input: input.name.to_owned(),
                position: engine.position(input.task).unwrap_or_default(),
                lag: input.lag,
                watermark: engine.watermark(input.task).and_then(known),
                idle: input.idle,
                ended: engine.ended(input.task),
            })
            .collect();
        let held = engine.held();
        self.status.state_keys = held.keys as u64;
        self.status.state_windows = held.windows as u64;
        self.status.state_partial_matches = held.starts as u64;
        self.status.conditions = self.conditions();
        self.board.update(self.status.clone());
    }

    fn conditions(&self) -> Vec<WorkerCondition> {
        let age = self.unsaved_since.elapsed();
        match age > self.stale_after && self.status.phase == Phase::Running {
            true => vec![WorkerCondition {
                kind: "CheckpointStale".to_owned(),
                reason: "NoRecentCheckpoint".to_owned(),
                message: format!(
                    "no checkpoint for {} s: commits go on, but a restart would replay all since then; look at the checkpoint storage and the log",
                    age.as_secs()
                ),
            }],
            false => Vec::new(),
        }
    }

    fn count(&mut self, engine: &SlotEngine) {
        for (task, now) in engine.counters() {
            let before = self.counted.entry(task).or_default();
            let input = match self.plan.stages[task.stage].input {
                StageInput::Source(source) => &self.plan.sources[source].name,
                StageInput::Exchange(exchange) => &self.plan.exchanges[exchange].name,
            };
            let (rows, bad) = (
                now.rows_in - before.rows_in,
                now.malformed - before.malformed,
            );
            self.metrics
                .rows_in
                .with_label_values(&[input])
                .inc_by(rows.saturating_sub(bad));
            self.metrics
                .malformed
                .with_label_values(&[input])
                .inc_by(bad);
            self.rows_read += rows;
            if matches!(self.plan.stages[task.stage].input, StageInput::Source(_)) {
                self.status.rows_in += rows;
            }
            for (step, counters) in &now.steps {
                let old = before.steps.get(step).copied().unwrap_or_default();
                self.metrics
                    .late
                    .with_label_values(&[step])
                    .inc_by(counters.late - old.late);
                self.metrics
                    .failed
                    .with_label_values(&[step])
                    .inc_by(counters.failed - old.failed);
                self.metrics
                    .timed_out
                    .with_label_values(&[step])
                    .inc_by(counters.timed_out - old.timed_out);
                self.metrics
                    .overflow
                    .with_label_values(&[step])
                    .inc_by(counters.overflow - old.overflow);
            }
            for (sink, rows) in &now.sinks {
                let new = rows - before.sinks.get(sink).copied().unwrap_or_default();
                self.metrics.rows_out.with_label_values(&[sink]).inc_by(new);
                self.status.rows_out += new;
            }
            *before = now.clone();
        }
    }
}

/// `None` before the first row and after the end.
fn known(watermark: Millis) -> Option<Millis> {
    (watermark != W_START && watermark != W_END).then_some(watermark)
}
