//! Digests of plans: whether two plans compute the same, and whether one can go on from the other's state.
//!
//! Both are XXH3 over a text made of names, types and the expressions' SQL, so they stay the same from build to build and
//! do not depend on how the user laid out the manifest.

use std::fmt::Write;

use arrow::datatypes::Schema;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::{
    AggregateCall, DedupPlan, Feed, JobPlan, Look, MatchPlan, NodeKind, NodePlan, Pick, SinkKind,
    SinkPlan, SourceKind, SourcePlan, StageInput, Tried, Variable, WindowPlan,
};
use crate::expr::Compiled;

/// A digest of everything that decides what the job puts out: sources, steps, exchanges and sinks; not of replicas,
/// resources, intervals of commits and checkpoints, or how servers are reached. 32 hexadecimal digits.
pub fn plan_hash(plan: &JobPlan) -> String {
    let mut text = String::from("plan v1\n");
    for source in &plan.sources {
        line(&mut text, &source_text(source));
    }
    for stage in &plan.stages {
        let input = match stage.input {
            StageInput::Source(index) => format!("source {index}"),
            StageInput::Exchange(index) => format!("exchange {index}"),
        };
        line(
            &mut text,
            &format!("stage of {input}: {}", schema_text(&stage.schema)),
        );
        for node in &stage.nodes {
            line(&mut text, &node_text(node));
        }
    }
    for exchange in &plan.exchanges {
        let from = format!("{}/{}", exchange.from.stage, feed_text(exchange.from.feed));
        line(
            &mut text,
            &format!(
                "exchange from {from} by {:?} to {}: {}",
                exchange.key,
                exchange.to_stage,
                schema_text(&exchange.schema)
            ),
        );
    }
    for sink in &plan.sinks {
        line(&mut text, &sink_text(sink));
    }
    format!("{:032x}", xxh3_128(text.as_bytes()))
}

