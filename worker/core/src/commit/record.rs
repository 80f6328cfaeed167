//! The journal's records: the only truth about a slot's progress. Every record is self-contained, so the last one is enough.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One record: a claim (a worker took the slot) or an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalRecord {
    pub job: String,
    pub slot: u32,
    pub kind: RecordKind,
    /// Of the placement under which it was written; only grows.
    pub term: u64,
    /// Name of the worker (pod), stable over its restarts.
    pub owner: String,
    /// One life of the worker's process.
    pub incarnation: String,
    /// The last committed epoch, this one included; 0 before the first.
    pub epoch: u64,
    /// Next position to read, by input (`<source or step>/<partition>`).
    pub positions: BTreeMap<String, i64>,
    /// Watermark at the end of the epoch, by task, under the name of its input.
    pub watermarks: BTreeMap<String, i64>,
    /// Watermarks that moved without data in this epoch, by task: applied at its end, before late updates are flushed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub idle_advances: BTreeMap<String, i64>,
    /// Tasks that are idle at the end of the epoch: they hold nobody back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub idle: Vec<String>,
    /// Inputs that have ended, in this epoch or before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<String>,
    /// Epochs applied to external sinks (those outside the transaction), by sink.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub applied: BTreeMap<String, u64>,
    /// Kept checkpoints, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checkpoints: Vec<CheckpointRef>,
    /// Microseconds, grows with every epoch: the version that external sinks order writes by.
    pub sink_timestamp: i64,
    /// Of the epoch's output bytes, hexadecimal; empty in claims.
    #[serde(default)]
    pub digest: String,
    /// Rows put out by the epoch.
    #[serde(default)]
    pub outputs: u64,
    pub plan_hash: String,
    pub engine_version: String,
    pub facts: JobFacts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordKind {
    Claim,
    Epoch,
}

/// A checkpoint in storage: the state at the end of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointRef {
    pub epoch: u64,
    /// Name of its manifest in the storage.
    pub manifest: String,
}

/// What was resolved at the first start and must hold ever after.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobFacts {
    pub slots: u32,
    /// First position, by input.
    pub start: BTreeMap<String, i64>,
    /// Position at which a bounded input ends, by input.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub end: BTreeMap<String, i64>,
    /// Topic id and number of partitions, by source or exchange name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub topics: BTreeMap<String, TopicFacts>,
    /// Files that a file source reads, in order, by source.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, Vec<String>>,
    /// Epoch ms of event 0 of a generated source whose events tell the time, by source: a replay tells the same times.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub began: BTreeMap<String, i64>,
}

impl JobFacts {
    /// Takes newer facts in. Those of inputs that a changed job has no more are kept: a replay may need them.
    pub fn update(&mut self, now: JobFacts) {
        self.slots = now.slots;
        self.end.retain(|input, _| !now.start.contains_key(input));
        self.end.extend(now.end);
        self.start.extend(now.start);
        self.topics.extend(now.topics);
        self.files.extend(now.files);
        self.began.extend(now.began);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicFacts {
    pub topic: String,
    pub id: String,
    pub partitions: u32,
}
