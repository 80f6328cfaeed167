//! Columns under construction: plain vectors that grow by a value a row, and shrink again when the row turns out malformed.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, StringArray,
    TimestampMillisecondArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::error::ArrowError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::malformed::Reason;
use super::rfc3339::parse_rfc3339;
use super::{number, scan};
use crate::chunk::Millis;
use crate::plan::DecodeColumn;

/// A column: how to read its values, and those read so far (none if it is only checked).
pub(super) struct Column {
    values: Values,
    nullable: bool,
    used: bool,
    /// The last row that has a value or a null here, counted from 1 over the decoder's life.
    pub row: u64,
    /// The last value read into a Timestamp column.
    pub time: Millis,
    /// Rows that are null, ascending. Nulls are rare; where they are not, they cost no more than values.
    nulls: Vec<usize>,
    /// A string before it is read as what it stands for.
    text: Vec<u8>,
}

enum Values {
    Text(Bytes),
    Base64(Bytes),
    Boolean(Vec<bool>),
    Int64(Vec<i64>),
    Double(Vec<f64>),
    Decimal {
        values: Vec<i128>,
        precision: u8,
        scale: i8,
    },
    Timestamp(Vec<i64>),
}

/// Values of varying length, one behind the other, and where each one starts; the last offset is the end.
struct Bytes {
    offsets: Vec<i32>,
    data: Vec<u8>,
}

impl Bytes {
    fn new() -> Self {
        Bytes {
            offsets: vec![0],
            data: Vec::new(),
        }
    }

    /// Ends a value. The decoder lets no more than `i32::MAX` bytes in.
    #[inline(always)]
    fn close(&mut self) {
        self.offsets.push(self.data.len() as i32);
    }

    /// The string at `at`, as it is; skipped where nobody uses it.
    #[inline(always)]
    fn read(&mut self, bytes: &[u8], at: usize, depth: usize, used: bool) -> Result<usize, Reason> {
        if scan::byte(bytes, at) != b'"' {
            return Err(scan::mismatch(bytes, at, depth));
        }
        if !used {
            return scan::skip_string(bytes, at + 1);
        }
        let after = scan::string_into(bytes, at + 1, &mut self.data)?;
        self.close();
        Ok(after)
    }

    /// What the string at `at` stands for; checked also where nobody uses it.
    fn read_base64(
        &mut self,
        bytes: &[u8],
        at: usize,
        depth: usize,
        used: bool,
        text: &mut Vec<u8>,
    ) -> Result<usize, Reason> {
        if scan::byte(bytes, at) != b'"' {
            return Err(scan::mismatch(bytes, at, depth));
        }
        text.clear();
        let after = scan::string_into(bytes, at + 1, text)?;
        let start = self.data.len();
        STANDARD
            .decode_vec(&text, &mut self.data)
            .map_err(|_| Reason::InvalidBase64)?;
        if used {
            self.close();
        } else {
            self.data.truncate(start);
        }
        Ok(after)
    }

    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        self.data
            .truncate(self.offsets.last().map_or(0, |end| *end as usize));
    }

    /// Takes the values out; leaves as much room as they took.
    fn take(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let mut offsets = Vec::with_capacity(self.offsets.len());
        offsets.push(0);
        let data = Vec::with_capacity(self.data.len());
        let offsets = std::mem::replace(&mut self.offsets, offsets);
        (
            OffsetBuffer::new(ScalarBuffer::from(offsets)),
            Buffer::from_vec(std::mem::replace(&mut self.data, data)),
        )
    }
}

impl Column {
    /// `None` if JSON has no values of the column's type.
    pub fn new(column: &DecodeColumn) -> Option<Self> {
        let values = match &column.data_type {
            DataType::Utf8 => Values::Text(Bytes::new()),
            DataType::Binary => Values::Base64(Bytes::new()),
            DataType::Boolean => Values::Boolean(Vec::new()),
            DataType::Int64 => Values::Int64(Vec::new()),
            DataType::Float64 => Values::Double(Vec::new()),
            DataType::Decimal128(precision, scale) => Values::Decimal {
                values: Vec::new(),
                precision: *precision,
                scale: *scale,
            },
            DataType::Timestamp(TimeUnit::Millisecond, None) => Values::Timestamp(Vec::new()),
            _ => return None,
        };
        let (nullable, used) = (column.nullable, column.used);
        Some(Column {
            values,
            nullable,
            used,
            row: 0,
            time: 0,
            nulls: Vec::new(),
            text: Vec::new(),
        })
    }

    pub fn is_used(&self) -> bool {
        self.used
    }

    pub fn is_timestamp(&self) -> bool {
        matches!(self.values, Values::Timestamp(_))
    }

