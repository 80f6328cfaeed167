//! Steps that are no windows, and steps of several inputs, from Kafka to Kafka, while the worker is killed again and again:
//! each puts out what plain loops over all events give, once.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use streamjob_tests::compare::assert_same_rows;
use streamjob_tests::failure::Result;
use streamjob_tests::oracle::Row;
use streamjob_tests::scratch::Scratch;
use streamjob_tests::servers::Kafka;
use streamjob_tests::topic::Cluster;
use streamjob_tests::worker::{Worker, exit};
use streamjob_tests::workload::murmur2;

use crate::support::by_form;

const PARTITIONS: usize = 2;
const BASE: i64 = 1_767_225_600_000;
const USERS: u64 = 200;

#[derive(Clone)]
struct Event {
    number: u64,
    user: String,
    page: String,
    time: i64,
}

#[test]
fn killed_again_and_again_steps_put_out_each_row_once() -> Result {
    let (clicks, orders) = (by_form(60_000, 600_000), by_form(20_000, 200_000));
    let scratch = Scratch::new("steps");
    let cluster = Cluster::new(Kafka::shared().bootstrap());
    let unique = format!("steps-{}", std::process::id());
    for topic in [
        "clicks", "orders", "first", "pairs", "best", "totals", "minutes", "triples",
    ] {
        cluster.create(&format!("{unique}-{topic}"), PARTITIONS)?;
    }
    let clicks: Vec<Event> = (0..clicks).map(|number| event(number, 1, 1)).collect();
    let orders: Vec<Event> = (0..orders).map(|number| event(number, 2, 3)).collect();
    let writer = cluster.writer()?;
    for (topic, events) in [("clicks", &clicks), ("orders", &orders)] {
        for event in events {
            let (topic, key) = (format!("{unique}-{topic}"), event.user.as_bytes());
            let partition = murmur2::partition(key, PARTITIONS) as i32;
            let payload = row(event).to_string();
            // Every seventh comes twice.
            for _ in 0..1 + usize::from(event.number % 7 == 0) {
                writer.send(&topic, partition, Some(key), Some(payload.as_bytes()))?;
            }
        }
    }
    writer.flush()?;

    let job = scratch.write("job.yaml", manifest(&cluster, &unique));
    for _ in 0..by_form(4, 20) {
        let worker = Worker::run(scratch.path(), &job, &[])?;
        // Not a wait for a condition: the moment of death is meant to be any.
        thread::sleep(Duration::from_millis(fastrand::u64(300..2_500)));
        worker.kill9();
    }
    Worker::run(scratch.path(), &job, &[])?.expect_exit(exit::DONE)?;

    let found = |topic: &str| cluster.rows(&format!("{unique}-{topic}"));
    let rows =
        |events: &[Event]| -> Vec<Row> { events.iter().map(|event| object(row(event))).collect() };
    assert_same_rows(&rows(&clicks), &found("first")?, &["e"]);
    assert_same_rows(
        &pairs(&clicks, &orders),
        &found("pairs")?,
        &["click", "ordered"],
    );
    assert_same_rows(&best(&clicks), &found("best")?, &["page", "window_start"]);
    assert_same_rows(
        &triples(&clicks),
        &found("triples")?,
        &["who", "match_start", "a"],
    );
    assert_same_rows(
        &minutes(&clicks, &orders),
        &found("minutes")?,
        &["who", "window_start"],
    );
    // The last row of each user is the whole.
    let last: BTreeMap<String, Row> = found("totals")?
        .into_iter()
        .map(|row| (row["who"].to_string(), row))
        .collect();
    assert_same_rows(
        &totals(&clicks),
        &Vec::from_iter(last.into_values()),
        &["who"],
    );
    Ok(())
}

