//! From a job as its user wrote it to its plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use streamjob_crds::{Step, StreamJobSpec};

use super::JobPlan;
use super::build::build;
use super::connections;
use super::demand::Demand;
use super::names::{check_job, check_list, listed, unknown};
use super::pattern;
use super::sinks::{self, ResolvedSink};
use super::sources::{self, ResolvedSource};
use super::steps::{self, ResolvedStep};
use super::stream::Stream;
use crate::decode;
use crate::problem::Problem;
use crate::stateless::failed_schema;

/// Slots that a job may have: each is a transactional producer.
const MOST_SLOTS: u32 = 1024;

/// Everything that was found to stand, over all columns.
pub(super) struct Resolved<'a> {
    pub sources: Vec<ResolvedSource>,
    /// Each after the stream it reads.
    pub steps: Vec<(&'a Step, ResolvedStep)>,
    pub sinks: Vec<ResolvedSink>,
}

/// Plans a job, or tells all that is wrong with it.
pub fn plan(name: &str, namespace: &str, spec: &StreamJobSpec) -> Result<JobPlan, Vec<Problem>> {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    check_job(name, namespace, &mut problems);
    check_numbers(spec, &mut problems, &mut warnings);
    connections::check(&spec.connections, &mut problems, &mut warnings);
    let journal = connections::journal(spec, &mut problems);
    connections::check_one_cluster(spec, &journal, &mut problems);
    connections::check_storage(spec, &mut problems);
    connections::unused(spec, &mut warnings);
    let resolved = resolve(spec, &mut problems);
    let Some(resolved) = resolved.filter(|_| problems.is_empty()) else {
        return Err(problems);
    };

    let demand = Demand::of(&resolved);
    warn_unread(spec, &resolved, &demand, &mut warnings);
    warn_cumulating(&resolved, &mut warnings);
    pattern::warn(&spec.steps, &mut warnings);
    let layout = build(&resolved, &demand).map_err(|error| {
        vec![Problem::new(
            "spec.steps",
            format!("cannot be planned: {error}"),
        )]
    })?;
    Ok(JobPlan {
        name: name.to_string(),
        namespace: namespace.to_string(),
        spec: spec.clone(),
        journal,
        sources: layout.sources,
        stages: layout.stages,
        exchanges: layout.exchanges,
        sinks: layout.sinks,
        warnings,
    })
}

/// Streams from the sources on. `None` when something does not stand.
fn resolve<'a>(spec: &'a StreamJobSpec, problems: &mut Vec<Problem>) -> Option<Resolved<'a>> {
    let sources = sources::resolve_all(&spec.sources, &spec.connections, problems);
    check_list(
        spec.steps.iter().map(|step| step.name.as_str()),
        "spec.steps",
        "step",
        problems,
    );
    for (at, step) in spec.steps.iter().enumerate() {
        if spec.sources.iter().any(|source| source.name == step.name) {
            let message = format!(
                "there is a source `{}` already: streams are told apart by these names",
                step.name
            );
            problems.push(Problem::new(format!("spec.steps[{at}].name"), message));
        }
    }
    let mut streams = Streams::new(spec, &sources);
    let order = order(spec, problems);
    let steps: Vec<_> = order
        .into_iter()
        .map(|at| (&spec.steps[at], streams.step(&spec.steps[at], at, problems)))
        .collect();

    if spec.sinks.is_empty() {
        problems.push(Problem::new("spec.sinks", "a job needs a sink"));
    }
    check_list(
        spec.sinks.iter().map(|sink| sink.name.as_str()),
        "spec.sinks",
        "sink",
        problems,
    );
    let sinks: Vec<_> = spec
        .sinks
        .iter()
        .enumerate()
        .map(|(at, sink)| {
            let path = format!("spec.sinks[{at}]");
            let stream = streams.find(&sink.from, &format!("{path}.from"), problems);
            sinks::resolve_one(sink, stream.as_ref(), &spec.connections, &path, problems)
        })
        .collect();
    sinks::check_together(&spec.sinks, problems);
    Some(Resolved {
        sources: sources.into_iter().collect::<Option<_>>()?,
        steps: steps
            .into_iter()
            .map(|(step, resolved)| Some((step, resolved?)))
            .collect::<Option<_>>()?,
        sinks: sinks.into_iter().collect::<Option<_>>()?,
    })
}

/// Splits `spend.late` into the node and its side stream.
fn split(from: &str) -> (&str, Option<&str>) {
    match from.split_once('.') {
        Some((node, side)) => (node, Some(side)),
        None => (from, None),
    }
}

