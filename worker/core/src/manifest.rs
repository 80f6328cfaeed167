//! A job file, from its text to a typed job: every problem is found at once and pointed at by line and column.
//!
//! Three passes, so that one mistake does not hide another:
//! 1. `yaml` reads the text into a plain tree, and notes where each field stands (`SourceMap`);
//! 2. `check` holds the tree against the schema of `StreamJob`, the same one that a cluster enforces;
//! 3. a tree without problems becomes a `StreamJob`.
//!
//! Whether the job makes sense (names that refer to nothing, SQL, windows) is the planner's to say; `validate` asks it
//! too, and also where the form is wrong in places, about the rest. `render` shows what both find.

mod check;
mod render;
mod scalar;
mod schema;
mod sound;
mod source_map;
mod yaml;

use std::fmt;

use serde_json::Value;
use streamjob_crds::StreamJob;

pub use check::check;
pub use render::{render, render_warnings};
pub use source_map::{Location, SourceMap};

use self::sound::Sound;
use crate::plan::{JobPlan, plan};
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

/// Reads a job file and plans the job: all that is wrong with its form and its meaning is told at once.
pub fn validate(text: &str) -> Result<(Manifest, JobPlan), BadManifest> {
    let planned = |job: &StreamJob| {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
        plan(name, namespace, &job.spec)
    };
    let Read {
        value,
        source_map,
        mut problems,
    } = read(text);
    let Some(value) = value else {
        return Err(BadManifest {
            problems,
            source_map,
        });
    };
    if problems.is_empty() {
        match from_value(value) {
            Ok(job) => match planned(&job) {
                Ok(plan) => return Ok((Manifest { job, source_map }, plan)),
                Err(found) => problems = found,
            },
            Err(problem) => problems.push(problem),
        }
    } else if let Some(sound) = Sound::of(value, &problems) {
        let found = planned(&sound.job).err().unwrap_or_default();
        let news = found
            .into_iter()
            .filter(|problem| sound.is_news(problem, &problems));
        problems.extend(news.collect::<Vec<_>>());
    }
    Err(BadManifest {
        problems,
        source_map,
    })
}

/// Reads a job file; whether the job makes sense is not looked into.
pub fn load(text: &str) -> Result<Manifest, BadManifest> {
    let Read {
        value,
        source_map,
        mut problems,
    } = read(text);
    if let Some(value) = value.filter(|_| problems.is_empty()) {
        match from_value(value) {
            Ok(job) => return Ok(Manifest { job, source_map }),
            Err(problem) => problems.push(problem),
        }
    }
    Err(BadManifest {
        problems,
        source_map,
    })
}

/// A tree, and all that is wrong with its form.
struct Read {
    value: Option<Value>,
    source_map: SourceMap,
    /// At least one where there is no tree.
    problems: Vec<Problem>,
}

fn read(text: &str) -> Read {
    let yaml::Document {
        value,
        mut source_map,
        mut problems,
    } = yaml::read(text);
    for finding in value.iter().flat_map(check::findings) {
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
    Read {
        value,
        source_map,
        problems,
    }
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
