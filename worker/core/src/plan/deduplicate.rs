//! `deduplicate`: which rows are copies of each other.

use std::collections::BTreeSet;

use streamjob_crds::Deduplicate;

use super::steps::{StepKind, check_place, keep, kept_key};
use super::stream::{Lineage, Stream};
use crate::chunk::Millis;
use crate::expr::{self, Item};
use crate::problem::Problem;

#[derive(Clone, Debug)]
pub(super) struct DedupStep {
    pub by: Vec<Item>,
    pub within: Millis,
    /// Whether equal rows are in one task of its input.
    pub stays: bool,
}

/// Plans `deduplicate` at `path` (such as `spec.steps[1].deduplicate`).
pub(super) fn deduplicate(
    deduplicate: &Deduplicate,
    input: &Stream,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<(StepKind, Stream)> {
    check_place(input, "`deduplicate`", path, problems);
    let within = deduplicate.within.as_millis();
    if within <= 0 {
        problems.push(
            Problem::new(format!("{path}.within"), "must be longer than `0s`")
                .hint("write for example `1h`"),
        );
    }
    if deduplicate.by.is_empty() {
        problems.push(
            Problem::new(format!("{path}.by"), "nothing tells rows apart")
                .hint("name the columns that are equal in copies of an event, such as its id"),
        );
    }
    let by = keep(
        expr::group_items(&deduplicate.by, &input.schema, &format!("{path}.by")),
        problems,
    )?;
    let kept = kept_key(input, &by);
    let step = DedupStep {
        within,
        stays: kept.is_some(),
        by,
    };
    let stream = Stream {
        key: match kept {
            Some(_) => input.key.clone(),
            None => Some(columns_of(&step.by)),
        },
        ..input.clone()
    };
    Some((StepKind::Deduplicate(step), stream))
}

/// The input's columns that items are; a computed one is none.
fn columns_of(items: &[Item]) -> Lineage {
    let column = |item: &Item| {
        item.compiled
            .as_column()
            .map(|column| column.name().to_string())
    };
    items
        .iter()
        .map(|item| column(item).into_iter().collect::<BTreeSet<_>>())
        .collect()
}
