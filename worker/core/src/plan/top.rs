//! `topN`: which groups of a window come first, and where that can be said.

use std::collections::BTreeSet;

use arrow::datatypes::Schema;
use streamjob_crds::TopN;

use super::names::unknown;
use super::steps::keep;
use super::stream::{Lineage, Stream};
use super::{TopNPlan, WindowKind};
use crate::expr;
use crate::problem::Problem;

/// Groups that may be wanted of a window: each is held until the window ends.
const MOST: u32 = 10_000;

#[derive(Clone, Debug)]
pub(super) struct TopStep {
    pub plan: TopNPlan,
    /// Whether all groups that are ranked against each other are in one task.
    pub stays: bool,
}

/// Plans `topN` of the step at `path` (such as `spec.steps[1]`); `stream`: what the step emits without it, of which the
/// first `groups` columns are the group's.
pub(super) fn resolve(
    top: &TopN,
    kind: Option<WindowKind>,
    groups: usize,
    stream: &Stream,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<TopStep> {
    let path = format!("{path}.topN");
    let before = problems.len();
    let mut refuse = |message: &str, hint: &str| {
        problems.push(Problem::new(&path, message).hint(hint));
    };
    match kind {
        Some(WindowKind::Running { .. }) => refuse(
            "there is no top of `running` groups: they never end",
            "use a `window`; a cumulating one gives intermediate results",
        ),
        Some(WindowKind::Session { .. }) => refuse(
            "there is no top of sessions: hardly two of them have the same bounds",
            "use a tumbling, sliding or cumulating window",
        ),
        _ if stream.updating => refuse(
            "a top needs final rows, and `allowedLateness` and `emitEvery` emit rows again",
            "take them out; a cumulating window gives intermediate results",
        ),
        _ => {}
    }
    if groups == 0 {
        refuse(
            "without `groupBy` a window has one row",
            "name in `groupBy` what is to be ranked",
        );
    }
    if !(1..=MOST).contains(&top.n) {
        let message = format!("must be from 1 to {MOST}, not {}", top.n);
        problems.push(Problem::new(format!("{path}.n"), message));
    }
    let schema = &stream.schema;
    let by = keep(
        expr::order(&top.by, schema, &format!("{path}.by")),
        problems,
    );
    let partition = partition(top, schema, groups, &path, problems);
    if problems.len() > before {
        return None;
    }
    let (by, partition) = (by?, partition?);
    let names: Vec<&String> = partition
        .iter()
        .map(|at| schema.field(*at).name())
        .collect();
    let stays = stream.key.as_ref().is_some_and(|key| {
        key.iter()
            .all(|column| names.iter().any(|name| column.contains(*name)))
    });
    Some(TopStep {
        plan: TopNPlan {
            by,
            groups,
            partition,
            n: top.n as usize,
        },
        stays,
    })
}

/// The columns of `partitionBy`, which must be group columns.
fn partition(
    top: &TopN,
    schema: &Schema,
    groups: usize,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<Vec<usize>> {
    let names = schema.fields().iter().map(|field| field.name().as_str());
    let names: Vec<&str> = names.take(groups).collect();
    let (before, mut columns) = (problems.len(), Vec::new());
    for (at, name) in top.partition_by.iter().flatten().enumerate() {
        let path = format!("{path}.partitionBy[{at}]");
        match names.iter().position(|group| group == name) {
            None => problems.push(unknown(path, "group column", name, names.iter().copied())),
            Some(column) if columns.contains(&column) => {
                problems.push(Problem::new(path, format!("`{name}` is there already")));
            }
            Some(column) => columns.push(column),
        }
    }
    if groups > 0 && columns.len() == groups {
        problems.push(
            Problem::new(
                format!("{path}.partitionBy"),
                "every group would be a partition of its own",
            )
            .hint("leave out the columns that are to be ranked"),
        );
    }
    (problems.len() == before).then_some(columns)
}

impl TopStep {
    /// What the rows are partitioned by behind it.
    pub fn key(&self, stream: &Stream) -> Lineage {
        let columns = self.plan.partition.iter();
        let name = |at: &usize| BTreeSet::from([stream.schema.field(*at).name().clone()]);
        match (&stream.key, self.stays) {
            (Some(key), true) => key.clone(),
            _ => columns.map(name).collect(),
        }
    }
}
