//! A `groupBy` that is not the source's key: the final rows are those of a plain grouping of all events, however many
//! partitions there are, however fast each is read, and after a restore at any row.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use serde_json::{Value, json};
use streamjob_core::engine::TaskId;
use streamjob_core::output::Target;
use streamjob_core::plan::JobPlan;
use streamjob_tests::compare::difference_within;
use streamjob_tests::oracle::{
    Aggregate, Column, Function, Job, Kind, Oracle, Row, Window, WindowStep, last_rows,
};

use crate::slot::{Slot, Step, planned, source, steps};

const SEEDS: std::ops::Range<u64> = 0..2_000;
/// Within a partition; the job allows for it, so no row is late.
const DISORDER: i64 = 20;
/// Of a printed number, as the test's JSON reader rounds it.
const READING: f64 = 1e-15;

#[test]
fn re_keyed_rows_are_grouped_as_if_there_were_one_partition() {
    SEEDS.for_each(check);
}

fn check(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let (window, text) = window(&mut random);
    let plan = planned(&text);
    assert_eq!(plan.exchanges.len(), 1, "the step is behind an exchange");
    let log = log(&mut random);
    let expected = expected(window, &log);
    for restore in [false, true] {
        let found = Run::new(&plan, log.len()).run(&log, &mut random, restore);
        let identity = ["g", "window_start", "window_end"];
        let difference = difference_within(&expected, &found, &identity, READING);
        assert!(difference.is_empty(), "seed {seed}: {difference}\n{text}");
    }
}

fn window(random: &mut Rng) -> (Window, String) {
    let (window, yaml) = match random.u8(0..4) {
        0 => (
            Window::Tumbling {
                size: 15,
                offset: 3,
            },
            json!({"tumbling": {"size": "15ms", "offset": "3ms"}}),
        ),
        1 => (
            Window::Sliding {
                size: 30,
                slide: 10,
                offset: 0,
            },
            json!({"sliding": {"size": "30ms", "slide": "10ms"}}),
        ),
        2 => (
            Window::Cumulating { size: 40, step: 10 },
            json!({"cumulating": {"size": "40ms", "step": "10ms"}}),
        ),
        _ => (
            Window::Session { gap: 12 },
            json!({"session": {"gap": "12ms"}}),
        ),
    };
    (window, manifest(&yaml))
}

/// JSON is YAML.
fn manifest(window: &Value) -> String {
    let job = json!({
        "apiVersion": "streamjob.dev/v1alpha1",
        "kind": "StreamJob",
        "metadata": {"name": "rekeyed", "namespace": "tests"},
        "spec": {
            "connections": [{"name": "main", "kafka": {"bootstrapServers": ["127.0.0.1:1"]}}],
            "sources": [{
                "name": "events",
                "kafka": {"connection": "main", "topic": "events"},
                "columns": [
                    {"name": "k", "type": "String"},
                    {"name": "g", "type": "String", "nullable": true},
                    {"name": "t", "type": "Timestamp"},
                    {"name": "n", "type": "Int64", "nullable": true},
                ],
                "key": ["k"],
                "eventTime": {"column": "t", "maxOutOfOrderness": format!("{DISORDER}ms")},
            }],
            "steps": [{
                "name": "out",
                "from": "events",
                "groupBy": ["g"],
                "window": window,
                "aggregate": ["count(*) AS cnt", "sum(n) AS total", "min(n) AS least", "max(n) AS most", "avg(n) AS mean"],
            }],
            "sinks": [{"name": "rows", "from": "out", "kafka": {"connection": "main", "topic": "rows"}}],
        },
    });
    format!("{job:#}")
}

/// Partitions, some of them empty, that lie far from each other in time.
fn log(random: &mut Rng) -> Vec<Vec<Vec<u8>>> {
    (0..random.usize(1..=4))
        .map(|partition| {
            let mut now = random.i64(0..200);
            (0..random.usize(0..80))
                .map(|_| {
                    now += if random.u8(0..20) == 0 {
                        100
                    } else {
                        random.i64(0..5)
                    };
                    let event = json!({
                        "k": format!("{partition}"),
                        "g": (random.u8(0..9) > 0).then(|| ["a", "b", "c"][random.usize(0..3)]),
                        "t": now - random.i64(0..=DISORDER),
                        "n": (random.u8(0..5) > 0).then(|| random.i64(-50..50)),
                    });
                    event.to_string().into_bytes()
                })
                .collect()
        })
        .collect()
}

/// All events in one partition of a job that waits for its end.
fn expected(window: Window, log: &[Vec<Vec<u8>>]) -> Vec<Row> {
    let aggregate = |name: &str, function| Aggregate::new(name, function, Some("n"));
    let job = Job {
        columns: vec![
            Column::new("k", "k", Kind::String, false),
            Column::new("g", "g", Kind::String, true),
            Column::new("t", "t", Kind::Timestamp, false),
            Column::new("n", "n", Kind::Int64, true),
        ],
        event_time: "t".into(),
        max_out_of_orderness: 1_000_000,
        max_future: None,
        filter: None,
        window: Some(WindowStep {
            window,
            allowed_lateness: 0,
            emit_every: None,
            group: vec!["g".into()],
            aggregates: vec![
                Aggregate::new("cnt", Function::Count, None),
                aggregate("total", Function::Sum),
                aggregate("least", Function::Min),
                aggregate("most", Function::Max),
                aggregate("mean", Function::Avg),
            ],
            having: None,
        }),
    };
    let mut oracle = Oracle::new(&job, 1);
    for event in log.iter().flatten() {
        oracle.event(0, Some(event), None);
    }
    oracle.end();
    last_rows(&job, &oracle.into_outcome())
}

struct Run {
    slot: Slot,
    rows: Vec<Row>,
}

impl Run {
    /// Three tasks behind the exchange.
    fn new(plan: &Arc<JobPlan>, partitions: usize) -> Self {
        Run {
            slot: Slot::new(plan, 3, vec![partitions as u32, 3]),
            rows: Vec::new(),
        }
    }

    fn run(mut self, log: &[Vec<Vec<u8>>], random: &mut Rng, restore: bool) -> Vec<Row> {
        let lengths: Vec<usize> = log.iter().map(Vec::len).collect();
        for step in steps(&lengths, random, restore) {
            match step {
                Step::Restore => {
                    self.close(&[], true);
                    self.slot.restore();
                }
                Step::Entry { partition, at } => {
                    let payload = Some(log[partition][at].as_slice());
                    self.slot.event(partition, at as i64, payload, None);
                    if random.u8(0..8) == 0 {
                        self.close(&[], random.bool());
                    }
                }
            }
        }
        let ends: Vec<TaskId> = (0..log.len()).map(source).collect();
        self.close(&ends, true);
        self.rows
    }

    fn close(&mut self, ends: &[TaskId], punctuate: bool) {
        let output = self.slot.close(&BTreeMap::new(), ends, punctuate);
        for target in &output.targets {
            assert_eq!(target.target, Target::Sink(0), "the exchange is in process");
            for row in &target.rows {
                let bytes = target.value(row).expect("nothing is withdrawn");
                self.rows
                    .push(serde_json::from_slice(bytes).expect("a row"));
            }
        }
    }
}
