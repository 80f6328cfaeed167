//! `deduplicate` against the oracle: in its stage and behind an exchange, over disorder, late copies, random epochs and
//! restores.

use fastrand::Rng;
use serde_json::json;
use streamjob_tests::oracle::Row;
use streamjob_tests::oracle::deduplicate::deduplicate;
use streamjob_tests::oracle::reads::{Input, Read, exchanged, in_place};
use streamjob_tests::workload::murmur2;

use crate::log::{TASKS, actions, input, manifest, ms, run, same_sequences, source};
use crate::seeds::seeds;
use crate::slot::planned;

#[test]
fn copies_are_found_in_place_and_behind_an_exchange() {
    let (mut passed, mut dropped, mut late) = (0, 0, 0);
    for seed in seeds(0..2_000) {
        let told = check(seed);
        passed += told[0];
        dropped += told[1];
        late += told[2];
    }
    // The logs must reach what they are for.
    assert!(
        passed > 1_000 && dropped > 1_000 && late > 1_000,
        "{passed} {dropped} {late}"
    );
}

fn check(seed: u64) -> [usize; 3] {
    let mut random = Rng::with_seed(seed);
    let stays = random.bool();
    let by: &[&str] = match (stays, random.bool()) {
        (true, true) => &["id", "k"],
        (true, false) => &["k"],
        (false, true) => &["id"],
        (false, false) => &["id", "n"],
    };
    let within = [1, 5, 20, 70][random.usize(0..4)];
    let condition = random.bool();
    let inputs = [input(&mut random, 0, 3, 70)];
    let mut step =
        json!({"name": "first", "from": "events", "deduplicate": {"by": by, "within": ms(within)}});
    if condition {
        step["where"] = json!("n >= 0");
    }
    let sources = [source("events", &inputs[0], &["k"])];
    let text = manifest(&sources, &[step], &["first", "first.late"]);
    let plan = planned(&text);
    assert_eq!(plan.exchanges.is_empty(), stays);
    let by: Vec<String> = by.iter().map(|column| column.to_string()).collect();
    let taken = |row: &Row| !condition || row["n"].as_i64().is_some_and(|n| n >= 0);

    let mut told = [0; 3];
    for restore in [false, true] {
        let actions = actions(&inputs, &mut random, 6, restore);
        let reads: Vec<Vec<Read>> = match stays {
            true => in_place(&inputs[0], 0, &actions, taken),
            false => exchanged(&inputs, &[0], &actions, TASKS as usize, |_, row| {
                taken(row).then(|| owner(row, &by))
            }),
        };
        let tasks: Vec<_> = reads
            .iter()
            .map(|reads| deduplicate(reads, &by, within))
            .collect();
        let (passed, late): (Vec<_>, Vec<_>) = tasks
            .into_iter()
            .map(|task| (task.passed, task.late))
            .unzip();
        let sinks = run(&plan, &inputs, &actions);
        same_sequences(seed, "rows", &passed, &sinks[0], &text);
        same_sequences(seed, "late rows", &late, &sinks[1], &text);
        told = [
            sinks[0].len(),
            rows(&inputs) - sinks[0].len() - sinks[1].len(),
            sinks[1].len(),
        ];
    }
    told
}

fn rows(inputs: &[Input]) -> usize {
    inputs
        .iter()
        .flat_map(|input| &input.partitions)
        .map(Vec::len)
        .sum()
}

/// The task that a row goes to: by its Kafka key.
fn owner(row: &Row, by: &[String]) -> usize {
    let key = match by {
        [one] => row[one].as_str().unwrap_or_default().to_string(),
        several => {
            let values: Vec<_> = several.iter().map(|column| row[column].clone()).collect();
            json!(values).to_string()
        }
    };
    murmur2::partition(key.as_bytes(), TASKS as usize)
}
