//! Events to columns: JSON of which only the columns are built, straight into Arrow, without an allocation per event.
//!
//! An event is one JSON object. A column is a path in it. Everything else is skipped, but not trusted: an event that
//! is not valid UTF-8 and valid JSON from its first byte to its last is malformed, as is one that does not fit the
//! columns (see `Reason`). A malformed event leaves no trace in the columns; it becomes a row of `<source>.malformed`.
//! Of duplicate fields the first one counts, the others are skipped.
//!
//! How it is fast: `shape` guesses which key comes next, `scan` and `number` go eight bytes at a time, and `columns`
//! appends to vectors that become Arrow buffers as they are.

mod columns;
mod malformed;
mod number;
mod rfc3339;
pub(crate) mod scan;
mod shape;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

pub use self::malformed::{Reason, malformed_schema};
pub use self::rfc3339::parse_rfc3339;

use self::columns::Column;
use self::malformed::MalformedRows;
use self::shape::{Several, Shape, Target};
use crate::chunk::Millis;
use crate::plan::DecodeColumn;

/// Event times beyond this (73 million years) are `OutOfRange`: arithmetic on windows and watermarks stays clear of the ends
/// of `i64`, which mean "before all events" and "after all events".
pub const TIME_LIMIT: Millis = Millis::MAX / 4;

#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("column `{column}` is of type {data_type}, which no JSON value has")]
    UnsupportedType { column: String, data_type: DataType },
    #[error("the event time column `{0}` is not a millisecond timestamp")]
    TimeColumn(String),
    /// A batch holds at most 2 GiB of events: take it out with `finish`, then push the event again.
    #[error("the batch is full: an event of {0} bytes does not fit")]
    Full(usize),
    #[error("the decoded columns do not make a batch: {0}")]
    Batch(#[from] ArrowError),
}

/// Decodes events of one partition into batches.
pub struct Decoder {
    columns: Vec<Column>,
    names: Vec<String>,
    schema: SchemaRef,
    shape: Shape,
    time_column: usize,
    max_future: Option<Millis>,
    origin: String,
    partition: i64,
    times: Vec<Millis>,
    /// Bytes of the events pushed since the last `finish`.
    bytes: usize,
    /// Number of the event in hand, from 1.
    row: u64,
    /// Columns that it has.
    present: usize,
    /// The column that was read last: the culprit, when there is one.
    culprit: usize,
    /// `None` when nobody reads them.
    malformed: Option<MalformedRows>,
    malformed_count: u64,
    first_malformed: Option<Malformed>,
}

/// What came of the events pushed since the last `finish`, in their order.
#[derive(Debug)]
pub struct Decoded {
    /// The well-formed ones: the columns in use.
    pub rows: RecordBatch,
    /// Event time of each row.
    pub times: Vec<Millis>,
    /// Rows of `<source>.malformed`, if they are wanted and there are any.
    pub malformed: Option<RecordBatch>,
    pub malformed_count: u64,
    pub first_malformed: Option<Malformed>,
}

/// A malformed event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    pub offset: i64,
    pub reason: Reason,
    /// What is wrong with it, for people: lower-case, no full stop.
    pub detail: String,
    /// How it begins.
    pub raw: String,
}

impl Decoder {
    /// `time_column` is an index into `columns`. `origin` (topic or file) and `partition` are what malformed rows
    /// say of where they come from; without `keep_malformed` these are only counted.
    pub fn new(
        columns: &[DecodeColumn],
        time_column: usize,
        max_future: Option<Millis>,
        origin: impl Into<String>,
        partition: i64,
        keep_malformed: bool,
    ) -> Result<Self, DecodeError> {
        let unsupported = |column: &DecodeColumn| DecodeError::UnsupportedType {
            column: column.name.clone(),
            data_type: column.data_type.clone(),
        };
        let built: Vec<Column> = columns
            .iter()
            .map(|column| Column::new(column).ok_or_else(|| unsupported(column)))
            .collect::<Result<_, _>>()?;
        if !built.get(time_column).is_some_and(Column::is_timestamp) {
            let name = columns.get(time_column).map(|column| column.name.clone());
            return Err(DecodeError::TimeColumn(name.unwrap_or_default()));
        }
        let fields = columns.iter().filter(|column| column.used);
        let fields = fields
            .map(|column| Field::new(&column.name, column.data_type.clone(), column.nullable));
        Ok(Decoder {
            columns: built,
            names: columns.iter().map(|column| column.name.clone()).collect(),
            schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
            shape: Shape::new(columns.iter().map(|column| column.path.as_slice())),
            time_column,
            max_future,
            origin: origin.into(),
            partition,
            times: Vec::new(),
            bytes: 0,
            row: 0,
            present: 0,
            culprit: 0,
            malformed: keep_malformed.then(MalformedRows::default),
            malformed_count: 0,
            first_malformed: None,
        })
    }

