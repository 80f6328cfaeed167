//! A plan in words: stages, steps, exchanges, state, guarantees.

use std::fmt::Write;

use arrow::datatypes::Schema;
use streamjob_crds::{AfterMatch, Duration, Guarantee};

use super::{
    DedupPlan, ExchangePlan, JobPlan, JournalPlan, MatchPlan, NodeKind, NodePlan, SinkKind,
    SinkPlan, SourceKind, SourcePlan, StageInput, StagePlan, TopNPlan, WindowKind, WindowPlan,
};
use crate::chunk::Millis;
use crate::expr::{Compiled, type_name};
use crate::window::fold::foldable;

/// The most slots that a job has when it does not say how many.
const DEFAULT_MOST_SLOTS: u32 = 64;

/// How many slots the job has; `partitions`: those of each source, once they are known.
pub fn slots(plan: &JobPlan, partitions: Option<&[u32]>) -> Option<u32> {
    let first = || {
        partitions_of(plan, 0, partitions).map(|partitions| partitions.clamp(1, DEFAULT_MOST_SLOTS))
    };
    plan.spec.max_parallelism.or_else(first)
}

/// Describes a plan. `partitions`: those of each source, where somebody has looked.
pub fn explain(plan: &JobPlan, partitions: Option<&[u32]>) -> String {
    let mut text = format!("job {}/{}\n", plan.namespace, plan.name);
    let slots = slots(plan, partitions);
    head(&mut text, plan, slots);
    for (index, stage) in plan.stages.iter().enumerate() {
        text.push('\n');
        stage_text(&mut text, plan, index, stage, partitions, slots);
    }
    text.push_str("\nsinks\n");
    for sink in &plan.sinks {
        sink_text(&mut text, plan, sink);
    }
    if !plan.warnings.is_empty() {
        text.push_str("\nwarnings\n");
        for warning in &plan.warnings {
            put(&mut text, 1, format!("{warning}"));
        }
    }
    text
}

fn put(text: &mut String, depth: usize, line: String) {
    let _ = writeln!(text, "{:width$}{line}", "", width = depth * 2);
}

fn head(text: &mut String, plan: &JobPlan, slots: Option<u32>) {
    let spec = &plan.spec;
    let guarantee = match spec.guarantee {
        Guarantee::ExactlyOnce => "exactly-once",
        Guarantee::AtLeastOnce => "at-least-once: rows may be doubled after a crash",
    };
    put(text, 1, format!("guarantee: {guarantee}"));
    put(
        text,
        1,
        match &plan.journal {
            JournalPlan::Kafka { connection } => {
                format!("journal: a topic on `{connection}`, a partition for each slot")
            }
            JournalPlan::File => {
                "journal: a file in the state directory; all slots commit as one".to_string()
            }
        },
    );
    put(
        text,
        1,
        match slots {
            Some(1) => "slots: 1".to_string(),
            Some(slots) => format!("slots: {slots}"),
            None => format!(
                "slots: as many as the first source has partitions, at most {DEFAULT_MOST_SLOTS}"
            ),
        },
    );
    put(
        text,
        1,
        format!(
            "epoch: commits at the latest {} after a row came in",
            spec.epoch.interval
        ),
    );
    let storage = match spec
        .checkpoint
        .storage
        .as_ref()
        .map(|storage| (&storage.s3, &storage.local))
    {
        Some((Some(s3), _)) => format!("S3, connection `{}`, under `{}`", s3.connection, s3.prefix),
        Some((_, Some(local))) => format!("the folder `{}`", local.path),
        _ => "the state directory".to_string(),
    };
    put(
        text,
        1,
        format!(
            "checkpoints: every {} to {storage}, {} kept",
            spec.checkpoint.interval, spec.checkpoint.retain
        ),
    );
    put(text, 1, format!("state: {:?}", spec.state.backend));
    put(text, 1, format!("plan hash: {}", super::plan_hash(plan)));
}

fn partitions_of(plan: &JobPlan, source: usize, partitions: Option<&[u32]>) -> Option<u32> {
    let known = partitions.and_then(|partitions| partitions.get(source).copied());
    known.or_else(|| match &plan.sources.get(source)?.kind {
        SourceKind::Generate(generate) => Some(generate.partitions),
        _ => None,
    })
}

