//! The plan of a job: its stages, steps, exchanges and sinks, with every expression compiled.
//!
//! A *stage* is one input (a source or an exchange) and the steps behind it up to the next exchange. Task `p` of a
//! stage reads partition `p` of its input. Streams carry their names no further than the planner: afterwards
//! everything is an index.
//!
//! `plan` makes it, in this order: check what stands alone (`connections`, `sources`), resolve streams step by step over
//! all columns (`steps`), check `sinks`, find out which columns anybody needs (`demand`), and lay the job out in stages
//! over these columns only (`build`). Problems are collected, not just the first; a job that resolves can be built.

mod build;
mod change;
mod connections;
mod deduplicate;
mod demand;
mod explain;
mod hash;
mod kafka_properties;
mod names;
mod pattern;
mod planner;
mod running;
mod sinks;
mod sources;
mod steps;
mod stream;
#[cfg(test)]
mod tests;
mod top;
mod window;

pub use change::{Change, Fate, blocking, changes};
pub use explain::{explain, slots};
pub use hash::plan_hash;
pub use pattern::{Look, MatchPlan, Pick, Tried, Variable};
pub use planner::plan;

use arrow::datatypes::{DataType, SchemaRef};
use streamjob_crds::{
    FileSink, FileSource, GenerateSource, KafkaSink, KafkaSource, OnMalformed, StreamJobSpec,
};

use crate::chunk::Millis;
use crate::expr::{Compiled, Order};
use crate::problem::Problem;

#[derive(Clone, Debug)]
pub struct JobPlan {
    pub name: String,
    pub namespace: String,
    /// The job as its user wrote it: connections, checkpointing and the like are read from here.
    pub spec: StreamJobSpec,
    pub journal: JournalPlan,
    pub sources: Vec<SourcePlan>,
    /// Stage `i < sources.len()` reads source `i`; the others read an exchange each, in the order of `exchanges`.
    pub stages: Vec<StagePlan>,
    pub exchanges: Vec<ExchangePlan>,
    pub sinks: Vec<SinkPlan>,
    /// Doubtful but not wrong.
    pub warnings: Vec<Problem>,
}

/// Where progress is written.
#[derive(Clone, Debug, PartialEq)]
pub enum JournalPlan {
    /// On the Kafka connection of this name.
    Kafka { connection: String },
    /// In a local file: the job has no Kafka.
    File,
}

#[derive(Clone, Debug)]
pub struct SourcePlan {
    pub name: String,
    pub kind: SourceKind,
    /// All declared columns, in declared order; those in use make up `schema`.
    pub columns: Vec<DecodeColumn>,
    pub schema: SchemaRef,
    /// Index of the event time column in `columns`.
    pub time_column: usize,
    pub max_out_of_orderness: Millis,
    pub idle_after: Millis,
    pub max_future: Option<Millis>,
    pub on_malformed: OnMalformed,
    /// Columns the input is partitioned by.
    pub key: Vec<String>,
    /// Whether somebody reads `<source>.malformed`.
    pub malformed_read: bool,
}

impl SourcePlan {
    /// Where its events come from, as malformed rows report it.
    pub fn origin(&self) -> String {
        match &self.kind {
            SourceKind::Kafka(kafka) => kafka.topic.clone(),
            SourceKind::File(file) => file.path.clone(),
            SourceKind::Generate(_) => self.name.clone(),
        }
    }
}

#[derive(Clone, Debug)]
pub enum SourceKind {
    Kafka(KafkaSource),
    File(FileSource),
    Generate(GenerateSource),
}

/// A declared column. One that nobody uses is still checked, but not built.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodeColumn {
    pub name: String,
    /// Where it is in the event, outermost field first.
    pub path: Vec<String>,
    /// Utf8, Boolean, Int64, Float64, Decimal128, Timestamp(Millisecond, None) or Binary.
    pub data_type: DataType,
    pub nullable: bool,
    pub used: bool,
}