/// Steps in an order in which each comes after the one it reads; those in a circle, and what hangs on them, are left out.
fn order(spec: &StreamJobSpec, problems: &mut Vec<Problem>) -> Vec<usize> {
    let position = |name: &str| spec.steps.iter().position(|step| step.name == name);
    let is_source = |name: &str| spec.sources.iter().any(|source| source.name == name);
    let before = |at: usize| {
        let (node, _) = split(&spec.steps[at].from);
        position(node).filter(|_| !is_source(node))
    };
    let mut depths = Vec::new();
    for at in 0..spec.steps.len() {
        let mut chain = vec![at];
        while let Some(next) = chain.last().copied().and_then(before) {
            if let Some(start) = chain.iter().position(|seen| *seen == next) {
                // Told once, at the first step of the circle.
                if start == 0 && chain.iter().all(|other| *other >= at) {
                    problems.push(circle(&chain, spec));
                }
                chain.clear();
                break;
            }
            chain.push(next);
        }
        if !chain.is_empty() {
            depths.push((chain.len(), at));
        }
    }
    depths.sort();
    depths.into_iter().map(|(_, at)| at).collect()
}

/// Steps that read each other, or one that reads itself.
fn circle(chain: &[usize], spec: &StreamJobSpec) -> Problem {
    let name = |at: &usize| spec.steps[*at].name.as_str();
    let path = format!("spec.steps[{}].from", chain[0]);
    match chain {
        [one] => Problem::new(path, format!("step `{}` reads itself", name(one)))
            .hint("let it read a source or another step"),
        several => {
            let names: Vec<&str> = several.iter().chain(&several[..1]).map(name).collect();
            let circle = names.join(" from ");
            Problem::new(path, format!("steps read each other in a circle: {circle}"))
                .hint("let one of them read a source, or a step outside of the circle")
        }
    }
}

/// Streams by name, as far as they are known.
struct Streams<'a> {
    spec: &'a StreamJobSpec,
    /// By node and port; `None`: there is one, but it does not stand.
    known: BTreeMap<String, Option<Stream>>,
}

impl<'a> Streams<'a> {
    fn new(spec: &'a StreamJobSpec, sources: &[Option<ResolvedSource>]) -> Self {
        let mut known = BTreeMap::new();
        for (source, resolved) in spec.sources.iter().zip(sources) {
            let stream = resolved.as_ref().map(|resolved| resolved.stream.clone());
            let malformed = stream
                .as_ref()
                .map(|stream| stream.aside(decode::malformed_schema()));
            known.insert(source.name.clone(), stream);
            known.insert(format!("{}.malformed", source.name), malformed);
        }
        // A step in a circle is told of as such, not as unknown.
        for step in &spec.steps {
            for port in ["", ".late", ".failed", ".timedOut", ".overflow"] {
                known.entry(format!("{}{port}", step.name)).or_insert(None);
            }
        }
        Streams { spec, known }
    }

    fn step(
        &mut self,
        step: &Step,
        at: usize,
        problems: &mut Vec<Problem>,
    ) -> Option<ResolvedStep> {
        let path = format!("spec.steps[{at}]");
        let input = self.find(&step.from, &format!("{path}.from"), problems)?;
        let resolved = match steps::resolve(step, &input, &path) {
            Ok(resolved) => resolved,
            Err(more) => {
                problems.extend(more);
                return None;
            }
        };
        let name = |port: &str| format!("{}{port}", step.name);
        let emitted = &resolved.stream;
        self.known.insert(name(""), Some(emitted.clone()));
        self.known.insert(
            name(".timedOut"),
            Some(emitted.aside(emitted.schema.clone())),
        );
        self.known
            .insert(name(".overflow"), Some(input.aside(input.schema.clone())));
        self.known
            .insert(name(".late"), Some(input.aside(input.schema.clone())));
        self.known.insert(
            name(".failed"),
            Some(input.aside(Arc::new(failed_schema(&input.schema)))),
        );
        Some(resolved)
    }

    /// The stream that the field at `path` names.
    fn find(&self, from: &str, path: &str, problems: &mut Vec<Problem>) -> Option<Stream> {
        let (node, side) = split(from);
        let step = self.spec.steps.iter().find(|step| step.name == node);
        let sides: &[&str] = match step {
            Some(step) if step.pattern.is_some() => &["late", "failed", "timedOut", "overflow"],
            // Aggregates without a window are told of elsewhere.
            Some(step)
                if step.window.is_some()
                    || step.running.is_some()
                    || step.aggregate.is_some()
                    || step.deduplicate.is_some() =>
            {
                &["late", "failed"]
            }
            Some(_) => &["failed"],
            None => &["malformed"],
        };
        if !self.known.contains_key(node) {
            let names = self
                .spec
                .sources
                .iter()
                .map(|source| &source.name)
                .chain(self.spec.steps.iter().map(|step| &step.name));
            problems.push(unknown(
                path,
                "source or step",
                node,
                names.map(String::as_str),
            ));
            return None;
        }
        if let Some(side) = side
            && !sides.contains(&side)
        {
            let there: Vec<String> = sides.iter().map(|side| format!("{node}.{side}")).collect();
            let there: Vec<&str> = there.iter().map(String::as_str).collect();
            problems.push(
                Problem::new(path, format!("`{node}` has no side stream `{side}`"))
                    .hint(format!("it has {}", listed(&there))),
            );
            return None;
        }
        let stream = self.known.get(from).cloned().flatten()?;
        if side == Some("failed")
            && stream
                .schema
                .fields()
                .iter()
                .filter(|field| field.name() == "reason")
                .count()
                > 1
        {
            let message =
                format!("`{from}` would have two columns `reason`: its own, and that of the rows");
            problems
                .push(Problem::new(path, message).hint("rename the rows' column in a step before"));
            return None;
        }
        Some(stream)
    }
}