/// A digest of what the state of a node that emits rows of `schema` depends on; equal: one can go on from the other's.
pub(super) fn state_hash(name: &str, kind: &NodeKind, schema: &Schema) -> u64 {
    let text = match kind {
        NodeKind::Stateless(_) => "stateless".to_string(),
        NodeKind::Window(window) => format!("{name}: {}", window_text(window)),
        NodeKind::Match(pattern) => format!("{name}: {}", match_text(pattern)),
        NodeKind::Deduplicate(plan) => format!("{name}: {}", dedup_text(plan)),
        NodeKind::TopN(plan) => format!("{name}: {plan:?} of {}", schema_text(schema)),
    };
    xxh3_64(text.as_bytes())
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn source_text(source: &SourcePlan) -> String {
    let mut text = format!("source {}: ", source.name);
    let _ = match &source.kind {
        SourceKind::Kafka(kafka) => write!(
            text,
            "kafka {}/{} from {:?} until {:?}",
            kafka.connection, kafka.topic, kafka.start_from, kafka.until
        ),
        SourceKind::File(file) => write!(text, "file {}", file.path),
        SourceKind::Generate(generate) => write!(text, "generate {generate:?}"),
    };
    for column in &source.columns {
        let _ = write!(
            text,
            "; {} at {:?}: {:?} {} {}",
            column.name, column.path, column.data_type, column.nullable, column.used
        );
    }
    let _ = write!(
        text,
        "; time {} -{} idle {} future {:?}; malformed {:?} {}; key {:?}",
        source.time_column,
        source.max_out_of_orderness,
        source.idle_after,
        source.max_future,
        source.on_malformed,
        source.malformed_read,
        source.key
    );
    text
}

fn node_text(node: &NodePlan) -> String {
    let kind = match &node.kind {
        NodeKind::Stateless(plan) => {
            let project = plan.project.as_deref().map(exprs_text);
            format!(
                "where {} select {project:?}",
                option_text(plan.filter.as_ref())
            )
        }
        NodeKind::Window(window) => window_text(window),
        NodeKind::Match(pattern) => match_text(pattern),
        NodeKind::Deduplicate(plan) => dedup_text(plan),
        NodeKind::TopN(plan) => format!("{plan:?}"),
    };
    let NodePlan {
        name,
        from,
        schema,
        updating,
        late_read,
        failed_read,
        timed_out_read,
        overflow_read,
        state_hash: _,
        kind: _,
    } = node;
    let matches = match (timed_out_read, overflow_read) {
        (false, false) => "",
        (true, false) => " timedOut",
        (false, true) => " overflow",
        (true, true) => " timedOut overflow",
    };
    format!(
        "node {name} from {}: {kind} -> {} {updating} {late_read} {failed_read}{matches}",
        feed_text(*from),
        schema_text(schema)
    )
}

fn window_text(window: &WindowPlan) -> String {
    let WindowPlan {
        input: _,
        kind,
        allowed_lateness,
        emit_every,
        filter,
        group,
        calls,
        aggregated,
        project,
        having,
        having_schema: _,
    } = window;
    let calls: Vec<String> = calls.iter().map(call_text).collect();
    format!(
        "{kind:?} late {allowed_lateness} every {emit_every:?} where {} by {} calls {} over {} select {} having {}",
        option_text(filter.as_ref()),
        exprs_text(group),
        calls.join(", "),
        schema_text(aggregated),
        exprs_text(project),
        option_text(having.as_ref()),
    )
}

fn match_text(plan: &MatchPlan) -> String {
    let MatchPlan {
        input,
        held,
        filter,
        partition,
        pattern,
        nfa,
        variables,
        within,
        after,
        most_partial,
        looks,
        matched,
        project,
    } = plan;
    let held = held.iter().map(|column| {
        let field = input.field(*column);
        format!("{} {:?}", field.name(), field.data_type())
    });
    let held: Vec<String> = held.collect();
    let variables = variables.iter().map(|Variable { name, row, tried }| {
        let tried = tried.as_ref().map_or(String::new(), |tried| {
            let Tried {
                looks,
                condition,
                schema: _,
            } = tried;
            format!(" and {} of {}", condition.sql, looks_text(looks))
        });
        format!("{name} as {}{tried}", option_text(row.as_ref()))
    });
    format!(
        "match {pattern} strict {} of {} where {} by {} define {} within {within:?} {after:?} most {most_partial} looks {} over {} select {}",
        nfa.strict,
        held.join(", "),
        option_text(filter.as_ref()),
        exprs_text(partition),
        variables.collect::<Vec<_>>().join("; "),
        looks_text(looks),
        schema_text(matched),
        exprs_text(project),
    )
}

fn looks_text(looks: &[Look]) -> String {
    let looks = looks.iter().map(|Look { variable, pick }| {
        let pick = match pick {
            Pick::First(of) => format!("first({})", of.sql),
            Pick::Last(of, back) => format!("last({}, {back})", of.sql),
            Pick::Fold(call) => call_text(call),
        };
        format!("{variable:?} {pick}")
    });
    looks.collect::<Vec<_>>().join(", ")
}

fn dedup_text(plan: &DedupPlan) -> String {
    let DedupPlan { by, within } = plan;
    format!("first of {} within {within}", exprs_text(by))
}

fn call_text(call: &AggregateCall) -> String {
    let AggregateCall {
        function,
        argument,
        filter,
        data_type,
        nullable,
    } = call;
    format!(
        "{function:?}({}) filter {}: {data_type:?} {nullable}",
        option_text(argument.as_ref()),
        option_text(filter.as_ref())
    )
}

fn sink_text(sink: &SinkPlan) -> String {
    let kind = match &sink.kind {
        SinkKind::Kafka(kafka) => format!("kafka {}/{}", kafka.connection, kafka.topic),
        SinkKind::File(file) => format!("file {}", file.path),
        SinkKind::Stdout => "stdout".to_string(),
    };
    let from: Vec<String> = sink
        .from
        .iter()
        .map(|from| format!("{}/{}", from.stage, feed_text(from.feed)))
        .collect();
    format!(
        "sink {}: {kind} from {} key {:?} {}: {}",
        sink.name,
        from.join("+"),
        sink.key,
        sink.keyed,
        schema_text(&sink.schema)
    )
}

fn feed_text(feed: Feed) -> String {
    match feed {
        Feed::Input => "input".to_string(),
        Feed::Malformed => "malformed".to_string(),
        Feed::Node { node, port } => format!("{node}.{port:?}"),
    }
}

pub(super) fn schema_text(schema: &Schema) -> String {
    let fields = schema.fields().iter().map(|field| {
        format!(
            "{} {:?} {}",
            field.name(),
            field.data_type(),
            field.is_nullable()
        )
    });
    fields.collect::<Vec<_>>().join(", ")
}

fn exprs_text(exprs: &[Compiled]) -> String {
    exprs
        .iter()
        .map(|expr| format!("{} {:?}", expr.sql, expr.data_type))
        .collect::<Vec<_>>()
        .join(", ")
}

fn option_text(expr: Option<&Compiled>) -> &str {
    expr.map_or("-", |expr| expr.sql.as_str())
}
