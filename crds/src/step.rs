//! Steps: what is computed. Expressions are SQL.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::{NAME_PATTERN, at_most_one_of, exactly_one_of};
use crate::{Duration, Match};

/// Reads one stream and emits another, under its name.
///
/// Without any of `window`, `running`, `match` and `deduplicate` a step filters (`where`) and projects (`select`) rows one by one.
/// With `window` it groups rows by `groupBy` and event time, and emits a row for each group and window.
/// With `running` it groups rows by `groupBy` alone, and emits a group's row whenever it changes.
/// With `match` it finds patterns of events, and emits a row for each match.
/// With `deduplicate` it lets through the first of equal rows.
/// Side streams: `<name>.failed` (rows on which an expression fails), and with any of these `<name>.late`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = at_most_one_of(&["window", "running", "match", "deduplicate"]))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    /// The step's name, and that of the stream it emits.
    #[schemars(regex(pattern = NAME_PATTERN), length(max = 63))]
    pub name: String,
    /// The stream it reads: the name of a source or step, or a side stream.
    pub from: String,
    /// A SQL condition: rows on which it is not true are left out.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// SQL select items, `expr AS name` or a column; default: all columns. The event time column must be among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub select: Option<Vec<String>>,
    /// Columns, or `expr AS name`, that make up a group. Empty: one global group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_by: Option<Vec<String>>,
    /// Groups rows by event time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Groups rows without windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<Running>,
    /// Lets through the first of equal rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplicate: Option<Deduplicate>,
    /// SQL select items over aggregate functions: count, sum, avg, min, max, stddev, approx_distinct,
    /// approx_percentile_cont, first_value, last_value, array_agg.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Vec<String>>,
    /// A SQL condition on the emitted rows, over group columns, `window_start`, `window_end` and the aggregates' names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub having: Option<String>,
    /// Emits only the first groups of each window, in an order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_n: Option<TopN>,
    /// Finds a pattern of events.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Match>,
}

/// A window in event time. Exactly one of `tumbling`, `sliding`, `cumulating`, `session`.
/// Windows are aligned to the epoch; `[start, end)`. A window's row is emitted when the watermark reaches its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = exactly_one_of(&["tumbling", "sliding", "cumulating", "session"]))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Window {
    /// Windows side by side: a row is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tumbling: Option<TumblingWindow>,
    /// Windows that overlap: one of `size` every `slide`. `size` must be a multiple of `slide`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sliding: Option<SlidingWindow>,
    /// Windows that grow by `step` from one start until `size`. `size` must be a multiple of `step`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cumulating: Option<CumulatingWindow>,
    /// Windows of activity: they end when a group was silent for `gap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionWindow>,
    /// How long after its end a window still takes rows, and emits its row again when they change it.
    /// Rows later than that go to `<step>.late`.
    #[serde(default)]
    pub allowed_lateness: Duration,
    /// Emits changed open windows too, whenever event time passes a multiple of this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emit_every: Option<Duration>,
}

/// Windows side by side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TumblingWindow {
    /// Length of a window.
    pub size: Duration,
    /// Shifts the windows off the epoch, for example by a time zone's hours.
    #[serde(default)]
    pub offset: Duration,
}

/// A window of `size` every `slide`. `size` must be a multiple of `slide`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlidingWindow {
    /// Length of a window.
    pub size: Duration,
    /// Distance from one window's start to the next one's.
    pub slide: Duration,
    /// Shifts the windows off the epoch, for example by a time zone's hours.
    #[serde(default)]
    pub offset: Duration,
}

/// Windows that grow by `step` from one start until `size`. `size` must be a multiple of `step`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CumulatingWindow {
    /// Length of the longest window, after which the next one starts.
    pub size: Duration,
    /// How much longer each window is than the one before.
    pub step: Duration,
}

/// Rows of a group at most `gap` apart share a window, which ends `gap` after the last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionWindow {
    /// The longest silence inside a session; rows exactly this far apart still share one.
    pub gap: Duration,
}

/// Aggregates without windows: a group takes in all of its rows, and emits its row again whenever they change it, at most
/// once an epoch. What holds at any time are the groups that had a row within `ttl`: when the watermark is more than
/// `ttl` past a group's newest row, its row is withdrawn and the group forgotten; its next row begins it anew. The end of a
/// bounded input forgets nothing. Rows that are more than `ttl` behind the watermark go to `<step>.late`.
/// A Kafka sink whose `key` covers the group columns is keyed: a withdrawn row is a tombstone there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Running {
    /// How long, in event time, a group lives without a new row.
    pub ttl: Duration,
}

/// Of each window's groups that `having` keeps, only the first `n` go out, in their order: of all groups of the window,
/// wherever they were computed. Rows that are equal in `by` go by their group columns, left to right, nulls first.
/// For windows that emit final rows only: not sessions, and neither `allowedLateness` nor `emitEvery`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TopN {
    /// What comes first: emitted columns, each with `ASC` (default) or `DESC`, such as `total DESC, user_id`.
    /// Nulls come last unless `NULLS FIRST` is written.
    pub by: String,
    /// How many.
    #[schemars(range(min = 1, max = 10_000))]
    pub n: u32,
    /// Group columns: the first `n` of each combination of them, instead of the window's. Where the source's `key` is
    /// among them, groups are not brought together in one task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_by: Option<Vec<String>>,
}

/// Lets through the first row, in the order of the log, of those that are equal in `by` and near in event time.
/// A row is a duplicate when one that went through before it has equal values in `by` and an event time at most
/// `within` from its own, before or after. Duplicates are dropped; a copy that comes late is found all the same.
/// Rows that are more than `within` behind the watermark go to `<step>.late`: what they might be copies of is forgotten.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Deduplicate {
    /// Columns, or `expr AS name`, that tell rows apart. Null is a value like any other.
    /// Where the source's `key` is among them, nothing is re-keyed.
    #[schemars(length(min = 1))]
    pub by: Vec<String>,
    /// How far apart in event time copies are at most. For twice as long each row that went through is remembered.
    pub within: Duration,
}
