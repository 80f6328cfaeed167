//! Random patterns and logs from a seed: nested groups, quantifiers of all kinds, `!X`, conditions that look back; few groups, ties,
//! nulls, disorder, late rows. Each job both as a manifest and as the oracle's description.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::{Value, json};

use crate::oracle::Row;
use crate::oracle::pattern::{Entry, Loop, MatchStep, Measure, Pattern, Taken, When};

pub struct Case {
    /// A `StreamJob` with one source, `events`, one step, `out`, and sinks on `out`, `out.late`, `out.timedOut` and
    /// (where starts are limited) `out.overflow`.
    pub manifest: String,
    pub step: MatchStep,
    pub out_of_orderness: i64,
    /// By partition. What the step does not read is what it does to the watermark.
    pub log: Vec<Vec<Input>>,
    pub pattern: String,
}

/// An entry of a partition.
#[derive(Clone, Debug)]
pub enum Input {
    /// An event, and whether the step's `where` lets it through.
    Event {
        time: i64,
        row: Row,
        passes: bool,
    },
    Idle(i64),
}

impl Case {
    /// A partition as the oracle reads it.
    pub fn entries(&self, partition: usize) -> Vec<Entry> {
        let entry = |input: &Input| match input {
            Input::Idle(watermark) => Entry::Idle(*watermark),
            Input::Event { time, row, passes } if *passes => Entry::Row(*time, row.clone()),
            Input::Event { time, .. } => Entry::Idle(time.saturating_sub(self.out_of_orderness)),
        };
        self.log[partition].iter().map(entry).collect()
    }
}

const NAMES: [&str; 5] = ["A", "B", "C", "D", "E"];

pub fn case(seed: u64) -> Case {
    let mut random = Rng::with_seed(seed);
    let strict = random.u8(0..4) == 0;
    let variables = random.usize(2..=NAMES.len());
    let mut shape = Shape {
        random: &mut random,
        variables,
        strict,
        elements: 0,
        loops: 0,
    };
    let pattern = shape.fixed_sequence(2);
    let text = render(&pattern);
    let define: Vec<Condition> = (0..variables)
        .map(|variable| condition(&mut random, NAMES[variable], variables))
        .collect();
    let measures = measures(&mut random, variables);
    let within = (random.u8(0..3) > 0).then(|| random.i64(0..25));
    let skip_past = random.bool();
    let most_partial = (random.u8(0..5) == 0).then(|| random.usize(1..4));
    let filter = random.u8(0..4) == 0;
    let keyed = random.u8(0..4) > 0;
    let partitions = if keyed { random.usize(1..=2) } else { 1 };
    let out_of_orderness = random.i64(0..12);
    let log = (0..partitions)
        .map(|_| log(&mut random, out_of_orderness, filter))
        .collect();

    let mut spec = json!({
        "pattern": text,
        "define": define.iter().zip(NAMES).map(|(one, name)| json!({"name": name, "when": one.sql})).collect::<Vec<_>>(),
        "measures": measures.iter().map(|(name, sql, _)| format!("{sql} AS {name}")).collect::<Vec<_>>(),
        "contiguity": if strict { "Strict" } else { "Relaxed" },
        "afterMatch": if skip_past { "SkipPastLastEvent" } else { "SkipToNextEvent" },
    });
    if keyed {
        spec["partitionBy"] = json!(["k"]);
    }
    if let Some(within) = within {
        spec["within"] = json!(format!("{within}ms"));
    }
    if let Some(most) = most_partial {
        spec["maxPartialMatches"] = json!(most);
    }
    let step = MatchStep {
        partition: keyed.then(|| "k".to_string()).into_iter().collect(),
        pattern,
        define: NAMES
            .iter()
            .zip(define)
            .map(|(name, one)| (name.to_string(), one.when))
            .collect::<BTreeMap<_, _>>(),
        within,
        strict,
        skip_past,
        measures: measures
            .into_iter()
            .map(|(name, _, measure)| (name, measure))
            .collect(),
        most_partial: most_partial.unwrap_or(10_000),
    };
    Case {
        manifest: manifest(&spec, filter, out_of_orderness, most_partial.is_some()),
        step,
        out_of_orderness,
        log,
        pattern: text,
    }
}

