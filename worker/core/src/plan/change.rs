//! What becomes of each source's and step's state when a job is changed.
//!
//! State belongs to a name: a step that keeps its name and what its state depends on ([`NodePlan::state_hash`]) goes on from it,
//! whatever is around it. A step under a new name begins empty, and one that is gone leaves its state behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::hash::schema_text;
use super::{JobPlan, NodeKind, SourceKind, SourcePlan, StageInput, StagePlan};

/// A source or step of either version of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub name: String,
    pub fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Goes on with the state it has, if it has any.
    Kept,
    /// Begins without state.
    New,
    /// Its state is left behind.
    Dropped,
    /// Its state is of no use to what it is now. `discardable`: it could begin anew without it.
    Incompatible {
        why: &'static str,
        discardable: bool,
    },
}

impl Fate {
    /// The word for it, as status tells it.
    pub fn word(self) -> &'static str {
        match self {
            Fate::Kept => "Kept",
            Fate::New => "New",
            Fate::Dropped => "Dropped",
            Fate::Incompatible { .. } => "Incompatible",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.name, self.fate.word())?;
        match self.fate {
            Fate::Incompatible { why, .. } => write!(f, " ({why})"),
            _ => Ok(()),
        }
    }
}

/// Sources first, then steps, by name.
pub fn changes(before: &JobPlan, after: &JobPlan) -> Vec<Change> {
    let sources = compare(&sources(before), &sources(after), |before, after| {
        source_fate(before, after)
    });
    let steps = compare(&steps(before), &steps(after), step_fate);
    sources.into_iter().chain(steps).collect()
}

/// The changes that must not be carried out. `discard`: state may be given up where that is all that is in the way.
pub fn blocking(changes: &[Change], discard: bool) -> impl Iterator<Item = &Change> {
    changes.iter().filter(move |change| match change.fate {
        Fate::Incompatible { discardable, .. } => !(discard && discardable),
        _ => false,
    })
}

fn compare<T>(
    before: &BTreeMap<&str, T>,
    after: &BTreeMap<&str, T>,
    fate: impl Fn(&T, &T) -> Fate,
) -> Vec<Change> {
    let names: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
    let change = |name: &str| Change {
        name: name.to_owned(),
        fate: match (before.get(name), after.get(name)) {
            (Some(before), Some(after)) => fate(before, after),
            (Some(_), None) => Fate::Dropped,
            (None, _) => Fate::New,
        },
    };
    names.into_iter().map(change).collect()
}

fn sources(plan: &JobPlan) -> BTreeMap<&str, &SourcePlan> {
    let named = plan.sources.iter().map(|source| (&*source.name, source));
    named.collect()
}

/// A source's state is how far it is read and its watermark.
fn source_fate(before: &SourcePlan, after: &SourcePlan) -> Fate {
    let incompatible = |why| Fate::Incompatible {
        why,
        discardable: false,
    };
    let time = |source: &SourcePlan| {
        let column = &source.columns[source.time_column];
        (column.path.clone(), column.data_type.clone())
    };
    if !same_events(&before.kind, &after.kind) {
        incompatible("it reads something else: give it another name")
    } else if time(before) != time(after) {
        incompatible("its event time is another field: give it another name")
    } else {
        Fate::Kept
    }
}

fn same_events(before: &SourceKind, after: &SourceKind) -> bool {
    match (before, after) {
        // Where it was to start is past.
        (SourceKind::Kafka(before), SourceKind::Kafka(after)) => {
            (&before.topic, &before.until) == (&after.topic, &after.until)
        }
        (SourceKind::File(before), SourceKind::File(after)) => before.path == after.path,
        (SourceKind::Generate(before), SourceKind::Generate(after)) => {
            let paced = |source: &streamjob_crds::GenerateSource| streamjob_crds::GenerateSource {
                rows_per_second: None,
                ..source.clone()
            };
            paced(before) == paced(after)
        }
        _ => false,
    }
}

/// What a step leaves in the job's state: accumulators by task, and rows on their way to it from other tasks.
#[derive(Default, PartialEq)]
struct StepState<'a> {
    /// By the input of the stage it is in.
    accumulators: Vec<(&'a str, u64)>,
    /// Who sends them, and their layout; for each exchange that the step has.
    under_way: Vec<String>,
}

fn steps(plan: &JobPlan) -> BTreeMap<&str, StepState<'_>> {
    let mut steps: BTreeMap<&str, StepState<'_>> = BTreeMap::new();
    let input = |stage: &StagePlan| match stage.input {
        StageInput::Source(source) => &*plan.sources[source].name,
        StageInput::Exchange(exchange) => &*plan.exchanges[exchange].name,
    };
    for stage in &plan.stages {
        for node in &stage.nodes {
            let state = steps.entry(step_of(&node.name)).or_default();
            match node.kind {
                NodeKind::Stateless(_) => {}
                NodeKind::Window(_)
                | NodeKind::Match(_)
                | NodeKind::Deduplicate(_)
                | NodeKind::TopN(_) => state.accumulators.push((input(stage), node.state_hash)),
            }
        }
    }
    for exchange in &plan.exchanges {
        let from = input(&plan.stages[exchange.from.stage]);
        let rows = schema_text(&exchange.schema);
        let layout = format!("{rows} from {from} by {:?}", exchange.key);
        let state = steps.entry(step_of(&exchange.name)).or_default();
        state.under_way.push(layout);
    }
    steps
}

/// The step that a part of one belongs to (`<step>.top`): names have no dots.
fn step_of(part: &str) -> &str {
    part.split('.').next().unwrap_or(part)
}

fn step_fate(before: &StepState<'_>, after: &StepState<'_>) -> Fate {
    let hashes = |state: &StepState<'_>| -> Vec<u64> {
        let hashes = state.accumulators.iter().map(|(_, hash)| *hash);
        hashes.collect()
    };
    if before == after {
        Fate::Kept
    } else if *before == StepState::default() {
        // It had no state.
        Fate::New
    } else if before.under_way != after.under_way {
        Fate::Incompatible {
            why: "its rows are handed from worker to worker in another form: give it another name",
            discardable: false,
        }
    } else if hashes(before) != hashes(after) {
        Fate::Incompatible {
            why: "its window, groups or aggregates are other ones",
            // Rows under way may be folded into groups of before.
            discardable: before.under_way.is_empty(),
        }
    } else {
        Fate::Incompatible {
            why: "its state is kept by another key",
            discardable: true,
        }
    }
}

#[cfg(test)]
mod tests;
