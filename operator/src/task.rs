//! Tasks: Jobs of one pod that do one thing with a job's state and end. They are made once and never changed.

use kube::api::{Api, DynamicObject, PostParams};
use serde_json::{Value, json};
use streamjob_crds::StreamJobSpec;

use crate::apply::is_owned;
use crate::cluster::Cluster;
use crate::names;
use crate::plan::pod::{self, Image, Life, Pod};
use crate::plan::{Job, owned_by};
use crate::workers::trouble;

/// Tries beyond the first, with pauses of 10 s, 20 s and so on: servers may come back.
const RETRIES: u32 = 3;
/// The worker's exit codes that another try would not change: a wrong job or command line, a refusal, another owner.
const FINAL: [u8; 4] = [1, 2, 70, 78];
/// A task that has ended stays so long. One that is still wanted is then tried again.
pub const KEPT_SECONDS: u64 = 120;

/// Whose a task is: a job's or a snapshot's.
#[derive(Clone, Debug)]
pub struct Owner {
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl Owner {
    pub fn job(job: &Job) -> Self {
        Owner {
            kind: "StreamJob",
            namespace: job.namespace.clone(),
            name: job.name.clone(),
            uid: job.uid.clone(),
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Task {
    pub owner: Owner,
    pub name: String,
    /// The pod's ServiceAccount; `None`: the namespace's own.
    pub account: Option<String>,
    /// The ConfigMap with the job.
    pub config: String,
    pub command: &'static str,
    pub arguments: Vec<String>,
    /// How long it may take, tries and all.
    pub seconds: u64,
}

/// How far a task is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    NotBegun,
    /// What went wrong with the try before, or keeps its pod from running.
    Runs(Option<String>),
    Done,
    /// With the worker's last words.
    Failed(String),
}

impl Task {
    /// The Job. `spec` is of the job that it works for: its Secrets, its pod template, its resources.
    pub fn object(&self, spec: &StreamJobSpec, image: &Image) -> Value {
        let labels = names::task_labels(self.owner.kind, &self.owner.name);
        let pod = Pod {
            image,
            account: self.account.clone(),
            config: self.config.clone(),
            labels: labels.clone(),
            annotations: json!({}),
            command: self.command,
            arguments: self.arguments.clone(),
            life: Life::Ending {
                name: self.name.clone(),
            },
        };
        json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": self.name,
                "namespace": self.owner.namespace,
                "labels": labels,
                "ownerReferences": [owned_by(self.owner.kind, &self.owner.name, &self.owner.uid)],
            },
            "spec": {
                "backoffLimit": RETRIES,
                "activeDeadlineSeconds": self.seconds,
                "ttlSecondsAfterFinished": KEPT_SECONDS,
                "podFailurePolicy": {"rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": names::CONTAINER, "operator": "In", "values": FINAL},
                    },
                    // A node that goes away is none of its failures.
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]},
                "template": pod::template(spec, &pod),
            },
        })
    }

    pub fn progress(&self, cluster: &Cluster) -> Progress {
        progress(cluster, &self.owner, &self.name)
    }

    /// Makes the Job. One that is there already is as good.
    pub async fn start(
        &self,
        cluster: &Cluster,
        spec: &StreamJobSpec,
        image: &Image,
    ) -> Result<(), kube::Error> {
        let api: Api<DynamicObject> = cluster.api_of("Job", &self.owner.namespace);
        let object = serde_json::from_value(self.object(spec, image));
        let object = object.map_err(kube::Error::SerdeError)?;
        match api.create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            made => made.map(|_| ()),
        }
    }
}

/// How far a task of this name is, if it is its owner's.
pub fn progress(cluster: &Cluster, owner: &Owner, name: &str) -> Progress {
    let job = cluster.get("Job", &owner.namespace, name);
    let Some(job) = job.filter(|job| is_owned(job, &owner.uid)) else {
        return Progress::NotBegun;
    };
    let of_task = |pod: &DynamicObject| {
        let labels = pod.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(names::BATCH_JOB)) == Some(&name.to_owned())
    };
    let pods = cluster.select("Pod", &owner.namespace, of_task);
    judge(
        &job.data["status"],
        &pods.iter().map(|pod| &**pod).collect::<Vec<_>>(),
    )
}

