//! The pods of a job: workers that stay, and tasks that do one thing and end. They meet the restricted pod security standard,
//! whatever a user's template says.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use streamjob_crds::StreamJobSpec;

use super::hash;
use crate::merge::merge;
use crate::names;

/// What pods run, as the operator was told.
#[derive(Clone, Debug)]
pub struct Image {
    pub name: String,
    pub pull_policy: Option<String>,
}

/// A pod with a worker in it, beyond what the job's user wrote.
pub struct Pod<'a> {
    pub image: &'a Image,
    /// `None`: the namespace's own.
    pub account: Option<String>,
    /// The ConfigMap with the job.
    pub config: String,
    pub labels: Value,
    pub annotations: Value,
    /// The command, and what comes behind the job file.
    pub command: &'a str,
    pub arguments: Vec<String>,
    pub life: Life,
}

/// How long a pod is to run.
pub enum Life {
    /// It serves, until it is told to end.
    Serving,
    /// It ends by itself. It calls itself by this name, so that another try of the same thing is nobody else.
    Ending { name: String },
}

/// What the user wrote in `podTemplate`, and over it what the operator sets.
pub fn template(spec: &StreamJobSpec, pod: &Pod) -> Value {
    let base = spec.pod_template.clone().unwrap_or_else(|| json!({}));
    let secrets = secrets(spec);
    let mut own = json!({
        "metadata": {"labels": pod.labels, "annotations": pod.annotations},
        "spec": {
            // Draining takes 25 s at most.
            "terminationGracePeriodSeconds": 40,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container(spec, pod, &secrets)],
            "volumes": volumes(&pod.config, &secrets),
        },
    });
    let fields = &mut own["spec"];
    if let Some(account) = &pod.account {
        fields["serviceAccountName"] = json!(account);
    }
    if let Life::Ending { .. } = pod.life {
        fields["restartPolicy"] = json!("Never");
        // It asks nothing of the cluster.
        fields["automountServiceAccountToken"] = json!(false);
    }
    merge(base, own)
}

fn container(spec: &StreamJobSpec, pod: &Pod, secrets: &BTreeSet<String>) -> Value {
    let mounts = secrets.iter().map(|secret| {
        json!({"name": secret_volume(secret), "mountPath": format!("{}/{secret}", names::SECRETS_FOLDER), "readOnly": true})
    });
    let mut all = vec![
        json!({"name": "streamjob-job", "mountPath": names::JOB_FOLDER, "readOnly": true}),
        json!({"name": "streamjob-state", "mountPath": names::STATE_FOLDER}),
    ];
    all.extend(mounts);
    let mut arguments = vec![
        pod.command.to_owned(),
        format!("{}/{}", names::JOB_FOLDER, names::JOB_KEY),
        "--secrets-dir".to_owned(),
        names::SECRETS_FOLDER.to_owned(),
        "--state-dir".to_owned(),
        names::STATE_FOLDER.to_owned(),
    ];
    arguments.extend(pod.arguments.iter().cloned());
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    let mut container = json!({
        "name": names::CONTAINER,
        "image": pod.image.name,
        "command": ["/usr/bin/streamjob-worker"],
        "args": arguments,
        // What it said last is what `kubectl get sj` gives as the reason when it does not start.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": all,
    });
    match &pod.life {
        Life::Ending { name } => container["env"] = json!([{"name": "POD_NAME", "value": name}]),
        Life::Serving => {
            container["env"] = json!([
                {"name": "POD_NAME", "valueFrom": field("metadata.name")},
                {"name": "POD_NAMESPACE", "valueFrom": field("metadata.namespace")},
            ]);
            container["ports"] =
                json!([{"name": "http", "containerPort": names::PORT, "protocol": "TCP"}]);
            container["livenessProbe"] = json!({"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 6, "initialDelaySeconds": 5});
            container["readinessProbe"] = json!({"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 2, "timeoutSeconds": 3});
        }
    }
    if let Some(policy) = &pod.image.pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    if let Some(resources) = &spec.resources {
        container["resources"] = resources.clone();
    }
    container
}

fn volumes(config: &str, secrets: &BTreeSet<String>) -> Vec<Value> {
    let mut volumes = vec![
        json!({"name": "streamjob-job", "configMap": {"name": config}}),
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
