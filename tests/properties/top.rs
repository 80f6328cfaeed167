//! `topN` against the oracle's windows, sorted: of all groups of a window wherever they are, or of each partition.

use fastrand::Rng;
use serde_json::{Value, json};
use streamjob_tests::oracle::reads::Input;
use streamjob_tests::oracle::top::{By, top};
use streamjob_tests::oracle::{
    Aggregate, Column, Entry, Function, Job, Kind, Oracle, Row, Window, WindowStep, last_rows,
    run as oracle,
};

use crate::log::{actions, input, manifest, ms, run, source};
use crate::seeds::seeds;
use crate::slot::planned;

#[test]
fn the_first_groups_of_each_window_are_the_oracles() {
    let (mut rows, mut left_out) = (0, 0);
    for seed in seeds(0..2_000) {
        let told = check(seed);
        rows += told[0];
        left_out += told[1];
    }
    // The logs must reach what they are for.
    assert!(rows > 1_000 && left_out > 1_000, "{rows} {left_out}");
}

fn check(seed: u64) -> [usize; 2] {
    let mut random = Rng::with_seed(seed);
    let (group, window_stays): (&[&str], bool) = match random.u8(0..3) {
        0 => (&["k"], true),
        1 => (&["id", "k"], true),
        _ => (&["id", "n"], false),
    };
    let partition: Option<&str> = match group {
        [_, second] if random.bool() => Some(second),
        _ => None,
    };
    let n = random.usize(1..=3);
    let (text, by) = orders(&mut random);
    let (window, yaml) = windows(&mut random);
    let mut inputs = [input(&mut random, 0, 3, 70)];
    if !window_stays {
        // Behind an exchange no row may be late: what is late depends on the epochs.
        inputs[0].max_out_of_orderness = 60;
    }
    let mut top_n = json!({"by": text, "n": n});
    if let Some(partition) = partition {
        top_n["partitionBy"] = json!([partition]);
    }
    let having = random.bool();
    let mut step = json!({
        "name": "best",
        "from": "events",
        "groupBy": group,
        "window": yaml,
        "aggregate": ["count(*) AS cnt", "sum(n) AS total", "max(id) AS latest", "min(n) AS least"],
        "topN": top_n,
    });
    if having {
        step["having"] = json!("cnt <> 2");
    }
    let text = manifest(&[source("events", &inputs[0], &["k"])], &[step], &["best"]);
    let plan = planned(&text);
    let top_stays = partition == Some("k");
    assert_eq!(
        plan.exchanges.len(),
        usize::from(!window_stays) + usize::from(!top_stays),
        "{text}"
    );
    let owned =
        |names: &[&str]| -> Vec<String> { names.iter().map(|name| name.to_string()).collect() };
    let job = job(window, owned(group), having, inputs[0].max_out_of_orderness);
    let all = all_rows(&job, &inputs[0], window_stays);
    let partition = owned(partition.as_slice());
    let expected = top(&all, &by, &owned(group), &partition, n);
    let mut told = [0; 2];
    for restore in [false, true] {
        let actions = actions(&inputs, &mut random, 6, restore);
        let found = &run(&plan, &inputs, &actions)[0];
        assert_eq!(
            by_partition(&expected, &partition),
            by_partition(found, &partition),
            "seed {seed}\n{text}"
        );
        told = [found.len(), all.len() - found.len()];
    }
    told
}

fn orders(random: &mut Rng) -> (&'static str, Vec<By>) {
    let by = |column: &str, descending, nulls_first| By {
        column: column.into(),
        descending,
        nulls_first,
    };
    match random.u8(0..5) {
        0 => ("total DESC", vec![by("total", true, false)]),
        1 => (
            "cnt DESC, total NULLS FIRST",
            vec![by("cnt", true, false), by("total", false, true)],
        ),
        2 => ("least", vec![by("least", false, false)]),
        3 => (
            "latest DESC NULLS FIRST, cnt ASC",
            vec![by("latest", true, true), by("cnt", false, false)],
        ),
        _ => ("cnt", vec![by("cnt", false, false)]),
    }
}

fn windows(random: &mut Rng) -> (Window, Value) {
    match random.u8(0..3) {
        0 => (
            Window::Tumbling {
                size: 40,
                offset: 3,
            },
            json!({"tumbling": {"size": "40ms", "offset": "3ms"}}),
        ),
        1 => (
            Window::Sliding {
                size: 60,
                slide: 20,
                offset: 0,
            },
            json!({"sliding": {"size": "60ms", "slide": ms(20)}}),
        ),
        _ => (
            Window::Cumulating { size: 60, step: 20 },
            json!({"cumulating": {"size": "60ms", "step": "20ms"}}),
        ),
    }
}

fn job(window: Window, group: Vec<String>, having: bool, max_out_of_orderness: i64) -> Job {
    let aggregate =
        |name: &str, function, column: &str| Aggregate::new(name, function, Some(column));
    Job {
        columns: vec![
            Column::new("e", "e", Kind::Int64, false),
            Column::new("k", "k", Kind::String, true),
            Column::new("id", "id", Kind::String, true),
            Column::new("n", "n", Kind::Int64, true),
            Column::new("t", "t", Kind::Timestamp, false),
        ],
        event_time: "t".into(),
        max_out_of_orderness,
        max_future: None,
        filter: None,
        window: Some(WindowStep {
            window,
            allowed_lateness: 0,
            emit_every: None,
            group,
            aggregates: vec![
                Aggregate::new("cnt", Function::Count, None),
                aggregate("total", Function::Sum, "n"),
                aggregate("latest", Function::Max, "id"),
                aggregate("least", Function::Min, "n"),
            ],
            having: having.then(|| -> streamjob_tests::oracle::Condition {
                Box::new(|row| row["cnt"] != json!(2))
            }),
        }),
    }
}

/// The rows of all groups, in place or as if there were one partition.
fn all_rows(job: &Job, input: &Input, in_place: bool) -> Vec<Row> {
    let events = |rows: &[streamjob_tests::oracle::reads::Timed]| -> Vec<Vec<u8>> {
        let event = |row: &Row| Value::Object(row.clone()).to_string().into_bytes();
        rows.iter().map(|row| event(&row.row)).collect()
    };
    if in_place {
        let entry = |payload| Entry::Event {
            payload: Some(payload),
            kafka_timestamp: None,
        };
        let log: Vec<Vec<Entry>> = input
            .partitions
            .iter()
            .map(|rows| events(rows).into_iter().map(entry).collect())
            .collect();
        return last_rows(job, &oracle(job, &log));
    }
    let mut one = Oracle::new(job, 1);
    let mut rows: Vec<_> = input.partitions.concat();
    rows.sort_by_key(|row| row.time);
    for event in events(&rows) {
        one.event(0, Some(&event), None);
    }
    one.end();
    last_rows(job, &one.into_outcome())
}

/// Rows of each partition, in order.
fn by_partition(
    rows: &[Row],
    partition: &[String],
) -> std::collections::BTreeMap<String, Vec<Row>> {
    let mut parts: std::collections::BTreeMap<String, Vec<Row>> = Default::default();
    for row in rows {
        let key: Value = partition.iter().map(|column| row[column].clone()).collect();
        parts.entry(key.to_string()).or_default().push(row.clone());
    }
    parts
}
