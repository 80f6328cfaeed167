//! What the cluster reports about a job. Written by the operator, from what it applied and what the workers say.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, Phase};

/// What the cluster reports about the job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamJobStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Valid`: the job can run as it is written. `Ready`: every slot runs. `Restored`: with
    /// `restoreFrom`, whether the snapshot's state is the job's. `Suspended`, `Complete` (bounded inputs are done),
    /// `UpgradeBlocked`, `CheckpointStale`, `ScalingLimited` are there while they are true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Worker pods that there are.
    #[serde(default)]
    pub replicas: i32,
    /// Worker pods that there should be.
    #[serde(default)]
    pub desired: i32,
    /// Selects the worker pods; the scale subresource hands it to autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Records that are in the inputs and not yet processed, as far as workers answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
    /// Records processed a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<i64>,
    /// How far event time is behind the clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark_delay: Option<Duration>,
    /// Age of the checkpoint of the slot whose last one is the oldest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_age: Option<Duration>,
    /// Where each slot is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["slot".into()]))]
    pub slots: Vec<SlotPlace>,
    /// What a change does to the state of each source and step: one that is held back (condition `UpgradeBlocked`), or one for
    /// which the workers are being stopped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub steps: Vec<StepChange>,
    /// The last decisions of the autoscaler, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub scaling: Vec<ScalingDecision>,
}

/// A slot and the worker that has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlotPlace {
    /// The slot's number.
    pub slot: u32,
    /// The pod that it is placed on.
    pub pod: String,
    /// Number of this placement: the highest one owns the slot.
    pub term: u64,
    /// What the worker does with it; missing: the worker does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// How long its rows stood still when it last moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Duration>,
}

/// A source or step of the job that runs, or of the changed one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepChange {
    /// The step's name.
    pub name: String,
    /// What becomes of its state.
    pub state: StepState,
    /// Why it cannot go on from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a change does to the state of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StepState {
    /// The step goes on from it.
    Kept,
    /// There is none yet.
    New,
    /// The step is there no more.
    Dropped,
    /// It was made under other settings: the step cannot go on from it.
    Incompatible,
}

/// What the autoscaler decided, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalingDecision {
    /// When.
    pub time: Time,
    /// Workers before.
    pub from: u32,
    /// Workers it wants.
    pub to: u32,
    /// One word.
    pub reason: String,
    /// The figures behind it.
    pub message: String,
    /// Whether it was carried out; not in the mode `Recommend`.
    pub applied: bool,
}