    /// Of the batches that come out: the columns in use, in declared order.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Well-formed rows since the last `finish`.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether nothing was pushed since the last `finish`, malformed or not.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty() && self.malformed_count == 0
    }

    /// Bytes pushed since the last `finish`: cut batches by them too, events may be large.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Decodes one event. A malformed one is no error, only a batch that is too full is: then nothing has changed.
    #[inline]
    pub fn push(
        &mut self,
        payload: Option<&[u8]>,
        offset: i64,
        timestamp: Option<Millis>,
    ) -> Result<(), DecodeError> {
        let length = payload.map_or(0, <[u8]>::len);
        if self.bytes.saturating_add(length) > i32::MAX as usize {
            return Err(DecodeError::Full(length));
        }
        self.bytes += length;
        match self.event(payload, timestamp) {
            Ok(time) => self.times.push(time),
            Err(reason) => self.reject(payload, reason, offset, timestamp),
        }
        Ok(())
    }

    /// Takes out what was decoded, and starts a new batch.
    pub fn finish(&mut self) -> Result<Decoded, DecodeError> {
        let rows = self.times.len();
        let arrays = self.columns.iter_mut().filter(|column| column.is_used());
        let arrays = arrays.map(Column::take).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let malformed = match &mut self.malformed {
            Some(malformed) => malformed.finish(&self.origin, self.partition)?,
            None => None,
        };
        self.bytes = 0;
        Ok(Decoded {
            rows: RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)?,
            times: std::mem::replace(&mut self.times, Vec::with_capacity(rows)),
            malformed,
            malformed_count: std::mem::take(&mut self.malformed_count),
            first_malformed: self.first_malformed.take(),
        })
    }

    /// Reads one event into the columns; its time.
    #[inline]
    fn event(
        &mut self,
        payload: Option<&[u8]>,
        timestamp: Option<Millis>,
    ) -> Result<Millis, Reason> {
        let bytes = payload.ok_or(Reason::NullValue)?;
        if !bytes.is_ascii() && simdutf8::basic::from_utf8(bytes).is_err() {
            return Err(Reason::InvalidUtf8);
        }
        self.row += 1;
        self.present = 0;
        let start = scan::space(bytes, 0);
        if scan::byte(bytes, start) != b'{' {
            return Err(no_object(bytes, start));
        }
        let end = self.object(bytes, start + 1, 0, 1)?;
        if scan::space(bytes, end) != bytes.len() {
            return Err(Reason::TrailingData);
        }
        if self.present != self.columns.len() {
            self.fill_absent()?;
        }
        self.time(timestamp)
    }

    /// Reads the object whose inside starts at `at`; returns the position behind it.
    fn object(
        &mut self,
        bytes: &[u8],
        at: usize,
        object: usize,
        depth: usize,
    ) -> Result<usize, Reason> {
        if depth > scan::MAX_DEPTH {
            return Err(Reason::TooDeep);
        }
        let mut at = scan::space(bytes, at);
        if scan::byte(bytes, at) == b'}' {
            return Ok(at + 1);
        }
        let mut field;
        (field, at) = self.shape.key(object, self.shape.head(object), bytes, at)?;
        loop {
            at = scan::space(bytes, at);
            at = match self.shape.target(field) {
                Target::Column(column) => self.value(bytes, at, column, depth)?,
                Target::Skip => scan::skip(bytes, at, depth)?,
                Target::Object(inner) => self.inner(bytes, at, inner, depth)?,
                Target::Several(several) => self.several(bytes, at, several, depth)?,
            };
            if let Some(next) = self.shape.next(field, bytes, at) {
                (field, at) = next;
                continue;
            }
            at = scan::space(bytes, at);
            match scan::byte(bytes, at) {
                b',' => at = scan::space(bytes, at + 1),
                b'}' => return Ok(at + 1),
                _ => return Err(Reason::InvalidJson),
            }
            (field, at) = self.shape.key(object, field, bytes, at)?;
        }
    }

    #[inline(always)]
    fn value(
        &mut self,
        bytes: &[u8],
        at: usize,
        index: usize,
        depth: usize,
    ) -> Result<usize, Reason> {
        let column = &mut self.columns[index];
        if column.row == self.row {
            return scan::skip(bytes, at, depth);
        }
        column.row = self.row;
        self.present += 1;
        self.culprit = index;
        column.read(bytes, at, depth)
    }

    /// The value on the way to columns: unless it is an object, they are absent.
    #[inline]
    fn inner(
        &mut self,
        bytes: &[u8],
        at: usize,
        object: usize,
        depth: usize,
    ) -> Result<usize, Reason> {
        match scan::byte(bytes, at) {
            b'{' => self.object(bytes, at + 1, object, depth + 1),
            _ => scan::skip(bytes, at, depth),
        }
    }

    /// A value that is several columns, or columns and an object with more of them: read as each in turn.
    #[cold]
    fn several(
        &mut self,
        bytes: &[u8],
        at: usize,
        several: usize,
        depth: usize,
    ) -> Result<usize, Reason> {
        let Several { columns, object } = self.shape.several(several).clone();
        for column in columns {
            self.value_again(bytes, at, column, depth)?;
        }
        match object {
            Some(object) => self.inner(bytes, at, object, depth),
            None => scan::skip(bytes, at, depth),
        }
    }

    #[cold]
    #[inline(never)]
    fn value_again(
        &mut self,
        bytes: &[u8],
        at: usize,
        index: usize,
        depth: usize,
    ) -> Result<usize, Reason> {
        self.value(bytes, at, index, depth)
    }

    fn fill_absent(&mut self) -> Result<(), Reason> {
        for (index, column) in self.columns.iter_mut().enumerate() {
            if column.row != self.row {
                self.culprit = index;
                column.absent()?;
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn time(&mut self, timestamp: Option<Millis>) -> Result<Millis, Reason> {
        let time = self.columns[self.time_column].time;
        if !(-TIME_LIMIT..=TIME_LIMIT).contains(&time) {
            self.culprit = self.time_column;
            return Err(Reason::OutOfRange);
        }
        if let (Some(limit), Some(timestamp)) = (self.max_future, timestamp)
            && time > timestamp.saturating_add(limit)
        {
            self.culprit = self.time_column;
            return Err(Reason::FarFuture);
        }
        Ok(time)
    }

    /// Takes the event in hand out of the columns again and makes a malformed row of it.
    #[cold]
    fn reject(
        &mut self,
        payload: Option<&[u8]>,
        reason: Reason,
        offset: i64,
        timestamp: Option<Millis>,
    ) {
        let rows = self.times.len();
        self.columns
            .iter_mut()
            .for_each(|column| column.truncate(rows));
        self.malformed_count += 1;
        if self.first_malformed.is_none() {
            self.first_malformed = Some(Malformed {
                offset,
                reason,
                detail: self.detail(payload, reason),
                raw: beginning(payload.unwrap_or_default()),
            });
        }
        if let Some(malformed) = &mut self.malformed {
            malformed.push(payload, reason, offset, timestamp);
        }
    }

    fn detail(&self, payload: Option<&[u8]>, reason: Reason) -> String {
        if reason.of_column() {
            let name = self.names.get(self.culprit).map_or("", String::as_str);
            return format!("column `{name}`: {}", reason.meaning());
        }
        // Another parser says where the fault is, in words.
        let parsed = serde_json::from_slice::<serde::de::IgnoredAny>(payload.unwrap_or_default());
        match parsed {
            Err(error) if reason == Reason::InvalidJson => format!("{}: {error}", reason.meaning()),
            _ => reason.meaning().to_owned(),
        }
    }
}

/// As much of an event as fits into a message.
fn beginning(payload: &[u8]) -> String {
    const SHOWN: usize = 120;
    let shown = String::from_utf8_lossy(&payload[..payload.len().min(SHOWN)]);
    let more = if payload.len() > SHOWN { "…" } else { "" };
    format!("{}{more}", shown.escape_debug())
}

/// Why `bytes` are no object, given that none starts at `start`, behind the leading space.
#[cold]
fn no_object(bytes: &[u8], start: usize) -> Reason {
    if start == bytes.len() {
        return Reason::Empty;
    }
    match scan::skip(bytes, start, 0) {
        Ok(_) => Reason::NotAnObject,
        Err(reason) => reason,
    }
}
