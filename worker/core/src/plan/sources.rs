//! Sources: their columns as the decoder builds them, and the stream they make.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use streamjob_crds::{Column, ColumnType, Connection, Source, StartFrom};

use super::connections::check_topic;
use super::names::{check_list, column_problem, exactly_one, unknown};
use super::stream::Stream;
use super::{DecodeColumn, SourceKind, SourcePlan};
use crate::generate;
use crate::problem::Problem;

/// A source that stands; `stream` has all its columns.
#[derive(Clone, Debug)]
pub(super) struct ResolvedSource {
    pub plan: SourcePlan,
    pub stream: Stream,
}

/// Checks all sources. One with problems gives `None`: what reads it is then not looked into.
pub(super) fn resolve_all(
    sources: &[Source],
    connections: &[Connection],
    problems: &mut Vec<Problem>,
) -> Vec<Option<ResolvedSource>> {
    if sources.is_empty() {
        problems.push(Problem::new("spec.sources", "a job needs a source"));
    }
    check_list(
        sources.iter().map(|source| source.name.as_str()),
        "spec.sources",
        "source",
        problems,
    );
    let resolved = sources.iter().enumerate().map(|(at, source)| {
        let before = problems.len();
        let resolved = resolve_one(
            source,
            connections,
            &format!("spec.sources[{at}]"),
            problems,
        );
        resolved.filter(|_| problems.len() == before)
    });
    resolved.collect()
}

