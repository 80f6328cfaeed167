//! Interval joins against the oracle: all four types, disorder and late rows, many rows of a key, nulls, random epochs and
//! restores; and a window behind a join, which reads pairs on time.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::{Value, json};
use streamjob_tests::oracle::Row;
use streamjob_tests::oracle::join::{JoinStep, join};
use streamjob_tests::oracle::reads::{Read, exchanged};
use streamjob_tests::workload::murmur2;

use crate::log::{COLUMNS, TASKS, actions, input, manifest, ms, run, source};
use crate::seeds::seeds;
use crate::slot::planned;

#[test]
fn joined_rows_are_the_oracles() {
    let mut counts = [0; 4];
    for seed in seeds(0..3_000) {
        for (count, more) in counts.iter_mut().zip(check(seed)) {
            *count += more;
        }
    }
    // The logs must reach what they are for: pairs, rows without a match on either side, late rows.
    assert!(counts.iter().all(|count| *count > 1_000), "{counts:?}");
}

fn check(seed: u64) -> [usize; 4] {
    let mut random = Rng::with_seed(seed);
    let inputs = [0, 1].map(|number| input(&mut random, number, 2, 45));
    let (kind, keep) = [
        ("Inner", [false, false]),
        ("Left", [true, false]),
        ("Right", [false, true]),
        ("Full", [true, true]),
    ][random.usize(0..4)];
    let reach = |random: &mut Rng| [0, 5, 25][random.usize(0..3)];
    let (before, after) = (reach(&mut random), reach(&mut random));
    let two = random.bool();
    let on: &[(&str, &str)] = if two {
        &[("id", "id"), ("n", "n")]
    } else {
        &[("id", "id")]
    };
    // The left side is not always the first source.
    let names = ["clicks", "orders"];
    let left = random.usize(0..2);
    let (from, with) = (names[left], names[1 - left]);
    let equalities: Vec<String> = on
        .iter()
        .map(|(ours, theirs)| match random.bool() {
            true => format!("{ours} = {with}.{theirs}"),
            false => format!("{with}.{theirs} = {ours}"),
        })
        .collect();
    let steps = [
        json!({
            "name": "pairs",
            "from": from,
            "join": {"with": with, "on": equalities, "within": {"before": ms(before), "after": ms(after)}, "type": kind},
        }),
        json!({
            "name": "counted",
            "from": "pairs",
            "groupBy": ["id"],
            "window": {"tumbling": {"size": "30ms"}},
            "aggregate": ["count(*) AS cnt"],
        }),
    ];
    let sources = [0, 1].map(|at| source(names[at], &inputs[at], &["k"]));
    let text = manifest(
        &sources,
        &steps,
        &["pairs", "pairs.late", "counted", "counted.late"],
    );
    let plan = planned(&text);
    let stays = on.len() == 1 && !keep[1];
    assert_eq!(plan.exchanges.len(), if stays { 1 } else { 2 });
    let owned = |names: &[(&str, &str)]| -> Vec<(String, String)> {
        names
            .iter()
            .map(|(one, two)| (one.to_string(), two.to_string()))
            .collect()
    };
    let columns: Vec<String> = COLUMNS.iter().map(|(name, ..)| name.to_string()).collect();
    let oracle = JoinStep {
        left,
        on: owned(on),
        prefix: format!("{with}."),
        columns: [columns.clone(), columns],
        before,
        after,
        keep,
    };
    let mut told = [0; 4];
    for restore in [false, true] {
        let actions = actions(&inputs, &mut random, 6, restore);
        let owner = |_: usize, row: &Row| {
            let key = match two {
                true => json!([row["id"], row["n"]]).to_string(),
                false => row["id"].as_str().unwrap_or_default().to_string(),
            };
            Some(murmur2::partition(key.as_bytes(), TASKS as usize))
        };
        let reads: Vec<Vec<Read>> =
            exchanged(&inputs, &[left, 1 - left], &actions, TASKS as usize, owner);
        let tasks: Vec<_> = reads.iter().map(|reads| join(&oracle, reads)).collect();
        let sinks = run(&plan, &inputs, &actions);
        let rows: Vec<Vec<Row>> = tasks.iter().map(|task| task.rows.clone()).collect();
        let late: Vec<Vec<Row>> = tasks.into_iter().map(|task| task.late).collect();
        let name = |row: &Row| (row["e"].clone(), row[&format!("{with}.e")].clone());
        same(seed, &rows, &sinks[0], name, &text);
        same(seed, &late, &sinks[1], name, &text);

        let counted: i64 = sinks[2].iter().filter_map(|row| row["cnt"].as_i64()).sum();
        assert_eq!(
            counted as usize,
            sinks[0].len(),
            "seed {seed}: a joined row was not counted\n{text}"
        );
        if stays {
            assert!(
                sinks[3].is_empty(),
                "seed {seed}: a joined row was late\n{text}"
            );
        }
        let theirs = format!("{with}.e");
        let alone = |missing: &str| sinks[0].iter().filter(|row| row[missing].is_null()).count();
        let (left_alone, right_alone) = (alone(&theirs), alone("e"));
        told = [
            sinks[0].len() - left_alone - right_alone,
            left_alone,
            right_alone,
            sinks[1].len(),
        ];
    }
    told
}

/// Each task's rows in its order. A pair of events is of one task.
fn same(
    seed: u64,
    expected: &[Vec<Row>],
    found: &[Row],
    name: impl Fn(&Row) -> (Value, Value),
    text: &str,
) {
    let mut tasks = BTreeMap::new();
    for (task, rows) in expected.iter().enumerate() {
        for row in rows {
            let (one, two) = name(row);
            let before = tasks.insert(format!("{one} {two}"), task);
            assert_eq!(before, None, "seed {seed}: a pair twice\n{text}");
        }
    }
    let mut by_task: Vec<Vec<Row>> = vec![Vec::new(); expected.len()];
    for row in found {
        let (one, two) = name(row);
        let task = tasks.get(&format!("{one} {two}"));
        let task = task.unwrap_or_else(|| panic!("seed {seed}: {row:?} is not expected\n{text}"));
        by_task[*task].push(row.clone());
    }
    assert_eq!(expected, by_task, "seed {seed}\n{text}");
}
