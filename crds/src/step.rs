//! Steps: what is computed. Expressions are SQL.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::{NAME_PATTERN, at_most_one_of, exactly_one_of};
use crate::{Duration, Match};

/// Reads one stream and emits another, under its name.
///
/// Without `window` or `match` a step filters (`where`) and projects (`select`) rows one by one.
/// With `window` it groups rows by `groupBy` and event time, and emits a row for each group and window.
/// With `match` it finds patterns of events, and emits a row for each match.
/// Side streams: `<name>.failed` (rows on which an expression fails), and behind a window `<name>.late`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = at_most_one_of(&["window", "match"]))]
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
    /// SQL select items over aggregate functions: count, sum, avg, min, max, stddev, approx_distinct,
    /// approx_percentile_cont, first_value, last_value, array_agg.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Vec<String>>,
    /// A SQL condition on the emitted rows, over group columns, `window_start`, `window_end` and the aggregates' names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub having: Option<String>,
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
