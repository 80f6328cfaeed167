//! What the job is doing, for people and for the operator: drivers put their slots' facts on one board, HTTP and the
//! progress line read it.
//!
//! The board decides nothing and nobody waits for it: facts go in about once a second and after what matters, counters never stop.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use streamjob_core::chunk::{Millis, W_END, W_START};

/// The job whose board it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobIdentity {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// What a slot is about, in the order in which it comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Phase {
    /// Takes the slot over in the journal.
    #[default]
    Claiming,
    /// Reads a checkpoint.
    Restoring,
    /// Derives its state again, from the checkpoint's positions to the journal's.
    Replaying,
    Running,
    /// Was told to stop: commits, checkpoints and lets go.
    Draining,
    /// Has reached the end of its bounded input.
    Done,
}

/// A slot, as its driver knows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotStatus {
    pub slot: u32,
    pub term: u64,
    /// The last committed one.
    pub epoch: u64,
    pub phase: Phase,
    pub inputs: Vec<InputStatus>,
    /// Rows read and put out since the process started.
    pub rows_in: u64,
    pub rows_out: u64,
    pub checkpoint: Option<CheckpointStatus>,
    /// What its windows hold.
    pub state_keys: u64,
    pub state_windows: u64,
    /// What is not as it should be.
    pub conditions: Vec<Condition>,
}

/// One partition that a slot reads.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InputStatus {
    /// Source or exchange and partition, such as `events/3`.
    pub input: String,
    pub position: i64,
    /// Distance to the end, in records (files: bytes).
    pub lag: Option<i64>,
    /// `W_START` and `W_END` are printed as null.
    #[serde(serialize_with = "known_watermark")]
    pub watermark: Millis,
    /// Caught up for so long that time passes without rows.
    pub idle: bool,
    pub ended: bool,
}

/// The last checkpoint that the journal names.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointStatus {
    pub epoch: u64,
    /// When it was complete, epoch ms.
    pub at: Millis,
    pub bytes: u64,
    pub took_ms: u64,
}

/// Something that a user should know, as Kubernetes' conditions say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// Such as `CheckpointStale`.
    #[serde(rename = "type")]
    pub kind: String,
    /// One CamelCase word.
    pub reason: String,
    pub message: String,
}

/// The whole job in this process, as `/status` prints it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    pub job: JobIdentity,
    /// The wall clock, epoch ms.
    pub now: Millis,
    /// Of this program.
    pub version: &'static str,
    pub ready: bool,
    pub rows_in: u64,
    pub rows_out: u64,
    pub rows_in_per_second: u64,
    pub rows_out_per_second: u64,
    /// Sum over the inputs that know theirs.
    pub lag: Option<i64>,
    /// The lowest of the inputs that are not idle and have not ended.
    pub watermark: Option<Millis>,
    /// The wall clock minus the watermark.
    pub watermark_delay_ms: Option<i64>,
    /// The input that has the lowest watermark.
    pub held_back_by: Option<String>,
    /// Of the slot whose last checkpoint is the oldest.
    pub checkpoint_age_ms: Option<i64>,
    pub conditions: Vec<Condition>,
    pub slots: Vec<SlotStatus>,
}

#[derive(Debug)]
pub struct Board {
    job: JobIdentity,
    facts: Mutex<Facts>,
}

#[derive(Debug, Default)]
struct Facts {
    slots: BTreeMap<u32, SlotStatus>,
    /// Slots that this process is to run; ready when all of them are.
    expected: usize,
    /// Rows of slots that have been let go.
    gone: (u64, u64),
    /// When rates were last measured, and the totals then.
    measured: Option<(Instant, u64, u64)>,
    rates: (u64, u64),
}

impl Board {
    pub fn new(job: JobIdentity) -> Self {
        Board {
            job,
            facts: Mutex::default(),
        }
    }

    /// Says how many slots this process is to run.
    pub fn expect(&self, slots: usize) {
        self.facts().expected = slots;
    }

    /// Puts a slot's facts in the place of its earlier ones.
    pub fn update(&self, status: SlotStatus) {
        self.facts().slots.insert(status.slot, status);
    }

    /// Takes a slot off: it runs here no more.
    pub fn remove(&self, slot: u32) {
        let mut facts = self.facts();
        if let Some(gone) = facts.slots.remove(&slot) {
            facts.gone.0 += gone.rows_in;
            facts.gone.1 += gone.rows_out;
        }
    }

    /// Measures the rates since the last call; the progress thread does it each second.
    pub fn measure(&self, now: Instant) {
        let mut facts = self.facts();
        let (rows_in, rows_out) = facts.totals();
        if let Some((then, before_in, before_out)) = facts.measured {
            let seconds = now.duration_since(then).as_secs_f64().max(0.001);
            let rate = |now: u64, before: u64| (now.saturating_sub(before) as f64 / seconds) as u64;
            facts.rates = (rate(rows_in, before_in), rate(rows_out, before_out));
        }
        facts.measured = Some((now, rows_in, rows_out));
    }

