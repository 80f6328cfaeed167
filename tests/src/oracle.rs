//! The oracle: what a job must put out, computed the slow and obvious way.
//!
//! Written from the documented semantics alone. It shares no code with the engine and none of its ideas: one row at a
//! time, plain collections of JSON values, every window keeps its rows and computes its aggregates from them from
//! scratch. Where engine and oracle differ, one of them (or the documentation) is wrong.
//!
//! Steps that are no windows have rooms of their own: `pattern`, `deduplicate`, `running`, `top`. The last three start from
//! what a task reads (`reads`) or what windows emit.
//!
//! A job here is one source, an optional condition, and at most one window step. Without a step the rows that pass the
//! condition are the output. A task is a partition of the log: for a step that re-keys its input hand the oracle one
//! log in which no row is late.
//!
//! Not modelled: `Decimal` and `Bytes` columns, rows on which an expression fails, and the number of times that an
//! early or a late result is emitted (several changes may be one row). The last row of each group and window is.

mod aggregate;
mod decode;
pub mod deduplicate;
pub mod pattern;
pub mod reads;
pub mod running;
pub mod top;
mod window;

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

pub use decode::Reason;

use window::Windows;

/// Columns by name. Timestamps are integers (epoch ms), missing values are null.
pub type Row = Map<String, Value>;

/// Whether a row is taken. SQL's unknown is `false`.
pub type Condition = Box<dyn Fn(&Row) -> bool + Send + Sync>;

pub struct Job {
    pub columns: Vec<Column>,
    /// Name of the event time column.
    pub event_time: String,
    /// Milliseconds.
    pub max_out_of_orderness: i64,
    /// Milliseconds ahead of the Kafka timestamp.
    pub max_future: Option<i64>,
    /// The step's `where`, or the only thing that the job does.
    pub filter: Option<Condition>,
    pub window: Option<WindowStep>,
}

#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    /// Fields of the event, outermost first.
    pub path: Vec<String>,
    pub kind: Kind,
    pub nullable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    String,
    Boolean,
    Int64,
    Double,
    Timestamp,
}

pub struct WindowStep {
    pub window: Window,
    pub allowed_lateness: i64,
    pub emit_every: Option<i64>,
    pub group: Vec<String>,
    pub aggregates: Vec<Aggregate>,
    /// Over the emitted row.
    pub having: Option<Condition>,
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    Tumbling { size: i64, offset: i64 },
    Sliding { size: i64, slide: i64, offset: i64 },
    Cumulating { size: i64, step: i64 },
    Session { gap: i64 },
}

#[derive(Clone, Debug)]
pub struct Aggregate {
    pub name: String,
    pub function: Function,
    /// `None` for `count(*)` only.
    pub column: Option<String>,
}

/// All skip nulls. Without any value left: 0 for the counts, else null.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    Count,
    Sum,
    Avg,
    Min,
    Max,
    /// Of the sample: null for fewer than two values.
    Stddev,
    /// The value of the earliest event; of several, of the first in the log.
    FirstValue,
    /// The value of the latest event; of several, of the last in the log.
    LastValue,
    /// The first values in log order.
    ArrayAgg {
        limit: usize,
    },
    /// Exact, where the engine's may be approximate.
    Distinct,
    /// Exact (nearest rank), where the engine's may be approximate. 0..=1.
    Percentile(f64),
}

impl Aggregate {
    pub fn new(name: &str, function: Function, column: Option<&str>) -> Self {
        Aggregate {
            name: name.into(),
            function,
            column: column.map(Into::into),
        }
    }
}

impl Column {
    /// A column at `path` (fields separated by dots).
    pub fn new(name: &str, path: &str, kind: Kind, nullable: bool) -> Self {
        Column {
            name: name.into(),
            path: path.split('.').map(Into::into).collect(),
            kind,
            nullable,
        }
    }
}

/// What a task did, in its order.
#[derive(Debug, Default)]
pub struct TaskOutcome {
    /// Position in the partition and why.
    pub malformed: Vec<(usize, Reason)>,
    /// Rows as the step read them.
    pub late: Vec<Row>,
    /// What it put out. Without lateness and early results this is the engine's sequence, row for row.
    pub emitted: Vec<Emission>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Emission {
    Row(Row),
    /// The row emitted before does not hold any more.
    Withdrawn(Row),
}

/// Runs a job over a log, row by row.
pub struct Oracle<'j> {
    job: &'j Job,
    tasks: Vec<Task<'j>>,
}

struct Task<'j> {
    position: usize,
    /// Exclusive bound; no more events before it are expected.
    watermark: i64,
    windows: Option<Windows<'j>>,
    outcome: TaskOutcome,
}

impl<'j> Oracle<'j> {
    pub fn new(job: &'j Job, partitions: usize) -> Self {
        let task = || Task {
            position: 0,
            watermark: i64::MIN,
            windows: job.window.as_ref().map(Windows::new),
            outcome: TaskOutcome::default(),
        };
        Oracle {
            job,
            tasks: (0..partitions).map(|_| task()).collect(),
        }
    }

