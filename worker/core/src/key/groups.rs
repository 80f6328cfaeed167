//! Group columns as bytes, and back. Comparing the bytes compares the columns: left to right, nulls first, strings
//! bytewise, numbers by value.
//!
//! Windows that fire together come out in this order, so it is part of what a replay must give again: the form is our
//! own and does not change with a library.
//!
//! | column | bytes |
//! |---|---|
//! | null | `00` |
//! | otherwise | `01`, then the value |
//! | integers, timestamps, decimals | big-endian, sign bit flipped |
//! | doubles | big-endian; negative ones inverted, others with the sign bit flipped; one zero and one NaN |
//! | booleans | `00` or `01` |
//! | strings, bytes | as they are, `00` written as `00 ff`, ended by `00 01` |
//!
//! A single String column is the usual case, and its keys are its values themselves, not copied: null is no bytes at all, the
//! empty string `00`, and a string that starts with `00` or `01` has a `01` before it. No groups, no bytes.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, Decimal128Array, Float64Array,
    Int64Array, StringArray, StringBuilder, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampMillisecondType};

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{0} cannot be grouped by: cast it in `groupBy`, for example to VARCHAR")]
    UnsupportedType(DataType),
    #[error("{found} group columns where {expected} are declared")]
    Shape { expected: usize, found: usize },
    #[error("a group's key is damaged: {0}")]
    Damaged(&'static str),
}

const NULL: u8 = 0;
const VALUE: u8 = 1;
const EMPTY: &[u8] = &[0];

/// Encodes and decodes the keys of one grouping.
#[derive(Clone, Debug)]
pub struct GroupKeys {
    columns: Vec<DataType>,
}

/// Keys of the rows of a batch.
pub enum EncodedKeys {
    /// Of one String column: its values, and the few keys that are not their string, by row.
    Text {
        values: StringArray,
        odd: Vec<(usize, Vec<u8>)>,
    },
    /// One behind the other.
    Bytes { bytes: Vec<u8>, ends: Vec<usize> },
    /// No group columns: one group.
    Global,
}

impl EncodedKeys {
    #[inline]
    pub fn get(&self, row: usize) -> &[u8] {
        match self {
            EncodedKeys::Text { values, odd } => {
                if values.is_null(row) {
                    return &[];
                }
                let value = values.value(row).as_bytes();
                match value.first() {
                    Some(first) if *first > VALUE => value,
                    None => EMPTY,
                    Some(_) => odd
                        .binary_search_by_key(&row, |(row, _)| *row)
                        .map_or(value, |at| &odd[at].1),
                }
            }
            EncodedKeys::Bytes { bytes, ends } => {
                let start = if row == 0 { 0 } else { ends[row - 1] };
                &bytes[start..ends[row]]
            }
            EncodedKeys::Global => &[],
        }
    }
}

impl GroupKeys {
    pub fn new(types: impl IntoIterator<Item = DataType>) -> Result<Self, KeyError> {
        let columns = types
            .into_iter()
            .map(|data_type| match Reader::of(&data_type) {
                Some(_) => Ok(data_type),
                None => Err(KeyError::UnsupportedType(data_type)),
            });
        Ok(GroupKeys {
            columns: columns.collect::<Result<_, _>>()?,
        })
    }

    /// The keys of `rows` rows.
    pub fn encode(&self, columns: &[ArrayRef], rows: usize) -> Result<EncodedKeys, KeyError> {
        let (expected, found) = (self.columns.len(), columns.len());
        if found != expected {
            return Err(KeyError::Shape { expected, found });
        }
        match columns {
            [] => Ok(EncodedKeys::Global),
            [text] if *text.data_type() == DataType::Utf8 => Ok(text_keys(text.as_string())),
            columns => {
                let writers: Vec<Writer> =
                    columns.iter().map(Writer::of).collect::<Result<_, _>>()?;
                let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(rows));
                for row in 0..rows {
                    writers
                        .iter()
                        .for_each(|writer| writer.write(row, &mut bytes));
                    ends.push(bytes.len());
                }
                Ok(EncodedKeys::Bytes { bytes, ends })
            }
        }
    }

    /// The group columns of keys that `encode` made.
    pub fn decode<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<ArrayRef>, KeyError> {
        let mut readers: Vec<Reader> = self.columns.iter().filter_map(Reader::of).collect();
        let plain_text = matches!(readers.as_slice(), [Reader::Text(_)]);
        for key in keys {
            match readers.as_mut_slice() {
                [Reader::Text(text)] if plain_text => text.append_option(text_of(key)?),
                readers => {
                    let rest = readers
                        .iter_mut()
                        .try_fold(key, |rest, reader| reader.read(rest))?;
                    if !rest.is_empty() {
                        return Err(KeyError::Damaged("it is too long"));
                    }
                }
            }
        }
        Ok(readers.into_iter().map(Reader::finish).collect())
    }
}

