//! Patterns of events: the engine's matches are the oracle's, in its order, however the rows are cut into epochs, and after a
//! restore at any row.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use serde_json::Value;
use streamjob_core::engine::TaskId;
use streamjob_core::output::Target;
use streamjob_core::plan::JobPlan;
use streamjob_tests::oracle::Row;
use streamjob_tests::oracle::pattern::{Outcome, run};
use streamjob_tests::workload::patterns::{Case, Input, case};

use crate::seeds::{on_all_cores, seeds};
use crate::slot::{Slot, Step, planned, source, steps};

#[derive(Debug, Default)]
struct Tally {
    cases: u64,
    matches: usize,
    timed_out: usize,
    late: usize,
    overflow: usize,
    without: u64,
}

#[test]
fn the_engine_finds_the_matches_that_the_oracle_does() {
    let tally = on_all_cores(seeds(0..1_500), check, Tally::and);
    println!("{tally:?}");
    // A workload without them would prove nothing.
    let cases = tally.cases as usize;
    assert!(tally.matches > cases, "{tally:?}");
    assert!(tally.timed_out > cases, "{tally:?}");
    assert!(
        tally.late > cases / 2 && tally.overflow > cases / 10,
        "{tally:?}"
    );
    assert!((tally.without as usize) < cases * 2 / 3, "{tally:?}");
}

impl Tally {
    fn and(self, other: Tally) -> Tally {
        Tally {
            cases: self.cases + other.cases,
            matches: self.matches + other.matches,
            timed_out: self.timed_out + other.timed_out,
            late: self.late + other.late,
            overflow: self.overflow + other.overflow,
            without: self.without + other.without,
        }
    }
}

fn check(seed: u64) -> Tally {
    let case = case(seed);
    let plan = planned(&case.manifest);
    let outcomes: Vec<Outcome> = (0..case.log.len())
        .map(|partition| run(&case.step, &case.entries(partition), case.out_of_orderness))
        .collect();
    let mut random = Rng::with_seed(seed);
    for restore in [false, true] {
        let found = Run::new(&plan, case.log.len()).run(&case, &mut random, restore);
        compare(seed, &case, &outcomes, &found);
    }
    let count = |of: fn(&Outcome) -> usize| outcomes.iter().map(of).sum();
    let matches = count(|outcome| outcome.matches.len());
    Tally {
        cases: 1,
        matches,
        timed_out: count(|outcome| outcome.timed_out.len()),
        late: count(|outcome| outcome.late.len()),
        overflow: count(|outcome| outcome.overflow.len()),
        without: u64::from(matches == 0),
    }
}

struct Run {
    slot: Slot,
    /// Matches, late rows, starts that ended, starts too many.
    sinks: [Vec<Row>; 4],
}

impl Run {
    fn new(plan: &Arc<JobPlan>, partitions: usize) -> Self {
        Run {
            slot: Slot::new(plan, 1, vec![partitions as u32; plan.stages.len()]),
            sinks: Default::default(),
        }
    }

    fn run(mut self, case: &Case, random: &mut Rng, restore: bool) -> [Vec<Row>; 4] {
        let lengths: Vec<usize> = case.log.iter().map(Vec::len).collect();
        let mut offsets = vec![0; lengths.len()];
        for step in steps(&lengths, random, restore) {
            match step {
                Step::Restore => {
                    self.close(&BTreeMap::new(), &[]);
                    self.slot.restore();
                }
                Step::Entry { partition, at } => match &case.log[partition][at] {
                    Input::Idle(w) => {
                        self.close(&BTreeMap::from([(source(partition), *w)]), &[]);
                    }
                    Input::Event { row, .. } => {
                        let bytes = Value::Object(row.clone()).to_string();
                        let offset = &mut offsets[partition];
                        self.slot
                            .event(partition, *offset, Some(bytes.as_bytes()), None);
                        *offset += 1;
                        if random.u8(0..6) == 0 {
                            self.close(&BTreeMap::new(), &[]);
                        }
                    }
                },
            }
        }
        let ends: Vec<TaskId> = (0..lengths.len()).map(source).collect();
        self.close(&BTreeMap::new(), &ends);
        self.sinks
    }

    fn close(&mut self, advances: &BTreeMap<TaskId, i64>, ends: &[TaskId]) {
        for target in &self.slot.close(advances, ends, true).targets {
            let Target::Sink(sink) = target.target else {
                panic!("the exchange is in process")
            };
            for row in &target.rows {
                let bytes = target.value(row).expect("nothing is withdrawn");
                self.sinks[sink].push(serde_json::from_slice(bytes).expect("a row"));
            }
        }
    }
}

fn compare(seed: u64, case: &Case, outcomes: &[Outcome], found: &[Vec<Row>; 4]) {
    let expected = [
        outcomes
            .iter()
            .flat_map(|one| one.matches.clone())
            .collect::<Vec<_>>(),
        outcomes.iter().flat_map(|one| one.late.clone()).collect(),
        outcomes
            .iter()
            .flat_map(|one| one.timed_out.clone())
            .collect(),
        outcomes
            .iter()
            .flat_map(|one| one.overflow.clone())
            .collect(),
    ];
    for ((what, expected), found) in ["matches", "late rows", "timed out", "overflow"]
        .into_iter()
        .zip(expected)
        .zip(found)
    {
        let lines = |rows: &[Row]| -> Vec<String> {
            let mut lines: Vec<String> = rows.iter().map(line).collect();
            if outcomes.len() > 1 {
                // Tasks are worked off in their order within an epoch, not within the log.
                lines.sort();
            }
            lines
        };
        let (expected, found) = (lines(&expected), lines(found));
        assert!(
            expected == found,
            "seed {seed}: {what} of {}\nexpected\n{}\nfound\n{}\n{}\nlog {}",
            case.pattern,
            expected.join("\n"),
            found.join("\n"),
            case.manifest,
            case.log
                .iter()
                .flatten()
                .map(|input| format!("{input:?}"))
                .collect::<Vec<_>>()
                .join("\n"),
        );
    }
}

/// A row as text; means as far as the test's JSON reader has them exactly.
fn line(row: &Row) -> String {
    let mut row = row.clone();
    for value in row.values_mut().filter(|value| value.is_f64()) {
        *value = format!("{:.9}", value.as_f64().unwrap_or_default()).into();
    }
    Value::Object(row).to_string()
}