/// From the Job's status and its pods.
fn judge(status: &Value, pods: &[&DynamicObject]) -> Progress {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let ended = conditions.find(|condition| {
        condition["status"] == "True"
            && (condition["type"] == "Complete" || condition["type"] == "Failed")
    });
    // Of the try that began last.
    let mut tries: Vec<&&DynamicObject> = pods.iter().collect();
    tries.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|at| at.0));
    let last_words = tries
        .iter()
        .rev()
        .filter(|pod| pod.data["status"]["phase"] != "Succeeded")
        .find_map(|pod| trouble(&pod.data["status"]));
    match ended {
        Some(ended) if ended["type"] == "Complete" => Progress::Done,
        Some(ended) => {
            let told = |field: &str| ended[field].as_str().unwrap_or_default().to_owned();
            let why = last_words.unwrap_or_else(|| told("message"));
            Progress::Failed(match told("reason").as_str() {
                "DeadlineExceeded" => format!("it took too long; {why}"),
                _ => why,
            })
        }
        None => Progress::Runs(last_words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(second: i64, state: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "metadata": {
                "name": "cut-take-abcde",
                "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
            },
            "status": {"containerStatuses": [{"name": "worker", "ready": false, "state": state}]},
        }))
        .unwrap()
    }

    fn ended(code: u8, message: &str) -> Value {
        json!({"terminated": {"exitCode": code, "message": message}})
    }

    #[test]
    fn the_last_try_has_the_last_word() {
        let first = pod(1, ended(75, "error: no broker answers"));
        let second = pod(2, ended(70, "error: slot 1 is damaged"));
        let running = json!({"active": 1});
        let told = judge(&running, &[&first]);
        let Progress::Runs(Some(trouble)) = &told else {
            panic!("{told:?}");
        };
        assert!(trouble.contains("no broker answers"), "{trouble}");
        let failed = json!({"conditions": [
            {"type": "FailureTarget", "status": "True"},
            {"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": "Container worker failed"},
        ]});
        let told = judge(&failed, &[&second, &first]);
        assert_eq!(
            told,
            Progress::Failed("it ended with code 70: error: slot 1 is damaged".into())
        );
        let late = json!({"conditions": [
            {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "Job was active longer than specified deadline"},
        ]});
        let Progress::Failed(told) = judge(&late, &[]) else {
            panic!();
        };
        assert!(told.starts_with("it took too long"), "{told}");
        let done = json!({"conditions": [
            {"type": "SuccessCriteriaMet", "status": "True"},
            {"type": "Complete", "status": "True"},
        ]});
        assert_eq!(judge(&done, &[&first]), Progress::Done);
    }

    #[test]
    fn its_pod_is_restricted_and_is_no_worker() {
        let task = Task {
            owner: Owner {
                kind: "StreamSnapshot",
                namespace: "shop".into(),
                name: "cut".into(),
                uid: "4711".into(),
            },
            name: "cut-take".into(),
            account: None,
            config: "cut-snapshot".into(),
            command: "snapshot",
            arguments: vec!["--name".into(), "cut-4711".into()],
            seconds: 600,
        };
        let spec: StreamJobSpec = serde_json::from_value(json!({
            "sources": [{"name": "s", "columns": [], "eventTime": {"column": "t"}}],
            "sinks": [{"name": "o", "from": "s"}],
            "podTemplate": {"spec": {"nodeSelector": {"disk": "ssd"}}},
        }))
        .unwrap();
        let image = Image {
            name: "streamjob:1".into(),
            pull_policy: None,
        };
        let job = task.object(&spec, &image);
        let pod = &job["spec"]["template"];
        assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["spec"]["restartPolicy"], "Never");
        assert_eq!(pod["spec"]["nodeSelector"]["disk"], "ssd");
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["args"][0], "snapshot");
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert!(container["livenessProbe"].is_null());
        let labels = &pod["metadata"]["labels"];
        let selector = names::selector("cut");
        let mut selector = selector.as_object().unwrap().iter();
        assert!(!selector.all(|(label, value)| labels[label] == *value));
        assert_eq!(job["metadata"]["ownerReferences"][0]["uid"], "4711");
    }
}
