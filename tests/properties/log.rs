//! Random logs of small events for steps that are no windows, an order in which they are given to a slot, and what it
//! puts out: exactly one run for a seed, so that an oracle can follow it epoch by epoch.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use serde_json::{Value, json};
use streamjob_core::engine::TaskId;
use streamjob_core::output::{EpochOutput, Target};
use streamjob_core::plan::JobPlan;
use streamjob_tests::oracle::Row;
use streamjob_tests::oracle::reads::{Action, Input, Timed};

use crate::slot::Slot;

/// Columns of an event: its number, which no other has, a key, an id of which there are few, a number, its time.
pub const COLUMNS: [(&str, &str, bool); 5] = [
    ("e", "Int64", false),
    ("k", "String", true),
    ("id", "String", true),
    ("n", "Int64", true),
    ("t", "Timestamp", false),
];

/// An input of one to `most` partitions, some empty. A key is in one partition only.
pub fn input(random: &mut Rng, number: usize, most: usize, rows: usize) -> Input {
    let max_out_of_orderness = [0, 0, 3, 20][random.usize(0..4)];
    let partitions = (0..random.usize(1..=most))
        .map(|partition| {
            let mut now = random.i64(-60..100);
            (0..random.usize(0..rows))
                .map(|at| {
                    now += match random.u8(0..20) {
                        0 => random.i64(30..200),
                        1..=6 => 0,
                        _ => random.i64(0..6),
                    };
                    let behind = if random.u8(0..3) == 0 {
                        random.i64(0..60)
                    } else {
                        0
                    };
                    let time = now - behind;
                    let maybe = |random: &mut Rng, value: Value| match random.u8(0..8) {
                        0 => Value::Null,
                        _ => value,
                    };
                    let key = json!(format!(
                        "{}{partition}",
                        ["a", "b", "c"][random.usize(0..3)]
                    ));
                    let id = json!(["x", "y", "", "z"][random.usize(0..4)]);
                    let n = json!(random.i64(-3..6));
                    let event = (number * 10 + partition) * 1_000 + at;
                    let row = json!({
                        "e": event,
                        "k": if partition == 0 { maybe(random, key) } else { key },
                        "id": maybe(random, id),
                        "n": maybe(random, n),
                        "t": time,
                    });
                    let Value::Object(row) = row else {
                        unreachable!("an object")
                    };
                    Timed { row, time }
                })
                .collect()
        })
        .collect();
    Input {
        partitions,
        max_out_of_orderness,
    }
}

/// A source of the manifest for an input.
pub fn source(name: &str, input: &Input, key: &[&str]) -> Value {
    let columns: Vec<Value> = COLUMNS
        .iter()
        .map(|(name, kind, nullable)| json!({"name": name, "type": kind, "nullable": nullable}))
        .collect();
    json!({
        "name": name,
        "kafka": {"connection": "main", "topic": name},
        "columns": columns,
        "key": key,
        "eventTime": {"column": "t", "maxOutOfOrderness": ms(input.max_out_of_orderness)},
    })
}

/// A duration as the manifest wants it.
pub fn ms(milliseconds: i64) -> String {
    match milliseconds {
        0 => "0s".to_string(),
        some => format!("{some}ms"),
    }
}

/// A job with sinks on streams. JSON is YAML.
pub fn manifest(sources: &[Value], steps: &[Value], sinks: &[&str]) -> String {
    let sinks: Vec<Value> = sinks
        .iter()
        .map(|from| {
            let name = from.replace('.', "_");
            json!({"name": name, "from": from, "kafka": {"connection": "main", "topic": name}})
        })
        .collect();
    let job = json!({
        "apiVersion": "streamjob.dev/v1alpha1",
        "kind": "StreamJob",
        "metadata": {"name": "steps", "namespace": "tests"},
        "spec": {
            "connections": [{"name": "main", "kafka": {"bootstrapServers": ["127.0.0.1:1"]}}],
            "sources": sources,
            "steps": steps,
            "sinks": sinks,
        },
    });
    format!("{job:#}")
}

