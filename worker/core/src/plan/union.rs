//! `union`: several streams as one.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema};

use super::stream::Stream;
use crate::expr::type_name;
use crate::problem::Problem;

/// The stream that `streams`, of these names, make together; `path`: the field that names them.
pub(super) fn union(
    names: &[String],
    streams: &[Stream],
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<Stream> {
    let (first, others) = streams.split_first()?;
    let before = problems.len();
    for (at, other) in others.iter().enumerate() {
        let differences = differences(&names[0], &first.schema, &names[at + 1], &other.schema);
        if !differences.is_empty() {
            let message = format!(
                "these streams have other columns: {}",
                differences.join("; ")
            );
            problems.push(Problem::new(format!("{path}[{}]", at + 1), message).hint(
                "bring them to the same names and types before, each in a step with `select`",
            ));
        }
    }
    let fields = first.schema.fields().iter().map(|field| {
        let nullable = streams.iter().any(|stream| {
            let same = stream.schema.field_with_name(field.name());
            same.is_ok_and(Field::is_nullable)
        });
        field.as_ref().clone().with_nullable(nullable)
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let time = time(streams);
    if time.as_ref().is_some_and(BTreeSet::is_empty) {
        problems.push(
            Problem::new(
                path,
                "these streams have their event times in different columns",
            )
            .hint("give them one name before, in steps with `select`"),
        );
    }
    (problems.len() == before).then_some(Stream {
        schema,
        key: None,
        time,
        identity: None,
        updating: streams.iter().any(|stream| stream.updating),
        side: streams.iter().any(|stream| stream.side),
    })
}

/// The event time column, where all have it.
fn time(streams: &[Stream]) -> Option<BTreeSet<String>> {
    let mut times = streams.iter().map(|stream| stream.time.as_ref());
    let first = times.next()??.clone();
    times.try_fold(first, |common, time| Some(&common & time?))
}

fn differences(one: &str, first: &Schema, two: &str, second: &Schema) -> Vec<String> {
    let mut differences = Vec::new();
    for field in first.fields() {
        match second.field_with_name(field.name()) {
            Err(_) => differences.push(format!("`{two}` has no `{}`", field.name())),
            Ok(other) if other.data_type() != field.data_type() => {
                let (name, here) = (field.name(), type_name(field.data_type()));
                let there = type_name(other.data_type());
                differences.push(format!(
                    "`{name}` is {here} in `{one}` and {there} in `{two}`"
                ));
            }
            Ok(_) => {}
        }
    }
    let unknown = |field: &&Arc<Field>| first.field_with_name(field.name()).is_err();
    let more = second.fields().iter().filter(unknown);
    differences.extend(more.map(|field| format!("`{one}` has no `{}`", field.name())));
    differences
}
