//! The objects that a job is made of in the cluster. Pure, and cannot fail: what is wrong with a job is found before.
//!
//! Pods meet the restricted pod security standard. Of Secrets only the names are known here: the kubelet mounts them.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use streamjob_crds::{PLACEMENT_KEY, Placement, StreamJobSpec, placement_name};

use crate::merge::merge;
use crate::names;

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
    pub image: String,
    pub pull_policy: Option<String>,
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
pub const OPERATORS_OWN: [&str; 6] = [
    "replicas",
    "suspend",
    "autoscaling",
    "podTemplate",
    "resources",
    "upgrade",
];

/// The job as workers read it: without what only the operator looks at, so that a scaled job starts no pod anew.
pub fn job_text(job: &Job) -> String {
    let mut spec = json!(job.spec);
    for field in OPERATORS_OWN {
        if let Some(fields) = spec.as_object_mut() {
            fields.remove(field);
        }
    }
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
        "ownerReferences": [{
            "apiVersion": "streamjob.dev/v1alpha1",
            "kind": "StreamJob",
            "name": job.name,
            "uid": job.uid,
            "controller": true,
            "blockOwnerDeletion": true,
        }],
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
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(job, &names::fleet(&job.name)),
        "spec": {
            "replicas": decisions.pods,
            "serviceName": names::service(&job.name),
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": names::selector(&job.name)},
            "template": pod_template(job, decisions, hash),
        },
    })
}

/// What the user wrote in `podTemplate`, and over it what the operator sets.
fn pod_template(job: &Job, decisions: &Decisions, hash: &str) -> Value {
    let base = job.spec.pod_template.clone().unwrap_or_else(|| json!({}));
    let secrets = secrets(&job.spec);
    let own = json!({
        "metadata": {
            "labels": names::labels(&job.name),
            "annotations": {names::JOB_HASH: hash},
        },
        "spec": {
            "serviceAccountName": names::account(&job.name),
            // Draining takes 25 s at most.
            "terminationGracePeriodSeconds": 40,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container(job, decisions, &secrets)],
            "volumes": volumes(job, &secrets),
        },
    });
    merge(base, own)
}

fn container(job: &Job, decisions: &Decisions, secrets: &BTreeSet<String>) -> Value {
    let mounts = secrets.iter().map(|secret| {
        json!({"name": secret_volume(secret), "mountPath": format!("{}/{secret}", names::SECRETS_FOLDER), "readOnly": true})
    });
    let mut all = vec![
        json!({"name": "streamjob-job", "mountPath": names::JOB_FOLDER, "readOnly": true}),
        json!({"name": "streamjob-state", "mountPath": names::STATE_FOLDER}),
    ];
    all.extend(mounts);
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    let mut container = json!({
        "name": names::CONTAINER,
        "image": decisions.image,
        "command": ["/usr/bin/streamjob-worker"],
        "args": [
            "serve",
            format!("{}/{}", names::JOB_FOLDER, names::JOB_KEY),
            "--uid", job.uid,
            "--service", names::service(&job.name),
            "--secrets-dir", names::SECRETS_FOLDER,
            "--state-dir", names::STATE_FOLDER,
            "--listen", format!("0.0.0.0:{}", names::PORT),
        ],
        "env": [
            {"name": "POD_NAME", "valueFrom": field("metadata.name")},
            {"name": "POD_NAMESPACE", "valueFrom": field("metadata.namespace")},
        ],
        "ports": [{"name": "http", "containerPort": names::PORT, "protocol": "TCP"}],
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 6, "initialDelaySeconds": 5},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 2, "timeoutSeconds": 3},
        // What it said last is what `kubectl get sj` gives as the reason when it does not start.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": all,
    });
    if let Some(policy) = &decisions.pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    if let Some(resources) = &job.spec.resources {
        container["resources"] = resources.clone();
    }
    container
}

fn volumes(job: &Job, secrets: &BTreeSet<String>) -> Vec<Value> {
    let mut volumes = vec![
        json!({"name": "streamjob-job", "configMap": {"name": names::job_config(&job.name)}}),
        json!({"name": "streamjob-state", "emptyDir": {}}),
    ];
    // Optional: a worker that lacks a secret says which, a pod that lacks one only waits.
    volumes.extend(secrets.iter().map(|secret| {
        json!({"name": secret_volume(secret), "secret": {"secretName": secret, "optional": true}})
    }));
    volumes
}

/// Names of volumes have no dots and at most 63 characters; those of Secrets may.
fn secret_volume(secret: &str) -> String {
    format!("secret-{}", &hash(secret))
}

/// The Secrets that the job names.
fn secrets(spec: &StreamJobSpec) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for connection in &spec.connections {
        if let Some(kafka) = &connection.kafka {
            let tls = kafka.tls.iter().flat_map(|tls| {
                [
                    &tls.ca_secret_ref,
                    &tls.cert_secret_ref,
                    &tls.key_secret_ref,
                ]
            });
            let named = tls.flatten().map(|reference| reference.name.clone());
            found.extend(named);
            found.extend(
                kafka
                    .sasl
                    .iter()
                    .map(|sasl| sasl.password_secret_ref.name.clone()),
            );
        }
        if let Some(s3) = &connection.s3 {
            found.extend(
                s3.credentials_secret_ref
                    .iter()
                    .map(|reference| reference.name.clone()),
            );
        }
    }
    found
}

#[cfg(test)]
mod tests;