/// All rows of the inputs, whose partitions advance at random speeds; epochs end with a chance of one in `often`; and a
/// restore somewhere, or none.
pub fn actions(inputs: &[Input], random: &mut Rng, often: u8, restore: bool) -> Vec<Action> {
    let mut open: Vec<(usize, usize, usize)> = Vec::new();
    for (input, read) in inputs.iter().enumerate() {
        for (partition, rows) in read.partitions.iter().enumerate() {
            open.push((input, partition, rows.len()));
        }
    }
    let total: usize = open.iter().map(|(_, _, rows)| rows).sum();
    let restore_at = restore.then(|| random.usize(0..=total));
    let mut actions = Vec::new();
    for step in 0..=total {
        if restore_at == Some(step) {
            actions.push(Action::Restore);
        }
        open.retain(|(_, _, rows)| *rows > 0);
        if !open.is_empty() {
            let at = random.usize(0..open.len());
            let (input, partition, rows) = &mut open[at];
            *rows -= 1;
            let (input, partition) = (*input, *partition);
            actions.push(Action::Row { input, partition });
            if random.u8(0..often) == 0 {
                actions.push(Action::Close);
            }
        }
    }
    actions
}

/// Tasks behind an exchange.
pub const TASKS: u32 = 3;

/// What went to each sink, in order. Withdrawn rows have `_op`.
pub fn run(plan: &Arc<JobPlan>, inputs: &[Input], actions: &[Action]) -> Vec<Vec<Row>> {
    let partitions = |stage: usize| {
        inputs
            .get(stage)
            .map_or(TASKS, |input| input.partitions.len() as u32)
    };
    let tasks = (0..plan.stages.len()).map(partitions).collect();
    let mut slot = Slot::new(plan, TASKS, tasks);
    let mut sinks = vec![Vec::new(); plan.sinks.len()];
    let mut next: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    let nothing = BTreeMap::new();
    for action in actions {
        match action {
            Action::Row { input, partition } => {
                let at = next.entry((*input, *partition)).or_default();
                let row = &inputs[*input].partitions[*partition][*at].row;
                let payload = Value::Object(row.clone()).to_string();
                let task = TaskId {
                    stage: *input,
                    partition: *partition as u32,
                };
                slot.event_of(task, *at as i64, Some(payload.as_bytes()), None);
                *at += 1;
            }
            Action::Close => take(&slot.close(&nothing, &[], true), &mut sinks),
            Action::Restore => {
                take(&slot.close(&nothing, &[], true), &mut sinks);
                slot.restore();
            }
        }
    }
    let ends: Vec<TaskId> = inputs
        .iter()
        .enumerate()
        .flat_map(|(stage, input)| {
            (0..input.partitions.len() as u32).map(move |partition| TaskId { stage, partition })
        })
        .collect();
    take(&slot.close(&nothing, &ends, true), &mut sinks);
    sinks
}

fn take(output: &EpochOutput, sinks: &mut [Vec<Row>]) {
    for target in &output.targets {
        let Target::Sink(sink) = target.target else {
            panic!("exchanges are in process")
        };
        for row in &target.rows {
            let bytes = target.value(row).expect("line sinks have no tombstones");
            sinks[sink].push(serde_json::from_slice(bytes).expect("a row"));
        }
    }
}

/// Asserts that what a sink got is what each task put out, each in its order.
#[track_caller]
pub fn same_sequences(seed: u64, what: &str, expected: &[Vec<Row>], found: &[Row], text: &str) {
    let total: usize = expected.iter().map(Vec::len).sum();
    assert_eq!(total, found.len(), "seed {seed}: {what}: rows\n{text}");
    for (task, rows) in expected.iter().enumerate() {
        // Events have numbers, so a row is of one task only.
        let found: Vec<&Row> = found.iter().filter(|row| rows.contains(row)).collect();
        let expected: Vec<&Row> = rows.iter().collect();
        assert_eq!(
            expected, found,
            "seed {seed}: {what} of task {task}\n{text}"
        );
    }
}
