//! What the job is doing, for people and for the operator: drivers put their slots' facts on one board, HTTP and the
//! progress line read it.
//!
//! The board decides nothing and nobody waits for it: facts go in about once a second and after what matters, counters never stop.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use streamjob_core::chunk::Millis;
pub use streamjob_crds::{
    CheckpointStatus, InputStatus, JobIdentity, Phase, SLOT_FAILED, SlotStatus, WorkerCondition,
    WorkerStatus,
};

#[derive(Debug)]
pub struct Board {
    job: JobIdentity,
    facts: Mutex<Facts>,
}

#[derive(Debug, Default)]
struct Facts {
    slots: BTreeMap<u32, SlotStatus>,
    /// Slots that this process is to run, once they are known; ready when all of them are.
    expected: Option<usize>,
    /// Slots of the whole job.
    slot_count: Option<u32>,
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
        self.facts().expected = Some(slots);
    }

    /// Says how many slots the whole job has, wherever they run.
    pub fn job_has(&self, slots: u32) {
        self.facts().slot_count = Some(slots);
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

    /// Says that a slot does not run, and why.
    pub fn fail(&self, slot: u32, term: u64, reason: &str) {
        self.update(SlotStatus {
            slot,
            term,
            conditions: vec![WorkerCondition {
                kind: SLOT_FAILED.to_owned(),
                reason: "TriedAgain".to_owned(),
                message: format!("slot {slot}: {reason}"),
            }],
            ..SlotStatus::default()
        });
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
    pub fn status(&self, now: Millis) -> WorkerStatus {
        let facts = self.facts();
        let (rows_in, rows_out) = facts.totals();
        let slots: Vec<SlotStatus> = facts.slots.values().cloned().collect();
        let inputs = || slots.iter().flat_map(|slot| &slot.inputs);
        let lags = inputs().filter_map(|input| input.lag);
        let lowest = inputs()
            .filter(|input| !input.idle && !input.ended)
            .min_by_key(|input| input.watermark);
        let watermark = lowest.and_then(|input| input.watermark);
        let oldest = slots
            .iter()
            .filter_map(|slot| slot.checkpoint.as_ref())
            .map(|checkpoint| checkpoint.at)
            .min();
        WorkerStatus {
            job: self.job.clone(),
            now,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: facts
                .expected
                .is_some_and(|expected| slots.len() >= expected)
                && slots.iter().all(|slot| slot.phase >= Phase::Running),
            slot_count: facts.slot_count,
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
fn conditions(slots: &[SlotStatus]) -> Vec<WorkerCondition> {
    let mut kinds = BTreeMap::new();
    for condition in slots.iter().flat_map(|slot| &slot.conditions) {
        kinds.entry(&condition.kind).or_insert(condition);
    }
    kinds.into_values().cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn input(name: &str, watermark: impl Into<Option<Millis>>) -> InputStatus {
        InputStatus {
            input: name.to_owned(),
            lag: Some(10),
            watermark: watermark.into(),
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
        board.update(slot(1, 5, vec![input("events/2", None)]));
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
