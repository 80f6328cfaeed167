//! Patterns: a `match` with its expressions planned and its pattern compiled.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_common::Result as PlanResult;
use streamjob_crds::{AfterMatch, Contiguity, Match, Step};

use super::AggregateCall;
use super::names::{column_problem, listed};
use super::steps::field;
use crate::chunk::Millis;
use crate::expr::{self, Compiled, Define, Item, Measures, Names, TIMESTAMP};
use crate::pattern::nfa::{MOST_ELEMENTS, MOST_VARIABLES, Nfa};
use crate::pattern::syntax::{self, Fault, Node};
use crate::problem::{Problem, did_you_mean};

#[derive(Clone, Debug)]
pub struct MatchPlan {
    /// Schema of the rows it reads.
    pub input: SchemaRef,
    /// Columns of the input that are looked at later than the row comes in.
    pub held: Vec<usize>,
    /// The step's `where`, over input rows. `None` too where it ran before the exchange.
    pub filter: Option<Compiled>,
    /// The `partitionBy` columns, over input rows; their names are the first fields of `matched`.
    pub partition: Vec<Compiled>,
    /// As the user wrote it.
    pub pattern: String,
    pub nfa: Nfa,
    /// In the order of `define`: a variable's number is its place.
    pub variables: Vec<Variable>,
    pub within: Option<Millis>,
    pub after: AfterMatch,
    pub most_partial: usize,
    pub looks: Vec<Look>,
    /// `partitionBy` columns, `match_start`, `match_end` (Timestamp(Millisecond)), then a column for each look.
    pub matched: SchemaRef,
    /// The emitted columns, over `matched`.
    pub project: Vec<Compiled>,
}

#[derive(Clone, Debug)]
pub struct Variable {
    pub name: String,
    /// What an event must satisfy by itself, over input rows; `None`: nothing.
    pub row: Option<Compiled>,
    /// What it must satisfy beside, given what was taken before.
    pub tried: Option<Tried>,
}

/// A condition that looks back.
#[derive(Clone, Debug)]
pub struct Tried {
    pub looks: Vec<Look>,
    /// Over `schema`.
    pub condition: Compiled,
    /// Input columns, then a column for each look (`#0`, `#1`, …).
    pub schema: SchemaRef,
}

/// A look at the events that a way has taken.
#[derive(Clone, Debug)]
pub struct Look {
    /// Whose events; `None`: all.
    pub variable: Option<usize>,
    pub pick: Pick,
}

#[derive(Clone, Debug)]
pub enum Pick {
    First(Compiled),
    /// So many before the last.
    Last(Compiled, usize),
    /// Count, sum, min, max or avg.
    Fold(AggregateCall),
}

impl Look {
    /// Type of what is seen, and whether it may be null.
    pub fn result(&self) -> (DataType, bool) {
        match &self.pick {
            Pick::First(of) | Pick::Last(of, _) => (of.data_type.clone(), true),
            Pick::Fold(call) => (call.data_type.clone(), call.nullable),
        }
    }

    /// What it reads of the events, over input rows.
    pub fn argument(&self) -> Option<&Compiled> {
        match &self.pick {
            Pick::First(of) | Pick::Last(of, _) => Some(of),
            Pick::Fold(call) => call.argument.as_ref(),
        }
    }

    fn over(&self, schema: &Schema) -> PlanResult<Self> {
        let pick = match &self.pick {
            Pick::First(of) => Pick::First(of.over(schema)?),
            Pick::Last(of, back) => Pick::Last(of.over(schema)?, *back),
            Pick::Fold(call) => Pick::Fold(AggregateCall {
                argument: call
                    .argument
                    .as_ref()
                    .map(|of| of.over(schema))
                    .transpose()?,
                ..call.clone()
            }),
        };
        Ok(Look {
            variable: self.variable,
            pick,
        })
    }
}

impl Tried {
    /// The same over input rows of another schema that has the columns it reads.
    pub fn over(&self, input: &Schema) -> PlanResult<Self> {
        let looks = over_all(&self.looks, input)?;
        let columns = self.schema.fields().len() - looks.len();
        let fields = input
            .fields()
            .iter()
            .chain(&self.schema.fields()[columns..]);
        let schema = Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()));
        Ok(Tried {
            looks,
            condition: self.condition.over(&schema)?,
            schema,
        })
    }

    /// Input columns that it reads, of the event in hand and of others.
    fn columns(&self) -> BTreeSet<String> {
        let own = self.condition.columns().into_iter();
        own.filter(|column| !column.starts_with('#'))
            .chain(look_columns(&self.looks))
            .collect()
    }
}