    /// The job as a whole. `now` is the wall clock.
    pub fn status(&self, now: Millis) -> JobStatus {
        let facts = self.facts();
        let (rows_in, rows_out) = facts.totals();
        let slots: Vec<SlotStatus> = facts.slots.values().cloned().collect();
        let inputs = || slots.iter().flat_map(|slot| &slot.inputs);
        let lags = inputs().filter_map(|input| input.lag);
        let lowest = inputs()
            .filter(|input| !input.idle && !input.ended)
            .min_by_key(|input| input.watermark);
        let watermark = lowest.and_then(InputStatus::known_watermark);
        let oldest = slots
            .iter()
            .filter_map(|slot| slot.checkpoint.as_ref())
            .map(|checkpoint| checkpoint.at)
            .min();
        JobStatus {
            job: self.job.clone(),
            now,
            version: env!("CARGO_PKG_VERSION"),
            ready: slots.len() >= facts.expected.max(1)
                && slots.iter().all(|slot| slot.phase >= Phase::Running),
            rows_in,
            rows_out,
            rows_in_per_second: facts.rates.0,
            rows_out_per_second: facts.rates.1,
            lag: lags.reduce(i64::saturating_add),
            watermark,
            watermark_delay_ms: watermark.map(|watermark| now.saturating_sub(watermark)),
            held_back_by: lowest.map(|input| input.input.clone()),
            checkpoint_age_ms: oldest.map(|at| now.saturating_sub(at).max(0)),
            conditions: conditions(&slots),
            slots,
        }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts {
    fn totals(&self) -> (u64, u64) {
        self.slots
            .values()
            .fold(self.gone, |(rows_in, rows_out), slot| {
                (rows_in + slot.rows_in, rows_out + slot.rows_out)
            })
    }
}

/// Each kind once: what many slots say alike is said once.
fn conditions(slots: &[SlotStatus]) -> Vec<Condition> {
    let mut kinds = BTreeMap::new();
    for condition in slots.iter().flat_map(|slot| &slot.conditions) {
        kinds.entry(&condition.kind).or_insert(condition);
    }
    kinds.into_values().cloned().collect()
}

impl InputStatus {
    /// `None` before the first row and after the end.
    pub fn known_watermark(&self) -> Option<Millis> {
        known(self.watermark)
    }
}

fn known(watermark: Millis) -> Option<Millis> {
    (watermark != W_START && watermark != W_END).then_some(watermark)
}

fn known_watermark<S: serde::Serializer>(watermark: &Millis, to: S) -> Result<S::Ok, S::Error> {
    known(*watermark).serialize(to)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn input(name: &str, watermark: Millis) -> InputStatus {
        InputStatus {
            input: name.to_owned(),
            lag: Some(10),
            watermark,
            ..InputStatus::default()
        }
    }

    fn slot(slot: u32, rows_in: u64, inputs: Vec<InputStatus>) -> SlotStatus {
        SlotStatus {
            slot,
            rows_in,
            inputs,
            phase: Phase::Running,
            ..SlotStatus::default()
        }
    }

    #[test]
    fn the_lowest_watermark_is_named() {
        let board = Board::new(JobIdentity::default());
        let idle = InputStatus {
            idle: true,
            ..input("events/0", 1)
        };
        board.update(slot(0, 5, vec![idle, input("events/1", 700)]));
        board.update(slot(1, 5, vec![input("events/2", 300)]));
        let status = board.status(1000);
        assert_eq!(status.held_back_by.as_deref(), Some("events/2"));
        assert_eq!(
            (status.watermark, status.watermark_delay_ms),
            (Some(300), Some(700))
        );
        assert_eq!(status.lag, Some(30));
        board.update(slot(1, 5, vec![input("events/2", W_START)]));
        let status = board.status(1000);
        assert_eq!(
            (status.watermark, status.held_back_by.as_deref()),
            (None, Some("events/2"))
        );
    }

    #[test]
    fn ready_when_all_slots_run() {
        let board = Board::new(JobIdentity::default());
        assert!(!board.status(0).ready);
        board.expect(2);
        board.update(slot(0, 0, Vec::new()));
        assert!(!board.status(0).ready);
        board.update(SlotStatus {
            phase: Phase::Replaying,
            ..slot(1, 0, Vec::new())
        });
        assert!(!board.status(0).ready);
        board.update(slot(1, 0, Vec::new()));
        assert!(board.status(0).ready);
    }

    #[test]
    fn rates_outlive_a_slot() {
        let board = Board::new(JobIdentity::default());
        let start = Instant::now();
        board.update(slot(0, 100, Vec::new()));
        board.measure(start);
        board.update(slot(0, 300, Vec::new()));
        board.remove(0);
        board.measure(start + Duration::from_secs(2));
        assert_eq!(board.status(0).rows_in_per_second, 100);
        assert_eq!(board.status(0).rows_in, 300);
    }
}
