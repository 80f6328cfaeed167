//! DataFusion's planning errors, as problems in the words of a job file.

use std::collections::BTreeSet;

use datafusion_common::DataFusionError;

use super::parse::Text;
use super::types::in_our_words;
use crate::problem::{Problem, list, lower_first};

/// The problem that a planning error tells of.
pub(super) fn problem(error: &DataFusionError, text: Text<'_>) -> Problem {
    let told = heart(error);
    let told = told.as_str();
    if let Some(types) = between(
        told,
        "Cannot coerce arithmetic expression ",
        " to valid types",
    ) {
        return text
            .problem(format!("`{types}` cannot be computed"))
            .hint("cast one of them, for example `CAST(… AS DOUBLE)`");
    }
    if let Some(types) = between(
        told,
        "Cannot infer common argument type for comparison operation ",
        "",
    ) {
        let problem = text.problem(format!("`{types}` cannot be compared"));
        return problem.hint(
            match types.contains("Timestamp") && types.contains("Int64") {
                true => "make a Timestamp of milliseconds with `to_timestamp_millis(…)`",
                false => "cast one of them, for example `CAST(… AS VARCHAR)`",
            },
        );
    }
    if let Some((value, data_type)) = between(told, "Cast error: Cannot cast string ", " type")
        .and_then(|cast| cast.split_once(" to value of "))
    {
        return text.problem(format!("{value} is not a {data_type}"));
    }
    if let Some((name, attempts)) =
        between(told, "Function '", "").and_then(|rest| rest.split_once("' failed to match any"))
    {
        return no_signature(name, attempts, text);
    }
    if let Some((name, wrong)) =
        between(told, "Function '", "").and_then(|rest| rest.split_once("' expects "))
    {
        return text.problem(format!(
            "`{name}` expects {}",
            wrong.replace("but received", "but is given")
        ));
    }
    text.problem(lower_first(told))
}

/// A function that takes arguments in several ways, none of which fits; DataFusion tells of each attempt.
fn no_signature(name: &str, attempts: &str, text: Text<'_>) -> Problem {
    let problem = text.problem(format!("`{name}` does not take these arguments"));
    let taken: BTreeSet<&str> = attempts
        .split("requires ")
        .skip(1)
        .filter_map(|attempt| Some(attempt.split_once(',')?.0))
        .collect();
    match taken.is_empty() {
        true => problem,
        false => {
            let taken: Vec<&str> = taken.into_iter().collect();
            problem.hint(format!("it takes {}", list(&taken, "or")))
        }
    }
}

fn between<'a>(text: &'a str, before: &str, behind: &str) -> Option<&'a str> {
    text.strip_prefix(before)?.strip_suffix(behind)
}

/// The heart of an error, in one line.
fn heart(error: &DataFusionError) -> String {
    let root = match error {
        DataFusionError::Diagnostic(_, inner) => inner.as_ref(),
        other => other,
    };
    let text = root.find_root().message().into_owned();
    let text = text
        .split(DataFusionError::BACK_TRACE_SEP)
        .next()
        .unwrap_or_default();
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or("the expression cannot be planned");
    in_our_words(line).trim_end_matches('.').to_string()
}
