//! `StreamJob`: the job as its user writes it.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Connection, Duration, Sink, Source, Step};

/// A stream processing job: events come from `sources`, `steps` compute over them, rows go to `sinks`.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "streamjob.dev",
    version = "v1alpha1",
    kind = "StreamJob",
    shortname = "sj",
    namespaced,
    status = "StreamJobStatus",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamJobSpec {
    /// Worker pods; the autoscaler writes it when `autoscaling` is set. Ignored on a laptop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1024))]
    pub replicas: Option<u32>,
    /// Slots: the most workers that can share the job. Immutable. Default: partitions of the first source, at most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub max_parallelism: Option<u32>,
    /// Stops the workers, keeping the job's place and state.
    #[serde(default, skip_serializing_if = "crate::connection::is_false")]
    pub suspend: bool,
    #[serde(default)]
    pub guarantee: Guarantee,
    #[serde(default)]
    pub epoch: Epoch,
    /// Servers, dialled by sources, sinks and checkpoints by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<Connection>,
    #[schemars(length(min = 1))]
    pub sources: Vec<Source>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    #[schemars(length(min = 1))]
    pub sinks: Vec<Sink>,
    #[serde(default)]
    pub checkpoint: Checkpoint,
    #[serde(default)]
    pub state: State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Where the journal and the internal topics are; default: the cluster of the Kafka sinks, else of the sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Journal>,
    #[serde(default)]
    pub upgrade: Upgrade,
    /// Resources of a worker's container, as in a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "preserve")]
    pub resources: Option<serde_json::Value>,
    /// Merged under what the operator sets itself: labels, node selectors, tolerations and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "preserve")]
    pub pod_template: Option<serde_json::Value>,
}

fn preserve(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// `ExactlyOnce`: every row is in the output once, whatever crashes. `AtLeastOnce`: rows may be doubled after a crash; no transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Guarantee {
    #[default]
    ExactlyOnce,
    AtLeastOnce,
}

/// The work between two commits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Epoch {
    /// Longest wait before a commit while there is something to commit. Under backlog epochs grow by themselves.
    #[serde(default = "default_epoch")]
    pub interval: Duration,
}

fn default_epoch() -> Duration {
    Duration::from_millis(25)
}

impl Default for Epoch {
    fn default() -> Self {
        Epoch { interval: default_epoch() }
    }
}

/// Copies of the state, from which a restart goes on. Commits do not wait for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Checkpoint {
    #[serde(default = "default_checkpoint_interval")]
    pub interval: Duration,
    /// How many to keep.
    #[serde(default = "default_retain")]
    #[schemars(range(min = 1, max = 100))]
    pub retain: u32,
    /// Default: the worker's `--state-dir`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<CheckpointStorage>,
}

fn default_checkpoint_interval() -> Duration {
    Duration::from_secs(10)
}

fn default_retain() -> u32 {
    3
}

impl Default for Checkpoint {
    fn default() -> Self {
        Checkpoint { interval: default_checkpoint_interval(), retain: default_retain(), storage: None }
    }
}

/// Exactly one of `s3`, `local`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckpointStorage {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Storage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalStorage>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3Storage {
    /// Name of a connection with `s3`.
    pub connection: String,
    /// Put before the objects' names, such as `checkpoints/`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalStorage {
    /// A folder, relative to the job file's.
    pub path: String,
}

/// Where the state of windows is held.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    #[serde(default)]
    pub backend: StateBackend,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StateBackend {
    #[default]
    Memory,
}

/// Scales the workers on Kafka consumer lag. Ignored on a laptop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Autoscaling {
    #[serde(default = "one", rename = "minReplicas")]
    #[schemars(range(min = 1))]
    pub min_replicas: u32,
    #[schemars(range(min = 1))]
    pub max_replicas: u32,
    /// Records that a replica may lag behind: above it the job scales up, below half of it down.
    #[serde(default = "default_target_lag")]
    #[schemars(range(min = 1))]
    pub target_lag: u64,
    /// A scale-up is sized so that the backlog is gone by then.
    #[serde(default = "two_minutes")]
    pub catch_up_within: Duration,
    #[serde(default = "five_minutes")]
    pub scale_down_stabilization: Duration,
    #[serde(default)]
    pub mode: AutoscalingMode,
}

fn one() -> u32 {
    1
}

fn default_target_lag() -> u64 {
    10_000
}

fn two_minutes() -> Duration {
    Duration::from_secs(120)
}

fn five_minutes() -> Duration {
    Duration::from_secs(300)
}

/// `Recommend` only says in the status what `Auto` would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AutoscalingMode {
    #[default]
    Auto,
    Recommend,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Journal {
    /// Name of a connection with `kafka`.
    pub connection: String,
}

/// What happens when a changed job cannot use the state it has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Upgrade {
    #[serde(default)]
    pub on_incompatible_state: OnIncompatibleState,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnIncompatibleState {
    #[default]
    Block,
    Discard,
}

/// What the cluster reports about the job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamJobStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}
