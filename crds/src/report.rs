//! What a worker says about itself, as its `/status` prints it: read by people, and by the operator.
//!
//! What an older worker does not say yet reads as nothing: operator and workers are not upgraded at the same moment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The condition of a slot that does not run and is tried again.
pub const SLOT_FAILED: &str = "SlotFailed";

/// The job that a worker works for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobIdentity {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// What a slot is about, in the order in which it comes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Phase {
    /// Takes the slot over in the journal.
    #[default]
    Claiming,
    /// Reads a checkpoint.
    Restoring,
    /// Derives its state again, from the checkpoint's positions to the journal's.
    Replaying,
    Running,
    /// Was told to stop: commits, checkpoints and lets go.
    Draining,
    /// Has reached the end of its bounded input.
    Done,
}

/// A slot, as its driver knows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SlotStatus {
    pub slot: u32,
    pub term: u64,
    /// The last committed one.
    pub epoch: u64,
    pub phase: Phase,
    pub inputs: Vec<InputStatus>,
    /// Rows read and put out since the process started.
    pub rows_in: u64,
    pub rows_out: u64,
    pub checkpoint: Option<CheckpointStatus>,
    /// What its windows hold.
    pub state_keys: u64,
    pub state_windows: u64,
    #[serde(default)]
    pub state_partial_matches: u64,
    /// How long its rows stood still while it came here from another worker.
    pub pause_ms: Option<u64>,
    /// What is not as it should be.
    pub conditions: Vec<WorkerCondition>,
}

/// One partition that a slot reads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InputStatus {
    /// Source or exchange and partition, such as `events/3`.
    pub input: String,
    pub position: i64,
    /// Distance to the end, in records (files: bytes).
    pub lag: Option<i64>,
    /// Epoch ms; `None` before the first row and after the end.
    pub watermark: Option<i64>,
    /// Caught up for so long that time passes without rows.
    pub idle: bool,
    pub ended: bool,
}

/// The last checkpoint that the journal names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckpointStatus {
    pub epoch: u64,
    /// When it was complete, epoch ms.
    pub at: i64,
    pub bytes: u64,
    pub took_ms: u64,
}

/// Something that a user should know, as Kubernetes' conditions say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerCondition {
    /// Such as `CheckpointStale`.
    #[serde(rename = "type")]
    pub kind: String,
    /// One CamelCase word.
    pub reason: String,
    pub message: String,
}

/// The whole job in one process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkerStatus {
    pub job: JobIdentity,
    /// The wall clock, epoch ms.
    pub now: i64,
    /// Of the program.
    pub version: String,
    pub ready: bool,
    /// Slots of the whole job, once they are known.
    pub slot_count: Option<u32>,
    pub rows_in: u64,
    pub rows_out: u64,
    pub rows_in_per_second: u64,
    pub rows_out_per_second: u64,
    /// Sum over the inputs that know theirs.
    pub lag: Option<i64>,
    /// The lowest of the inputs that are not idle and have not ended.
    pub watermark: Option<i64>,
    /// The wall clock minus the watermark.
    pub watermark_delay_ms: Option<i64>,
    /// The input that has the lowest watermark.
    pub held_back_by: Option<String>,
    /// Of the slot whose last checkpoint is the oldest.
    pub checkpoint_age_ms: Option<i64>,
    pub conditions: Vec<WorkerCondition>,
    pub slots: Vec<SlotStatus>,
}