fn over_all(looks: &[Look], input: &Schema) -> PlanResult<Vec<Look>> {
    looks.iter().map(|look| look.over(input)).collect()
}

/// Input columns that looks read.
fn look_columns(looks: &[Look]) -> BTreeSet<String> {
    let arguments = looks.iter().filter_map(Look::argument);
    arguments.flat_map(Compiled::columns).collect()
}

/// A match that stands. Its expressions are over all columns of its input.
#[derive(Clone, Debug)]
pub(super) struct MatchStep {
    pub partition: Vec<Item>,
    /// Whether its groups are whole in the tasks of its input.
    pub stays: bool,
    pattern: String,
    nfa: Nfa,
    variables: Vec<Variable>,
    within: Option<Millis>,
    after: AfterMatch,
    most_partial: usize,
    measures: Measures,
}

impl MatchStep {
    /// Plans the match at `path` (such as `spec.steps[1].match`), whose groups are by `partition`.
    pub fn resolve(
        spec: &Match,
        partition: Vec<Item>,
        stays: bool,
        input: &Schema,
        path: &str,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let before = problems.len();
        let names: Vec<&str> = spec.define.iter().map(|one| one.name.as_str()).collect();
        check_names(&names, path, problems);
        let strict = spec.contiguity == Contiguity::Strict;
        let pattern = pattern(
            &spec.pattern,
            &names,
            strict,
            &format!("{path}.pattern"),
            problems,
        );
        let names = Names {
            variables: &names,
            input,
        };
        let variables = defines(spec, names, path, problems);
        let fields: Vec<Field> = partition.iter().map(field).chain(bounds()).collect();
        let measures = expr::measures(&spec.measures, &fields, names, path)
            .map_err(|more| problems.extend(more))
            .ok()?;
        for (at, item) in measures.items.iter().enumerate() {
            if let Some(message) = column_problem(&item.name) {
                let path = format!("{path}.measures[{at}]");
                problems.push(Problem::new(path, message).hint("choose another name"));
            }
        }
        if spec.max_partial_matches == 0 {
            let path = format!("{path}.maxPartialMatches");
            problems.push(
                Problem::new(path, "without a partial match there is no match")
                    .hint("leave it out for the default"),
            );
        }
        if problems.len() > before {
            return None;
        }
        let number = |name: &str| {
            let at = names.variables.iter().position(|other| *other == name);
            at.unwrap_or_default() as u8
        };
        Some(MatchStep {
            partition,
            stays,
            pattern: spec.pattern.trim().to_string(),
            nfa: Nfa::new(&pattern?, strict, &number),
            variables,
            within: spec.within.map(|within| within.as_millis()),
            after: spec.after_match,
            most_partial: spec.max_partial_matches as usize,
            measures,
        })
    }

