//! Small logs and jobs from a seed that go where it hurts: few keys, nulls, ties, negative times, big gaps, disorder,
//! malformed events, idle partitions; each job both as a manifest and as the oracle's description.

use fastrand::Rng;
use serde_json::{Value, json};

use crate::oracle::{Aggregate, Column, Condition, Entry, Function, Job, Kind, Window, WindowStep};

/// A job and its input.
pub struct Case {
    /// A `StreamJob` with one source, `events` (Kafka; never dialled), one step, `out`, and sinks on `out`, `out.late`
    /// and `events.malformed`.
    pub manifest: String,
    pub job: Job,
    pub log: Vec<Vec<Entry>>,
    /// Columns in which the engine may be a little off.
    pub approximate: Vec<String>,
}

/// The case of a seed.
pub fn case(seed: u64) -> Case {
    let mut random = Rng::with_seed(seed);
    let shape = Shape::choose(&mut random);
    let partitions = random.usize(1..=3);
    let log = (0..partitions)
        .map(|number| partition(&mut random, &shape, number))
        .collect();
    Case {
        manifest: shape.manifest(),
        log,
        approximate: shape.approximate(),
        job: shape.job(),
    }
}

/// What is chosen for a job.
struct Shape {
    window: Window,
    lateness: i64,
    emit_every: Option<i64>,
    out_of_orderness: i64,
    max_future: Option<i64>,
    group: Vec<&'static str>,
    filter: Option<Choice>,
    having: Option<Choice>,
    items: Vec<Item>,
}

/// A condition in SQL and in Rust.
#[derive(Clone, Copy)]
struct Choice {
    sql: &'static str,
    holds: fn(&crate::oracle::Row) -> bool,
}

/// An aggregate in SQL and for the oracle.
#[derive(Clone, Copy)]
struct Item {
    sql: &'static str,
    name: &'static str,
    function: Function,
    column: Option<&'static str>,
}

const fn item(
    sql: &'static str,
    name: &'static str,
    function: Function,
    column: &'static str,
) -> Item {
    Item {
        sql,
        name,
        function,
        column: Some(column),
    }
}

const COUNT: Item = Item {
    sql: "count(*)",
    name: "cnt",
    function: Function::Count,
    column: None,
};

const ITEMS: [Item; 16] = [
    item("count(v)", "cnt_v", Function::Count, "v"),
    item("sum(v)", "sum_v", Function::Sum, "v"),
    item("sum(n)", "sum_n", Function::Sum, "n"),
    item("avg(v)", "avg_v", Function::Avg, "v"),
    item("avg(n)", "avg_n", Function::Avg, "n"),
    item("min(v)", "min_v", Function::Min, "v"),
    item("max(n)", "max_n", Function::Max, "n"),
    item("min(s)", "min_s", Function::Min, "s"),
    item("max(s)", "max_s", Function::Max, "s"),
    item("stddev(v)", "dev_v", Function::Stddev, "v"),
    item("first_value(s)", "first_s", Function::FirstValue, "s"),
    item("last_value(s)", "last_s", Function::LastValue, "s"),
    item("last_value(n)", "last_n", Function::LastValue, "n"),
    item(
        "array_agg(n)",
        "all_n",
        Function::ArrayAgg { limit: usize::MAX },
        "n",
    ),
    item("approx_distinct(n)", "distinct_n", Function::Distinct, "n"),
    item(
        "approx_percentile_cont(v, 0.5)",
        "median_v",
        Function::Percentile(0.5),
        "v",
    ),
];

/// The engine's is a sketch with a relative error; the oracle's is exact.
const SKETCHED: &str = "median_v";

const FILTERS: [Choice; 3] = [
    Choice {
        sql: "n > 0",
        holds: |row| row["n"].as_i64().is_some_and(|n| n > 0),
    },
    Choice {
        sql: "v IS NOT NULL",
        holds: |row| !row["v"].is_null(),
    },
    Choice {
        sql: "b OR s = 'x'",
        holds: |row| row["b"] == true || row["s"] == "x",
    },
];

const HAVINGS: [Choice; 2] = [
    Choice {
        sql: "cnt > 1",
        holds: |row| row["cnt"].as_i64() > Some(1),
    },
    // As rows come in later, this stops to hold.
    Choice {
        sql: "cnt <= 2",
        holds: |row| row["cnt"].as_i64() <= Some(2),
    },
];

impl Shape {
    fn choose(random: &mut Rng) -> Shape {
        let mut items = ITEMS.to_vec();
        random.shuffle(&mut items);
        items.truncate(random.usize(0..=5));
        items.insert(0, COUNT);
        Shape {
            window: window(random),
            lateness: pick(random, &[0, 0, 5, 40]),
            emit_every: pick(random, &[None, None, None, Some(7)]),
            out_of_orderness: pick(random, &[0, 0, 3, 25]),
            max_future: pick(random, &[None, None, Some(50)]),
            group: pick(random, &[vec!["k"], vec!["k", "g"], vec!["b", "k"]]),
            filter: one_in_three(random, &FILTERS),
            having: one_in_three(random, &HAVINGS),
            items,
        }
    }

