//! A job file, from its text to a typed job: every problem is found at once and pointed at by line and column.
//!
//! Three passes, so that one mistake does not hide another:
//! 1. `yaml` reads the text into a plain tree, and notes where each field stands (`SourceMap`);
//! 2. `check` holds the tree against the schema of `StreamJob`, the same one that a cluster enforces;
//! 3. a tree without problems becomes a `StreamJob`.
//!
//! What it does not own: whether the job makes sense (names that refer to nothing, SQL, windows). That is the
//! planner's, whose problems `render` shows in the same way.

mod check;
mod render;
mod scalar;
mod schema;
mod source_map;
mod yaml;

use std::fmt;

use serde_json::Value;
use streamjob_crds::StreamJob;

pub use check::check;
pub use render::{render, render_warnings};
pub use source_map::{Location, SourceMap};

use crate::problem::Problem;

/// A job that has the right form.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// With a namespace: `default` where the file names none.
    pub job: StreamJob,
    pub source_map: SourceMap,
}

/// A job file that was refused: what is wrong with it, and where.
#[derive(Clone, Debug)]
pub struct BadManifest {
    /// At least one.
    pub problems: Vec<Problem>,
    pub source_map: SourceMap,
}

impl fmt::Display for BadManifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for BadManifest {}

/// Reads a job file.
pub fn load(text: &str) -> Result<Manifest, BadManifest> {
    let yaml::Document {
        value,
        mut source_map,
        mut problems,
    } = yaml::read(text);
    if let Some(value) = value {
        for finding in check::findings(&value) {
            // What could not be read has been told; that it does not fit either is no news.
            let told = |problem: &Problem| {
                !problem.path.is_empty() && is_within(&finding.problem.path, &problem.path)
            };
            if problems.iter().any(told) {
                continue;
            }
            if finding.at_key {
                source_map.pin_to_key(&finding.problem);
            }
            problems.push(finding.problem);
        }
        if problems.is_empty() {
            match from_value(value) {
                Ok(job) => return Ok(Manifest { job, source_map }),
                Err(problem) => problems.push(problem),
            }
        }
    }
    Err(BadManifest {
        problems,
        source_map,
    })
}

/// The typed job of a tree that `check` found nothing wrong with.
pub fn from_value(mut value: Value) -> Result<StreamJob, Problem> {
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    let mut job: StreamJob = serde_path_to_error::deserialize(value)
        .map_err(|error| Problem::new(error.path().to_string(), error.inner().to_string()))?;
    job.metadata
        .namespace
        .get_or_insert_with(|| "default".into());
    Ok(job)
}

/// The path of a field of the object at `path`. Names that would blur it stand in quotes: `properties["client.rack"]`.
fn child(path: &str, name: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
    match (path, name.chars().all(plain)) {
        ("", true) => name.into(),
        (_, true) => format!("{path}.{name}"),
        (_, false) => format!("{path}[{name:?}]"),
    }
}

/// Whether `path` is `ancestor` or lies in it.
fn is_within(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests;
