//! `join`: which rows of two streams belong together, and what they make.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use streamjob_crds::{Join, JoinType};

use super::names::unknown;
use super::steps::{check_place, keep};
use super::stream::{Lineage, Stream};
use crate::chunk::Millis;
use crate::expr::{self, type_name};
use crate::problem::Problem;

#[derive(Clone, Debug)]
pub(super) struct JoinStep {
    /// What right columns are called: this before their name.
    pub prefix: String,
    /// Names of the left and right columns that are equal, each as its own stream calls it.
    pub on: Vec<(String, String)>,
    pub before: Millis,
    pub after: Millis,
    pub keep_left: bool,
    pub keep_right: bool,
}

/// The join at `path` (such as `spec.steps[1].join`), and the stream of joined rows.
pub(super) fn resolve(
    join: &Join,
    left: &Stream,
    right: &Stream,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<(JoinStep, Stream)> {
    let before = problems.len();
    check_place(left, "`join`", path, problems);
    check_place(right, "`join`", &format!("{path}.with"), problems);
    let step = JoinStep {
        prefix: format!("{}.", join.with),
        on: Vec::new(),
        before: join.within.before.as_millis(),
        after: join.within.after.as_millis(),
        keep_left: matches!(join.kind, JoinType::Left | JoinType::Full),
        keep_right: matches!(join.kind, JoinType::Right | JoinType::Full),
    };
    if join.on.is_empty() {
        problems.push(
            Problem::new(
                format!("{path}.on"),
                "nothing says which rows belong together",
            )
            .hint(format!(
                "write for example `on: [\"id = {}id\"]`",
                step.prefix
            )),
        );
    }
    let mut on: Vec<(String, String)> = Vec::new();
    for (at, sql) in join.on.iter().enumerate() {
        let path = format!("{path}.on[{at}]");
        let sides = expr::equality(sql, &path).map_err(|problem| vec![problem]);
        let Some(sides) = keep(sides, problems) else {
            continue;
        };
        on.extend(step.equal(sides, left, right, &path, problems));
    }
    for name in right.columns().map(|name| step.renamed(name)) {
        if left.schema.index_of(&name).is_ok() {
            let message = format!("both sides would have a column `{name}`");
            problems.push(Problem::new(path, message).hint("rename it in a step before"));
        }
    }
    if problems.len() > before {
        return None;
    }
    let step = JoinStep { on, ..step };
    let stream = step.joined(left, right);
    Some((step, stream))
}

impl JoinStep {
    pub fn renamed(&self, right: &str) -> String {
        format!("{}{right}", self.prefix)
    }

    /// An equality's left and right column, whichever way it is written.
    fn equal(
        &self,
        (one, two): (String, String),
        left: &Stream,
        right: &Stream,
        path: &str,
        problems: &mut Vec<Problem>,
    ) -> Option<(String, String)> {
        let of_right = |name: &str| name.strip_prefix(&self.prefix).map(str::to_string);
        let (ours, theirs) = match (of_right(&one), of_right(&two)) {
            (None, Some(theirs)) => (one, theirs),
            (Some(theirs), None) => (two, theirs),
            _ => {
                let message = format!(
                    "one side must be a column of `{}`, the other not",
                    self.prefix.trim_end_matches('.')
                );
                let hint = format!(
                    "write for example `{} = {}`",
                    "user_id",
                    self.renamed("user_id")
                );
                problems.push(Problem::new(path, message).hint(hint));
                return None;
            }
        };
        let (a, b) = (
            left.schema.field_with_name(&ours),
            right.schema.field_with_name(&theirs),
        );
        if a.is_err() {
            problems.push(unknown(path, "column", &ours, left.columns()));
        }
        if b.is_err() {
            let names: Vec<String> = right.columns().map(|name| self.renamed(name)).collect();
            let names = names.iter().map(String::as_str);
            problems.push(unknown(path, "column", &self.renamed(&theirs), names));
        }
        let (a, b) = (a.ok()?, b.ok()?);
        if a.data_type() != b.data_type() {
            let (one, two) = (type_name(a.data_type()), type_name(b.data_type()));
            let message = format!("`{ours}` is {one} and `{}` is {two}", self.renamed(&theirs));
            problems.push(Problem::new(path, message).hint("cast one of them in a step before"));
            return None;
        }
        if matches!(a.data_type(), DataType::List(_)) {
            problems.push(Problem::new(
                path,
                format!("`{ours}` is a list, which cannot be joined by"),
            ));
            return None;
        }
        Some((ours, theirs))
    }

    /// The stream of joined rows. Behind the exchange they are partitioned by the columns of `on`, as far as these are
    /// never null for want of a match.
    fn joined(&self, left: &Stream, right: &Stream) -> Stream {
        let part = |field: &Arc<Field>, name: String, alone: bool| {
            let nullable = field.is_nullable() || alone;
            Field::new(name, field.data_type().clone(), nullable)
        };
        let ours = left.schema.fields().iter();
        let ours = ours.map(|field| part(field, field.name().clone(), self.keep_right));
        let theirs = right.schema.fields().iter();
        let theirs = theirs.map(|field| part(field, self.renamed(field.name()), self.keep_left));
        let key = |(ours, theirs): &(String, String)| -> BTreeSet<String> {
            let ours = (!self.keep_right).then(|| ours.clone());
            let theirs = (!self.keep_left).then(|| self.renamed(theirs));
            ours.into_iter().chain(theirs).collect()
        };
        let key: Lineage = self.on.iter().map(key).collect();
        Stream {
            schema: Arc::new(Schema::new(ours.chain(theirs).collect::<Vec<_>>())),
            key: Some(key),
            time: None,
            identity: None,
            updating: false,
            side: false,
        }
    }
}