#[derive(Clone, Debug)]
pub struct StagePlan {
    pub input: StageInput,
    /// Schema of the input's rows.
    pub schema: SchemaRef,
    /// In an order in which every node comes after those it reads.
    pub nodes: Vec<NodePlan>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageInput {
    Source(usize),
    Exchange(usize),
}

/// A step, or the part of it that runs in this stage.
#[derive(Clone, Debug)]
pub struct NodePlan {
    /// The step's name; `<step>.top` where it ranks what a window of the step has made.
    pub name: String,
    pub from: Feed,
    pub kind: NodeKind,
    /// Schema of the rows it emits.
    pub schema: SchemaRef,
    /// Whether it may emit a row again or withdraw it (lateness, early results, sessions with lateness).
    pub updating: bool,
    /// Says whether state of one plan can be used by another: a digest of what the state depends on.
    pub state_hash: u64,
    /// Which of its side streams somebody reads.
    pub late_read: bool,
    pub failed_read: bool,
    pub timed_out_read: bool,
    pub overflow_read: bool,
}

/// A stream within a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Feed {
    /// The stage's input rows.
    Input,
    /// What the source could not decode.
    Malformed,
    Node {
        node: usize,
        port: Port,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Port {
    Main,
    /// Input rows that came too late, unchanged.
    Late,
    /// Input columns (all nullable) and `reason`.
    Failed,
    /// Starts of a pattern that have ended without a match.
    TimedOut,
    /// Input rows that would have started one match too many.
    Overflow,
}

/// A stream of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamRef {
    pub stage: usize,
    pub feed: Feed,
}

#[derive(Clone, Debug)]
pub enum NodeKind {
    Stateless(StatelessPlan),
    Window(WindowPlan),
    Match(Box<MatchPlan>),
    Deduplicate(DedupPlan),
    TopN(TopNPlan),
}

/// Filters, then projects. `None` lets everything through.
#[derive(Clone, Debug)]
pub struct StatelessPlan {
    pub filter: Option<Compiled>,
    pub project: Option<Vec<Compiled>>,
}

#[derive(Clone, Debug)]
pub struct WindowPlan {
    /// Schema of the rows it reads.
    pub input: SchemaRef,
    pub kind: WindowKind,
    pub allowed_lateness: Millis,
    pub emit_every: Option<Millis>,
    /// The step's `where`, over input rows. `None` too where it ran before the exchange.
    pub filter: Option<Compiled>,
    /// The group columns, over input rows; their names are the first fields of `aggregated`.
    pub group: Vec<Compiled>,
    pub calls: Vec<AggregateCall>,
    /// Group columns, `window_start`, `window_end` (Timestamp(Millisecond); not of running groups), then a column for each
    /// call.
    pub aggregated: SchemaRef,
    /// The emitted columns, over `aggregated`: group columns, `window_start`, `window_end`, the aggregate items.
    pub project: Vec<Compiled>,
    /// Over `aggregated` followed by the projected aggregate items (see `having_schema`).
    pub having: Option<Compiled>,
    pub having_schema: SchemaRef,
}

/// Lets through the first of rows that are equal in `by` and at most `within` apart in event time.
#[derive(Clone, Debug)]
pub struct DedupPlan {
    /// Over input rows.
    pub by: Vec<Compiled>,
    pub within: Millis,
}

/// Of the rows of a window that fires, the first `n` of each partition. Rows are those of a window step: group columns,
/// `window_start`, `window_end`, aggregates.
#[derive(Clone, Debug)]
pub struct TopNPlan {
    pub by: Vec<Order>,
    /// How many group columns there are; rows that are equal in `by` go by these.
    pub groups: usize,
    /// Group columns; none: a window is ranked as a whole.
    pub partition: Vec<usize>,
    pub n: usize,
}

/// All in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WindowKind {
    Tumbling {
        size: Millis,
        offset: Millis,
    },
    Sliding {
        size: Millis,
        slide: Millis,
        offset: Millis,
    },
    Cumulating {
        size: Millis,
        step: Millis,
    },
    Session {
        gap: Millis,
    },
    /// No windows: a group goes on until it has had no row for `ttl`.
    Running {
        ttl: Millis,
    },
}

impl WindowKind {
    /// How many columns its rows have for their window: `window_start` and `window_end`, or none.
    pub fn bounds(self) -> usize {
        match self {
            WindowKind::Running { .. } => 0,
            _ => 2,
        }
    }
}

/// One call of an aggregate function.
#[derive(Clone, Debug)]
pub struct AggregateCall {
    pub function: AggregateFunction,
    /// Over input rows; `None` for `count(*)`.
    pub argument: Option<Compiled>,
    /// `FILTER (WHERE …)`, over input rows.
    pub filter: Option<Compiled>,
    /// Type of the result.
    pub data_type: DataType,
    pub nullable: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum AggregateFunction {
    Count,
    Sum,
    Avg,
    Min,
    Max,
    /// Sample standard deviation.
    Stddev,
    ApproxDistinct,
    /// Quantile 0..=1.
    ApproxPercentile(f64),
    /// By event time, ties by log order.
    FirstValue,
    LastValue,
    /// The first `limit` values in log order.
    ArrayAgg {
        limit: usize,
    },
}

/// Rows re-keyed on their way to another stage.
#[derive(Clone, Debug)]
pub struct ExchangePlan {
    /// The step behind it, or `<step>.top`.
    pub name: String,
    pub from: StreamRef,
    pub schema: SchemaRef,
    /// Columns of `schema` that decide the partition.
    pub key: Vec<usize>,
    pub to_stage: usize,
}

#[derive(Clone, Debug)]
pub struct SinkPlan {
    pub name: String,
    /// More than one where a step's side stream comes from both sides of an exchange; all of one schema.
    pub from: Vec<StreamRef>,
    pub schema: SchemaRef,
    pub kind: SinkKind,
    /// Indices of the Kafka key's columns.
    pub key: Vec<usize>,
    /// Whether a withdrawn row is a tombstone (keyed) or a line with `"_op": "delete"`.
    pub keyed: bool,
}

#[derive(Clone, Debug)]
pub enum SinkKind {
    Kafka(KafkaSink),
    File(FileSink),
    Stdout,
}
