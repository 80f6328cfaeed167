//! One step over the stream it reads: its expressions planned, and the stream it makes.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use streamjob_crds::{Match, Step};

use super::names::column_problem;
use super::pattern::MatchStep;
use super::stream::{Lineage, Stream, follow};
use super::{WindowKind, window};
use crate::chunk::Millis;
use crate::expr::{self, Aggregation, Compiled, Item, TIMESTAMP};
use crate::problem::{Problem, list};

/// A step that stands. Its expressions are over all columns of its input.
#[derive(Clone, Debug)]
pub(super) struct ResolvedStep {
    pub filter: Option<Compiled>,
    pub kind: StepKind,
    /// What it emits.
    pub stream: Stream,
}

#[derive(Clone, Debug)]
pub(super) enum StepKind {
    /// `None`: all columns.
    Stateless {
        select: Option<Vec<Item>>,
    },
    Window(Box<WindowStep>),
    Match(Box<MatchStep>),
}

#[derive(Clone, Debug)]
pub(super) struct WindowStep {
    pub kind: WindowKind,
    pub allowed_lateness: Millis,
    pub emit_every: Option<Millis>,
    pub group: Vec<Item>,
    pub aggregation: Aggregation,
    /// Whether its groups are whole in the tasks of its input.
    pub stays: bool,
}

impl ResolvedStep {
    pub fn window(&self) -> Option<&WindowStep> {
        match &self.kind {
            StepKind::Window(window) => Some(window),
            StepKind::Stateless { .. } | StepKind::Match(_) => None,
        }
    }
}

/// Plans the step at `path` (such as `spec.steps[1]`).
pub(super) fn resolve(
    step: &Step,
    input: &Stream,
    path: &str,
) -> Result<ResolvedStep, Vec<Problem>> {
    let mut problems = Vec::new();
    check_shape(step, path, &mut problems);
    let filter = keep(filter(step, input, path), &mut problems).flatten();
    let resolved = match (&step.window, &step.pattern) {
        (_, Some(pattern)) => matched(pattern, input, &format!("{path}.match"), &mut problems),
        (None, None) => stateless(step, input, path, &mut problems),
        (Some(_), None) => windowed(step, input, path, &mut problems),
    };
    match resolved {
        Some((kind, stream)) if problems.is_empty() => Ok(ResolvedStep {
            filter,
            kind,
            stream,
        }),
        _ => Err(problems),
    }
}

fn keep<T>(result: Result<T, Vec<Problem>>, problems: &mut Vec<Problem>) -> Option<T> {
    result.map_err(|more| problems.extend(more)).ok()
}

/// Fields that do not go together.
fn check_shape(step: &Step, path: &str, problems: &mut Vec<Problem>) {
    let given = [
        ("groupBy", step.group_by.is_some()),
        ("aggregate", step.aggregate.is_some()),
        ("having", step.having.is_some()),
    ];
    if step.pattern.is_some() {
        let other = [
            ("window", step.window.is_some()),
            ("select", step.select.is_some()),
        ];
        for (field, _) in other.iter().chain(&given).filter(|(_, given)| *given) {
            let message = format!("`{field}` and `match` cannot be in one step");
            problems.push(Problem::new(format!("{path}.{field}"), message).hint(
                "what a match emits is `partitionBy` and `measures`; go on in a step of its own",
            ));
        }
        return;
    }
    if step.window.is_none() {
        let given = given.iter().filter(|(_, given)| *given);
        let fields: Vec<&str> = given.map(|(field, _)| *field).collect();
        if let Some(first) = fields.first() {
            let verb = if fields.len() == 1 { "needs" } else { "need" };
            let message = format!(
                "{} {verb} a `window` in the same step",
                list(&fields, "and")
            );
            problems.push(
                Problem::new(format!("{path}.{first}"), message)
                    .hint("write for example `window: {tumbling: {size: 1m}}`"),
            );
        }
        if step.select.as_ref().is_some_and(Vec::is_empty) {
            problems.push(
                Problem::new(format!("{path}.select"), "nothing is selected")
                    .hint("leave it out for all columns"),
            );
        }
        return;
    }
    if step.select.is_some() {
        problems.push(
            Problem::new(format!("{path}.select"), "`select` and `window` cannot be in one step")
                .hint("what a window emits is `groupBy` and `aggregate`; project before or behind it, in a step of its own"),
        );
    }
    if step.aggregate.as_ref().is_none_or(Vec::is_empty) {
        problems.push(
            Problem::new(format!("{path}.aggregate"), "a window needs `aggregate`")
                .hint("write for example `aggregate: [\"count(*) AS rows\"]`"),
        );
    }
}

