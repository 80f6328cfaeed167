//! Steps: what is computed. Expressions are SQL.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;

/// Reads one stream and emits another, under its name.
///
/// Without `window` a step filters (`where`) and projects (`select`) rows one by one.
/// With `window` it groups rows by `groupBy` and event time, and emits a row for each group and window.
/// Side streams: `<name>.failed` (rows on which an expression fails), and behind a window `<name>.late`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    pub name: String,
    /// The stream it reads: the name of a source or step, or a side stream.
    pub from: String,
    /// A SQL condition: rows on which it is not true are left out.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// SQL select items, `expr AS name` or a column; default: all columns. The event time column must be among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select: Option<Vec<String>>,
    /// Columns, or `expr AS name`, that make up a group. Empty: one global group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_by: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// SQL select items over aggregate functions: count, sum, avg, min, max, stddev, approx_distinct,
    /// approx_percentile_cont, first_value, last_value, array_agg.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Vec<String>>,
    /// A SQL condition on the emitted rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub having: Option<String>,
}

/// A window in event time. Exactly one of `tumbling`, `sliding`, `cumulating`, `session`.
/// Windows are aligned to the epoch; `[start, end)`. A window's row is emitted when the watermark reaches its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Window {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tumbling: Option<TumblingWindow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sliding: Option<SlidingWindow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cumulating: Option<CumulatingWindow>,
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
    pub size: Duration,
    /// Shifts the windows off the epoch, for example by a time zone's hours.
    #[serde(default)]
    pub offset: Duration,
}

/// A window of `size` every `slide`. `size` must be a multiple of `slide`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlidingWindow {
    pub size: Duration,
    pub slide: Duration,
    #[serde(default)]
    pub offset: Duration,
}

/// Windows that grow by `step` from one start until `size`. `size` must be a multiple of `step`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CumulatingWindow {
    pub size: Duration,
    pub step: Duration,
}

/// Rows of a group at most `gap` apart share a window, which ends `gap` after the last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionWindow {
    pub gap: Duration,
}