/// JSON is YAML.
fn manifest(spec: &Value, filter: bool, out_of_orderness: i64, overflow: bool) -> String {
    let mut step = json!({"name": "out", "from": "events", "match": spec});
    if filter {
        step["where"] = json!("v IS NULL OR v <> 7");
    }
    let mut sinks: Vec<Value> = ["out", "out.late", "out.timedOut"]
        .iter()
        .enumerate()
        .map(|(at, from)| {
            json!({"name": format!("s{at}"), "from": from, "kafka": {"connection": "main", "topic": format!("s{at}")}})
        })
        .collect();
    if overflow {
        sinks.push(json!({"name": "s3", "from": "out.overflow", "kafka": {"connection": "main", "topic": "s3"}}));
    }
    let job = json!({
        "apiVersion": "streamjob.dev/v1alpha1",
        "kind": "StreamJob",
        "metadata": {"name": "patterns", "namespace": "tests"},
        "spec": {
            "connections": [{"name": "main", "kafka": {"bootstrapServers": ["127.0.0.1:1"]}}],
            "sources": [{
                "name": "events",
                "kafka": {"connection": "main", "topic": "events"},
                "columns": [
                    {"name": "id", "type": "Int64"},
                    {"name": "k", "type": "String", "nullable": true},
                    {"name": "e", "type": "String", "nullable": true},
                    {"name": "v", "type": "Int64", "nullable": true},
                    {"name": "t", "type": "Timestamp"},
                ],
                "key": ["k"],
                "eventTime": {"column": "t", "maxOutOfOrderness": format!("{out_of_orderness}ms")},
            }],
            "steps": [step],
            "sinks": sinks,
        },
    });
    format!("{job:#}")
}

fn log(random: &mut Rng, out_of_orderness: i64, filter: bool) -> Vec<Input> {
    let mut now = random.i64(-20..100);
    let kinds = random.usize(2..=4);
    let groups = random.usize(1..=3);
    (0..random.usize(0..45))
        .map(|id| {
            now += match random.u8(0..25) {
                0 => 40,
                1..=8 => 0,
                _ => random.i64(0..4),
            };
            if random.u8(0..40) == 0 {
                return Input::Idle(now - random.i64(0..20));
            }
            let most = if random.u8(0..10) == 0 {
                20
            } else {
                out_of_orderness
            };
            let time = now - random.i64(0..=most);
            let v = (random.u8(0..8) > 0).then(|| random.i64(0..9));
            let row = json!({
                "id": id,
                "k": (random.u8(0..12) > 0).then(|| ["x", "y", "z"][random.usize(0..groups)]),
                "e": (random.u8(0..15) > 0).then(|| ["a", "b", "c", "d"][random.usize(0..kinds)]),
                "v": v,
                "t": time,
            });
            let Value::Object(row) = row else {
                unreachable!("an object")
            };
            Input::Event {
                time,
                row,
                passes: !filter || v != Some(7),
            }
        })
        .collect()
}

struct Shape<'r> {
    random: &'r mut Rng,
    variables: usize,
    strict: bool,
    elements: usize,
    loops: usize,
}

impl Shape<'_> {
    fn name(&mut self) -> String {
        NAMES[self.random.usize(0..self.variables)].to_string()
    }

    fn take(&mut self) -> Pattern {
        self.elements += 1;
        Pattern::Take(self.elements, self.name())
    }

    /// A sequence whose last element is neither optional nor open-ended.
    fn fixed_sequence(&mut self, depth: usize) -> Pattern {
        let mut parts: Vec<Pattern> = (0..self.random.usize(0..=3))
            .map(|_| self.part(depth))
            .collect();
        parts.push(self.fixed(depth));
        self.with_nots(parts)
    }

    fn sequence(&mut self, depth: usize) -> Pattern {
        let parts = (0..self.random.usize(1..=3))
            .map(|_| self.part(depth))
            .collect();
        self.with_nots(parts)
    }

    fn with_nots(&mut self, parts: Vec<Pattern>) -> Pattern {
        let mut all: Vec<Pattern> = Vec::new();
        for part in parts {
            if !all.is_empty() && !self.strict && self.random.u8(0..6) == 0 {
                all.push(Pattern::Not(self.name()));
            }
            all.push(part);
        }
        match all.len() {
            1 => all.remove(0),
            _ => Pattern::Sequence(all),
        }
    }

    fn fixed(&mut self, depth: usize) -> Pattern {
        match self.random.u8(0..10) {
            0 | 1 if depth > 0 => {
                Pattern::Either((0..2).map(|_| self.fixed_sequence(depth - 1)).collect())
            }
            2 => {
                let inner = match depth {
                    0 => self.take(),
                    _ => self.fixed_sequence(depth - 1),
                };
                let times = self.random.usize(1..=3);
                self.repeat(inner, times, Some(times))
            }
            _ => self.take(),
        }
    }

    /// Anything.
    fn part(&mut self, depth: usize) -> Pattern {
        let inner = match self.random.u8(0..10) {
            0 | 1 if depth > 0 => {
                let branches = self.random.usize(2..=3);
                Pattern::Either((0..branches).map(|_| self.sequence(depth - 1)).collect())
            }
            2 | 3 if depth > 0 => self.sequence(depth - 1),
            _ => self.take(),
        };
        match self.random.u8(0..12) {
            0 | 1 => self.repeat(inner, 0, Some(1)),
            2 => self.repeat(inner, 0, None),
            3 | 4 => self.repeat(inner, 1, None),
            5 => {
                let least = self.random.usize(0..=2);
                let most = least + self.random.usize(0..=2);
                self.repeat(inner, least, Some(most.max(1)))
            }
            6 => {
                let least = self.random.usize(0..=3);
                self.repeat(inner, least, None)
            }
            _ => inner,
        }
    }

    fn repeat(&mut self, inner: Pattern, least: usize, most: Option<usize>) -> Pattern {
        self.loops += 1;
        Pattern::Repeat(Box::new(Loop {
            number: self.loops,
            inner,
            least,
            most,
            greedy: self.random.bool(),
        }))
    }
}