fn filter(step: &Step, input: &Stream, path: &str) -> Result<Option<Compiled>, Vec<Problem>> {
    let Some(sql) = &step.filter else {
        return Ok(None);
    };
    let path = format!("{path}.where");
    let filter = expr::condition(sql, &input.schema, &path)?;
    if input.updating {
        let fixed = input.fixed_columns();
        if let Some(column) = filter
            .columns()
            .iter()
            .find(|column| !fixed.contains(column.as_str()))
        {
            let message = format!(
                "`{column}` changes when the window emits its row again; only group and window columns can be used here"
            );
            return Err(vec![
                Problem::new(path, message).hint("use `having` in the step with the window"),
            ]);
        }
    }
    Ok(Some(filter))
}

fn stateless(
    step: &Step,
    input: &Stream,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<(StepKind, Stream)> {
    let Some(select) = &step.select else {
        return Some((StepKind::Stateless { select: None }, input.clone()));
    };
    let path = format!("{path}.select");
    let items = keep(expr::select_items(select, &input.schema, &path), problems)?;
    for item in &items {
        let passed_on = item
            .compiled
            .as_column()
            .is_some_and(|column| column.name() == item.name);
        if !passed_on && let Some(message) = column_problem(&item.name) {
            problems.push(Problem::new(&path, message).hint("choose another name"));
        }
    }
    let stream = input.projected(&items, schema_of(&items));
    if stream.time.as_ref().is_some_and(BTreeSet::is_empty) {
        let names: Vec<&str> = input.time.iter().flatten().map(String::as_str).collect();
        let message = format!(
            "the event time column `{}` must be among the selected",
            names.join("` or `")
        );
        let hint = format!("add `{}`", names.first().copied().unwrap_or_default());
        problems.push(Problem::new(&path, message).hint(hint));
    }
    Some((
        StepKind::Stateless {
            select: Some(items),
        },
        stream,
    ))
}

/// Schema of a projection's rows.
pub(super) fn schema_of(items: &[Item]) -> SchemaRef {
    Arc::new(Schema::new(items.iter().map(field).collect::<Vec<_>>()))
}

pub(super) fn field(item: &Item) -> Field {
    Field::new(
        &item.name,
        item.compiled.data_type.clone(),
        item.compiled.nullable,
    )
}

fn windowed(
    step: &Step,
    input: &Stream,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<(StepKind, Stream)> {
    let window = step.window.as_ref()?;
    check_place(input, "window", &format!("{path}.window"), problems);
    let kind = window::kind(window, &format!("{path}.window"), problems);
    let columns = step.group_by.as_deref().unwrap_or_default();
    let group = groups(columns, input, &format!("{path}.groupBy"), problems);
    let items = step.aggregate.as_deref().unwrap_or_default();
    let having = step.having.as_deref();
    let aggregates = keep(
        expr::aggregates(items, having, &input.schema, path),
        problems,
    );
    let group = group?;
    let fields: Vec<Field> = group.iter().map(field).collect();
    let aggregation = keep(aggregates?.over(&fields), problems)?;
    for (at, item) in aggregation.items.iter().enumerate() {
        if let Some(message) = column_problem(&item.name) {
            let path = format!("{path}.aggregate[{at}]");
            problems.push(Problem::new(path, message).hint("choose another name"));
        }
    }
    let kept = kept_key(input, &group);
    let stays = kept.is_some();
    let stream = emitted(&group, &aggregation, kept, window::updates(window));
    let step = WindowStep {
        kind: kind?,
        allowed_lateness: window.allowed_lateness.as_millis(),
        emit_every: window.emit_every.map(|every| every.as_millis()),
        group,
        aggregation,
        stays,
    };
    Some((StepKind::Window(Box::new(step)), stream))
}

fn matched(
    spec: &Match,
    input: &Stream,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<(StepKind, Stream)> {
    check_place(input, "match", path, problems);
    let columns = spec.partition_by.as_deref().unwrap_or_default();
    let partition = groups(columns, input, &format!("{path}.partitionBy"), problems)?;
    let kept = kept_key(input, &partition);
    let stays = kept.is_some();
    let one = |item: &Item| BTreeSet::from([item.name.clone()]);
    let key = kept.unwrap_or_else(|| partition.iter().map(one).collect());
    let step = MatchStep::resolve(spec, partition, stays, &input.schema, path, problems)?;
    let stream = Stream {
        schema: step.emitted(),
        key: Some(key),
        time: None,
        identity: None,
        updating: false,
        side: false,
    };
    Some((StepKind::Match(Box::new(step)), stream))
}

/// The group columns. `None` also where one has a name that it cannot have: rows with two columns of one name could not
/// even be thought about.
fn groups(
    columns: &[String],
    input: &Stream,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<Vec<Item>> {
    let group = keep(expr::group_items(columns, &input.schema, path), problems)?;
    let before = problems.len();
    for (at, item) in group.iter().enumerate() {
        if let Some(message) = column_problem(&item.name) {
            let hint = format!("write `{} AS other_name`", item.compiled.sql);
            problems.push(Problem::new(format!("{path}[{at}]"), message).hint(hint));
        }
    }
    (problems.len() == before).then_some(group)
}

/// What a window emits: the group columns, its bounds, the aggregates.
fn emitted(
    group: &[Item],
    aggregation: &Aggregation,
    kept: Option<Lineage>,
    updating: bool,
) -> Stream {
    let bounds = ["window_start", "window_end"];
    let fields = group
        .iter()
        .map(field)
        .chain(bounds.map(|name| Field::new(name, TIMESTAMP, false)))
        .chain(aggregation.items.iter().map(field));
    let one = |name: &str| BTreeSet::from([name.to_string()]);
    let groups: Lineage = group.iter().map(|item| one(&item.name)).collect();
    Stream {
        schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
        key: Some(kept.unwrap_or_else(|| groups.clone())),
        time: None,
        identity: Some(groups.into_iter().chain(bounds.map(one)).collect()),
        updating,
        side: false,
    }
}

/// `what`: the thing with event time that stands there.
fn check_place(input: &Stream, what: &str, path: &str, problems: &mut Vec<Problem>) {
    if input.side {
        let message =
            format!("a {what} cannot read a side stream, whose rows are out of event time");
        problems.push(
            Problem::new(path, message).hint(format!("sinks and steps without a {what} can")),
        );
    }
    if input.updating {
        let message = format!(
            "a {what} cannot follow a step that emits rows again (`allowedLateness`, `emitEvery`): it would count them twice"
        );
        problems.push(Problem::new(path, message).hint("let the step before emit final rows only"));
    }
}

/// The input's key among the group columns; `None` unless all of it is there: rows of a group may then be in several tasks.
fn kept_key(input: &Stream, group: &[Item]) -> Option<Lineage> {
    let kept: Lineage = input
        .key
        .as_ref()?
        .iter()
        .map(|names| follow(names, group))
        .collect();
    kept.iter().all(|names| !names.is_empty()).then_some(kept)
}
