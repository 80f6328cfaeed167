//! Patterns of events: what the `match` of a step looks for.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;

/// Finds a pattern in the events of each group, in event-time order (ties in log order).
///
/// It emits a row for each match: the `partitionBy` columns, `match_start` and `match_end` (times of the first and the last
/// event), the measures. A match is emitted as soon as the watermark has passed its last event; nothing waits for `within`.
/// Every event that satisfies a first element of the pattern is a start. Its match is the way through the pattern that
/// completes on the earliest event; among those, the preferred one: an event is rather taken than skipped, a greedy
/// repetition rather goes on than ends (a reluctant one rather ends), an alternative on the left goes before one on the right.
/// Ways of one start after which the same elements may come next are one from then on: the preferred one. Repetitions
/// count as if they were written out (`A{2,3}` is `A A A?`), so that a count tells ways apart while it limits anything.
///
/// Side streams, beside `<name>.failed`: `<name>.late` (rows behind the watermark; a match has no allowed lateness),
/// `<name>.timedOut` (starts that `within` or the end of the input ended, with the measures of what they had taken), and
/// `<name>.overflow` (see `maxPartialMatches`). A row on which a condition fails when it is tried goes to `<name>.failed`, and
/// is neither taken nor skipped; a match whose measures fail sends its last event there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Match {
    /// Columns, or `expr AS name`, that make up a group: a match is of events of one group. Empty: one global group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_by: Option<Vec<String>>,
    /// Variables in sequence, `( )`, `|` (either), `!X` between two elements (no event that satisfies X is skipped there), and
    /// the quantifiers `? * + {n} {n,} {n,m}`, greedy, or reluctant with a further `?`. For example `FAIL{3} OK`,
    /// `ORDER !CANCEL (PAID | INVOICED)`, `START DOWN+ UP+? HIGH`. It cannot be empty; its last element is neither optional
    /// nor open-ended. At most 1,000 elements once repetitions are written out.
    #[schemars(length(min = 1))]
    pub pattern: String,
    /// What the pattern's variables stand for.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub define: Vec<Definition>,
    /// The longest time from the first event of a match to its last (inclusive). Without it the starts of a `Relaxed` pattern
    /// never end, and their state is kept until they match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Duration>,
    /// `Relaxed`: other events of the group may lie between those of a match. `Strict`: none.
    #[serde(default)]
    pub contiguity: Contiguity,
    /// `SkipPastLastEvent`: a match ends all other starts of its group; its events start none. `SkipToNextEvent`: every start is
    /// looked at by itself, so that matches may overlap.
    #[serde(default)]
    pub after_match: AfterMatch,
    /// SQL select items over the events of a match: `X.column` (of X's last event), `first(X.column)`, `last(X.column, n)`
    /// (the nth before the last), `count`, `sum`, `min`, `max`, `avg` over X's events, `count(*)` over all. For example
    /// `first(FAIL.ts) AS since`, `sum(A.amount) / count(*) AS share`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measures: Vec<String>,
    /// The most starts that may be open in one group. An event that would be one more starts nothing: it goes, unchanged, to
    /// `<name>.overflow`, and is counted. Other starts may still take it.
    #[serde(default = "default_max_partial_matches")]
    #[schemars(range(min = 1))]
    pub max_partial_matches: u32,
}

fn default_max_partial_matches() -> u32 {
    10_000
}

/// A variable of a pattern.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Definition {
    /// The variable's name: letters, digits and `_`, not beginning with a digit.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// A SQL condition on the event in hand: its columns, and what has been taken so far, as in `measures`. The event in hand
    /// counts among its own variable's: the one before it is `last(X.column, 1)`. A null condition is false.
    #[schemars(length(min = 1))]
    pub when: String,
}

/// Whether other events may lie between those of a match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Contiguity {
    #[default]
    Relaxed,
    Strict,
}

/// What becomes of other starts when there is a match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AfterMatch {
    #[default]
    SkipPastLastEvent,
    SkipToNextEvent,
}