fn text_keys(values: &StringArray) -> EncodedKeys {
    let odd = (0..values.len()).filter(|row| {
        values.is_valid(*row)
            && values
                .value(*row)
                .as_bytes()
                .first()
                .is_some_and(|first| *first <= VALUE)
    });
    let odd = odd
        .map(|row| (row, [&[VALUE], values.value(row).as_bytes()].concat()))
        .collect();
    EncodedKeys::Text {
        values: values.clone(),
        odd,
    }
}

fn text_of(key: &[u8]) -> Result<Option<&str>, KeyError> {
    match key {
        [] => Ok(None),
        [NULL] => Ok(Some("")),
        [VALUE, odd @ ..] => utf8(odd).map(Some),
        _ => utf8(key).map(Some),
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, KeyError> {
    std::str::from_utf8(bytes).map_err(|_| KeyError::Damaged("a string is not UTF-8"))
}

/// A column on its way into keys.
enum Writer<'a> {
    Boolean(&'a BooleanArray),
    /// Timestamps too.
    Int64(&'a dyn Array, &'a [i64]),
    Double(&'a Float64Array),
    Decimal(&'a Decimal128Array),
    Bytes(&'a dyn Array, &'a [i32], &'a [u8]),
}

impl<'a> Writer<'a> {
    fn of(array: &'a ArrayRef) -> Result<Self, KeyError> {
        Ok(match array.data_type() {
            DataType::Boolean => Writer::Boolean(array.as_boolean()),
            DataType::Int64 => Writer::Int64(array, array.as_primitive::<Int64Type>().values()),
            DataType::Timestamp(TimeUnit::Millisecond, None) => {
                let times = array.as_primitive::<TimestampMillisecondType>();
                Writer::Int64(array, times.values())
            }
            DataType::Float64 => Writer::Double(array.as_primitive()),
            DataType::Decimal128(..) => Writer::Decimal(array.as_primitive()),
            DataType::Utf8 => {
                let text = array.as_string::<i32>();
                Writer::Bytes(array, text.value_offsets(), text.value_data())
            }
            DataType::Binary => {
                let binary = array.as_binary::<i32>();
                Writer::Bytes(array, binary.value_offsets(), binary.value_data())
            }
            other => return Err(KeyError::UnsupportedType(other.clone())),
        })
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        let valid = match self {
            Writer::Boolean(array) => array.is_valid(row),
            Writer::Int64(array, _) => array.is_valid(row),
            Writer::Double(array) => array.is_valid(row),
            Writer::Decimal(array) => array.is_valid(row),
            Writer::Bytes(array, ..) => array.is_valid(row),
        };
        if !valid {
            return out.push(NULL);
        }
        out.push(VALUE);
        match self {
            Writer::Boolean(array) => out.push(u8::from(array.value(row))),
            Writer::Int64(_, values) => {
                out.extend_from_slice(&(values[row] ^ i64::MIN).to_be_bytes())
            }
            Writer::Double(array) => {
                out.extend_from_slice(&ordered(array.value(row)).to_be_bytes())
            }
            Writer::Decimal(array) => {
                out.extend_from_slice(&(array.value(row) ^ i128::MIN).to_be_bytes())
            }
            Writer::Bytes(_, offsets, data) => {
                write_bytes(&data[offsets[row] as usize..offsets[row + 1] as usize], out);
            }
        }
    }
}

/// A double as an integer that compares like it. Zeros are one value, and so are NaNs, the greatest.
fn ordered(value: f64) -> u64 {
    let value = if value.is_nan() {
        f64::NAN
    } else {
        value + 0.0
    };
    let bits = value.to_bits()
        & if value.is_nan() {
            u64::MAX >> 1
        } else {
            u64::MAX
        };
    if bits >> 63 == 1 {
        !bits
    } else {
        bits | 1 << 63
    }
}

fn unordered(bits: u64) -> f64 {
    f64::from_bits(if bits >> 63 == 1 {
        bits & (u64::MAX >> 1)
    } else {
        !bits
    })
}

fn write_bytes(mut bytes: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = memchr::memchr(0, bytes) {
        out.extend_from_slice(&bytes[..at]);
        out.extend_from_slice(&[0, 0xff]);
        bytes = &bytes[at + 1..];
    }
    out.extend_from_slice(bytes);
    out.extend_from_slice(&[0, 1]);
}

/// A column on its way out of keys.
enum Reader {
    Boolean(Vec<Option<bool>>),
    Int64(Vec<Option<i64>>),
    Timestamp(Vec<Option<i64>>),
    Double(Vec<Option<f64>>),
    Decimal(Vec<Option<i128>>, DataType),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
}

impl Reader {
    /// `None` if such a column cannot be part of a key.
    fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Reader::Boolean(Vec::new()),
            DataType::Int64 => Reader::Int64(Vec::new()),
            DataType::Timestamp(TimeUnit::Millisecond, None) => Reader::Timestamp(Vec::new()),
            DataType::Float64 => Reader::Double(Vec::new()),
            DataType::Decimal128(..) => Reader::Decimal(Vec::new(), data_type.clone()),
            DataType::Utf8 => Reader::Text(StringBuilder::new()),
            DataType::Binary => Reader::Bytes(BinaryBuilder::new()),
            _ => return None,
        })
    }

    /// Reads a value; returns the rest of the key.
    fn read<'a>(&mut self, key: &'a [u8]) -> Result<&'a [u8], KeyError> {
        let (marker, rest) = key
            .split_first()
            .ok_or(KeyError::Damaged("it is too short"))?;
        let valid = match *marker {
            NULL => false,
            VALUE => true,
            _ => {
                return Err(KeyError::Damaged(
                    "a column starts with neither null nor value",
                ));
            }
        };
        match self {
            Reader::Boolean(values) => fixed(valid, rest, values, |[byte]| byte != 0),
            Reader::Int64(values) | Reader::Timestamp(values) => {
                fixed(valid, rest, values, |bytes| {
                    i64::from_be_bytes(bytes) ^ i64::MIN
                })
            }
            Reader::Double(values) => fixed(valid, rest, values, |bytes| {
                unordered(u64::from_be_bytes(bytes))
            }),
            Reader::Decimal(values, _) => fixed(valid, rest, values, |bytes| {
                i128::from_be_bytes(bytes) ^ i128::MIN
            }),
            Reader::Text(text) if !valid => {
                text.append_null();
                Ok(rest)
            }
            Reader::Bytes(binary) if !valid => {
                binary.append_null();
                Ok(rest)
            }
            Reader::Text(text) => {
                let (bytes, rest) = read_bytes(rest)?;
                text.append_value(utf8(&bytes)?);
                Ok(rest)
            }
            Reader::Bytes(binary) => {
                let (bytes, rest) = read_bytes(rest)?;
                binary.append_value(bytes);
                Ok(rest)
            }
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Reader::Boolean(values) => Arc::new(BooleanArray::from(values)),
            Reader::Int64(values) => Arc::new(Int64Array::from(values)),
            Reader::Timestamp(values) => Arc::new(TimestampMillisecondArray::from(values)),
            Reader::Double(values) => Arc::new(Float64Array::from(values)),
            Reader::Decimal(values, data_type) => {
                Arc::new(Decimal128Array::from(values).with_data_type(data_type))
            }
            Reader::Text(mut text) => Arc::new(text.finish()),
            Reader::Bytes(mut binary) => Arc::new(binary.finish()),
        }
    }
}

fn fixed<'a, const N: usize, T>(
    valid: bool,
    rest: &'a [u8],
    values: &mut Vec<Option<T>>,
    read: impl Fn([u8; N]) -> T,
) -> Result<&'a [u8], KeyError> {
    if !valid {
        values.push(None);
        return Ok(rest);
    }
    let (bytes, rest) = rest
        .split_first_chunk::<N>()
        .ok_or(KeyError::Damaged("it is too short"))?;
    values.push(Some(read(*bytes)));
    Ok(rest)
}

fn read_bytes(mut rest: &[u8]) -> Result<(Vec<u8>, &[u8]), KeyError> {
    let mut bytes = Vec::new();
    loop {
        let at = memchr::memchr(0, rest).ok_or(KeyError::Damaged("a string does not end"))?;
        bytes.extend_from_slice(&rest[..at]);
        match rest.get(at + 1) {
            Some(0xff) => bytes.push(0),
            Some(1) => return Ok((bytes, &rest[at + 2..])),
            _ => return Err(KeyError::Damaged("a string does not end")),
        }
        rest = &rest[at + 2..];
    }
}
