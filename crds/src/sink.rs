//! Sinks: where rows go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::connection::is_false;
use crate::{Empty, Format};

/// Where the rows of a stream go. Exactly one of `kafka`, `file`, `stdout`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sink {
    pub name: String,
    /// The stream it takes: a source's, a step's, or a side stream such as `events.malformed`.
    pub from: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSink>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileSink>,
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
    pub topic: String,
    /// Columns that make the Kafka key: one String column is its bytes, else a JSON array. Partitioned as Java clients do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// Creates the topic when it does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<CreateTopic>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateTopic {
    #[schemars(range(min = 1, max = 10000))]
    pub partitions: u32,
    /// Default: what the brokers' `default.replication.factor` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub replication_factor: Option<u16>,
}

/// A file, a row a line. Exactly once: a restart goes on where the last commit ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileSink {
    /// Relative to the job file's folder.
    pub path: String,
    /// Replaces a file that this job did not write; without it, such a file is refused unless it is empty.
    #[serde(default, skip_serializing_if = "is_false")]
    pub overwrite: bool,
}