fn stage_text(
    text: &mut String,
    plan: &JobPlan,
    index: usize,
    stage: &StagePlan,
    partitions: Option<&[u32]>,
    slots: Option<u32>,
) {
    match stage.input {
        StageInput::Source(source) => {
            let tasks = partitions_of(plan, source, partitions);
            source_text(text, index, &plan.sources[source], tasks);
        }
        StageInput::Exchange(exchange) => {
            exchange_text(text, index, plan, &plan.exchanges[exchange], slots)
        }
    }
    for node in &stage.nodes {
        node_text(text, node);
    }
}

fn tasks_text(tasks: Option<u32>, otherwise: &str) -> String {
    match tasks {
        Some(1) => "1 task".to_string(),
        Some(tasks) => format!("{tasks} tasks"),
        None => otherwise.to_string(),
    }
}

fn source_text(text: &mut String, index: usize, source: &SourcePlan, tasks: Option<u32>) {
    let what = match &source.kind {
        SourceKind::Kafka(kafka) => {
            let end = if kafka.until.is_some() {
                ", bounded"
            } else {
                ""
            };
            format!("topic `{}` on `{}`{end}", kafka.topic, kafka.connection)
        }
        SourceKind::File(file) => format!("files `{}`", file.path),
        SourceKind::Generate(_) => "generated events".to_string(),
    };
    let tasks = tasks_text(tasks, "a task for each partition");
    put(
        text,
        0,
        format!("stage {index}: source {}, {what}; {tasks}", source.name),
    );
    let used: Vec<&str> = source
        .columns
        .iter()
        .filter(|column| column.used)
        .map(|column| column.name.as_str())
        .collect();
    put(
        text,
        1,
        format!(
            "columns built: {} (of {})",
            used.join(", "),
            source.columns.len()
        ),
    );
    let time = &source.columns[source.time_column].name;
    let mut watermark = format!(
        "watermark: newest `{time}` minus {}; idle after {}",
        millis(source.max_out_of_orderness),
        millis(source.idle_after)
    );
    if let Some(future) = source.max_future {
        let _ = write!(
            watermark,
            "; more than {} ahead of Kafka's time is malformed",
            millis(future)
        );
    }
    put(text, 1, watermark);
    put(
        text,
        1,
        match source.key.as_slice() {
            [] => "partitioned by nothing that the job knows of".to_string(),
            key => format!("partitioned by {}", key.join(", ")),
        },
    );
}

fn exchange_text(
    text: &mut String,
    index: usize,
    plan: &JobPlan,
    exchange: &ExchangePlan,
    slots: Option<u32>,
) {
    let tasks = match exchange.key.as_slice() {
        [] => "1 of them with all rows".to_string(),
        _ => "rows of a group in one of them".to_string(),
    };
    let count = tasks_text(slots, "a task for each slot");
    put(
        text,
        0,
        format!(
            "stage {index}: exchange before {}; {count}, {tasks}",
            exchange.name
        ),
    );
    let names: Vec<&str> = exchange
        .key
        .iter()
        .map(|at| shown(&exchange.schema, *at))
        .collect();
    let how = match &plan.journal {
        JournalPlan::Kafka { connection } => format!("through an internal topic on `{connection}`"),
        JournalPlan::File => "in process".to_string(),
    };
    let by = if names.is_empty() {
        "all rows together".to_string()
    } else {
        format!("by {}", names.join(", "))
    };
    put(
        text,
        1,
        format!("{by}, {how}; columns: {}", columns(&exchange.schema)),
    );
    let reader = plan.stages[exchange.to_stage].nodes.first();
    if reader.is_some_and(foldable) {
        let told =
            "rows of a group in open windows go as one row an epoch, where that saves half of them";
        put(text, 1, told.to_string());
    }
}

fn shown(schema: &Schema, index: usize) -> &str {
    let name = schema.field(index).name();
    if name.starts_with('#') {
        "a computed column"
    } else {
        name
    }
}

fn columns(schema: &Schema) -> String {
    (0..schema.fields().len())
        .map(|index| shown(schema, index))
        .collect::<Vec<_>>()
        .join(", ")
}

