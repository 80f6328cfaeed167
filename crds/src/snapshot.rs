//! `StreamSnapshot`: a copy of a job's state, which another job can go on from.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::DeletionPolicy;

/// A copy of the state that a job has when it is taken.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "streamjob.dev",
    version = "v1alpha1",
    kind = "StreamSnapshot",
    shortname = "sjs",
    namespaced,
    status = "StreamSnapshotStatus",
    derive = "PartialEq",
    printcolumn(name = "Job", type_ = "string", json_path = ".spec.jobRef.name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Location", type_ = "string", json_path = ".status.location", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    doc = "A copy of the state that a job has when it is taken. The job's workers stop for it, and go on afterwards. Another job goes on from it by `restoreFrom`.",
    validation = Rule::new("size(self.metadata.name) <= 52")
        .message("`metadata.name` has at most 52 characters: the names of pods are made from it")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamSnapshotSpec {
    /// The job whose state is kept, in the snapshot's namespace. Immutable: a snapshot is taken once.
    #[schemars(schema_with = "immutable_reference")]
    pub job_ref: JobRef,
    /// What becomes of the copy when the StreamSnapshot is deleted. `Retain`: it stays in the checkpoint storage, and
    /// `streamjob-worker restore` can still use it. `Delete`: it is deleted too.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// A job in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobRef {
    /// The StreamJob's name.
    #[schemars(length(min = 1, max = 52))]
    pub name: String,
}

fn immutable_reference(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let mut schema = JobRef::json_schema(generator);
    schema.insert(
        "x-kubernetes-validations".to_owned(),
        serde_json::json!([{
            "rule": "self == oldSelf",
            "message": "`jobRef` is immutable: a snapshot is taken once; make another one",
        }]),
    );
    schema
}

/// What the cluster reports about the snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamSnapshotStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: it is there, and jobs can go on from it; if not yet, the reason says what is waited for. `Failed` is there when it
    /// has come to nothing; the job goes on as before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Where it is, such as `s3://bucket/checkpoints/snapshots/NAME`. The last part is what `streamjob-worker restore --from` takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Uid of the job that it is of: another job of the same name has another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_uid: Option<String>,
    /// When it was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Time>,
}