fn render(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Take(_, name) => name.clone(),
        Pattern::Not(name) => format!("!{name}"),
        Pattern::Sequence(parts) => {
            let part = |part: &Pattern| match part {
                Pattern::Take(..) | Pattern::Not(_) | Pattern::Repeat(_) => render(part),
                group => format!("({})", render(group)),
            };
            parts.iter().map(part).collect::<Vec<_>>().join(" ")
        }
        Pattern::Either(branches) => {
            let branch = |branch: &Pattern| match branch {
                Pattern::Either(_) => format!("({})", render(branch)),
                other => render(other),
            };
            branches.iter().map(branch).collect::<Vec<_>>().join(" | ")
        }
        Pattern::Repeat(of) => {
            let inner = match &of.inner {
                Pattern::Take(..) => render(&of.inner),
                group => format!("({})", render(group)),
            };
            let counts = match (of.least, of.most) {
                (0, Some(1)) => "?".to_string(),
                (0, None) => "*".to_string(),
                (1, None) => "+".to_string(),
                (least, None) => format!("{{{least},}}"),
                (least, Some(most)) if least == most => format!("{{{least}}}"),
                (least, Some(most)) => format!("{{{least},{most}}}"),
            };
            format!("{inner}{counts}{}", if of.greedy { "" } else { "?" })
        }
    }
}

struct Condition {
    sql: String,
    when: When,
}

/// `v` of a variable's events.
fn values(taken: &[Taken], variable: &str) -> Vec<Option<i64>> {
    let own = taken.iter().filter(|taken| taken.variable == variable);
    own.map(|taken| taken.row["v"].as_i64()).collect()
}

/// Those that are there.
fn known(taken: &[Taken], variable: &str) -> Vec<i64> {
    values(taken, variable).into_iter().flatten().collect()
}

/// So many before the last.
fn back(taken: &[Taken], variable: &str, by: usize) -> Option<i64> {
    values(taken, variable).into_iter().rev().nth(by).flatten()
}

fn mean(values: &[i64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<i64>() as f64 / values.len() as f64)
}