    fn approximate(&self) -> Vec<String> {
        self.items
            .iter()
            .filter(|item| item.name == SKETCHED)
            .map(|item| item.name.into())
            .collect()
    }

    fn job(&self) -> Job {
        let aggregate = |item: &Item| Aggregate::new(item.name, item.function, item.column);
        let boxed = |choice: Choice| Box::new(choice.holds) as Condition;
        Job {
            columns: COLUMNS
                .map(|(name, path, kind, nullable)| Column::new(name, path, kind, nullable))
                .to_vec(),
            event_time: "t".into(),
            max_out_of_orderness: self.out_of_orderness,
            max_future: self.max_future,
            filter: self.filter.map(boxed),
            window: Some(WindowStep {
                window: self.window,
                allowed_lateness: self.lateness,
                emit_every: self.emit_every,
                group: self.group.iter().map(|column| column.to_string()).collect(),
                aggregates: self.items.iter().map(aggregate).collect(),
                having: self.having.map(boxed),
            }),
        }
    }

    /// JSON is YAML.
    fn manifest(&self) -> String {
        let columns: Vec<Value> = COLUMNS
            .iter()
            .map(|(name, path, kind, nullable)| json!({"name": name, "path": path, "type": format!("{kind:?}"), "nullable": nullable}))
            .collect();
        let mut event_time = json!({"column": "t", "maxOutOfOrderness": ms(self.out_of_orderness)});
        if let Some(limit) = self.max_future {
            event_time["maxFuture"] = ms(limit);
        }
        let items: Vec<String> = self
            .items
            .iter()
            .map(|item| format!("{} AS {}", item.sql, item.name))
            .collect();
        let mut window = window_json(self.window);
        window["allowedLateness"] = ms(self.lateness);
        if let Some(every) = self.emit_every {
            window["emitEvery"] = ms(every);
        }
        let mut step = json!({"name": "out", "from": "events", "groupBy": self.group, "window": window, "aggregate": items});
        if let Some(filter) = self.filter {
            step["where"] = json!(filter.sql);
        }
        if let Some(having) = self.having {
            step["having"] = json!(having.sql);
        }
        let sink = |name: &str, from: &str| json!({"name": name, "from": from, "kafka": {"connection": "main", "topic": name}});
        let job = json!({
            "apiVersion": "streamjob.dev/v1alpha1",
            "kind": "StreamJob",
            "metadata": {"name": "nasty", "namespace": "tests"},
            "spec": {
                "connections": [{"name": "main", "kafka": {"bootstrapServers": ["127.0.0.1:1"]}}],
                "sources": [{
                    "name": "events",
                    "kafka": {"connection": "main", "topic": "events"},
                    "columns": columns,
                    "key": ["k"],
                    "eventTime": event_time,
                }],
                "steps": [step],
                "sinks": [sink("rows", "out"), sink("late", "out.late"), sink("malformed", "events.malformed")],
            },
        });
        format!("{job:#}")
    }
}

const COLUMNS: [(&str, &str, Kind, bool); 7] = [
    ("k", "k", Kind::String, true),
    ("g", "in.g", Kind::Int64, true),
    ("t", "t", Kind::Timestamp, false),
    ("v", "in.v", Kind::Double, true),
    ("n", "n", Kind::Int64, true),
    ("s", "s", Kind::String, true),
    ("b", "b", Kind::Boolean, true),
];

fn window(random: &mut Rng) -> Window {
    let unit = pick(random, &[4, 10, 15]);
    let offset = pick(random, &[0, 0, 3]);
    match random.u8(0..5) {
        0 => Window::Tumbling { size: unit, offset },
        1 => Window::Sliding {
            size: unit * 3,
            slide: unit,
            offset,
        },
        2 => Window::Cumulating {
            size: unit * 4,
            step: unit,
        },
        _ => Window::Session { gap: unit },
    }
}

fn window_json(window: Window) -> Value {
    match window {
        Window::Tumbling { size, offset } => {
            json!({"tumbling": {"size": ms(size), "offset": ms(offset)}})
        }
        Window::Sliding {
            size,
            slide,
            offset,
        } => {
            json!({"sliding": {"size": ms(size), "slide": ms(slide), "offset": ms(offset)}})
        }
        Window::Cumulating { size, step } => {
            json!({"cumulating": {"size": ms(size), "step": ms(step)}})
        }
        Window::Session { gap } => json!({"session": {"gap": ms(gap)}}),
    }
}

/// A duration as the manifest wants it.
fn ms(milliseconds: i64) -> Value {
    json!(if milliseconds == 0 {
        "0s".to_string()
    } else {
        format!("{milliseconds}ms")
    })
}

