//! One step over the stream it reads: its expressions planned, and the stream it makes.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use streamjob_crds::{Match, Step};

use super::deduplicate::{DedupStep, deduplicate};
use super::names::{at_most_one, column_problem};
use super::pattern::MatchStep;
use super::stream::{Identity, Lineage, Stream, follow};
use super::top::{self, TopStep};
use super::{WindowKind, running, window};
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
    Deduplicate(DedupStep),
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
    pub top: Option<TopStep>,
}

impl ResolvedStep {
    pub fn window(&self) -> Option<&WindowStep> {
        match &self.kind {
            StepKind::Window(window) => Some(window),
            _ => None,
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
    let kinds = [
        ("window", step.window.is_some()),
        ("running", step.running.is_some()),
        ("match", step.pattern.is_some()),
        ("deduplicate", step.deduplicate.is_some()),
    ];
    if !at_most_one(path, &kinds, &mut problems) {
        return Err(problems);
    }
    check_shape(step, path, &mut problems);
    let filter = keep(filter(step, input, path), &mut problems).flatten();
    let resolved = if let Some(pattern) = &step.pattern {
        matched(pattern, input, &format!("{path}.match"), &mut problems)
    } else if let Some(wanted) = &step.deduplicate {
        let path = format!("{path}.deduplicate");
        deduplicate(wanted, input, &path, &mut problems)
    } else if step.window.is_some() || step.running.is_some() {
        aggregated(step, input, path, &mut problems)
    } else {
        stateless(step, input, path, &mut problems)
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

pub(super) fn keep<T>(result: Result<T, Vec<Problem>>, problems: &mut Vec<Problem>) -> Option<T> {
    result.map_err(|more| problems.extend(more)).ok()
}

/// Fields that do not go together.
fn check_shape(step: &Step, path: &str, problems: &mut Vec<Problem>) {
    let given = [
        ("groupBy", step.group_by.is_some()),
        ("aggregate", step.aggregate.is_some()),
        ("having", step.having.is_some()),
        ("topN", step.top_n.is_some()),
    ];
    let whole = match (&step.pattern, &step.deduplicate) {
        (Some(_), _) => Some((
            "match",
            "what a match emits is `partitionBy` and `measures`; go on in a step of its own",
        )),
        (_, Some(_)) => Some((
            "deduplicate",
            "it passes rows on as they are; go on in a step of its own",
        )),
        _ => None,
    };
    if let Some((kind, hint)) = whole {
        let select = [("select", step.select.is_some())];
        for (field, _) in select.iter().chain(&given).filter(|(_, given)| *given) {
            let message = format!("`{field}` and `{kind}` cannot be in one step");
            problems.push(Problem::new(format!("{path}.{field}"), message).hint(hint));
        }
        return;
    }
    let what = if step.running.is_some() {
        "running"
    } else {
        "window"
    };
    if step.window.is_none() && step.running.is_none() {
        let given = given.iter().filter(|(_, given)| *given);
        let fields: Vec<&str> = given.map(|(field, _)| *field).collect();
        if let Some(first) = fields.first() {
            let verb = if fields.len() == 1 { "needs" } else { "need" };
            let message = format!(
                "{} {verb} a `window` (or `running`) in the same step",
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
            Problem::new(format!("{path}.select"), format!("`select` and `{what}` cannot be in one step"))
                .hint("what is emitted is `groupBy` and `aggregate`; project before or behind it, in a step of its own"),
        );
    }
    if step.aggregate.as_ref().is_none_or(Vec::is_empty) {
        problems.push(
            Problem::new(
                format!("{path}.aggregate"),
                format!("`{what}` needs `aggregate`"),
            )
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
                "`{column}` changes when its row is emitted again; only group and window columns can be used here"
            );
            return Err(vec![
                Problem::new(path, message).hint("use `having` in the step that emits it"),
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

/// Aggregates over groups, in windows or running.
fn aggregated(
    step: &Step,
    input: &Stream,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<(StepKind, Stream)> {
    let (kind, lateness, emit_every, updating) = match (&step.window, &step.running) {
        (Some(window), _) => {
            let path = format!("{path}.window");
            check_place(input, "a window", &path, problems);
            let lateness = window.allowed_lateness.as_millis();
            let every = window.emit_every.map(|every| every.as_millis());
            let kind = window::kind(window, &path, problems);
            (kind, lateness, every, window::updates(window))
        }
        (None, Some(running)) => {
            let path = format!("{path}.running");
            check_place(input, "`running`", &path, problems);
            (running::kind(running, &path, problems), 0, None, true)
        }
        (None, None) => return None,
    };
    let columns = step.group_by.as_deref().unwrap_or_default();
    let group = groups(columns, input, &format!("{path}.groupBy"), problems);
    let items = step.aggregate.as_deref().unwrap_or_default();
    let having = step.having.as_deref();
    let aggregates = keep(
        expr::aggregates(items, having, &input.schema, path),
        problems,
    );
    let group = group?;
    let bounds = match step.running {
        Some(_) => &[][..],
        None => &["window_start", "window_end"],
    };
    let bound = |name: &&str| Field::new(*name, TIMESTAMP, false);
    let fields: Vec<Field> = group
        .iter()
        .map(field)
        .chain(bounds.iter().map(bound))
        .collect();
    let aggregation = keep(aggregates?.over(&fields), problems)?;
    for (at, item) in aggregation.items.iter().enumerate() {
        if let Some(message) = column_problem(&item.name) {
            let path = format!("{path}.aggregate[{at}]");
            problems.push(Problem::new(path, message).hint("choose another name"));
        }
    }
    let kept = kept_key(input, &group);
    let stays = kept.is_some();
    let mut stream = emitted(&group, bounds, &aggregation, kept, updating);
    let top = match &step.top_n {
        None => None,
        Some(top) => {
            let top = top::resolve(top, kind, group.len(), &stream, path, problems)?;
            stream.key = Some(top.key(&stream));
            Some(top)
        }
    };
    let step = WindowStep {
        kind: kind?,
        allowed_lateness: lateness,
        emit_every,
        group,
        aggregation,
        stays,
        top,
    };
    Some((StepKind::Window(Box::new(step)), stream))
}

fn matched(
    spec: &Match,
    input: &Stream,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<(StepKind, Stream)> {
    check_place(input, "a match", path, problems);
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

/// What groups emit: the group columns, the window's bounds, the aggregates.
fn emitted(
    group: &[Item],
    bounds: &[&str],
    aggregation: &Aggregation,
    kept: Option<Lineage>,
    updating: bool,
) -> Stream {
    let fields = group
        .iter()
        .map(field)
        .chain(
            bounds
                .iter()
                .map(|name| Field::new(*name, TIMESTAMP, false)),
        )
        .chain(aggregation.items.iter().map(field));
    let one = |name: &str| BTreeSet::from([name.to_string()]);
    let groups: Lineage = group.iter().map(|item| one(&item.name)).collect();
    Stream {
        schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
        key: Some(kept.unwrap_or_else(|| groups.clone())),
        time: None,
        identity: Some(Identity {
            groups,
            bounds: bounds.iter().map(|name| one(name)).collect(),
        }),
        updating,
        side: false,
    }
}

/// `what`: the thing with event time that stands there.
pub(super) fn check_place(input: &Stream, what: &str, path: &str, problems: &mut Vec<Problem>) {
    if input.side {
        let message = format!("{what} cannot read a side stream, whose rows are out of event time");
        problems
            .push(Problem::new(path, message).hint(format!("sinks and steps without {what} can")));
    }
    if input.updating {
        let message = format!(
            "{what} cannot follow a step that emits rows again (`allowedLateness`, `emitEvery`, `running`): it would count them twice"
        );
        problems.push(Problem::new(path, message).hint("let the step before emit final rows only"));
    }
}

/// The input's key among the group columns; `None` unless all of it is there: rows of a group may then be in several tasks.
pub(super) fn kept_key(input: &Stream, group: &[Item]) -> Option<Lineage> {
    let kept: Lineage = input
        .key
        .as_ref()?
        .iter()
        .map(|names| follow(names, group))
        .collect();
    kept.iter().all(|names| !names.is_empty()).then_some(kept)
}
