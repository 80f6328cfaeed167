//! Which streams anybody reads, and which of their columns: from the sinks backwards.
//!
//! A projection's computed items always count as needed: a row on which one fails goes to `.failed`, whoever reads the
//! item. Only columns that are passed on as they are can be left out without changing a row.

use std::collections::{BTreeMap, BTreeSet};

use super::planner::Resolved;
use super::steps::{ResolvedStep, StepKind};
use super::stream::names_of;
use crate::expr::{Compiled, Item};

#[derive(Clone, Debug, Default)]
pub(super) struct Demand {
    /// Columns by stream. A stream that nobody reads is not in it.
    columns: BTreeMap<String, BTreeSet<String>>,
}

impl Demand {
    pub fn of(resolved: &Resolved<'_>) -> Self {
        let mut demand = Demand::default();
        for sink in &resolved.sinks {
            demand.add(&sink.from, names_of(&sink.schema));
        }
        for (step, planned) in resolved.steps.iter().rev() {
            let [main, late, failed, timed_out, overflow] =
                ["", ".late", ".failed", ".timedOut", ".overflow"]
                    .map(|port| format!("{}{port}", step.name));
            if [&main, &late, &failed, &timed_out, &overflow]
                .into_iter()
                .all(|stream| !demand.is_read(stream))
            {
                continue;
            }
            let mut needed = demand.needed_by(planned, &main);
            needed.extend(demand.columns(&late).cloned());
            needed.extend(demand.columns(&overflow).cloned());
            needed.extend(
                demand
                    .columns(&failed)
                    .filter(|column| *column != "reason")
                    .cloned(),
            );
            demand.add(&step.from, needed);
        }
        demand
    }

    pub fn is_read(&self, stream: &str) -> bool {
        self.columns.contains_key(stream)
    }

    pub fn columns(&self, stream: &str) -> impl Iterator<Item = &String> {
        self.columns.get(stream).into_iter().flatten()
    }

    /// The items of a projection that have to be made.
    pub fn kept<'a>(&self, items: &'a [Item], stream: &str) -> Vec<&'a Item> {
        let wanted = self.columns.get(stream);
        let is_kept = |item: &&Item| {
            item.compiled.as_column().is_none()
                || wanted.is_some_and(|names| names.contains(&item.name))
        };
        let kept: Vec<&Item> = items.iter().filter(is_kept).collect();
        // Rows without any column would have no number.
        if kept.is_empty() {
            items.iter().take(1).collect()
        } else {
            kept
        }
    }

    fn add(&mut self, stream: &str, columns: impl IntoIterator<Item = String>) {
        self.columns
            .entry(stream.to_string())
            .or_default()
            .extend(columns);
    }

    fn needed_by(&self, step: &ResolvedStep, main: &str) -> BTreeSet<String> {
        let mut needed: BTreeSet<String> = step.filter.iter().flat_map(Compiled::columns).collect();
        match &step.kind {
            StepKind::Stateless { select: None } => needed.extend(self.columns(main).cloned()),
            StepKind::Stateless {
                select: Some(items),
            } => {
                needed.extend(
                    self.kept(items, main)
                        .into_iter()
                        .flat_map(|item| item.compiled.columns()),
                );
            }
            StepKind::Deduplicate(step) => {
                needed.extend(self.columns(main).cloned());
                needed.extend(step.by.iter().flat_map(|item| item.compiled.columns()));
            }
            StepKind::Window(window) => {
                needed.extend(window.group.iter().flat_map(|item| item.compiled.columns()));
                needed.extend(call_columns(window.aggregation.calls.iter()));
            }
            StepKind::Match(pattern) => {
                needed.extend(
                    pattern
                        .partition
                        .iter()
                        .flat_map(|item| item.compiled.columns()),
                );
                needed.extend(pattern.columns());
            }
        }
        needed
    }
}

/// Columns that calls read.
pub(super) fn call_columns<'a>(
    calls: impl Iterator<Item = &'a super::AggregateCall>,
) -> BTreeSet<String> {
    calls
        .flat_map(|call| call.argument.iter().chain(&call.filter))
        .flat_map(Compiled::columns)
        .collect()
}