fn condition(random: &mut Rng, own: &'static str, variables: usize) -> Condition {
    let other = NAMES[random.usize(0..variables)];
    let kind = ["a", "b", "c", "d"][random.usize(0..4)];
    let is = move |row: &Row| row["e"] == kind;
    let v = |row: &Row| row["v"].as_i64();
    let made = |sql: String, when: When| Condition { sql, when };
    match random.u8(0..22) {
        0..=6 => made(format!("e = '{kind}'"), Box::new(move |row, _| is(row))),
        7 => made(
            "v > 3".into(),
            Box::new(move |row, _| v(row).is_some_and(|v| v > 3)),
        ),
        8 => made(
            format!("e <> '{kind}'"),
            Box::new(move |row, _| row["e"].is_string() && !is(row)),
        ),
        9 => made("true".into(), Box::new(|_, _| true)),
        10 => made(
            format!("e = '{kind}' OR v < 2"),
            Box::new(move |row, _| is(row) || v(row).is_some_and(|v| v < 2)),
        ),
        11 => made(
            format!("last({own}.v, 1) IS NULL OR v > last({own}.v, 1)"),
            Box::new(move |row, taken| {
                back(taken, own, 1).is_none_or(|before| v(row).is_some_and(|v| v > before))
            }),
        ),
        12 => made(
            format!("e = '{kind}' AND count({other}.v) < 2"),
            Box::new(move |row, taken| is(row) && known(taken, other).len() < 2),
        ),
        13 => made(
            format!("v <= last({other}.v)"),
            Box::new(move |row, taken| {
                v(row)
                    .zip(back(taken, other, 0))
                    .is_some_and(|(v, o)| v <= o)
            }),
        ),
        14 => made(
            format!("first({other}.v) <= v"),
            Box::new(move |row, taken| {
                let first = values(taken, other).first().copied().flatten();
                v(row).zip(first).is_some_and(|(v, first)| first <= v)
            }),
        ),
        15 => made(
            format!("sum({other}.v) < 9 OR e = '{kind}'"),
            Box::new(move |row, taken| {
                let known = known(taken, other);
                is(row) || (!known.is_empty() && known.iter().sum::<i64>() < 9)
            }),
        ),
        16 => made(
            format!("avg({other}.v) <= 4"),
            Box::new(move |_, taken| mean(&known(taken, other)).is_some_and(|mean| mean <= 4.0)),
        ),
        17 => made(
            format!("max({other}.v) > v"),
            Box::new(move |row, taken| {
                v(row)
                    .zip(known(taken, other).into_iter().max())
                    .is_some_and(|(v, most)| most > v)
            }),
        ),
        18 => made(
            format!("min({other}.v) >= v AND e = '{kind}'"),
            Box::new(move |row, taken| {
                let least = known(taken, other).into_iter().min();
                is(row) && v(row).zip(least).is_some_and(|(v, least)| least >= v)
            }),
        ),
        19 => made(
            "count(*) <= 3".into(),
            Box::new(|_, taken| taken.len() <= 3),
        ),
        20 => made(
            format!("count({own}.*) <= 2 AND {other}.e = '{kind}'"),
            Box::new(move |_, taken| {
                let last = taken.iter().rev().find(|taken| taken.variable == other);
                values(taken, own).len() <= 2 && last.is_some_and(|last| is(&last.row))
            }),
        ),
        _ => made(
            "e IN ('a', 'b')".into(),
            Box::new(|row, _| row["e"] == "a" || row["e"] == "b"),
        ),
    }
}

fn or_null(value: Option<Value>) -> Value {
    value.unwrap_or(Value::Null)
}

fn ids(taken: &[Taken], variable: &str) -> Vec<Value> {
    let own = taken.iter().filter(|taken| taken.variable == variable);
    own.map(|taken| taken.row["id"].clone()).collect()
}

/// Enough to tell which events were taken, and some that compute.
fn measures(random: &mut Rng, variables: usize) -> Vec<(String, String, Measure)> {
    let mut measures: Vec<(String, String, Measure)> = vec![(
        "n".into(),
        "count(*)".into(),
        Box::new(|taken: &[Taken]| taken.len().into()),
    )];
    for variable in &NAMES[..variables] {
        let mut add = |name: &str, sql: String, measure: Measure| {
            measures.push((format!("{variable}_{name}"), sql, measure));
        };
        let first = move |taken: &[Taken]| or_null(ids(taken, variable).first().cloned());
        add("first", format!("first({variable}.id)"), Box::new(first));
        for by in 0..3 {
            let back =
                move |taken: &[Taken]| or_null(ids(taken, variable).into_iter().rev().nth(by));
            let sql = match by {
                0 => format!("{variable}.id"),
                by => format!("last({variable}.id, {by})"),
            };
            add(&format!("back{by}"), sql, Box::new(back));
        }
        let (sql, measure): (&str, Measure) = match random.u8(0..6) {
            0 => (
                "sum(#.v)",
                Box::new(|taken| {
                    let known = known(taken, variable);
                    or_null((!known.is_empty()).then(|| known.iter().sum::<i64>().into()))
                }),
            ),
            1 => (
                "avg(#.v)",
                Box::new(|taken| or_null(mean(&known(taken, variable)).map(Value::from))),
            ),
            2 => (
                "min(#.v)",
                Box::new(|taken| {
                    or_null(known(taken, variable).into_iter().min().map(Value::from))
                }),
            ),
            3 => (
                "max(#.v) + 1",
                Box::new(|taken| {
                    or_null(
                        known(taken, variable)
                            .into_iter()
                            .max()
                            .map(|most| (most + 1).into()),
                    )
                }),
            ),
            4 => (
                "count(#.v)",
                Box::new(|taken| known(taken, variable).len().into()),
            ),
            _ => (
                "count(#.*) * 2",
                Box::new(|taken| (values(taken, variable).len() * 2).into()),
            ),
        };
        add("of", sql.replace('#', variable), measure);
    }
    measures
}
