//! Sources: where events come from, what they look like, and what their time is.

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::Duration;
use crate::connection::is_false;
use crate::rules::{IDENTIFIER_PATTERN, NAME_PATTERN, at_most_one_of, exactly_one_of};

/// Where events come from. Exactly one of `kafka`, `file`, `generate`.
/// Events that do not fit `columns` go to the side stream `<name>.malformed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = exactly_one_of(&["kafka", "file", "generate"]))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// The source's name, and that of the stream it emits.
    #[schemars(regex(pattern = NAME_PATTERN), length(max = 63))]
    pub name: String,
    /// A Kafka topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSource>,
    /// Files on the worker's disk; for runs on a laptop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileSource>,
    /// Events made up from a seed, the same at every run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<GenerateSource>,
    /// How an event is written; default JSON.
    #[serde(default)]
    pub format: Format,
    /// The columns of an event; other fields are ignored.
    #[schemars(length(min = 1, max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub columns: Vec<Column>,
    /// Columns that the topic is partitioned by (its Kafka key). A `groupBy` that contains them needs no shuffle.
    /// It is your promise: events with equal keys must be in one partition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// What an event's time is, and how long to wait for events that come out of order.
    pub event_time: EventTime,
    /// What happens to events that do not fit `columns`. `SideStream`: they go to `<source>.malformed`, counted,
    /// and dropped where nobody reads it. `Fail`: the job stops.
    #[serde(default)]
    pub on_malformed: OnMalformed,
}

/// A topic. It must exist.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaSource {
    /// Name of a connection with `kafka`.
    pub connection: String,
    /// The topic's name.
    #[schemars(length(min = 1, max = 249))]
    pub topic: String,
    /// Where the first start of the job begins: `Earliest`, `Latest` or `{timestamp: <RFC 3339>}`.
    #[serde(default)]
    pub start_from: StartFrom,
    /// `Latest` makes the source bounded: it ends at the end offsets seen at the first start, and everything is flushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
}

/// Where a Kafka source starts.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum StartFrom {
    #[default]
    Earliest,
    Latest,
    /// The first event whose Kafka timestamp is at or after this RFC 3339 time.
    Timestamp(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StartTimestamp {
    timestamp: String,
}

impl Serialize for StartFrom {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            StartFrom::Earliest => serializer.serialize_str("Earliest"),
            StartFrom::Latest => serializer.serialize_str("Latest"),
            StartFrom::Timestamp(timestamp) => StartTimestamp {
                timestamp: timestamp.clone(),
            }
            .serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for StartFrom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "expected `Earliest`, `Latest` or `{timestamp: <RFC 3339>}`";
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(word) if word == "Earliest" => Ok(StartFrom::Earliest),
            serde_json::Value::String(word) if word == "Latest" => Ok(StartFrom::Latest),
            value @ serde_json::Value::Object(_) => serde_json::from_value::<StartTimestamp>(value)
                .map(|start| StartFrom::Timestamp(start.timestamp))
                .map_err(|error| D::Error::custom(format!("{error}; {expected}"))),
            serde_json::Value::String(word) => Err(D::Error::custom(format!(
                "`{word}` is not a start; {expected}"
            ))),
            other => Err(D::Error::custom(format!(
                "`{other}` is not a start; {expected}"
            ))),
        }
    }
}

impl JsonSchema for StartFrom {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StartFrom".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
    }
}

/// Where a bounded Kafka source ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Until {
    Latest,
}

/// Files with an event a line. Each file, in name order, is a partition. Bounded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileSource {
    /// A file, or a pattern with `*` and `?`, relative to the job file's folder.
    #[schemars(length(min = 1))]
    pub path: String,
}

/// Events made up from a seed, the same at every run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GenerateSource {
    /// Pace, in events a second; default: as fast as it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub rows_per_second: Option<u64>,
    /// How many events; default: without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// The same seed makes the same events.
    #[serde(default)]
    pub seed: u64,
    /// Partitions that the events are spread over, by the source's `key` where it has one; default: 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schemars(range(min = 1, max = 1024))]
    pub partitions: u32,
    /// The fields of an event.
    #[schemars(length(min = 1, max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub fields: Vec<GeneratedField>,
}

fn one() -> u32 {
    1
}

fn is_one(value: &u32) -> bool {
    *value == 1
}

/// A field of a generated event. Exactly one of `sequence`, `uniform`, `choice`, `now`, `every`. Dots in the name make nested objects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
// CEL does not see lists of untyped values, hence not `choice`: the planner tells whether one is given.
#[x_kube(validation = at_most_one_of(&["sequence", "uniform", "now", "every"]))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GeneratedField {
    /// Where the value is in the event; dots make nested objects.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// 0, 1, 2 …; with a `prefix` a string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<SequenceField>,
    /// A number between `min` and `max`, both included: an integer for Int64 columns, else with two decimals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uniform: Option<UniformField>,
    /// One of these values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000))]
    pub choice: Option<Vec<Scalar>>,
    /// The time at which the event is made. Two runs differ in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<Empty>,
    /// A time that moves on by `step` with every event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<EveryField>,
}

/// Numbers that count up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SequenceField {
    /// The first number.
    #[serde(default)]
    pub start: i64,
    /// Put before the number, which makes it a string: `u-` gives `u-0`, `u-1` and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

/// Numbers spread evenly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UniformField {
    /// The smallest number.
    pub min: f64,
    /// The largest number.
    pub max: f64,
}

/// A time that moves on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EveryField {
    /// Time of the first event: RFC 3339 or epoch ms; default 2026-01-01T00:00:00Z.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Scalar>,
    /// From one event to the next.
    pub step: Duration,
    /// Moves each time by up to this much, to either side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Duration>,
}

/// An empty object, `{}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// A string, number, boolean or null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scalar(pub serde_json::Value);

impl JsonSchema for Scalar {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Scalar".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
    }
}

/// How events or rows are written. At most one of the kinds; default `json: {}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Format {
    /// A JSON object an event or row: `json: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Empty>,
}

/// A column of an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Column {
    /// The column's name, as expressions write it.
    #[schemars(regex(pattern = IDENTIFIER_PATTERN), length(max = 128))]
    pub name: String,
    /// `Timestamp` takes epoch milliseconds or RFC 3339 strings; `Bytes` takes base64 strings; `Decimal` needs `precision` and `scale`.
    #[serde(rename = "type")]
    pub data_type: ColumnType,
    /// Where the value is in the event, fields separated by dots; default: the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Whether the value may be absent or null.
    #[serde(default, skip_serializing_if = "is_false")]
    pub nullable: bool,
    /// Digits in all, for `type: Decimal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 38))]
    pub precision: Option<u8>,
    /// Digits after the point, for `type: Decimal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 38))]
    pub scale: Option<u8>,
}

/// The type of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ColumnType {
    String,
    Boolean,
    Int64,
    Double,
    Decimal,
    Timestamp,
    Bytes,
}

/// What an event's time is, and how long to wait for events that come out of order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventTime {
    /// A column of type `Timestamp` that is not nullable.
    pub column: String,
    /// The watermark follows the newest event time at this distance.
    #[serde(default)]
    pub max_out_of_orderness: Duration,
    /// How long a partition must have been read to its end without a new event before it stops holding the others back.
    #[serde(default = "one_minute")]
    pub idle_after: Duration,
    /// An event further than this ahead of its Kafka timestamp is malformed; default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_future: Option<Duration>,
}

fn one_minute() -> Duration {
    Duration::from_secs(60)
}

/// What happens to events that do not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnMalformed {
    #[default]
    SideStream,
    Fail,
}
