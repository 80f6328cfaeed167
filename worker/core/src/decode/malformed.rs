//! What becomes of events that cannot be decoded: the reason, and the rows of `<source>.malformed`.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Int64Array, RecordBatch, StringArray, StringBuilder, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use crate::chunk::Millis;

/// How much of the payload is kept.
const RAW_LIMIT: usize = 1024;

/// Why an event is malformed; the variant's name is what the `reason` column says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A Kafka record without a value.
    NullValue,
    /// Nothing, or nothing but whitespace.
    Empty,
    InvalidUtf8,
    InvalidJson,
    /// Objects and arrays nest more than 128 deep.
    TooDeep,
    /// JSON, but no object.
    NotAnObject,
    /// Something behind the object.
    TrailingData,
    /// A value is not of its column's type.
    WrongType,
    /// A column that is not nullable is absent or null.
    MissingColumn,
    /// A number does not fit its column, or an event time is absurd.
    OutOfRange,
    /// A decimal has more digits behind the point than its column.
    Inexact,
    /// A string in a Timestamp column is not RFC 3339.
    InvalidTimestamp,
    /// A string in a Bytes column is not base64.
    InvalidBase64,
    /// The event time is more than `maxFuture` ahead of Kafka's timestamp.
    FarFuture,
}

impl Reason {
    /// What it means, for a log line.
    pub fn meaning(self) -> &'static str {
        match self {
            Reason::NullValue => "the record has no value",
            Reason::Empty => "the event is empty",
            Reason::InvalidUtf8 => "the event is not valid UTF-8",
            Reason::InvalidJson => "the event is not valid JSON",
            Reason::TooDeep => "objects and arrays nest more than 128 deep",
            Reason::NotAnObject => "the event is not a JSON object",
            Reason::TrailingData => "something follows the JSON object",
            Reason::WrongType => "the value is not of the column's type",
            Reason::MissingColumn => "the column is not nullable, but absent or null",
            Reason::OutOfRange => "the value does not fit the column",
            Reason::Inexact => "the value has more decimals than the column",
            Reason::InvalidTimestamp => "the string is not an RFC 3339 time",
            Reason::InvalidBase64 => "the string is not base64 (standard alphabet, padded)",
            Reason::FarFuture => {
                "the event time is more than maxFuture ahead of the record's timestamp"
            }
        }
    }

    /// Whether it is about one column, rather than the event.
    pub fn of_column(self) -> bool {
        use Reason::*;
        matches!(
            self,
            WrongType
                | MissingColumn
                | OutOfRange
                | Inexact
                | InvalidTimestamp
                | InvalidBase64
                | FarFuture
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Columns of `<source>.malformed`: `raw` (null for a record without a value), `reason`, and where it was.
pub fn malformed_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("raw", DataType::Utf8, true),
        Field::new("reason", DataType::Utf8, false),
        Field::new("topic", DataType::Utf8, false),
        Field::new("partition", DataType::Int64, false),
        Field::new("offset", DataType::Int64, false),
        Field::new(
            "timestamp",
            DataType::Timestamp(TimeUnit::Millisecond, None),
            true,
        ),
    ]))
}

/// Gathers rows of `<source>.malformed`.
#[derive(Default)]
pub(super) struct MalformedRows {
    raw: StringBuilder,
    reasons: StringBuilder,
    offsets: Vec<i64>,
    timestamps: Vec<Option<Millis>>,
}

impl MalformedRows {
    pub fn push(
        &mut self,
        payload: Option<&[u8]>,
        reason: Reason,
        offset: i64,
        timestamp: Option<Millis>,
    ) {
        let raw = payload.map(|payload| &payload[..payload.len().min(RAW_LIMIT)]);
        self.raw.append_option(raw.map(String::from_utf8_lossy));
        self.reasons.append_value(reason.to_string());
        self.offsets.push(offset);
        self.timestamps.push(timestamp);
    }

    /// The rows so far, all of one origin.
    pub fn finish(
        &mut self,
        topic: &str,
        partition: i64,
    ) -> Result<Option<RecordBatch>, ArrowError> {
        let rows = self.offsets.len();
        if rows == 0 {
            return Ok(None);
        }
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(self.raw.finish()),
            Arc::new(self.reasons.finish()),
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(
                topic, rows,
            ))),
            Arc::new(Int64Array::from(vec![partition; rows])),
            Arc::new(Int64Array::from(std::mem::take(&mut self.offsets))),
            Arc::new(TimestampMillisecondArray::from(std::mem::take(
                &mut self.timestamps,
            ))),
        ];
        RecordBatch::try_new(malformed_schema(), columns).map(Some)
    }
}