    /// Reads the value at `at`; returns the position behind it. On an error the column may hold half a row, until `truncate`.
    // Inlined into its one hot caller: positions then stay in registers from value to value.
    #[inline(always)]
    pub fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Reason> {
        if scan::byte(bytes, at) == b'n' {
            let after = scan::literal(bytes, at, b"null")?;
            self.absent()?;
            return Ok(after);
        }
        let used = self.used;
        match &mut self.values {
            Values::Text(text) => text.read(bytes, at, depth, used),
            Values::Base64(binary) => binary.read_base64(bytes, at, depth, used, &mut self.text),
            Values::Int64(values) => push(values, number::int64(bytes, at, depth)?, used),
            Values::Double(values) => push(values, number::double(bytes, at, depth)?, used),
            Values::Boolean(values) => push(values, boolean(bytes, at, depth)?, used),
            Values::Decimal {
                values,
                precision,
                scale,
            } => {
                let read = number::decimal(bytes, at, depth, *precision, *scale)?;
                push(values, read, used)
            }
            Values::Timestamp(values) => {
                let read = match scan::byte(bytes, at) {
                    b'"' => time(bytes, at, &mut self.text)?,
                    _ => number::int64(bytes, at, depth)?,
                };
                self.time = read.0;
                push(values, read, used)
            }
        }
    }

    /// The row has no value here.
    #[inline]
    pub fn absent(&mut self) -> Result<(), Reason> {
        if !self.nullable {
            return Err(Reason::MissingColumn);
        }
        if self.used {
            self.nulls.push(self.len());
            match &mut self.values {
                Values::Text(bytes) | Values::Base64(bytes) => bytes.close(),
                Values::Boolean(values) => values.push(false),
                Values::Int64(values) | Values::Timestamp(values) => values.push(0),
                Values::Double(values) => values.push(0.0),
                Values::Decimal { values, .. } => values.push(0),
            }
        }
        Ok(())
    }

    fn len(&self) -> usize {
        match &self.values {
            Values::Text(bytes) | Values::Base64(bytes) => bytes.offsets.len() - 1,
            Values::Boolean(values) => values.len(),
            Values::Int64(values) | Values::Timestamp(values) => values.len(),
            Values::Double(values) => values.len(),
            Values::Decimal { values, .. } => values.len(),
        }
    }

    /// Forgets whatever lies behind the first `rows` rows, half-read values too.
    pub fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Values::Text(bytes) | Values::Base64(bytes) => bytes.truncate(rows),
            Values::Boolean(values) => values.truncate(rows),
            Values::Int64(values) | Values::Timestamp(values) => values.truncate(rows),
            Values::Double(values) => values.truncate(rows),
            Values::Decimal { values, .. } => values.truncate(rows),
        }
        while self.nulls.last().is_some_and(|row| *row >= rows) {
            self.nulls.pop();
        }
    }

    /// Takes the column out, as an array.
    pub fn take(&mut self) -> Result<ArrayRef, ArrowError> {
        let nulls = self.take_nulls();
        Ok(match &mut self.values {
            Values::Text(text) => {
                let (offsets, data) = text.take();
                Arc::new(StringArray::try_new(offsets, data, nulls)?)
            }
            Values::Base64(binary) => {
                let (offsets, data) = binary.take();
                Arc::new(BinaryArray::try_new(offsets, data, nulls)?)
            }
            Values::Boolean(values) => {
                Arc::new(BooleanArray::new(BooleanBuffer::from(take(values)), nulls))
            }
            Values::Int64(values) => Arc::new(Int64Array::try_new(take(values).into(), nulls)?),
            Values::Double(values) => Arc::new(Float64Array::try_new(take(values).into(), nulls)?),
            Values::Timestamp(values) => Arc::new(TimestampMillisecondArray::try_new(
                take(values).into(),
                nulls,
            )?),
            Values::Decimal {
                values,
                precision,
                scale,
            } => Arc::new(
                Decimal128Array::try_new(take(values).into(), nulls)?
                    .with_precision_and_scale(*precision, *scale)?,
            ),
        })
    }

    fn take_nulls(&mut self) -> Option<NullBuffer> {
        if self.nulls.is_empty() {
            return None;
        }
        let mut valid = vec![true; self.len()];
        for row in self.nulls.drain(..) {
            valid[row] = false;
        }
        Some(NullBuffer::from(valid))
    }
}

/// Keeps a value that was read, if it is used; gives the position behind it.
#[inline(always)]
fn push<T>(values: &mut Vec<T>, (value, after): (T, usize), used: bool) -> Result<usize, Reason> {
    if used {
        values.push(value);
    }
    Ok(after)
}

/// Takes the values out; leaves as much room as they took.
fn take<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(values.len());
    std::mem::replace(values, room)
}

#[inline(always)]
fn boolean(bytes: &[u8], at: usize, depth: usize) -> Result<(bool, usize), Reason> {
    match scan::byte(bytes, at) {
        b't' => Ok((true, scan::literal(bytes, at, b"true")?)),
        b'f' => Ok((false, scan::literal(bytes, at, b"false")?)),
        _ => Err(scan::mismatch(bytes, at, depth)),
    }
}

/// The RFC 3339 time in the string at `at`.
fn time(bytes: &[u8], at: usize, text: &mut Vec<u8>) -> Result<(Millis, usize), Reason> {
    text.clear();
    let after = scan::string_into(bytes, at + 1, text)?;
    parse_rfc3339(text)
        .map(|time| (time, after))
        .ok_or(Reason::InvalidTimestamp)
}