fn node_text(text: &mut String, node: &NodePlan) {
    put(
        text,
        1,
        format!(
            "step {}{}",
            node.name,
            if node.updating {
                ", emits rows again"
            } else {
                ""
            }
        ),
    );
    match &node.kind {
        NodeKind::Stateless(plan) => {
            if let Some(filter) = &plan.filter {
                put(text, 2, format!("where {}", filter.sql));
            }
            if let Some(project) = &plan.project {
                put(text, 2, format!("select {}", items(&node.schema, project)));
            }
            put(text, 2, "state: none".to_string());
        }
        NodeKind::Window(window) => window_text(text, node, window),
        NodeKind::Match(pattern) => match_text(text, node, pattern),
        NodeKind::Deduplicate(plan) => dedup_text(text, plan),
        NodeKind::TopN(plan) => top_text(text, node, plan),
    }
    for (side, read) in [
        ("late", node.late_read),
        ("failed", node.failed_read),
        ("timedOut", node.timed_out_read),
        ("overflow", node.overflow_read),
    ] {
        if read {
            put(text, 2, format!("{side} rows go to {}.{side}", node.name));
        }
    }
}

fn window_text(text: &mut String, node: &NodePlan, window: &WindowPlan) {
    if let Some(filter) = &window.filter {
        put(text, 2, format!("where {}", filter.sql));
    }
    let group: Vec<&str> = (0..window.group.len())
        .map(|at| node.schema.field(at).name().as_str())
        .collect();
    let by = if group.is_empty() {
        "one group".to_string()
    } else {
        format!("groups by {}", group.join(", "))
    };
    put(text, 2, format!("{}, {by}", window_kind(window.kind)));
    if window.allowed_lateness > 0 {
        put(
            text,
            2,
            format!("takes rows up to {} late", millis(window.allowed_lateness)),
        );
    }
    if let Some(every) = window.emit_every {
        put(
            text,
            2,
            format!("emits open windows every {} of event time", millis(every)),
        );
    }
    if let Some(having) = &window.having {
        put(text, 2, format!("having {}", having.sql));
    }
    let results: Vec<String> = window
        .calls
        .iter()
        .map(|call| type_name(&call.data_type))
        .collect();
    put(
        text,
        2,
        format!(
            "state: for each group{} {} aggregate{} ({})",
            if window.kind.bounds() > 0 {
                " and window"
            } else {
                ""
            },
            results.len(),
            if results.len() == 1 { "" } else { "s" },
            results.join(", ")
        ),
    );
    put(text, 2, format!("emits {}", typed_columns(&node.schema)));
}

fn typed_columns(schema: &Schema) -> String {
    let fields = schema.fields().iter();
    let typed = fields.map(|field| format!("{} {}", field.name(), type_name(field.data_type())));
    typed.collect::<Vec<_>>().join(", ")
}

fn match_text(text: &mut String, node: &NodePlan, plan: &MatchPlan) {
    if let Some(filter) = &plan.filter {
        put(text, 2, format!("where {}", filter.sql));
    }
    let group: Vec<&str> = (0..plan.partition.len())
        .map(|at| node.schema.field(at).name().as_str())
        .collect();
    let by = match group.as_slice() {
        [] => "in one group".to_string(),
        group => format!("in groups by {}", group.join(", ")),
    };
    let within = match plan.within {
        Some(within) => format!("within {}", millis(within)),
        None => "without limit in time".to_string(),
    };
    let contiguity = match plan.nfa.strict {
        true => "no other events between",
        false => "other events may lie between",
    };
    put(
        text,
        2,
        format!("match {} {by}, {within}, {contiguity}", plan.pattern),
    );
    for variable in &plan.variables {
        let row = variable.row.as_ref().map(|row| row.sql.as_str());
        let tried = variable.tried.as_ref();
        let how = match (row, tried) {
            (Some(row), None) => format!("{row}, for whole batches"),
            (Some(row), Some(_)) => format!("{row}, for whole batches; the rest looks back"),
            (None, Some(_)) => "looks back, event by event".to_string(),
            (None, None) => "any event".to_string(),
        };
        put(text, 3, format!("{}: {how}", variable.name));
    }
    let after = match plan.after {
        AfterMatch::SkipPastLastEvent => "a match ends all other starts of its group",
        AfterMatch::SkipToNextEvent => "every start is looked at by itself",
    };
    put(text, 2, after.to_string());
    let elements = plan.nfa.variables.len();
    put(
        text,
        2,
        format!(
            "state: for each start at most {elements} way{} and the events they have taken; at most {} starts a group",
            if elements == 1 { "" } else { "s" },
            plan.most_partial
        ),
    );
    put(text, 2, format!("emits {}", typed_columns(&node.schema)));
}

