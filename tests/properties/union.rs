//! `union` against the oracles: rows of several sources as one stream, whose watermark is the least of all their
//! partitions, read epoch by epoch in declared order.

use fastrand::Rng;
use serde_json::json;
use streamjob_tests::compare::difference;
use streamjob_tests::oracle::deduplicate::deduplicate;
use streamjob_tests::oracle::reads::{Read, exchanged};
use streamjob_tests::oracle::{Aggregate, Function, Row, Window, WindowStep, over};
use streamjob_tests::workload::murmur2;

use crate::log::{TASKS, actions, input, manifest, run, same_sequences, source};
use crate::seeds::seeds;
use crate::slot::planned;

#[test]
fn several_streams_are_read_as_one() {
    let (mut rows, mut late) = (0, 0);
    for seed in seeds(0..3_000) {
        let told = check(seed);
        rows += told[0];
        late += told[1];
    }
    // The logs must reach what they are for.
    assert!(rows > 1_000 && late > 1_000, "{rows} {late}");
}

const NAMES: [&str; 3] = ["north", "south", "east"];

fn check(seed: u64) -> [usize; 2] {
    let mut random = Rng::with_seed(seed);
    let inputs = [0, 1, 2].map(|number| input(&mut random, number, 2, 50));
    let mut order = vec![0, 1, 2];
    random.shuffle(&mut order);
    order.truncate(random.usize(2..=3));
    // One of the streams has its columns in another order and fewer rows.
    let mut steps = vec![
        json!({"name": "turned", "from": "south", "where": "n <> 1", "select": ["t", "n", "id", "k", "e"]}),
    ];
    let union: Vec<&str> = order
        .iter()
        .map(|input| if *input == 1 { "turned" } else { NAMES[*input] })
        .collect();
    let windowed = random.bool();
    let mut step = json!({"name": "all", "union": union});
    if windowed {
        step["groupBy"] = json!(["id"]);
        step["window"] = json!({"tumbling": {"size": "20ms"}});
        step["aggregate"] = json!([
            "count(*) AS cnt",
            "sum(n) AS total",
            "array_agg(e) AS events"
        ]);
    } else {
        step["deduplicate"] = json!({"by": ["id"], "within": "9ms"});
    }
    steps.push(step);
    steps.push(
        json!({"name": "plain", "union": union, "where": "k IS NOT NULL", "select": ["e", "t"]}),
    );
    let sources: Vec<_> = (0..3)
        .map(|at| source(NAMES[at], &inputs[at], &["k"]))
        .collect();
    let text = manifest(&sources, &steps, &["all", "all.late", "plain"]);
    let plan = planned(&text);
    assert_eq!(plan.exchanges.len(), 1, "one for all streams");
    let taken = |input: usize, row: &Row| {
        order.contains(&input) && (input != 1 || row["n"].as_i64().is_some_and(|n| n != 1))
    };

    let mut told = [0; 2];
    for restore in [false, true] {
        let actions = actions(&inputs, &mut random, 6, restore);
        let owner = |input: usize, row: &Row| {
            let key = row["id"].as_str().unwrap_or_default();
            let task = murmur2::partition(key.as_bytes(), TASKS as usize);
            taken(input, row).then_some(task)
        };
        let reads = exchanged(&inputs, &order, &actions, TASKS as usize, owner);
        let sinks = run(&plan, &inputs, &actions);
        let (expected, late) = expected(windowed, &reads);
        if windowed {
            let identity = ["id", "window_start"];
            let difference = difference(&expected.concat(), &sinks[0], &identity);
            assert!(difference.is_empty(), "seed {seed}: {difference}\n{text}");
        } else {
            same_sequences(seed, "rows", &expected, &sinks[0], &text);
        }
        same_sequences(seed, "late rows", &late, &sinks[1], &text);
        let plain: Vec<Row> = (0..3)
            .flat_map(|input| {
                inputs[input]
                    .partitions
                    .concat()
                    .into_iter()
                    .map(move |row| (input, row.row))
            })
            .filter(|(input, row)| taken(*input, row) && !row["k"].is_null())
            .map(|(_, row)| {
                row.into_iter()
                    .filter(|(name, _)| name == "e" || name == "t")
                    .collect()
            })
            .collect();
        let difference = difference(&plain, &sinks[2], &["e"]);
        assert!(difference.is_empty(), "seed {seed}: {difference}\n{text}");
        told = [sinks[0].len(), sinks[1].len()];
    }
    told
}

/// Rows and late rows of each task.
fn expected(windowed: bool, reads: &[Vec<Read>]) -> (Vec<Vec<Row>>, Vec<Vec<Row>>) {
    let step = WindowStep {
        window: Window::Tumbling {
            size: 20,
            offset: 0,
        },
        allowed_lateness: 0,
        emit_every: None,
        group: vec!["id".into()],
        aggregates: vec![
            Aggregate::new("cnt", Function::Count, None),
            Aggregate::new("total", Function::Sum, Some("n")),
            Aggregate::new(
                "events",
                Function::ArrayAgg { limit: usize::MAX },
                Some("e"),
            ),
        ],
        having: None,
    };
    let task = |reads: &Vec<Read>| match windowed {
        true => {
            let outcome = over(&step, reads);
            let rows = outcome
                .emitted
                .iter()
                .map(|emission| emission.row().clone());
            (rows.collect(), outcome.late)
        }
        false => {
            let outcome = deduplicate(reads, &["id".into()], 9);
            (outcome.passed, outcome.late)
        }
    };
    reads.iter().map(task).unzip()
}
