//! The form of a job: what kind of document it is, its metadata, its fields.

use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Value, json};
use streamjob_crds::{StartFrom, stream_job_crd};

use super::schema::{Finding, LABEL_PATTERN, Walker};
use crate::problem::Problem;

const API_VERSION: &str = "streamjob.dev/v1alpha1";
const KIND: &str = "StreamJob";

/// Everything that is wrong with the form of a job, read from a file or from a cluster.
pub fn check(job: &Value) -> Vec<Problem> {
    findings(job)
        .into_iter()
        .map(|finding| finding.problem)
        .collect()
}

pub(super) fn findings(job: &Value) -> Vec<Finding> {
    let mut findings = kind_of_document(job);
    // Whatever it is, its fields are not those of a job.
    if findings
        .iter()
        .any(|finding| finding.problem.path == "kind")
    {
        return findings;
    }
    let mut walker = Walker::default();
    walker.walk("", &SCHEMA, job);
    findings.extend(walker.findings);
    findings.extend(starts(job));
    findings
}

/// The schema of a whole document.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let crd = serde_json::to_value(stream_job_crd()).unwrap_or_default();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    json!({
        "type": "object",
        "required": ["metadata", "spec"],
        "properties": {
            "apiVersion": {"description": API_VERSION},
            "kind": {"description": KIND},
            "metadata": metadata(),
            "spec": schema["properties"]["spec"],
            "status": {"x-kubernetes-preserve-unknown-fields": true},
        },
    })
});

/// What a user writes of an object's metadata is checked; what a cluster adds is let through.
fn metadata() -> Value {
    let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let mut schema = json!({
        "type": "object",
        "required": ["name"],
        "description": "Give the job a name: `metadata: {name: my-job}`.",
        "properties": {
            "name": {"type": "string", "pattern": LABEL_PATTERN, "maxLength": 52, "description": "Give the job a name: `name: my-job`."},
            "namespace": {"type": "string", "pattern": LABEL_PATTERN, "maxLength": 63},
            "labels": texts,
            "annotations": texts,
        },
    });
    for field in [
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    ] {
        schema["properties"][field] = json!({"x-kubernetes-preserve-unknown-fields": true});
    }
    schema
}

fn kind_of_document(job: &Value) -> Vec<Finding> {
    if !job.is_object() {
        return vec![]; // told by the schema
    }
    [("apiVersion", API_VERSION), ("kind", KIND)]
        .into_iter()
        .filter_map(|(field, expected)| {
            let problem = match &job[field] {
                Value::String(given) if given == expected => return None,
                Value::Null => Problem::new(field, "required field is missing"),
                Value::String(given) => {
                    Problem::new(field, format!("expected `{expected}`, found `{given}`"))
                }
                other => Problem::new(field, format!("expected `{expected}`, found `{other}`")),
            };
            Some(Finding {
                problem: problem.hint(format!("write `{field}: {expected}`")),
                at_key: false,
            })
        })
        .collect()
}

/// `startFrom` is a word or an object, which the schema of a CRD cannot say.
fn starts(job: &Value) -> Vec<Finding> {
    let sources = job["spec"]["sources"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate();
    sources
        .filter_map(|(index, source)| {
            let start = source.get("kafka")?.get("startFrom")?;
            let error = StartFrom::deserialize(start).err()?;
            let path = format!("spec.sources[{index}].kafka.startFrom");
            let problem = match error.to_string().split_once("; ") {
                Some((message, hint)) => Problem::new(path, message).hint(hint),
                None => Problem::new(path, error.to_string()),
            };
            Some(Finding {
                problem,
                at_key: false,
            })
        })
        .collect()
}