fn dedup_text(text: &mut String, plan: &DedupPlan) {
    let by: Vec<&str> = plan
        .by
        .iter()
        .map(|by| match by.sql.starts_with('#') {
            true => "a computed column",
            false => by.sql.as_str(),
        })
        .collect();
    let (within, kept) = (millis(plan.within), millis(plan.within.saturating_mul(2)));
    let first = format!(
        "first of rows with equal {}, within {within}",
        by.join(", ")
    );
    put(text, 2, first);
    let state =
        format!("state: keys and times of the rows that went through, for {kept} of event time");
    put(text, 2, state);
}

fn top_text(text: &mut String, node: &NodePlan, plan: &TopNPlan) {
    let name = |at: usize| node.schema.field(at).name().as_str();
    let by: Vec<String> = plan
        .by
        .iter()
        .map(|by| {
            let direction = if by.descending { " DESC" } else { "" };
            let nulls = if by.nulls_first { " NULLS FIRST" } else { "" };
            format!("{}{direction}{nulls}", name(by.column))
        })
        .collect();
    let partition: Vec<&str> = plan.partition.iter().map(|at| name(*at)).collect();
    let of = match partition.as_slice() {
        [] => "a window".to_string(),
        columns => format!("a window and {}", columns.join(", ")),
    };
    put(
        text,
        2,
        format!("first {} of {of} by {}", plan.n, by.join(", ")),
    );
    put(
        text,
        2,
        "state: the first rows of each open window".to_string(),
    );
}

fn window_kind(kind: WindowKind) -> String {
    let shifted = |offset: Millis| {
        if offset == 0 {
            String::new()
        } else {
            format!(" shifted by {}", millis(offset))
        }
    };
    match kind {
        WindowKind::Tumbling { size, offset } => {
            format!("tumbling {}{} windows", millis(size), shifted(offset))
        }
        WindowKind::Sliding {
            size,
            slide,
            offset,
        } => format!(
            "sliding {} every {}{} windows",
            millis(size),
            millis(slide),
            shifted(offset)
        ),
        WindowKind::Cumulating { size, step } => {
            format!("cumulating {} by {} windows", millis(size), millis(step))
        }
        WindowKind::Session { gap } => format!("session (gap {}) windows", millis(gap)),
        WindowKind::Running { ttl } => {
            format!("running, forgotten {} after the newest row", millis(ttl))
        }
    }
}

fn items(schema: &Schema, project: &[Compiled]) -> String {
    let items =
        project
            .iter()
            .zip(schema.fields())
            .map(|(expr, field)| match expr.sql == *field.name() {
                true => expr.sql.clone(),
                false if field.name().starts_with('#') => expr.sql.clone(),
                false => format!("{} AS {}", expr.sql, field.name()),
            });
    items.collect::<Vec<_>>().join(", ")
}

fn sink_text(text: &mut String, plan: &JobPlan, sink: &SinkPlan) {
    let exactly = plan.spec.guarantee == Guarantee::ExactlyOnce;
    let (what, guarantee) = match &sink.kind {
        SinkKind::Kafka(kafka) => (
            format!("topic `{}` on `{}`", kafka.topic, kafka.connection),
            if exactly {
                "exactly-once: in the transaction of the epoch"
            } else {
                "at-least-once"
            },
        ),
        SinkKind::File(file) => (
            format!("file `{}`", file.path),
            if exactly {
                "exactly-once: a file beside it notes which epochs it has"
            } else {
                "at-least-once"
            },
        ),
        SinkKind::Stdout => ("standard output".to_string(), "at-least-once"),
    };
    put(text, 1, format!("{}: {what}, {guarantee}", sink.name));
    let key: Vec<&str> = sink
        .key
        .iter()
        .map(|at| sink.schema.field(*at).name().as_str())
        .collect();
    if !key.is_empty() {
        put(text, 2, format!("key: {}", key.join(", ")));
    }
    let updating = sink.from.iter().any(|from| match from.feed {
        super::Feed::Node {
            node,
            port: super::Port::Main,
        } => plan.stages[from.stage].nodes[node].updating,
        _ => false,
    });
    if updating {
        let form = if sink.keyed {
            "a tombstone"
        } else {
            "the row again with `\"_op\": \"delete\"`"
        };
        put(text, 2, format!("a withdrawn row is {form}"));
    }
}

fn millis(millis: Millis) -> String {
    Duration::from_millis(millis).to_string()
}
