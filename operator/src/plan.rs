//! The objects that a job is made of in the cluster. Pure, and cannot fail: what is wrong with a job is found before.
//!
//! Pods meet the restricted pod security standard. Of Secrets only the names are known here: the kubelet mounts them.

pub mod pod;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use streamjob_crds::{PLACEMENT_KEY, Placement, StreamJobSpec, placement_name};

use crate::names;
use pod::{Image, Life, Pod};

/// A job that was found good.
#[derive(Clone, Debug)]
pub struct Job {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub spec: StreamJobSpec,
}

/// What the operator decided for it, beyond what its user wrote.
#[derive(Clone, Debug)]
pub struct Decisions {
    pub image: Image,
    /// Pods of the StatefulSet: the desired ones, and those that still have slots.
    pub pods: u32,
    pub placement: Placement,
}

/// The desired objects, in the order in which they are applied.
pub fn plan(job: &Job, decisions: &Decisions) -> Vec<Value> {
    let text = job_text(job);
    vec![
        account(job),
        role(job),
        role_binding(job),
        config(job, &names::job_config(&job.name), names::JOB_KEY, &text),
        placement(job, &decisions.placement),
        service(job),
        network_policy(job),
        disruption_budget(job),
        stateful_set(job, decisions, &hash(&text)),
    ]
}

/// The ConfigMap with the placement alone: it is written more carefully than the rest.
pub fn placement(job: &Job, placement: &Placement) -> Value {
    let text = placement.to_json();
    config(job, &placement_name(&job.name), PLACEMENT_KEY, &text)
}

/// Fields that workers do not read.
pub const OPERATORS_OWN: [&str; 8] = [
    "replicas",
    "suspend",
    "autoscaling",
    "podTemplate",
    "resources",
    "restoreFrom",
    "deletionPolicy",
    "deletionTimeout",
];

/// The job as workers read it: without what only the operator looks at, so that a scaled job starts no pod anew.
pub fn job_text(job: &Job) -> String {
    let mut spec = json!(job.spec);
    for field in OPERATORS_OWN {
        if let Some(fields) = spec.as_object_mut() {
            fields.remove(field);
        }
    }
    document(job, spec)
}

/// The whole job, as a job file.
pub fn whole_text(job: &Job) -> String {
    document(job, json!(job.spec))
}

fn document(job: &Job, spec: Value) -> String {
    let document = json!({
        "apiVersion": "streamjob.dev/v1alpha1",
        "kind": "StreamJob",
        "metadata": {"name": job.name, "namespace": job.namespace},
        "spec": spec,
    });
    format!("{document:#}\n")
}

fn hash(text: &str) -> String {
    let digest = Sha256::digest(text);
    digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn metadata(job: &Job, name: &str) -> Value {
    json!({
        "name": name,
        "namespace": job.namespace,
        "labels": names::labels(&job.name),
        "ownerReferences": [owned_by("StreamJob", &job.name, &job.uid)],
    })
}

/// What is owned goes when its owner goes.
pub fn owned_by(kind: &str, name: &str, uid: &str) -> Value {
    json!({
        "apiVersion": "streamjob.dev/v1alpha1",
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

fn config(job: &Job, name: &str, key: &str, text: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(job, name),
        "data": {key: text},
    })
}

fn account(job: &Job) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(job, &names::account(&job.name)),
    })
}

/// All that a worker may do in the cluster: see which slots are its own.
fn role(job: &Job) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": metadata(job, &names::account(&job.name)),
        "rules": [{
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": [placement_name(&job.name)],
            "verbs": ["list", "watch"],
        }],
    })
}

fn role_binding(job: &Job) -> Value {
    let name = names::account(&job.name);
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata(job, &name),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": job.namespace}],
    })
}

/// Gives workers their names. Those that are not ready yet have one too: they are asked for what they let go of.
fn service(job: &Job) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(job, &names::service(&job.name)),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": true,
            "selector": names::selector(&job.name),
            "ports": [{"name": "http", "port": names::PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    })
}

/// Workers answer each other and the operator. Whoever scrapes their metrics needs a policy of its own beside this one.
fn network_policy(job: &Job) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(job, &names::fleet(&job.name)),
        "spec": {
            "podSelector": {"matchLabels": names::selector(&job.name)},
            "policyTypes": ["Ingress"],
            "ingress": [{
                "ports": [{"port": names::PORT, "protocol": "TCP"}],
                "from": [
                    {"podSelector": {"matchLabels": names::selector(&job.name)}},
                    {
                        "namespaceSelector": {},
                        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "streamjob-operator"}},
                    },
                ],
            }],
        },
    })
}

fn disruption_budget(job: &Job) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(job, &names::fleet(&job.name)),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": names::selector(&job.name)},
        },
    })
}

fn stateful_set(job: &Job, decisions: &Decisions, hash: &str) -> Value {
    let worker = Pod {
        image: &decisions.image,
        account: Some(names::account(&job.name)),
        config: names::job_config(&job.name),
        labels: names::labels(&job.name),
        annotations: json!({names::JOB_HASH: hash}),
        command: "serve",
        arguments: vec![
            "--uid".into(),
            job.uid.clone(),
            "--service".into(),
            names::service(&job.name),
            "--listen".into(),
            format!("0.0.0.0:{}", names::PORT),
        ],
        life: Life::Serving,
    };
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(job, &names::fleet(&job.name)),
        "spec": {
            "replicas": decisions.pods,
            "serviceName": names::service(&job.name),
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": names::selector(&job.name)},
            "template": pod::template(&job.spec, &worker),
        },
    })
}

#[cfg(test)]
mod tests;