fn resolve_one(
    source: &Source,
    connections: &[Connection],
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<ResolvedSource> {
    let kind = kind(source, connections, path, problems);
    let columns = columns(&source.columns, path, problems);
    let time_column = event_time(source, path, problems);
    for (at, name) in source.key.iter().enumerate() {
        let path = format!("{path}.key[{at}]");
        match source.columns.iter().find(|column| column.name == *name) {
            None => problems.push(unknown(&path, "column", name, names(source))),
            Some(_) if source.key[..at].contains(name) => problems.push(Problem::new(
                &path,
                format!("`{name}` is in the key already"),
            )),
            Some(_) => {}
        }
    }
    let (kind, columns, time_column) = (kind?, columns?, time_column?);
    if let SourceKind::Generate(generated) = &kind {
        problems.extend(generate::problems(
            generated,
            &columns,
            &source.key,
            &format!("{path}.generate"),
        ));
    }
    let fields = columns
        .iter()
        .map(|column| Field::new(&column.name, column.data_type.clone(), column.nullable));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let plan = SourcePlan {
        name: source.name.clone(),
        kind,
        columns,
        schema: schema.clone(),
        time_column,
        max_out_of_orderness: source.event_time.max_out_of_orderness.as_millis(),
        idle_after: source.event_time.idle_after.as_millis(),
        max_future: source
            .event_time
            .max_future
            .map(|future| future.as_millis()),
        on_malformed: source.on_malformed,
        key: source.key.clone(),
        malformed_read: false,
    };
    let one = |name: &String| BTreeSet::from([name.clone()]);
    let stream = Stream {
        schema,
        key: (!source.key.is_empty()).then(|| source.key.iter().map(one).collect()),
        time: Some(one(&source.event_time.column)),
        identity: None,
        updating: false,
        side: false,
    };
    Some(ResolvedSource { plan, stream })
}

fn names(source: &Source) -> impl Iterator<Item = &str> {
    source.columns.iter().map(|column| column.name.as_str())
}

fn kind(
    source: &Source,
    connections: &[Connection],
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<SourceKind> {
    let given = [
        ("kafka", source.kafka.is_some()),
        ("file", source.file.is_some()),
        ("generate", source.generate.is_some()),
    ];
    if !exactly_one(path, &given, problems) {
        return None;
    }
    if let Some(kafka) = &source.kafka {
        let path = format!("{path}.kafka");
        check_topic(
            connections,
            &kafka.connection,
            &kafka.topic,
            &path,
            problems,
        );
        if let StartFrom::Timestamp(text) = &kafka.start_from
            && text.parse::<jiff::Timestamp>().is_err()
        {
            let message = format!("`{text}` is not an RFC 3339 time");
            problems.push(
                Problem::new(format!("{path}.startFrom.timestamp"), message)
                    .hint("write for example `2026-01-31T12:00:00Z`"),
            );
        }
        return Some(SourceKind::Kafka(kafka.clone()));
    }
    if let Some(file) = &source.file {
        if file.path.is_empty() {
            problems.push(Problem::new(
                format!("{path}.file.path"),
                "the path is empty",
            ));
        }
        return Some(SourceKind::File(file.clone()));
    }
    source.generate.clone().map(SourceKind::Generate)
}

fn columns(
    columns: &[Column],
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<Vec<DecodeColumn>> {
    if columns.is_empty() {
        problems.push(Problem::new(
            format!("{path}.columns"),
            "a source needs columns",
        ));
    }
    let mut decoded = Vec::new();
    for (at, column) in columns.iter().enumerate() {
        let path = format!("{path}.columns[{at}]");
        if let Some(message) = column_problem(&column.name) {
            problems.push(
                Problem::new(format!("{path}.name"), message)
                    .hint("choose another name, and say `path` for the field"),
            );
        }
        if columns[..at].iter().any(|other| other.name == column.name) {
            problems.push(Problem::new(
                format!("{path}.name"),
                format!("there is a column `{}` already", column.name),
            ));
        }
        let json_path: Vec<String> = column
            .path
            .as_ref()
            .unwrap_or(&column.name)
            .split('.')
            .map(str::to_string)
            .collect();
        if json_path.iter().any(String::is_empty) {
            problems.push(
                Problem::new(format!("{path}.path"), "the path has an empty part")
                    .hint("write fields separated by dots"),
            );
        }
        if let Some(data_type) = data_type(column, &path, problems) {
            decoded.push(DecodeColumn {
                name: column.name.clone(),
                path: json_path,
                data_type,
                nullable: column.nullable,
                used: true,
            });
        }
    }
    (decoded.len() == columns.len()).then_some(decoded)
}

fn data_type(column: &Column, path: &str, problems: &mut Vec<Problem>) -> Option<DataType> {
    if column.data_type != ColumnType::Decimal {
        for (field, given) in [("precision", column.precision), ("scale", column.scale)] {
            if given.is_some() {
                problems.push(Problem::new(
                    format!("{path}.{field}"),
                    format!("`{field}` is for `type: Decimal` only"),
                ));
            }
        }
    }
    Some(match column.data_type {
        ColumnType::String => DataType::Utf8,
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Int64 => DataType::Int64,
        ColumnType::Double => DataType::Float64,
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Millisecond, None),
        ColumnType::Bytes => DataType::Binary,
        ColumnType::Decimal => return decimal(column, path, problems),
    })
}

fn decimal(column: &Column, path: &str, problems: &mut Vec<Problem>) -> Option<DataType> {
    let (Some(precision), Some(scale)) = (column.precision, column.scale) else {
        let message =
            "a Decimal needs `precision` (digits in all) and `scale` (digits after the point)";
        problems
            .push(Problem::new(path, message).hint("write for example `precision: 18, scale: 2`"));
        return None;
    };
    if !(1..=38).contains(&precision) || scale > precision {
        let message = format!(
            "a Decimal has 1 to 38 digits, of which `scale` come after the point; not {precision} and {scale}"
        );
        problems
            .push(Problem::new(path, message).hint("write for example `precision: 18, scale: 2`"));
        return None;
    }
    Some(DataType::Decimal128(precision, scale as i8))
}

/// Index of the event time column.
fn event_time(source: &Source, path: &str, problems: &mut Vec<Problem>) -> Option<usize> {
    let path = format!("{path}.eventTime");
    let name = &source.event_time.column;
    let column_path = format!("{path}.column");
    let Some(at) = source
        .columns
        .iter()
        .position(|column| column.name == *name)
    else {
        let timestamps = source
            .columns
            .iter()
            .filter(|column| column.data_type == ColumnType::Timestamp);
        problems.push(unknown(
            column_path,
            "column",
            name,
            timestamps.map(|column| column.name.as_str()),
        ));
        return None;
    };
    let column = &source.columns[at];
    if column.data_type != ColumnType::Timestamp {
        let message = format!(
            "the event time must be a Timestamp, but `{name}` is declared as {:?}",
            column.data_type
        );
        problems.push(
            Problem::new(&column_path, message)
                .hint("say `type: Timestamp`: it takes epoch milliseconds and RFC 3339"),
        );
    }
    if column.nullable {
        let message = format!("`{name}` is nullable, but every event needs a time");
        problems.push(
            Problem::new(&column_path, message)
                .hint("leave out `nullable: true`: an event without it is then malformed"),
        );
    }
    if source.event_time.idle_after.as_millis() == 0 {
        problems.push(
            Problem::new(
                format!("{path}.idleAfter"),
                "a partition cannot be idle at once",
            )
            .hint("write for example `1m`"),
        );
    }
    Some(at)
}
