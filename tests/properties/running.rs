//! `running` against the oracle: every row of every group, epoch by epoch; and that the last of them does not depend on
//! the epochs.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::{Value, json};
use streamjob_tests::oracle::reads::{Input, Read, exchanged, in_place};
use streamjob_tests::oracle::running::{RunningStep, running};
use streamjob_tests::oracle::{Aggregate, Emission, Function, Row};
use streamjob_tests::workload::murmur2;

use crate::log::{TASKS, actions, input, manifest, ms, run, same_sequences, source};
use crate::seeds::seeds;
use crate::slot::planned;

#[test]
fn running_groups_are_the_oracles() {
    let (mut rows, mut withdrawn, mut late) = (0, 0, 0);
    for seed in seeds(0..2_000) {
        let told = check(seed);
        rows += told[0];
        withdrawn += told[1];
        late += told[2];
    }
    // The logs must reach what they are for.
    assert!(
        rows > 1_000 && withdrawn > 1_000 && late > 1_000,
        "{rows} {withdrawn} {late}"
    );
}

fn check(seed: u64) -> [usize; 3] {
    let mut random = Rng::with_seed(seed);
    let (group, stays): (&[&str], bool) = match random.u8(0..5) {
        0 => (&["k"], true),
        1 => (&["id", "k"], true),
        2 => (&["id"], false),
        3 => (&["n"], false),
        _ => (&[], false),
    };
    let having = match random.u8(0..4) {
        0 => Some("cnt <= 2"),
        1 => Some("total > 0"),
        _ => None,
    };
    let ttl = [1, 10, 40, 100][random.usize(0..4)];
    let inputs = [input(&mut random, 0, 3, 60)];
    let mut step = json!({
        "name": "totals",
        "from": "events",
        "groupBy": group,
        "running": {"ttl": ms(ttl)},
        "aggregate": ["count(*) AS cnt", "sum(n) AS total", "min(n) AS least", "last_value(id) AS latest", "first_value(e) AS first"],
    });
    let filtered = random.bool();
    if filtered {
        step["where"] = json!("n IS NULL OR n <> 2");
    }
    if let Some(having) = having {
        step["having"] = json!(having);
    }
    let sources = [source("events", &inputs[0], &["k"])];
    let text = manifest(&sources, &[step], &["totals", "totals.late"]);
    let plan = planned(&text);
    assert_eq!(plan.exchanges.is_empty(), stays);
    let of = |name: &str, function, column: &str| Aggregate::new(name, function, Some(column));
    let oracle = RunningStep {
        group: group.iter().map(|column| column.to_string()).collect(),
        aggregates: vec![
            Aggregate::new("cnt", Function::Count, None),
            of("total", Function::Sum, "n"),
            of("least", Function::Min, "n"),
            of("latest", Function::LastValue, "id"),
            of("first", Function::FirstValue, "e"),
        ],
        having: having.map(|sql| -> streamjob_tests::oracle::Condition {
            match sql {
                "cnt <= 2" => Box::new(|row| row["cnt"].as_i64() <= Some(2)),
                _ => Box::new(|row| row["total"].as_i64() > Some(0)),
            }
        }),
        ttl,
    };
    let taken = |row: &Row| !filtered || row["n"] != json!(2);

    let mut told = [0; 3];
    let mut last: Option<BTreeMap<String, Value>> = None;
    for (restore, often) in [(false, 1), (false, 8), (true, 4), (true, 30)] {
        let actions = actions(&inputs, &mut random, often, restore);
        let reads: Vec<Vec<Read>> = match stays {
            true => in_place(&inputs[0], 0, &actions, taken),
            false => exchanged(&inputs, &[0], &actions, TASKS as usize, |_, row| {
                taken(row).then(|| owner(row, &oracle.group))
            }),
        };
        let tasks: Vec<_> = reads.iter().map(|reads| running(&oracle, reads)).collect();
        let sinks = run(&plan, &inputs, &actions);
        let expected = tasks.iter().flat_map(|task| &task.emitted).map(line);
        let expected = by_group(expected.collect(), &oracle.group);
        let found = by_group(sinks[0].clone(), &oracle.group);
        assert_eq!(expected, found, "seed {seed}\n{text}");
        let late: Vec<_> = tasks.into_iter().map(|task| task.late).collect();
        same_sequences(seed, "late rows", &late, &sinks[1], &text);

        // Behind an exchange the watermarks that rows meet depend on the epochs.
        let now = standing(&found);
        if stays && let Some(before) = last.replace(now.clone()) {
            assert_eq!(
                before, now,
                "seed {seed}: the last rows depend on the epochs\n{text}"
            );
        }
        let withdrawn = sinks[0]
            .iter()
            .filter(|row| row.contains_key("_op"))
            .count();
        told = [sinks[0].len() - withdrawn, withdrawn, sinks[1].len()];
    }
    told
}

fn line(emission: &Emission) -> Row {
    let mut row = emission.row().clone();
    if let Emission::Withdrawn(_) = emission {
        row.insert("_op".into(), json!("delete"));
    }
    row
}

fn by_group(rows: Vec<Row>, group: &[String]) -> BTreeMap<String, Vec<Row>> {
    let mut groups: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in rows {
        groups
            .entry(key(&row, group).to_string())
            .or_default()
            .push(row);
    }
    groups
}

fn standing(groups: &BTreeMap<String, Vec<Row>>) -> BTreeMap<String, Value> {
    let last = groups
        .iter()
        .filter_map(|(key, rows)| Some((key, rows.last()?)));
    last.filter(|(_, row)| !row.contains_key("_op"))
        .map(|(key, row)| (key.clone(), Value::Object(row.clone())))
        .collect()
}

fn key(row: &Row, group: &[String]) -> Value {
    group.iter().map(|column| row[column].clone()).collect()
}

/// The task that a row goes to: by its Kafka key.
fn owner(row: &Row, group: &[String]) -> usize {
    let bytes = match group {
        [] => return 0,
        [id] if id == "id" => row[id].as_str().unwrap_or_default().to_string(),
        _ => key(row, group).to_string(),
    };
    murmur2::partition(bytes.as_bytes(), TASKS as usize)
}

#[test]
fn inputs_are_what_the_engine_reads() {
    let mut random = Rng::with_seed(7);
    let inputs: [Input; 1] = [input(&mut random, 0, 3, 60)];
    let actions = actions(&inputs, &mut random, 5, true);
    let text = manifest(&[source("events", &inputs[0], &["k"])], &[], &["events"]);
    let found = &run(&planned(&text), &inputs, &actions)[0];
    let partitions = inputs[0].partitions.iter();
    let rows: Vec<Vec<Row>> = partitions
        .map(|rows| rows.iter().map(|row| row.row.clone()).collect())
        .collect();
    same_sequences(7, "events", &rows, found, &text);
}
