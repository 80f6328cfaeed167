//! Values of an Arrow column as JSON, with the column's type resolved once a batch.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array,
    ListArray, StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, TimeUnit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::decode::scan::plain_end;

pub(super) enum Cells {
    Boolean(BooleanArray),
    Int64(Int64Array),
    Double(Float64Array),
    Decimal(Decimal128Array),
    Timestamp(TimestampMillisecondArray),
    Text(StringArray),
    Bytes(BinaryArray),
    List(ListArray, Box<Cells>),
}

/// Whether values of a type have a form in JSON.
pub(super) fn is_supported(data_type: &DataType) -> bool {
    use DataType::*;
    match data_type {
        Boolean | Int64 | Float64 | Decimal128(..) | Utf8 | Binary => true,
        Timestamp(TimeUnit::Millisecond, None) => true,
        List(item) => is_supported(item.data_type()),
        _ => false,
    }
}

impl Cells {
    /// `None` for types that have no form in JSON.
    pub fn of(array: &ArrayRef) -> Option<Self> {
        Some(match array.data_type() {
            DataType::Boolean => Cells::Boolean(array.as_boolean().clone()),
            DataType::Int64 => Cells::Int64(array.as_primitive().clone()),
            DataType::Float64 => Cells::Double(array.as_primitive().clone()),
            DataType::Decimal128(..) => Cells::Decimal(array.as_primitive().clone()),
            DataType::Timestamp(TimeUnit::Millisecond, None) => {
                Cells::Timestamp(array.as_primitive().clone())
            }
            DataType::Utf8 => Cells::Text(array.as_string::<i32>().clone()),
            DataType::Binary => Cells::Bytes(array.as_binary::<i32>().clone()),
            DataType::List(_) => {
                let list = array.as_list::<i32>().clone();
                let items = Cells::of(list.values())?;
                Cells::List(list, Box::new(items))
            }
            _ => return None,
        })
    }

    #[inline]
    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Cells::Text(array) if array.is_valid(row) => write_text(array.value(row), out),
            Cells::Int64(array) if array.is_valid(row) => write_int(array.value(row), out),
            Cells::Timestamp(array) if array.is_valid(row) => write_int(array.value(row), out),
            Cells::Double(array) if array.is_valid(row) => write_double(array.value(row), out),
            Cells::Boolean(array) if array.is_valid(row) => {
                out.extend_from_slice(if array.value(row) { b"true" } else { b"false" });
            }
            Cells::Decimal(array) if array.is_valid(row) => {
                write_decimal(array.value(row), array.scale(), out)
            }
            Cells::Bytes(array) if array.is_valid(row) => write_base64(array.value(row), out),
            Cells::List(array, items) if array.is_valid(row) => {
                let offsets = array.value_offsets();
                out.push(b'[');
                for (index, item) in (offsets[row]..offsets[row + 1]).enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    items.write(item as usize, out);
                }
                out.push(b']');
            }
            _ => out.extend_from_slice(b"null"),
        }
    }
}

/// A string, quoted and escaped where it must be.
pub(crate) fn write_text(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    out.push(b'"');
    let mut from = 0;
    loop {
        let end = plain_end(bytes, from);
        out.extend_from_slice(&bytes[from..end]);
        match bytes.get(end) {
            Some(special) => write_escape(*special, out),
            None => break,
        }
        from = end + 1;
    }
    out.push(b'"');
}

#[cold]
fn write_escape(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[inline]
fn write_int(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// The shortest digits that read back as the same double.
#[inline]
fn write_double(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

/// `unscaled * 10^-scale`, with exactly `scale` digits behind the point.
fn write_decimal(unscaled: i128, scale: i8, out: &mut Vec<u8>) {
    if unscaled < 0 {
        out.push(b'-');
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(unscaled.unsigned_abs()).as_bytes();
    let fraction = usize::try_from(scale).unwrap_or(0);
    if scale < 0 {
        out.extend_from_slice(digits);
        let zeros = if unscaled == 0 {
            0
        } else {
            usize::from(scale.unsigned_abs())
        };
        out.extend(std::iter::repeat_n(b'0', zeros));
    } else if fraction == 0 {
        out.extend_from_slice(digits);
    } else if digits.len() > fraction {
        let (whole, rest) = digits.split_at(digits.len() - fraction);
        out.extend_from_slice(whole);
        out.push(b'.');
        out.extend_from_slice(rest);
    } else {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', fraction - digits.len()));
        out.extend_from_slice(digits);
    }
}

fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}
