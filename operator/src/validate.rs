//! Whether a job can run in a cluster, as it is written. The worker's own planner says it, and what a cluster asks beyond.
//! Pure.

use kube::core::DynamicObject;
use serde_json::json;
use streamjob_core::manifest;
use streamjob_core::plan::{JobPlan, JournalPlan, SinkKind, SourceKind};
use streamjob_core::problem::Problem;

use crate::plan::Job;

/// A job that can run.
#[derive(Clone, Debug)]
pub struct Valid {
    pub job: Job,
    /// Without Kafka one worker does all: its journal is a file.
    pub one_worker: bool,
    /// Doubtful but not wrong.
    pub warnings: Vec<Problem>,
}

/// All that is wrong with a job, each with its field.
pub fn validate(object: &DynamicObject) -> Result<Valid, Vec<Problem>> {
    let name = object.metadata.name.clone().unwrap_or_default();
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let document = json!({
        "apiVersion": "streamjob.dev/v1alpha1",
        "kind": "StreamJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": object.data["spec"],
    });
    let (manifest, plan) = manifest::validate(&document.to_string()).map_err(|bad| bad.problems)?;
    let problems = not_for_clusters(&plan);
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Valid {
        job: Job {
            namespace,
            name,
            uid: object.metadata.uid.clone().unwrap_or_default(),
            spec: manifest.job.spec,
        },
        one_worker: plan.journal == JournalPlan::File,
        warnings: plan.warnings,
    })
}

/// What works on a laptop only: pods come and go, and their files with them.
fn not_for_clusters(plan: &JobPlan) -> Vec<Problem> {
    let sources = plan.sources.iter().enumerate();
    let sources = sources.filter(|(_, source)| matches!(source.kind, SourceKind::File(_)));
    let sources = sources.map(|(index, _)| format!("spec.sources[{index}].file"));
    let sinks = plan.sinks.iter().enumerate();
    let sinks = sinks.filter(|(_, sink)| matches!(sink.kind, SinkKind::File(_)));
    let sinks = sinks.map(|(index, _)| format!("spec.sinks[{index}].file"));
    let mut problems: Vec<Problem> = sources
        .chain(sinks)
        .map(|path| {
            Problem::new(path, "files are for runs on a laptop: a pod's go with it")
                .hint("use a Kafka topic")
        })
        .collect();
    if plan.journal == JournalPlan::File && plan.spec.restore_from.is_some() {
        problems.push(
            Problem::new(
                "spec.restoreFrom",
                "snapshots are of jobs with Kafka: the state of others is in their pod, and goes with it",
            )
            .hint("leave it out"),
        );
    }
    let storage = plan.spec.checkpoint.storage.as_ref();
    let on_kafka = plan.journal != JournalPlan::File;
    if storage.is_some_and(|storage| storage.local.is_some()) {
        problems.push(
            Problem::new(
                "spec.checkpoint.storage.local",
                "a folder is for runs on a laptop: a pod's goes with it",
            )
            .hint(STORAGE_HINT),
        );
    } else if on_kafka && storage.is_none() {
        problems.push(
            Problem::new(
                "spec.checkpoint.storage",
                "in a cluster, checkpoints must be where every worker can read them",
            )
            .hint(STORAGE_HINT),
        );
    }
    problems
}

const STORAGE_HINT: &str =
    "write `storage: {s3: {connection: NAME}}`, with a connection of that name that has `s3`";

/// Problems as a condition's message tells them.
pub fn told(problems: &[Problem]) -> String {
    const MOST: usize = 10;
    let mut lines: Vec<String> = problems.iter().take(MOST).map(Problem::to_string).collect();
    if problems.len() > MOST {
        lines.push(format!("and {} more", problems.len() - MOST));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const REVENUE: &str = include_str!("../../manifests/samples/kafka-revenue.yaml");
    const CLICKS: &str = include_str!("../../manifests/samples/clicks.yaml");

    fn object(yaml: &str, change: impl Fn(&mut Value)) -> DynamicObject {
        let mut document: Value = serde_yaml::from_str(yaml).unwrap();
        change(&mut document["spec"]);
        // In a cluster every job has one.
        if document["metadata"]["namespace"].is_null() {
            document["metadata"]["namespace"] = "default".into();
        }
        serde_json::from_value(document).unwrap()
    }

    fn problems(yaml: &str, change: impl Fn(&mut Value)) -> String {
        told(&validate(&object(yaml, change)).unwrap_err())
    }

    #[test]
    fn good_jobs_pass() {
        let revenue = validate(&object(REVENUE, |_| {})).unwrap();
        assert!(!revenue.one_worker);
        assert_eq!(revenue.job.namespace, "shop");
        assert!(validate(&object(CLICKS, |_| {})).unwrap().one_worker);
    }

    #[test]
    fn a_wrong_expression_is_told_with_its_field() {
        let told = problems(REVENUE, |spec| {
            spec["steps"][0]["where"] = "amout > 0".into();
        });
        assert!(told.starts_with("spec.steps[0].where: "), "{told}");
        assert!(told.contains("amount"), "{told}");
    }

    #[test]
    fn what_needs_a_disk_that_stays_is_refused() {
        let told = problems(CLICKS, |spec| {
            spec["sinks"][0] = json!({"name": "f", "from": "per_user", "file": {"path": "x"}});
        });
        assert!(told.starts_with("spec.sinks[0].file: "), "{told}");
        let told = problems(REVENUE, |spec| {
            spec["checkpoint"] = json!({"storage": {"local": {"path": "x"}}});
        });
        assert!(
            told.starts_with("spec.checkpoint.storage.local: "),
            "{told}"
        );
        let told = problems(REVENUE, |spec| {
            spec["checkpoint"] = json!({});
        });
        assert!(told.contains("every worker can read"), "{told}");
    }

    #[test]
    fn a_spec_that_no_type_takes_is_told_too() {
        let told = problems(REVENUE, |spec| {
            spec["sources"][0]["kafka"]["startFrom"] = "Yesterday".into();
        });
        assert!(told.contains("startFrom"), "{told}");
    }
}
