//! Sinks: where rows go.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::connection::is_false;
use crate::rules::{NAME_PATTERN, exactly_one_of};
use crate::{Empty, Format};

/// Where the rows of a stream go. Exactly one of `kafka`, `file`, `stdout`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = exactly_one_of(&["kafka", "file", "stdout"]))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sink {
    /// The sink's name, in messages and metrics.
    #[schemars(regex(pattern = NAME_PATTERN), length(max = 63))]
    pub name: String,
    /// The stream it takes: a source's, a step's, or a side stream such as `events.malformed`.
    pub from: String,
    /// A Kafka topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSink>,
    /// A file on the worker's disk; for runs on a laptop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileSink>,
    /// `stdout: {}` prints the rows, at least once each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<Empty>,
    /// How a row is written; default JSON.
    #[serde(default)]
    pub format: Format,
}

/// A topic, written in transactions: readers with `isolation.level=read_committed` see each row exactly once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaSink {
    /// Name of a connection with `kafka`.
    pub connection: String,
    /// The topic's name.
    #[schemars(length(min = 1, max = 249))]
    pub topic: String,
    /// Columns that make the Kafka key: one String column is its bytes, else a JSON array. Partitioned as Java clients do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// Creates the topic when it does not exist; without it, a missing topic is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<CreateTopic>,
}

/// What a topic is created with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateTopic {
    /// How many partitions.
    #[schemars(range(min = 1, max = 10000))]
    pub partitions: u32,
    /// How many copies; default: what the brokers' `default.replication.factor` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub replication_factor: Option<u16>,
}

/// A file, a row a line. Exactly once: a restart goes on where the last commit ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileSink {
    /// The file, relative to the job file's folder.
    #[schemars(length(min = 1))]
    pub path: String,
    /// Replaces a file that this job did not write; without it, such a file is refused unless it is empty.
    #[serde(default, skip_serializing_if = "is_false")]
    pub overwrite: bool,
}
