//! The engine's column types, and what DataFusion's other types become at the edge of an expression.
//!
//! | inside                                   | outside                          |
//! |------------------------------------------|----------------------------------|
//! | all integers                             | Int64                            |
//! | all floats                               | Float64                          |
//! | all string types, dictionaries of them   | Utf8                             |
//! | all binary types                         | Binary                           |
//! | timestamps of any unit and zone          | Timestamp(ms), UTC               |
//! | dates                                    | Timestamp(ms) of their midnight  |
//! | durations (the difference of timestamps) | Int64, milliseconds              |
//! | decimals                                 | Decimal128, at most 38 digits    |

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, TimeUnit};

/// How the engine holds a Timestamp column.
pub const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

/// The engine's type for a result of type `inner`; `None`: no column can hold it.
pub(super) fn canonical(inner: &DataType) -> Option<DataType> {
    Some(match inner {
        DataType::Boolean => DataType::Boolean,
        integer if integer.is_integer() => DataType::Int64,
        float if float.is_floating() => DataType::Float64,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Dictionary(_, values) => canonical(values)?,
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => TIMESTAMP,
        DataType::Duration(_) => DataType::Int64,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => DataType::Decimal128(*precision, *scale),
        DataType::Decimal256(_, scale) => DataType::Decimal128(DECIMAL128_MAX_PRECISION, *scale),
        DataType::List(item) => list_of(canonical(item.data_type())?),
        _ => return None,
    })
}

/// A list as array_agg gives it.
pub(super) fn list_of(item: DataType) -> DataType {
    DataType::List(Field::new("item", item, true).into())
}

/// The type's name in a job file.
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "String".to_string(),
        DataType::Float64 => "Double".to_string(),
        DataType::Binary => "Bytes".to_string(),
        DataType::Timestamp(..) => "Timestamp".to_string(),
        DataType::Decimal128(precision, scale) => format!("Decimal({precision}, {scale})"),
        DataType::List(item) => format!("list of {}", type_name(item.data_type())),
        other => other.to_string(),
    }
}

/// An error of DataFusion's with the type names that a job file uses.
pub(super) fn in_our_words(message: &str) -> String {
    let mut words = message.to_string();
    for (theirs, ours) in [
        ("LargeUtf8", "String"),
        ("Utf8View", "String"),
        ("Utf8", "String"),
        ("Float64", "Double"),
        ("Float32", "Double"),
        ("Timestamp(ms)", "Timestamp"),
        ("Timestamp(Millisecond, None)", "Timestamp"),
        ("Decimal128", "Decimal"),
    ] {
        words = words.replace(theirs, ours);
    }
    words
}
