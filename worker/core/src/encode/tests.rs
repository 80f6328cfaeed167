//! Rows as they are written: a table of types, and escapes compared with serde_json.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, ListArray,
    StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::Int64Type;

use super::*;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap()
}

fn row(batch: &RecordBatch, row: usize, op: RowOp) -> String {
    let mut out = Vec::new();
    RowEncoder::new(&batch.schema())
        .unwrap()
        .bind(batch)
        .unwrap()
        .encode(row, op, &mut out);
    String::from_utf8(out).unwrap()
}

fn cell(array: ArrayRef) -> String {
    let text = row(&batch(vec![("v", array)]), 0, RowOp::Upsert);
    serde_json::from_str::<serde_json::Value>(&text).unwrap();
    text[5..text.len() - 1].to_owned()
}

#[test]
fn a_row_is_a_json_object() {
    let rows = batch(vec![
        (
            "user_id",
            Arc::new(StringArray::from(vec![Some("u1"), None])) as ArrayRef,
        ),
        (
            "window_end",
            Arc::new(TimestampMillisecondArray::from(vec![Some(60_000), None])),
        ),
        (
            "a \"quoted\" name",
            Arc::new(Float64Array::from(vec![Some(1.5), None])),
        ),
    ]);
    assert_eq!(
        row(&rows, 0, RowOp::Upsert),
        r#"{"user_id":"u1","window_end":60000,"a \"quoted\" name":1.5}"#
    );
    assert_eq!(
        row(&rows, 1, RowOp::Upsert),
        r#"{"user_id":null,"window_end":null,"a \"quoted\" name":null}"#
    );
    assert_eq!(
        row(&rows, 1, RowOp::Delete),
        r#"{"user_id":null,"window_end":null,"a \"quoted\" name":null,"_op":"delete"}"#
    );
}

#[test]
fn every_type_has_its_form() {
    let decimal = |value: i128, scale: i8| {
        let array = Decimal128Array::from(vec![value])
            .with_precision_and_scale(30, scale)
            .unwrap();
        cell(Arc::new(array))
    };
    assert_eq!(decimal(12345, 2), "123.45");
    assert_eq!(decimal(-5, 2), "-0.05");
    assert_eq!(decimal(-100, 2), "-1.00");
    assert_eq!(decimal(0, 3), "0.000");
    assert_eq!(decimal(7, 0), "7");
    assert_eq!(decimal(7, -2), "700");
    let double = |value: f64| cell(Arc::new(Float64Array::from(vec![value])));
    assert_eq!(
        (double(0.1), double(-1e300), double(3.0)),
        ("0.1".into(), "-1e300".into(), "3.0".into())
    );
    assert_eq!(
        (double(f64::NAN), double(f64::INFINITY)),
        ("null".into(), "null".into())
    );
    assert_eq!(
        cell(Arc::new(Int64Array::from(vec![i64::MIN]))),
        i64::MIN.to_string()
    );
    assert_eq!(cell(Arc::new(BooleanArray::from(vec![true]))), "true");
    assert_eq!(
        cell(Arc::new(BinaryArray::from(vec![&[0u8, 0xff, 0xfe][..]]))),
        r#""AP/+""#
    );
    assert_eq!(
        cell(Arc::new(TimestampMillisecondArray::from(vec![-1_234]))),
        "-1234"
    );
    let list =
        ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None, Some(3)])]);
    assert_eq!(cell(Arc::new(list)), "[1,null,3]");
}

#[test]
fn what_json_cannot_say_is_refused_at_once() {
    let data_type = DataType::Interval(arrow::datatypes::IntervalUnit::DayTime);
    let schema = Schema::new(vec![arrow::datatypes::Field::new("every", data_type, true)]);
    let error = RowEncoder::new(&schema).unwrap_err().to_string();
    assert!(
        error.contains("`every`") && error.contains("cast"),
        "{error}"
    );
}

#[test]
fn strings_are_escaped_as_serde_json_does() {
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..5_000 {
        let length = random.usize(..40);
        let text: String = (0..length)
            .map(|_| match random.u8(..4) {
                0 => random.char('\0'..' '),
                1 => ['"', '\\', '/', '\u{7f}'][random.usize(..4)],
                _ => random.char('a'..'\u{2ff}'),
            })
            .collect();
        let mut out = Vec::new();
        cells::write_text(&text, &mut out);
        assert_eq!(out, serde_json::to_vec(&text).unwrap(), "{text:?}");
    }
}

#[test]
fn keys_are_the_string_or_an_array() {
    let rows = batch(vec![
        (
            "user",
            Arc::new(StringArray::from(vec![Some("u\"1"), None])) as ArrayRef,
        ),
        ("n", Arc::new(Int64Array::from(vec![Some(5), None]))),
    ]);
    let key = |columns: &[usize], row: usize| {
        let mut out = b"before".to_vec();
        let has = KeyEncoder::new(&rows.schema(), columns)
            .unwrap()
            .bind(&rows)
            .unwrap()
            .encode(row, &mut out);
        has.then(|| String::from_utf8(out[6..].to_vec()).unwrap())
    };
    assert_eq!(
        (key(&[0], 0).as_deref(), key(&[0], 1)),
        (Some("u\"1"), None)
    );
    assert_eq!(
        (key(&[1], 0).as_deref(), key(&[1], 1).as_deref()),
        (Some("[5]"), Some("[null]"))
    );
    assert_eq!(key(&[1, 0], 0).as_deref(), Some(r#"[5,"u\"1"]"#));
    assert_eq!(key(&[0, 1], 1).as_deref(), Some("[null,null]"));
    assert_eq!(key(&[], 0), None);
    assert!(matches!(
        KeyEncoder::new(&rows.schema(), &[2]),
        Err(EncodeError::NoColumn(2))
    ));
}
