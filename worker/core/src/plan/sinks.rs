//! Sinks: where rows go, and what a withdrawn row looks like there.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::DataType;
use streamjob_crds::{Connection, Sink};

use super::SinkKind;
use super::connections::check_topic;
use super::names::{exactly_one, unknown};
use super::stream::Stream;
use crate::problem::Problem;

/// A sink that stands.
#[derive(Clone, Debug)]
pub(super) struct ResolvedSink {
    pub name: String,
    pub from: String,
    pub schema: arrow::datatypes::SchemaRef,
    pub kind: SinkKind,
    pub key: Vec<usize>,
    pub keyed: bool,
}

/// Checks the sink at `path`; `stream`: what it takes, if that is known.
pub(super) fn resolve_one(
    sink: &Sink,
    stream: Option<&Stream>,
    connections: &[Connection],
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<ResolvedSink> {
    let given = [
        ("kafka", sink.kafka.is_some()),
        ("file", sink.file.is_some()),
        ("stdout", sink.stdout.is_some()),
    ];
    if !exactly_one(path, &given, problems) {
        return None;
    }
    let (kind, key) = if let Some(kafka) = &sink.kafka {
        let path = format!("{path}.kafka");
        check_topic(
            connections,
            &kafka.connection,
            &kafka.topic,
            &path,
            problems,
        );
        if kafka
            .create
            .as_ref()
            .is_some_and(|create| create.partitions == 0)
        {
            problems.push(Problem::new(
                format!("{path}.create.partitions"),
                "a topic has at least one partition",
            ));
        }
        let key = stream
            .map(|stream| key(&kafka.key, stream, &path, problems))
            .unwrap_or_default();
        (SinkKind::Kafka(kafka.clone()), key)
    } else if let Some(file) = &sink.file {
        if file.path.is_empty() {
            problems.push(Problem::new(
                format!("{path}.file.path"),
                "the path is empty",
            ));
        }
        (SinkKind::File(file.clone()), Vec::new())
    } else {
        (SinkKind::Stdout, Vec::new())
    };
    let stream = stream?;
    let key_names: Vec<&str> = sink
        .kafka
        .iter()
        .flat_map(|kafka| &kafka.key)
        .map(String::as_str)
        .collect();
    Some(ResolvedSink {
        name: sink.name.clone(),
        from: sink.from.clone(),
        schema: Arc::clone(&stream.schema),
        kind,
        key,
        keyed: is_keyed(stream, &key_names),
    })
}

/// Indices of the Kafka key's columns.
fn key(names: &[String], stream: &Stream, path: &str, problems: &mut Vec<Problem>) -> Vec<usize> {
    let mut indices = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let path = format!("{path}.key[{at}]");
        match stream.schema.index_of(name) {
            Err(_) => problems.push(unknown(path, "column", name, stream.columns())),
            Ok(index) if indices.contains(&index) => problems.push(Problem::new(
                path,
                format!("`{name}` is in the key already"),
            )),
            Ok(index) if matches!(stream.schema.field(index).data_type(), DataType::List(_)) => {
                problems.push(Problem::new(
                    path,
                    format!("`{name}` is a list, which cannot be in a key"),
                ));
            }
            Ok(index) => indices.push(index),
        }
    }
    indices
}

/// Whether equal keys mean the same row of a group: the key covers the group columns and `window_start`.
fn is_keyed(stream: &Stream, key: &[&str]) -> bool {
    let Some(identity) = &stream.identity else {
        return false;
    };
    let covered = |names: &BTreeSet<String>| key.iter().any(|name| names.contains(*name));
    // The row of one global group has nothing that could be its key.
    identity.key().next().is_some() && identity.key().all(covered)
}

/// Sinks that get in each other's way, or in the job's.
pub(super) fn check_together(sinks: &[Sink], problems: &mut Vec<Problem>) {
    for (at, sink) in sinks.iter().enumerate() {
        if let Some(file) = &sink.file
            && let Some(other) = sinks[..at].iter().find(|other| {
                other
                    .file
                    .as_ref()
                    .is_some_and(|other| other.path == file.path)
            })
        {
            let message = format!("sink `{}` writes `{}` already", other.name, file.path);
            problems.push(
                Problem::new(format!("spec.sinks[{at}].file.path"), message)
                    .hint("give each sink a file of its own"),
            );
        }
    }
}
