//! Names: their form, that they differ, and what a reference means.

use std::collections::BTreeSet;

use crate::problem::{Problem, did_you_mean, list};

/// Column names that the engine gives out itself.
const RESERVED: [&str; 5] = [
    "window_start",
    "window_end",
    "match_start",
    "match_end",
    "_op",
];

/// What a column name may not be; `None`: it is fine.
pub(super) fn column_problem(name: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(fits) || name.starts_with(|c: char| c.is_ascii_digit())
    {
        return Some(format!(
            "`{name}` is not a column name: use letters, digits and `_`, and do not begin with a digit"
        ));
    }
    RESERVED
        .contains(&name)
        .then(|| format!("`{name}` is reserved: the engine itself emits columns of this name"))
}

/// Form and difference of the names in one list of the manifest.
pub(super) fn check_list<'a>(
    names: impl Iterator<Item = &'a str>,
    path: &str,
    what: &str,
    problems: &mut Vec<Problem>,
) {
    let mut seen: Vec<&str> = Vec::new();
    for (at, name) in names.enumerate() {
        let path = format!("{path}[{at}].name");
        if !is_name(name) {
            problems.push(
                Problem::new(&path, format!("`{name}` is not a name for a {what}"))
                    .hint("letters, digits, `_` and `-`, starting with a letter, at most 63"),
            );
        }
        if seen.contains(&name) {
            problems.push(Problem::new(
                &path,
                format!("there is a {what} `{name}` already"),
            ));
        }
        seen.push(name);
    }
}

/// Dots are left out of names: they separate a side stream from its step.
fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (1..=63).contains(&name.len())
        && name.chars().all(fits)
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// Name and namespace as Kubernetes has them: topics and transactional ids are made of them.
pub(super) fn check_job(name: &str, namespace: &str, problems: &mut Vec<Problem>) {
    for (path, value, longest) in [
        ("metadata.name", name, 52),
        ("metadata.namespace", namespace, 63),
    ] {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if value.is_empty()
            || value.len() > longest
            || !value.chars().all(fits)
            || value.starts_with('-')
            || value.ends_with('-')
        {
            problems.push(
                Problem::new(path, format!("`{value}` is not a name that Kubernetes takes"))
                    .hint(format!("lower-case letters, digits and `-`, at most {longest}, beginning and ending with a letter or digit")),
            );
        }
    }
}

/// A reference to something that is not there.
pub(super) fn unknown<'a>(
    path: impl Into<String>,
    what: &str,
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Problem {
    let problem = Problem::new(path, format!("there is no {what} `{name}`"));
    let mut known: Vec<&str> = known.into_iter().collect();
    let mut seen = BTreeSet::new();
    known.retain(|name| seen.insert(*name));
    match did_you_mean(name, known.iter().copied()) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None if known.is_empty() => problem,
        None => problem.hint(format!("there are: {}", listed(&known))),
    }
}

pub(super) fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 12;
    let shown: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{name}`"))
        .collect();
    shown.join(", ") + if names.len() > SHOWN { ", …" } else { "" }
}

/// Complains where more than one of `given` is there.
pub(super) fn at_most_one(path: &str, given: &[(&str, bool)], problems: &mut Vec<Problem>) -> bool {
    let of = |there: bool| given.iter().filter(move |given| given.1 || !there);
    let present: Vec<&str> = of(true).map(|(name, _)| *name).collect();
    if present.len() > 1 {
        let all: Vec<&str> = of(false).map(|(name, _)| *name).collect();
        let (all, present) = (listed(&all), list(&present, "and"));
        problems.push(
            Problem::new(
                path,
                format!("at most one of {all} may be given, not {present}"),
            )
            .hint("make two steps, one after the other"),
        );
        return false;
    }
    true
}

/// Complains unless one of `given` is there, and only one.
pub(super) fn exactly_one(path: &str, given: &[(&str, bool)], problems: &mut Vec<Problem>) -> bool {
    let present: Vec<&str> = given
        .iter()
        .filter(|(_, there)| *there)
        .map(|(name, _)| *name)
        .collect();
    let all: Vec<&str> = given.iter().map(|(name, _)| *name).collect();
    match present.as_slice() {
        [_] => return true,
        [] => problems.push(Problem::new(
            path,
            format!("exactly one of {} must be given", listed(&all)),
        )),
        several => problems.push(Problem::new(
            path,
            format!(
                "exactly one of {} must be given, not {}",
                listed(&all),
                list(several, "and")
            ),
        )),
    }
    false
}
