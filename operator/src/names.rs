//! Names, labels and paths of what the operator makes: the only place where they are written.

use serde_json::{Value, json};

/// The field manager of everything that the operator applies.
pub const MANAGER: &str = "streamjob-operator";
/// The label with the job's name, on everything that belongs to one.
pub const JOB_LABEL: &str = "streamjob.dev/job";
/// The label with the snapshot's name, on everything that belongs to one.
pub const SNAPSHOT_LABEL: &str = "streamjob.dev/snapshot";
/// The cluster's own label on the pods of a Job.
pub const BATCH_JOB: &str = "batch.kubernetes.io/job-name";
/// Selects what the operator made.
pub const MANAGED: &str = "app.kubernetes.io/managed-by=streamjob-operator";
/// On pods: changes with what the worker reads of the job, and so starts them anew.
pub const JOB_HASH: &str = "streamjob.dev/job-hash";

/// The port on which workers serve `/status`, `/metrics`, `/healthz` and `/readyz`.
pub const PORT: u16 = 8080;
/// The worker's container.
pub const CONTAINER: &str = "worker";

/// The key of the job's ConfigMap, and where it is mounted.
pub const JOB_KEY: &str = "job.json";
pub const JOB_FOLDER: &str = "/etc/streamjob/job";
pub const SECRETS_FOLDER: &str = "/etc/streamjob/secrets";
pub const STATE_FOLDER: &str = "/var/lib/streamjob";

/// The lease that the leading operator holds.
pub const LEASE: &str = "streamjob-operator";

pub fn job_config(job: &str) -> String {
    format!("{job}-job")
}

/// The headless Service: `<pod>.<job>-workers` is a worker's address.
pub fn service(job: &str) -> String {
    format!("{job}-workers")
}

/// The workers' ServiceAccount, Role and RoleBinding.
pub fn account(job: &str) -> String {
    format!("{job}-worker")
}

/// The ConfigMap with the job that a snapshot is of.
pub fn snapshot_config(snapshot: &str) -> String {
    format!("{snapshot}-snapshot")
}

/// Tasks of jobs.
pub fn restore_task(job: &str) -> String {
    format!("{job}-restore")
}

pub fn forget_task(job: &str) -> String {
    format!("{job}-forget")
}

/// Tasks of snapshots.
pub fn take_task(snapshot: &str) -> String {
    format!("{snapshot}-take")
}

pub fn discard_task(snapshot: &str) -> String {
    format!("{snapshot}-discard")
}

/// The StatefulSet, its PodDisruptionBudget and NetworkPolicy. Pods are `<job>-0`, `<job>-1` and so on.
pub fn fleet(job: &str) -> String {
    job.to_owned()
}

pub fn pod(job: &str, ordinal: u32) -> String {
    format!("{job}-{ordinal}")
}

/// What selects the job's pods.
pub fn selector(job: &str) -> Value {
    json!({
        "app.kubernetes.io/name": "streamjob-worker",
        "app.kubernetes.io/instance": job,
    })
}

/// The same, as the scale subresource reports it.
pub fn selector_text(job: &str) -> String {
    format!("app.kubernetes.io/instance={job},app.kubernetes.io/name=streamjob-worker")
}

pub fn labels(job: &str) -> Value {
    json!({
        "app.kubernetes.io/name": "streamjob-worker",
        "app.kubernetes.io/instance": job,
        "app.kubernetes.io/managed-by": "streamjob-operator",
        JOB_LABEL: job,
    })
}

/// Of a task's Job and pod, which no selector of workers takes for one.
pub fn task_labels(owner_kind: &str, owner: &str) -> Value {
    let label = match owner_kind {
        "StreamSnapshot" => SNAPSHOT_LABEL,
        _ => JOB_LABEL,
    };
    json!({
        "app.kubernetes.io/name": "streamjob-task",
        "app.kubernetes.io/instance": owner,
        "app.kubernetes.io/managed-by": "streamjob-operator",
        label: owner,
    })
}