    /// Schema of the rows it emits.
    pub fn emitted(&self) -> SchemaRef {
        let fields = self.partition.iter().map(field).chain(bounds());
        let fields = fields.chain(self.measures.items.iter().map(field));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// Input columns that it reads, but for those that groups are made of.
    pub fn columns(&self) -> BTreeSet<String> {
        let rows = self
            .variables
            .iter()
            .filter_map(|variable| variable.row.as_ref());
        let mut columns = self.later();
        columns.extend(rows.flat_map(Compiled::columns));
        columns
    }

    /// Those that are looked at later than the row comes in.
    fn later(&self) -> BTreeSet<String> {
        let mut columns = look_columns(&self.measures.looks);
        let tried = self
            .variables
            .iter()
            .filter_map(|variable| variable.tried.as_ref());
        columns.extend(tried.flat_map(Tried::columns));
        columns
    }

    /// The plan over rows of `input`, where `partition` gives the groups. `whole`: rows may have to go out as they came in.
    pub fn plan(
        &self,
        filter: Option<Compiled>,
        partition: Vec<Compiled>,
        input: &Schema,
        whole: bool,
    ) -> PlanResult<MatchPlan> {
        let later = self.later();
        let is_held = |column: &usize| whole || later.contains(input.field(*column).name());
        let variables = self.variables.iter().map(|variable| {
            Ok(Variable {
                name: variable.name.clone(),
                row: variable
                    .row
                    .as_ref()
                    .map(|row| row.over(input))
                    .transpose()?,
                tried: variable
                    .tried
                    .as_ref()
                    .map(|tried| tried.over(input))
                    .transpose()?,
            })
        });
        let matched = &self.measures.matched;
        let as_is = (0..self.partition.len() + 2).map(|index| Compiled::column(matched, index));
        let items = self.measures.items.iter().map(|item| item.compiled.clone());
        Ok(MatchPlan {
            input: Arc::new(input.clone()),
            held: (0..input.fields().len()).filter(is_held).collect(),
            filter,
            partition,
            pattern: self.pattern.clone(),
            nfa: self.nfa.clone(),
            variables: variables.collect::<PlanResult<_>>()?,
            within: self.within,
            after: self.after,
            most_partial: self.most_partial,
            looks: over_all(&self.measures.looks, input)?,
            matched: matched.clone(),
            project: as_is.chain(items).collect(),
        })
    }
}

fn bounds() -> impl Iterator<Item = Field> {
    ["match_start", "match_end"]
        .into_iter()
        .map(|name| Field::new(name, TIMESTAMP, false))
}

fn check_names(names: &[&str], path: &str, problems: &mut Vec<Problem>) {
    if names.len() > MOST_VARIABLES {
        let message = format!("more than {MOST_VARIABLES} variables");
        problems.push(Problem::new(format!("{path}.define"), message));
    }
    for (at, name) in names.iter().enumerate() {
        let path = format!("{path}.define[{at}].name");
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty()
            || !name.chars().all(fits)
            || name.starts_with(|c: char| c.is_ascii_digit())
        {
            problems.push(
                Problem::new(path, format!("`{name}` is not a name for a variable"))
                    .hint("letters, digits and `_`, not beginning with a digit"),
            );
        } else if names[..at].contains(name) {
            let message = format!("there is a variable `{name}` already");
            problems.push(Problem::new(path, message).hint("join the conditions with OR or AND"));
        }
    }
}

fn defines(
    spec: &Match,
    names: Names<'_>,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Vec<Variable> {
    let mut variables = Vec::new();
    for (at, definition) in spec.define.iter().enumerate() {
        let path = format!("{path}.define[{at}].when");
        match expr::define(&definition.when, names, &path) {
            Ok(Define { row, tried }) => variables.push(Variable {
                name: definition.name.clone(),
                row,
                tried,
            }),
            Err(more) => problems.extend(more),
        }
    }
    variables
}

fn pattern(
    text: &str,
    names: &[&str],
    strict: bool,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<Node> {
    let before = problems.len();
    let told = |fault: Fault| {
        let (start, end) = fault.span;
        let problem = Problem::new(path, fault.message).within(start, end);
        Problem {
            hint: fault.hint,
            ..problem
        }
    };
    let pattern = syntax::parse(text)
        .map_err(|fault| problems.push(told(fault)))
        .ok()?;
    let mut missing = BTreeSet::new();
    for (name, (start, end)) in pattern.names() {
        if names.contains(&name) || !missing.insert(name) {
            continue;
        }
        let message = format!("`define` has no variable `{name}`");
        let problem = Problem::new(path, message).within(start, end);
        problems.push(match did_you_mean(name, names.iter().copied()) {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem.hint(format!("it has {}", listed(names))),
        });
    }
    problems.extend(pattern.faults(strict).into_iter().map(told));
    let elements = pattern.written_out();
    if elements > MOST_ELEMENTS {
        let message = format!(
            "with its repetitions written out the pattern has {elements} elements, more than {MOST_ELEMENTS}"
        );
        problems.push(Problem::new(path, message));
    }
    (problems.len() == before).then_some(pattern)
}

/// What is doubtful about matches.
pub(super) fn warn(steps: &[Step], warnings: &mut Vec<Problem>) {
    for (at, step) in steps.iter().enumerate() {
        let Some(spec) = &step.pattern else { continue };
        let path = format!("spec.steps[{at}].match");
        if spec.within.is_none() && spec.contiguity == Contiguity::Relaxed {
            warnings.push(
                Problem::new(
                    &path,
                    "a `Relaxed` pattern without `within`: a start that does not match never ends, and its state is kept",
                )
                .hint("write for example `within: 1h`"),
            );
        }
        let Ok(pattern) = syntax::parse(&spec.pattern) else {
            continue;
        };
        let used: BTreeSet<&str> = pattern.names().into_iter().map(|(name, _)| name).collect();
        for (number, definition) in spec.define.iter().enumerate() {
            if !used.contains(definition.name.as_str()) {
                let message = format!(
                    "the pattern has no `{}`: nothing satisfies it",
                    definition.name
                );
                let path = format!("{path}.define[{number}]");
                warnings.push(Problem::new(path, message));
            }
        }
    }
}
