//! `StreamJob`: the job as its user writes it.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::exactly_one_of;
use crate::{Connection, Duration, Sink, Source, Step, StreamJobStatus};

/// A stream processing job: events come from `sources`, `steps` compute over them, rows go to `sinks`.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "streamjob.dev",
    version = "v1alpha1",
    kind = "StreamJob",
    shortname = "sj",
    namespaced,
    status = "StreamJobStatus",
    derive = "PartialEq",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desired"),
    printcolumn(name = "Lag", type_ = "integer", json_path = ".status.lag"),
    printcolumn(name = "Rate", type_ = "integer", json_path = ".status.rate"),
    printcolumn(name = "Watermark-Delay", type_ = "string", json_path = ".status.watermarkDelay"),
    printcolumn(name = "Checkpoint-Age", type_ = "string", json_path = ".status.checkpointAge"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    doc = "A stream processing job: events come from `sources`, `steps` compute over them, rows go to `sinks`.",
    validation = Rule::new("size(self.metadata.name) <= 52")
        .message("`metadata.name` has at most 52 characters: the names of pods and their labels are made from it")
)]
#[x_kube(
    validation = Rule::new("has(self.maxParallelism) == has(oldSelf.maxParallelism) && (!has(self.maxParallelism) || self.maxParallelism == oldSelf.maxParallelism)")
        .message("`maxParallelism` is immutable: the job's state is cut into that many slots; make a new job"),
    validation = Rule::new("has(self.restoreFrom) == has(oldSelf.restoreFrom) && (!has(self.restoreFrom) || self.restoreFrom.snapshot == oldSelf.restoreFrom.snapshot)")
        .message("`restoreFrom` is immutable: a job begins once; make a new job"),
    validation = Rule::new("!has(self.steps) || self.steps.all(step, !self.sources.exists(source, source.name == step.name))")
        .message("a step has the name of a source: streams are known by these names, which must differ")
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
    /// Stops the workers; the job keeps its place and its state.
    #[serde(default, skip_serializing_if = "crate::connection::is_false")]
    pub suspend: bool,
    /// `ExactlyOnce`: every row is in the output once, whatever crashes.
    /// `AtLeastOnce`: rows may be doubled after a crash; no transactions.
    #[serde(default)]
    pub guarantee: Guarantee,
    /// The work between two commits.
    #[serde(default)]
    pub epoch: Epoch,
    /// Servers, dialled by sources, sinks and checkpoints by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub connections: Vec<Connection>,
    /// Where events come from.
    #[schemars(length(min = 1, max = 50))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub sources: Vec<Source>,
    /// What is computed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub steps: Vec<Step>,
    /// Where rows go.
    #[schemars(length(min = 1, max = 50))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub sinks: Vec<Sink>,
    /// Copies of the state, from which a restart goes on. Commits do not wait for them.
    #[serde(default)]
    pub checkpoint: Checkpoint,
    /// Where the state of windows is held.
    #[serde(default)]
    pub state: State,
    /// Scales the workers on Kafka consumer lag. Ignored on a laptop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Where the journal and the internal topics are; default: the cluster of the Kafka sinks, else of the sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Journal>,
    /// What happens when a changed job cannot use the state it has.
    #[serde(default)]
    pub upgrade: Upgrade,
    /// The new job goes on where a snapshot was taken, instead of beginning with its sources' `startFrom`. Immutable. In a cluster
    /// only: on a laptop `streamjob-worker restore` does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_from: Option<RestoreFrom>,
    /// What becomes of the job's state when the job is deleted in a cluster. `Retain`: the internal topics `streamjob-<uid>-*` and the
    /// checkpoints under `<uid>/` stay, so that a job that was deleted by mistake is not lost. `Delete`: they are deleted, once the
    /// workers have ended. The rows that the job has put out always stay.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// With `deletionPolicy: Delete`: how long that may take. What is not deleted by then stays, and an event says so.
    #[serde(default = "two_minutes")]
    pub deletion_timeout: Duration,
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

/// What a new job goes on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestoreFrom {
    /// Name of a StreamSnapshot in the job's namespace. The job needs the inputs, `maxParallelism`, steps and checkpoint storage of the
    /// job it was taken of; its sinks may be others.
    #[schemars(length(min = 1, max = 52))]
    pub snapshot: String,
}

/// What becomes of what is stored outside of the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    #[default]
    Retain,
    Delete,
}

/// What a crash may do to the output.
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
        Epoch {
            interval: default_epoch(),
        }
    }
}

/// Copies of the state, from which a restart goes on. Commits do not wait for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Checkpoint {
    /// From the start of one to the start of the next.
    #[serde(default = "default_checkpoint_interval")]
    pub interval: Duration,
    /// How many to keep.
    #[serde(default = "default_retain")]
    #[schemars(range(min = 1, max = 100))]
    pub retain: u32,
    /// Where they are kept; default: the worker's `--state-dir`.
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
        Checkpoint {
            interval: default_checkpoint_interval(),
            retain: default_retain(),
            storage: None,
        }
    }
}

/// Where checkpoints are kept. Exactly one of `s3`, `local`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = exactly_one_of(&["s3", "local"]))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckpointStorage {
    /// In a bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Storage>,
    /// In a folder; for runs on a laptop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalStorage>,
}

/// A place in a bucket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3Storage {
    /// Name of a connection with `s3`.
    pub connection: String,
    /// Put before the objects' names, such as `checkpoints/`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

/// A folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalStorage {
    /// The folder, relative to the job file's.
    #[schemars(length(min = 1))]
    pub path: String,
}

/// Where the state of windows is held.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    /// `Memory`: in the workers' memory, and in checkpoints.
    #[serde(default)]
    pub backend: StateBackend,
}

/// A holder of state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StateBackend {
    #[default]
    Memory,
}

/// Scales the workers on Kafka consumer lag. Ignored on a laptop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("!has(self.minReplicas) || self.minReplicas <= self.maxReplicas")
    .message("`minReplicas` is greater than `maxReplicas`"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Autoscaling {
    /// Never fewer workers than this.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1024))]
    pub min_replicas: u32,
    /// Never more workers than this.
    #[schemars(range(min = 1, max = 1024))]
    pub max_replicas: u32,
    /// Records that a replica may lag behind: above it the job scales up, below half of it down.
    #[serde(default = "default_target_lag")]
    #[schemars(range(min = 1))]
    pub target_lag: u64,
    /// A scale-up is sized so that the backlog is gone by then.
    #[serde(default = "two_minutes")]
    pub catch_up_within: Duration,
    /// How long the lag must have been low before the job scales down.
    #[serde(default = "five_minutes")]
    pub scale_down_stabilization: Duration,
    /// `Auto` scales; `Recommend` only says in the status what `Auto` would do.
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

/// What becomes of the autoscaler's decisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AutoscalingMode {
    #[default]
    Auto,
    Recommend,
}

/// The journal's place.
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
    /// `Block`: the change is refused. `Discard`: the steps concerned start anew, without their state.
    #[serde(default)]
    pub on_incompatible_state: OnIncompatibleState,
}

/// What becomes of state that a changed job cannot use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnIncompatibleState {
    #[default]
    Block,
    Discard,
}