    /// The next event of a partition. `kafka_timestamp` is `None` for files.
    pub fn event(
        &mut self,
        partition: usize,
        payload: Option<&[u8]>,
        kafka_timestamp: Option<i64>,
    ) {
        let job = self.job;
        let task = &mut self.tasks[partition];
        let position = task.position;
        task.position += 1;
        let row = match decode::decode(job, payload, kafka_timestamp) {
            Ok(row) => row,
            Err(reason) => return task.outcome.malformed.push((position, reason)),
        };
        let time = row[&job.event_time]
            .as_i64()
            .expect("the event time is an integer");
        if job.filter.as_ref().is_none_or(|filter| filter(&row)) {
            task.take(time, row);
        }
        task.advance(time.saturating_sub(job.max_out_of_orderness));
    }

    /// The partition was idle: its watermark moves to `watermark` without data.
    pub fn idle(&mut self, partition: usize, watermark: i64) {
        self.tasks[partition].advance(watermark);
    }

    /// All input has ended.
    pub fn end(&mut self) {
        for task in &mut self.tasks {
            task.advance(i64::MAX);
        }
    }

    pub fn watermark(&self, partition: usize) -> i64 {
        self.tasks[partition].watermark
    }

    pub fn into_outcome(self) -> Vec<TaskOutcome> {
        self.tasks.into_iter().map(|task| task.outcome).collect()
    }
}

impl Task<'_> {
    /// Judges a row against the watermark that the rows before it made.
    fn take(&mut self, time: i64, row: Row) {
        match &mut self.windows {
            None => self.outcome.emitted.push(Emission::Row(row)),
            Some(windows) => {
                if let Err(row) = windows.take(self.watermark, time, row, &mut self.outcome.emitted)
                {
                    self.outcome.late.push(row);
                }
            }
        }
    }

    fn advance(&mut self, to: i64) {
        if to <= self.watermark {
            return;
        }
        if let Some(windows) = &mut self.windows {
            windows.advance(self.watermark, to, &mut self.outcome.emitted);
        }
        self.watermark = to;
    }
}

/// An entry of a partition's log.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    Event {
        /// `None`: a null value, as tombstones have.
        payload: Option<Vec<u8>>,
        kafka_timestamp: Option<i64>,
    },
    /// From here on the watermark is at least this, without data.
    Idle(i64),
}

/// Runs a job over partitions of entries, then ends the input.
pub fn run(job: &Job, log: &[Vec<Entry>]) -> Vec<TaskOutcome> {
    let mut oracle = Oracle::new(job, log.len());
    for (partition, entries) in log.iter().enumerate() {
        for entry in entries {
            match entry {
                Entry::Event {
                    payload,
                    kafka_timestamp,
                } => {
                    oracle.event(partition, payload.as_deref(), *kafka_timestamp);
                }
                Entry::Idle(watermark) => oracle.idle(partition, *watermark),
            }
        }
    }
    oracle.end();
    oracle.into_outcome()
}

/// The rows that hold at the end: the last of each group and window; without a window all of them.
pub fn last_rows(job: &Job, outcome: &[TaskOutcome]) -> Vec<Row> {
    let Some(step) = &job.window else {
        return outcome
            .iter()
            .flat_map(|task| task.emitted.iter().map(|e| e.row().clone()))
            .collect();
    };
    outcome
        .iter()
        .flat_map(|task| last_of_task(step, task))
        .collect()
}

fn last_of_task(step: &WindowStep, task: &TaskOutcome) -> Vec<Row> {
    let mut last = BTreeMap::new();
    for emission in &task.emitted {
        let row = emission.row();
        let identity = (
            Key::of(row, &step.group),
            row["window_start"].as_i64(),
            row["window_end"].as_i64(),
        );
        match emission {
            Emission::Row(row) => last.insert(identity, row.clone()),
            Emission::Withdrawn(_) => last.remove(&identity),
        };
    }
    last.into_values().collect()
}

impl Emission {
    pub fn row(&self) -> &Row {
        match self {
            Emission::Row(row) | Emission::Withdrawn(row) => row,
        }
    }
}

/// Values of the group columns. Ordered as output is: nulls first, strings bytewise, columns left to right.
#[derive(Clone, Debug, PartialEq)]
pub struct Key(Vec<Value>);

impl Key {
    pub fn of(row: &Row, columns: &[String]) -> Self {
        Key(columns.iter().map(|column| row[column].clone()).collect())
    }

    fn values(&self) -> &[Value] {
        &self.0
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        let pairs = self.0.iter().zip(&other.0);
        pairs
            .map(|(a, b)| compare(a, b))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

/// Order of two values of one column.
fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Less,
        (_, Value::Null) => Ordering::Greater,
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a
                .as_f64()
                .unwrap_or(f64::NAN)
                .total_cmp(&b.as_f64().unwrap_or(f64::NAN)),
        },
        (a, b) => panic!("values of one column are of one type, not {a} and {b}"),
    }
}
