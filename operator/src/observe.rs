//! What there is of a job in the cluster, by what has been watched: reading it asks nobody.

use k8s_openapi::jiff::Timestamp;
use kube::core::DynamicObject;
use serde_json::Value;
use streamjob_crds::{PLACEMENT_KEY, Placement, placement_name};

use crate::cluster::Cluster;
use crate::controller::Error;
use crate::names;
use crate::workers::Seen;

/// A pod that should have ended so long ago is on a node that is gone. Who takes its slots over fences it.
const LOST: i64 = 15;

/// The job as its workers read it; `None`: they have never been told of it.
pub fn running(cluster: &Cluster, namespace: &str, job: &str) -> Option<String> {
    let config = cluster.get("ConfigMap", namespace, &names::job_config(job))?;
    let text = config.data["data"][names::JOB_KEY].as_str()?;
    Some(text.to_owned())
}

/// The placement that there is.
pub fn placed(cluster: &Cluster, namespace: &str, job: &str) -> Result<Placement, Error> {
    let name = placement_name(job);
    let Some(config) = cluster.get("ConfigMap", namespace, &name) else {
        return Ok(Placement::default());
    };
    let text = config.data["data"][PLACEMENT_KEY].as_str().unwrap_or("{}");
    Placement::parse(text).map_err(|error| Error::Placement { name, error })
}

/// The job's StatefulSet.
pub struct Fleet {
    /// Pods that it is to have.
    pub wanted: u64,
    /// Pods that it has made.
    made: u64,
}

impl Fleet {
    pub fn of(cluster: &Cluster, namespace: &str, job: &str) -> Option<Fleet> {
        let fleet = cluster.get("StatefulSet", namespace, &names::fleet(job))?;
        let count = |part: &str| fleet.data[part]["replicas"].as_u64().unwrap_or(0);
        Some(Fleet {
            wanted: count("spec"),
            made: count("status"),
        })
    }

    pub fn is_stopped(&self) -> bool {
        self.wanted == 0
    }
}

/// The job's pods, in order of their numbers. Nobody has asked them yet.
pub fn workers(cluster: &Cluster, namespace: &str, job: &str) -> Vec<Seen> {
    let fleet = Fleet::of(cluster, namespace, job);
    let most = fleet.map_or(0, |fleet| fleet.wanted.max(fleet.made));
    (0..u32::try_from(most).unwrap_or(0))
        .map(|ordinal| names::pod(job, ordinal))
        .filter_map(|pod| cluster.get("Pod", namespace, &pod))
        .map(|pod| Seen::of(&pod))
        .collect()
}

/// What of the fleet still runs, or may: `None` when all workers have ended.
pub fn draining(cluster: &Cluster, namespace: &str, job: &str, now: Timestamp) -> Option<String> {
    let fleet = Fleet::of(cluster, namespace, job);
    if fleet.is_some_and(|fleet| !fleet.is_stopped()) {
        return Some("the workers are about to be stopped".to_owned());
    }
    let alive = |pod: &DynamicObject| {
        let is_worker = |labels: &Value| {
            let selected = names::selector(job);
            let mut selected = selected.as_object().into_iter().flatten();
            selected.all(|(label, value)| labels[label] == *value)
        };
        let labels = serde_json::json!(pod.metadata.labels);
        let ends = pod.metadata.deletion_timestamp.as_ref();
        let lost = ends.is_some_and(|ends| ends.0.as_second() + LOST < now.as_second());
        is_worker(&labels) && !lost
    };
    let pods = cluster.select("Pod", namespace, alive);
    let names: Vec<&str> = pods
        .iter()
        .filter_map(|pod| pod.metadata.name.as_deref())
        .collect();
    match names.is_empty() {
        true => None,
        false => Some(format!("workers commit and end: {}", names.join(", "))),
    }
}