/// Numbers out of bounds.
fn check_numbers(spec: &StreamJobSpec, problems: &mut Vec<Problem>, warnings: &mut Vec<Problem>) {
    let mut within = |path: &str, value: u64, least: u64, most: u64| {
        if !(least..=most).contains(&value) {
            problems.push(Problem::new(
                path,
                format!("must be from {least} to {most}, not {value}"),
            ));
        }
    };
    if let Some(slots) = spec.max_parallelism {
        within("spec.maxParallelism", slots.into(), 1, MOST_SLOTS.into());
    }
    if let Some(replicas) = spec.replicas {
        within("spec.replicas", replicas.into(), 0, MOST_SLOTS.into());
    }
    within(
        "spec.checkpoint.retain",
        spec.checkpoint.retain.into(),
        1,
        100,
    );
    if let Some(scaling) = &spec.autoscaling {
        within(
            "spec.autoscaling.minReplicas",
            scaling.min_replicas.into(),
            1,
            scaling.max_replicas.into(),
        );
        within(
            "spec.autoscaling.maxReplicas",
            scaling.max_replicas.into(),
            1,
            MOST_SLOTS.into(),
        );
        within(
            "spec.autoscaling.targetLag",
            scaling.target_lag,
            1,
            i64::MAX as u64,
        );
    }
    let epoch = spec.epoch.interval.as_millis();
    if !(1..=5_000).contains(&epoch) {
        // A transaction must end well before the brokers abort it, after 15 s.
        let message = format!("an epoch takes from 1ms to 5s, not {}", spec.epoch.interval);
        problems.push(Problem::new("spec.epoch.interval", message));
    }
    if spec.checkpoint.interval.as_millis() < 100 {
        let message = format!(
            "checkpoints are at least 100ms apart, not {}",
            spec.checkpoint.interval
        );
        problems.push(Problem::new("spec.checkpoint.interval", message));
    }
    let workers = spec
        .autoscaling
        .as_ref()
        .map(|scaling| scaling.max_replicas)
        .or(spec.replicas);
    if let (Some(slots), Some(workers)) = (spec.max_parallelism, workers)
        && workers > slots
    {
        let message = format!(
            "{workers} workers share {slots} slots: {} will have nothing to do",
            workers - slots
        );
        warnings.push(Problem::new("spec.maxParallelism", message));
    }
}

/// Steps and columns that nobody reads.
fn warn_unread(
    spec: &StreamJobSpec,
    resolved: &Resolved<'_>,
    demand: &Demand,
    warnings: &mut Vec<Problem>,
) {
    for (at, step) in spec.steps.iter().enumerate() {
        let ports = ["", ".late", ".failed", ".timedOut", ".overflow"]
            .map(|port| format!("{}{port}", step.name));
        if ports.iter().all(|stream| !demand.is_read(stream)) {
            let message = format!(
                "no sink gets anything from step `{}`: it is left out",
                step.name
            );
            warnings.push(Problem::new(format!("spec.steps[{at}]"), message));
        }
    }
    for (at, source) in resolved.sources.iter().enumerate() {
        let path = format!("spec.sources[{at}]");
        let name = &source.plan.name;
        if !demand.is_read(name) && !demand.is_read(&format!("{name}.malformed")) {
            warnings.push(Problem::new(
                path,
                format!("no sink gets anything from source `{name}`: it is read for nothing"),
            ));
            continue;
        }
        let used: Vec<&String> = demand.columns(name).chain(&source.plan.key).collect();
        let columns = source
            .plan
            .columns
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != source.plan.time_column);
        let unused: Vec<&str> = columns
            .map(|(_, column)| &column.name)
            .filter(|column| !used.contains(column))
            .map(String::as_str)
            .collect();
        if !unused.is_empty() {
            let message = format!(
                "nobody uses {}; events are still checked for them",
                listed(&unused)
            );
            warnings.push(Problem::new(format!("{path}.columns"), message));
        }
    }
}

/// A key that does not tell cumulating windows apart, which begin together.
fn warn_cumulating(resolved: &Resolved<'_>, warnings: &mut Vec<Problem>) {
    for (at, sink) in resolved.sinks.iter().enumerate() {
        let step = resolved
            .steps
            .iter()
            .find(|(step, _)| step.name == sink.from);
        let cumulating = step
            .and_then(|(_, resolved)| resolved.window())
            .is_some_and(|window| matches!(window.kind, super::WindowKind::Cumulating { .. }));
        let has_end = sink
            .key
            .iter()
            .any(|column| sink.schema.field(*column).name() == "window_end");
        if sink.keyed && cumulating && !has_end {
            warnings.push(
                Problem::new(
                    format!("spec.sinks[{at}].kafka.key"),
                    "cumulating windows with the same `window_start` share this key",
                )
                .hint("add `window_end` to keep them apart"),
            );
        }
    }
}
