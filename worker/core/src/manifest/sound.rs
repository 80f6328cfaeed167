//! What is left of a job with mistakes of form, so that the planner can look at the rest of it: one mistake does not
//! hide another.
//!
//! A source, step, sink or connection with a mistake is replaced by one of its name that the planner knows of and does
//! not accept: what reads it is then not looked into. Other fields with mistakes are left out.

use serde_json::{Value, json};
use streamjob_crds::StreamJob;

use super::{from_value, is_within};
use crate::problem::Problem;

pub(super) struct Sound {
    pub job: StreamJob,
    /// Paths of what was replaced.
    replaced: Vec<String>,
}

impl Sound {
    /// `None` where too little is left to be planned.
    pub fn of(mut job: Value, problems: &[Problem]) -> Option<Self> {
        let mut replaced = Vec::new();
        for problem in problems {
            let mut segments = problem.path.splitn(3, ['.', '[']);
            match (segments.next()?, segments.next()) {
                ("metadata", _) => job["metadata"] = json!({"name": "job"}),
                ("apiVersion", _) => {}
                ("spec", Some(list @ ("connections" | "sources" | "steps" | "sinks"))) => {
                    let (index, _) = segments.next()?.split_once(']')?;
                    let index: usize = index.parse().ok()?;
                    let element = job["spec"][list].get_mut(index)?;
                    *element = stand_in(list, element);
                    replaced.push(format!("spec.{list}[{index}]"));
                }
                // A field that may be what another one lacks.
                ("spec", Some(field)) if !OPTIONAL.contains(&field) => return None,
                ("spec", Some(field)) => {
                    job["spec"].as_object_mut()?.remove(field);
                    if field == "guarantee" {
                        // The one that forbids less.
                        job["spec"][field] = "AtLeastOnce".into();
                    }
                }
                _ => return None,
            }
        }
        job["apiVersion"] = "streamjob.dev/v1alpha1".into();
        let job = from_value(job).ok()?;
        Some(Sound { job, replaced })
    }

    /// Whether a problem that the planner found is one of the job's, and was not told yet.
    pub fn is_news(&self, problem: &Problem, told: &[Problem]) -> bool {
        let within = |part: &str| is_within(&problem.path, part);
        let is_told = told.iter().any(|told| within(&told.path));
        // What a step or sink reads was kept.
        let kept = problem.path.ends_with(".from");
        !is_told && (kept || !self.replaced.iter().any(|part| within(part)))
    }
}

/// Fields of a spec that a job can do without.
const OPTIONAL: [&str; 12] = [
    "autoscaling",
    "checkpoint",
    "epoch",
    "guarantee",
    "journal",
    "maxParallelism",
    "podTemplate",
    "replicas",
    "resources",
    "state",
    "suspend",
    "upgrade",
];

/// An element of the form that the planner takes, which it refuses.
fn stand_in(list: &str, element: &Value) -> Value {
    let text = |field: &str| element[field].as_str().unwrap_or_default();
    let (name, from) = (text("name"), text("from"));
    match list {
        // Whatever is asked of it, it may have been that.
        "connections" => {
            json!({"name": name, "kafka": {"bootstrapServers": []}, "s3": {"bucket": ""}})
        }
        "sources" => json!({"name": name, "columns": [], "eventTime": {"column": ""}}),
        "steps" => json!({"name": name, "from": from, "window": {}}),
        _ => json!({"name": name, "from": from, "stdout": {}}),
    }
}
