//! What can be wrong with a `generate` source.

use arrow::datatypes::DataType;
use streamjob_crds::{GenerateSource, GeneratedField, Scalar};

use super::field::{decimals, path, start, uniform};
use super::template::collide;
use crate::plan::DecodeColumn;
use crate::problem::Problem;

/// All problems of a source. `at` is where it is, such as `spec.sources[0].generate`; `key` names the columns that
/// the source is partitioned by.
pub fn problems(
    source: &GenerateSource,
    columns: &[DecodeColumn],
    key: &[String],
    at: &str,
) -> Vec<Problem> {
    let mut found = Vec::new();
    if source.partitions == 0 {
        found.push(Problem::new(
            format!("{at}.partitions"),
            "there must be at least one partition",
        ));
    }
    if source.rows_per_second == Some(0) {
        found.push(
            Problem::new(
                format!("{at}.rowsPerSecond"),
                "at this pace no event ever comes",
            )
            .hint("leave it out to go as fast as it goes"),
        );
    }
    let paths: Vec<Vec<String>> = source
        .fields
        .iter()
        .map(|field| path(&field.name))
        .collect();
    for (index, field) in source.fields.iter().enumerate() {
        let at = format!("{at}.fields[{index}]");
        let column = columns.iter().find(|column| column.path == paths[index]);
        of_name(field, &paths[..index], &at, &mut found);
        of_kind(
            field,
            column.map(|column| &column.data_type),
            &at,
            &mut found,
        );
        if field.now.is_some() && column.is_some_and(|column| key.contains(&column.name)) {
            found.push(
                Problem::new(format!("{at}.now"), "a key cannot be made of the clock: a replay would put the event into another partition")
                    .hint("use `every`"),
            );
        }
    }
    let unmade = columns
        .iter()
        .filter(|column| !column.nullable && !paths.contains(&column.path));
    found.extend(unmade.map(|column| {
        let message = format!(
            "no field makes `{}`, which column `{}` needs",
            column.path.join("."),
            column.name
        );
        Problem::new(format!("{at}.fields"), message)
            .hint("add the field, or declare the column `nullable: true`")
    }));
    found
}

fn of_name(field: &GeneratedField, before: &[Vec<String>], at: &str, found: &mut Vec<Problem>) {
    let own = path(&field.name);
    if own.iter().any(String::is_empty) {
        found.push(Problem::new(
            format!("{at}.name"),
            format!("`{}` is no name: a part of it is empty", field.name),
        ));
    } else if let Some(other) = before.iter().find(|other| collide(&own, other)) {
        let message = format!(
            "`{}` and `{}` cannot be in one event",
            other.join("."),
            field.name
        );
        found.push(
            Problem::new(format!("{at}.name"), message)
                .hint("a name may be there once, and be a value or an object"),
        );
    }
}

fn of_kind(field: &GeneratedField, column: Option<&DataType>, at: &str, found: &mut Vec<Problem>) {
    let GeneratedField {
        name: _,
        sequence,
        uniform: ends,
        choice,
        now,
        every,
    } = field;
    let kinds = [
        sequence.is_some(),
        ends.is_some(),
        choice.is_some(),
        now.is_some(),
        every.is_some(),
    ];
    if kinds.into_iter().filter(|kind| *kind).count() != 1 {
        let message =
            "a field is made in exactly one way: `sequence`, `uniform`, `choice`, `now` or `every`";
        found.push(Problem::new(at, message));
    }
    if let Some(ends) = ends {
        let decimals = decimals(column);
        if uniform(ends.min, ends.max, decimals).is_none() {
            let what = if decimals == 0 { "integer" } else { "number" };
            let message = format!("there is no {what} between {} and {}", ends.min, ends.max);
            found.push(
                Problem::new(format!("{at}.uniform"), message)
                    .hint("`min` must not be greater than `max`"),
            );
        }
    }
    if let Some(values) = choice {
        if values.is_empty() {
            found.push(Problem::new(
                format!("{at}.choice"),
                "there is nothing to choose from",
            ));
        }
        let scalar = |Scalar(value): &Scalar| !value.is_array() && !value.is_object();
        for (index, _) in values
            .iter()
            .enumerate()
            .filter(|(_, value)| !scalar(value))
        {
            let message = "a choice is a string, number, boolean or null";
            found.push(Problem::new(format!("{at}.choice[{index}]"), message));
        }
    }
    if let Some(every) = every
        && start(every.start.as_ref()).is_none()
    {
        let message = "this is no time: write RFC 3339, such as `2026-01-01T00:00:00Z`, or epoch milliseconds";
        found.push(Problem::new(format!("{at}.every.start"), message));
    }
}
