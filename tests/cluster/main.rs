//! The stories of the cluster: the chart, the operator and its workers on a real Kubernetes, with real Kafka and S3.

mod audit;
mod commits;
mod first_job;
mod fleet;
mod many_jobs;
mod refusals;
mod samples;
mod snapshots;
mod spike;
// The scenarios' own; these stories use a part of it.
#[allow(dead_code)]
#[path = "../scenarios/support.rs"]
mod support;
mod upgrades;
mod watched;

/// A story's job, for a cluster: with more of a spec, and a Secret instead of the environment.
fn manifest(story: &support::Story, more: &str) -> String {
    story
        .manifest
        .yaml()
        .replace("spec:\n", &format!("spec:\n  {more}\n"))
        .replace(
            "pathStyle: true",
            "pathStyle: true, credentialsSecretRef: {name: s3}",
        )
}