fn partition(random: &mut Rng, shape: &Shape, number: usize) -> Vec<Entry> {
    let mut now = random.i64(-60..60);
    let mut entries = Vec::new();
    for _ in 0..random.usize(0..60) {
        now += match random.u8(0..20) {
            0 => random.i64(100..100_000),
            1..=6 => 0,
            _ => random.i64(0..6),
        };
        let time = now
            - if random.u8(0..4) == 0 {
                random.i64(0..50)
            } else {
                0
            };
        entries.push(match random.u8(0..40) {
            0 => Entry::Idle(now + random.i64(-20..40)),
            1 | 2 => malformed(random, time),
            _ => event(random, time, shape, number),
        });
    }
    entries
}

fn event(random: &mut Rng, time: i64, shape: &Shape, partition: usize) -> Entry {
    let maybe = |random: &mut Rng, value: Value| {
        if random.u8(0..6) == 0 {
            Value::Null
        } else {
            value
        }
    };
    // A key is in one partition only, as the job promises.
    let key = match (pick(random, &["a", "b", "c", "", "é", "B"]), partition) {
        (key, 0) => maybe(random, json!(key)),
        (key, _) => json!(format!("{key}{partition}")),
    };
    let mut fields = json!({"t": time_value(random, time), "more": {"deep": [1, "x"]}});
    fields["k"] = key;
    let values = [
        ("n", json!(random.i64(-3..6))),
        (
            "s",
            json!(pick(random, &["x", "y", "\u{1F600}\"\\", "longer text"])),
        ),
        ("b", json!(random.bool())),
    ];
    for (name, value) in values {
        fields[name] = maybe(random, value);
    }
    // Absent is null.
    if random.u8(0..8) > 0 {
        let (g, v) = (
            json!(random.i64(0..2)),
            json!(random.i64(-20..20) as f64 / 4.0),
        );
        fields["in"] = json!({"g": maybe(random, g), "v": maybe(random, v)});
    }
    let kafka_timestamp = shape.max_future.map(|limit| {
        if random.u8(0..20) == 0 {
            time - limit - 1
        } else {
            time - limit
        }
    });
    Entry::Event {
        payload: Some(fields.to_string().into_bytes()),
        kafka_timestamp,
    }
}

/// As an integer, or in one of the ways that RFC 3339 has.
fn time_value(random: &mut Rng, time: i64) -> Value {
    if random.u8(0..5) > 0 {
        return json!(time);
    }
    // Days before and after the epoch are enough here.
    let (day, of_day) = (time.div_euclid(86_400_000), time.rem_euclid(86_400_000));
    let date = match day {
        -1 => "1969-12-31".to_string(),
        0..=30 => format!("1970-01-{:02}", day + 1),
        _ => return json!(time),
    };
    let (seconds, fraction) = (of_day / 1_000, of_day % 1_000);
    let clock = format!(
        "{:02}:{:02}:{:02}",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    );
    json!(format!(
        "{date}T{clock}.{fraction:03}{}",
        pick(random, &["Z", "+00:00", "9Z"])
    ))
}

fn malformed(random: &mut Rng, time: i64) -> Entry {
    let text = match random.u8(0..12) {
        0 => {
            return Entry::Event {
                payload: None,
                kafka_timestamp: None,
            };
        }
        1 => String::new(),
        2 => "no json".into(),
        3 => "[1]".into(),
        4 => format!("{{\"t\":{time}"),
        5 => format!("{{\"t\":{time}}} {{}}"),
        6 => format!("{{\"t\":{time}.0}}"),
        7 => "{\"t\":99999999999999999999}".into(),
        8 => format!("{{\"t\":{time},\"k\":7}}"),
        9 => format!("{{\"t\":{time},\"n\":\"7\"}}"),
        10 => "{\"k\":\"a\"}".into(),
        _ => {
            let mut bytes = format!("{{\"t\":{time},\"k\":\"").into_bytes();
            bytes.extend(b"\xff\"}");
            return Entry::Event {
                payload: Some(bytes),
                kafka_timestamp: None,
            };
        }
    };
    Entry::Event {
        payload: Some(text.into_bytes()),
        kafka_timestamp: None,
    }
}

fn pick<T: Clone>(random: &mut Rng, of: &[T]) -> T {
    of[random.usize(0..of.len())].clone()
}

fn one_in_three<T: Copy>(random: &mut Rng, of: &[T]) -> Option<T> {
    (random.u8(0..3) == 0).then(|| pick(random, of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{last_rows, run};

    /// The cases must reach what they are for.
    #[test]
    fn cases_have_rows_late_rows_withdrawals_and_malformed_events() {
        let (mut rows, mut late, mut withdrawn, mut malformed) = (0, 0, 0, 0);
        for seed in 0..500 {
            let case = case(seed);
            let outcome = run(&case.job, &case.log);
            rows += last_rows(&case.job, &outcome).len();
            for task in outcome {
                late += task.late.len();
                malformed += task.malformed.len();
                withdrawn += task
                    .emitted
                    .iter()
                    .filter(|e| matches!(e, crate::oracle::Emission::Withdrawn(_)))
                    .count();
            }
        }
        assert!(
            rows > 5_000 && late > 500 && withdrawn > 100 && malformed > 500,
            "{rows} {late} {withdrawn} {malformed}"
        );
    }
}
