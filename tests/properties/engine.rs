//! Every window kind, lateness, sessions merged by late rows, idle advances: the engine's rows are the oracle's, however
//! the rows are cut into epochs, and after a restore at any row.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use serde_json::Value;
use streamjob_core::engine::TaskId;
use streamjob_core::output::{EpochOutput, Target};
use streamjob_core::plan::JobPlan;
use streamjob_tests::compare::difference_within;
use streamjob_tests::oracle::{Emission, Entry, Reason, Row, TaskOutcome, last_rows, run};
use streamjob_tests::workload::nasty::{Case, case};

use crate::seeds::{on_all_cores, seeds};
use crate::slot::{Slot, Step, planned, source, steps};

/// Sums of floating-point numbers in another order.
const TOLERANCE: f64 = 1e-9;

#[test]
fn the_engine_puts_out_what_the_oracle_does() {
    on_all_cores(seeds(0..10_000), check, |(), ()| ());
}

fn check(seed: u64) {
    let case = case(seed);
    let plan = planned(&case.manifest);
    let outcome = run(&case.job, &case.log);
    let mut random = Rng::with_seed(seed);
    for restore in [false, true] {
        let found = Run::new(&plan, case.log.len()).run(&case.log, &mut random, restore);
        compare(seed, &case, &outcome, &found);
    }
}

/// What went to each sink: rows, late rows, malformed events.
#[derive(Default)]
struct Found {
    sinks: [Vec<Row>; 3],
}

struct Run {
    slot: Slot,
    found: Found,
}

impl Run {
    fn new(plan: &Arc<JobPlan>, partitions: usize) -> Self {
        Run {
            slot: Slot::new(plan, 1, vec![partitions as u32; plan.stages.len()]),
            found: Found::default(),
        }
    }

    /// Epochs end at random rows, and where a watermark moves without data.
    fn run(mut self, log: &[Vec<Entry>], random: &mut Rng, restore: bool) -> Found {
        let lengths: Vec<usize> = log.iter().map(Vec::len).collect();
        let mut offsets = vec![0; log.len()];
        for step in steps(&lengths, random, restore) {
            match step {
                Step::Restore => {
                    self.close(&BTreeMap::new(), &[]);
                    self.slot.restore();
                }
                Step::Entry { partition, at } => {
                    let entry = &log[partition][at];
                    self.entry(partition, offsets[partition], entry);
                    offsets[partition] += i64::from(matches!(entry, Entry::Event { .. }));
                    if random.u8(0..6) == 0 {
                        self.close(&BTreeMap::new(), &[]);
                    }
                }
            }
        }
        let ends: Vec<TaskId> = (0..log.len()).map(source).collect();
        self.close(&BTreeMap::new(), &ends);
        self.found
    }

    fn entry(&mut self, partition: usize, offset: i64, entry: &Entry) {
        match entry {
            Entry::Idle(watermark) => {
                self.close(&BTreeMap::from([(source(partition), *watermark)]), &[]);
            }
            Entry::Event {
                payload,
                kafka_timestamp,
            } => {
                let payload = payload.as_deref();
                self.slot
                    .event(partition, offset, payload, *kafka_timestamp);
            }
        }
    }

    fn close(&mut self, advances: &BTreeMap<TaskId, i64>, ends: &[TaskId]) {
        let output = self.slot.close(advances, ends, false);
        self.found.take(&output);
    }
}

impl Found {
    fn take(&mut self, output: &EpochOutput) {
        for target in &output.targets {
            let Target::Sink(sink) = target.target else {
                panic!("the job has no exchange")
            };
            for row in &target.rows {
                let bytes = target.value(row).expect("line sinks have no tombstones");
                self.sinks[sink].push(serde_json::from_slice(bytes).expect("a row"));
            }
        }
    }
}

fn compare(seed: u64, case: &Case, outcome: &[TaskOutcome], found: &Found) {
    let [rows, late, malformed] = &found.sinks;
    let step = case.job.window.as_ref().expect("a window");
    let mut identity: Vec<&str> = step.group.iter().map(String::as_str).collect();
    identity.extend(["window_start", "window_end"]);

    let expected = last_rows(&case.job, outcome);
    same(
        seed,
        "rows",
        case,
        expected,
        last_of(rows, &identity),
        &identity,
    );

    let expected: Vec<Row> = outcome.iter().flat_map(|task| task.late.clone()).collect();
    same(seed, "late rows", case, expected, late.clone(), &["t", "k"]);

    let expected = outcome.iter().enumerate().flat_map(|(partition, task)| {
        task.malformed
            .iter()
            .map(move |(position, reason)| (partition as i64, *position as i64, *reason))
    });
    let mut told: Vec<(i64, i64, Reason)> = malformed.iter().map(told_reason).collect();
    told.sort_by_key(|(partition, position, _)| (*partition, *position));
    assert_eq!(
        expected.collect::<Vec<_>>(),
        told,
        "seed {seed}: malformed events"
    );

    if outcome.len() == 1 && step.allowed_lateness == 0 && step.emit_every.is_none() {
        let sequence: Vec<&Row> = outcome[0].emitted.iter().map(Emission::row).collect();
        let places = |row: &Row| {
            identity
                .iter()
                .map(|name| row[*name].clone())
                .collect::<Vec<_>>()
        };
        assert!(
            sequence
                .iter()
                .map(|row| places(row))
                .eq(rows.iter().map(places)),
            "seed {seed}: rows come in another order"
        );
    }
}

/// The last row of each identity; a deleted one is none.
fn last_of(rows: &[Row], identity: &[&str]) -> Vec<Row> {
    let mut last = BTreeMap::new();
    for row in rows {
        let key: Vec<String> = identity.iter().map(|name| row[*name].to_string()).collect();
        // The task is part of a row's identity, but not of the row: a key is in one partition only by a user's promise.
        match row.get("_op") {
            Some(_) => drop(last.remove(&key)),
            None => drop(last.insert(key, row.clone())),
        }
    }
    last.into_values().collect()
}

fn same(
    seed: u64,
    what: &str,
    case: &Case,
    mut expected: Vec<Row>,
    mut found: Vec<Row>,
    identity: &[&str],
) {
    for row in expected.iter_mut().chain(&mut found) {
        for column in &case.approximate {
            // Which of two neighbours a sketch takes is its own affair; whether there is a value is not.
            if let Some(value) = row.get_mut(column) {
                *value = Value::Bool(!value.is_null());
            }
        }
    }
    let difference = difference_within(&expected, &found, identity, TOLERANCE);
    assert!(
        difference.is_empty(),
        "seed {seed}: {what}: {difference}\n{}",
        case.manifest
    );
}

fn told_reason(row: &Row) -> (i64, i64, Reason) {
    let reason = match row["reason"].as_str().unwrap_or_default() {
        "NullValue" | "Empty" | "InvalidUtf8" | "InvalidJson" | "TooDeep" | "NotAnObject"
        | "TrailingData" => Reason::NoObject,
        "MissingColumn" => Reason::Missing,
        "FarFuture" => Reason::FarFuture,
        _ => Reason::BadValue,
    };
    let number = |name: &str| row[name].as_i64().unwrap_or(-1);
    (number("partition"), number("offset"), reason)
}