/// Two milliseconds apart, a second out of order.
fn event(number: u64, seed: u64, apart: i64) -> Event {
    let mut random = fastrand::Rng::with_seed(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    Event {
        number,
        user: format!("u{}", random.u64(0..USERS)),
        page: format!("/{}", random.u64(0..20)),
        time: BASE + number as i64 * 2 * apart + random.i64(-500..500),
    }
}

fn row(event: &Event) -> Value {
    json!({"e": event.number, "who": event.user, "page": event.page, "t": event.time})
}

fn object(value: Value) -> Row {
    match value {
        Value::Object(row) => row,
        other => panic!("{other} is no row"),
    }
}

/// Orders of a user from a second before to two seconds after a click.
fn pairs(clicks: &[Event], orders: &[Event]) -> Vec<Row> {
    let mut of_user: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for order in orders {
        of_user.entry(&order.user).or_default().push(order);
    }
    let mut pairs = Vec::new();
    for click in clicks {
        for order in of_user.get(click.user.as_str()).into_iter().flatten() {
            if (click.time - 1_000..=click.time + 2_000).contains(&order.time) {
                pairs.push(object(
                    json!({"click": click.number, "ordered": order.number, "who": click.user}),
                ));
            }
        }
    }
    pairs
}

/// The three pages with most clicks of every ten seconds.
fn best(clicks: &[Event]) -> Vec<Row> {
    let mut windows: BTreeMap<i64, BTreeMap<&str, i64>> = BTreeMap::new();
    for click in clicks {
        let pages = windows
            .entry(click.time.div_euclid(10_000) * 10_000)
            .or_default();
        *pages.entry(&click.page).or_default() += 1;
    }
    let mut best = Vec::new();
    for (start, pages) in windows {
        let ranked: BTreeSet<(i64, &str)> = pages.into_iter().map(|(page, n)| (-n, page)).collect();
        best.extend(ranked.into_iter().take(3).map(|(n, page)| {
            object(
                json!({"page": page, "window_start": start, "window_end": start + 10_000, "n": -n}),
            )
        }));
    }
    best
}

/// Each user's clicks in the order of their times, three by three.
fn triples(clicks: &[Event]) -> Vec<Row> {
    let mut users: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for click in clicks {
        users.entry(&click.user).or_default().push(click);
    }
    let mut triples = Vec::new();
    for (user, mut clicks) in users {
        clicks.sort_by_key(|click| (click.time, click.number));
        triples.extend(clicks.chunks_exact(3).map(|triple| {
            let (a, b) = (triple[0], triple[2]);
            object(json!({
                "who": user, "match_start": a.time, "match_end": b.time, "a": a.number, "b": b.number,
            }))
        }));
    }
    triples
}

fn totals(clicks: &[Event]) -> Vec<Row> {
    let mut totals: BTreeMap<&str, i64> = BTreeMap::new();
    for click in clicks {
        *totals.entry(&click.user).or_default() += 1;
    }
    let row = |(user, n): (&str, i64)| object(json!({"who": user, "n": n}));
    totals.into_iter().map(row).collect()
}

/// Clicks and orders together, a user and minute.
fn minutes(clicks: &[Event], orders: &[Event]) -> Vec<Row> {
    let mut windows: BTreeMap<(i64, &str), i64> = BTreeMap::new();
    for event in clicks.iter().chain(orders) {
        let start = event.time.div_euclid(60_000) * 60_000;
        *windows.entry((start, &event.user)).or_default() += 1;
    }
    let row = |((start, user), n): ((i64, &str), i64)| {
        object(json!({"who": user, "window_start": start, "window_end": start + 60_000, "n": n}))
    };
    windows.into_iter().map(row).collect()
}

/// JSON is YAML.
fn manifest(cluster: &Cluster, unique: &str) -> String {
    let topic = |name: &str| json!({"connection": "main", "topic": format!("{unique}-{name}")});
    let source = |name: &str| {
        let mut kafka = topic(name);
        kafka["until"] = json!("Latest");
        json!({
            "name": name,
            "kafka": kafka,
            "columns": [
                {"name": "e", "type": "Int64"},
                {"name": "who", "type": "String"},
                {"name": "page", "type": "String"},
                {"name": "t", "type": "Timestamp"},
            ],
            "key": ["who"],
            "eventTime": {"column": "t", "maxOutOfOrderness": "2s"},
        })
    };
    let sink = |name: &str| json!({"name": name, "from": name, "kafka": topic(name)});
    let mut totals = sink("totals");
    // A user's rows one behind the other.
    totals["kafka"]["key"] = json!(["who"]);
    let job = json!({
        "apiVersion": "streamjob.dev/v1alpha1",
        "kind": "StreamJob",
        "metadata": {"name": unique, "namespace": "tests"},
        "spec": {
            "maxParallelism": PARTITIONS,
            "connections": [{"name": "main", "kafka": {"bootstrapServers": cluster.bootstrap().split(',').collect::<Vec<_>>()}}],
            "sources": [source("clicks"), source("orders")],
            "steps": [
                {"name": "first", "from": "clicks", "deduplicate": {"by": ["e", "who"], "within": "1m"}},
                {"name": "once", "from": "orders", "deduplicate": {"by": ["e"], "within": "1m"}},
                {
                    "name": "pairs",
                    "from": "first",
                    "join": {"with": "once", "on": ["who = once.who"], "within": {"before": "1s", "after": "2s"}},
                    "select": ["e AS click", "once.e AS ordered", "who"],
                },
                {
                    "name": "best",
                    "from": "first",
                    "groupBy": ["page"],
                    "window": {"tumbling": {"size": "10s"}},
                    "aggregate": ["count(*) AS n"],
                    "topN": {"by": "n DESC", "n": 3},
                },
                {"name": "totals", "from": "first", "groupBy": ["who"], "running": {"ttl": "24h"}, "aggregate": ["count(*) AS n"]},
                {
                    "name": "triples",
                    "from": "first",
                    "match": {
                        "partitionBy": ["who"],
                        "pattern": "CLICK{3}",
                        "define": [{"name": "CLICK", "when": "e >= 0"}],
                        "within": "1h",
                        "measures": ["first(CLICK.e) AS a", "CLICK.e AS b"],
                    },
                },
                {
                    "name": "minutes",
                    "union": ["once", "first"],
                    "groupBy": ["who"],
                    "window": {"tumbling": {"size": "1m"}},
                    "aggregate": ["count(*) AS n"],
                },
            ],
            "sinks": [sink("first"), sink("pairs"), sink("best"), totals, sink("minutes"), sink("triples")],
            "checkpoint": {"interval": "1s"},
        },
    });
    format!("{job:#}")
}
