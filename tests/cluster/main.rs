//! The stories of the cluster: the chart, the operator and its workers on a real Kubernetes, with real Kafka and S3.

mod first_job;
// The scenarios' own; these stories use a part of it.
#[allow(dead_code)]
#[path = "../scenarios/support.rs"]
mod support;
