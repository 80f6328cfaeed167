//! Kafka's own vectors for murmur2; group keys compared with their columns, and read back.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array,
    StringArray, TimestampMillisecondArray,
};
use arrow::compute::SortOptions;
use arrow::datatypes::DataType;

use super::*;

#[test]
fn murmur2_is_kafkas() {
    // From Kafka's UtilsTest.testMurmur2.
    let vectors: [(&str, i32); 7] = [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        (
            "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
            -58897971,
        ),
        ("abc", 479470107),
        ("", 275646681),
    ];
    for (key, hash) in vectors {
        assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
    }
    assert_eq!(
        partition_of(b"foobar", 8),
        ((-790332482i32 & 0x7fffffff) % 8) as u32
    );
    assert_eq!(partition_of(b"x", 0), 0);
}

/// Encodes, compares every two keys with Arrow's order of the columns, and reads back.
fn check(columns: &[ArrayRef]) {
    let rows = columns[0].len();
    let keys = GroupKeys::new(columns.iter().map(|column| column.data_type().clone())).unwrap();
    let encoded = keys.encode(columns, rows).unwrap();
    let options = SortOptions {
        descending: false,
        nulls_first: true,
    };
    let comparators: Vec<_> = columns
        .iter()
        .map(|column| arrow::array::make_comparator(column, column, options).unwrap())
        .collect();
    for left in 0..rows {
        for right in 0..rows {
            let expected = comparators
                .iter()
                .map(|compare| compare(left, right))
                .find(|order| order.is_ne());
            let got = encoded.get(left).cmp(encoded.get(right));
            assert_eq!(
                got,
                expected.unwrap_or(Ordering::Equal),
                "{left} {right} {columns:?}"
            );
        }
    }
    let decoded = keys.decode((0..rows).map(|row| encoded.get(row))).unwrap();
    assert_eq!(decoded, columns);
}

fn texts() -> StringArray {
    StringArray::from(vec![
        None,
        Some(""),
        Some("\0"),
        Some("\0\0"),
        Some("\0a"),
        Some("\u{1}"),
        Some("\u{1}\0"),
        Some("\u{2}"),
        Some("a"),
        Some("a\0"),
        Some("a\0b"),
        Some("ab"),
        Some("a\u{1}"),
        Some("b"),
        Some("ü"),
        Some("a"),
        Some("user 1234567890"),
    ])
}

#[test]
fn one_string_is_its_own_key() {
    check(&[Arc::new(texts())]);
    let keys = GroupKeys::new([DataType::Utf8]).unwrap();
    let values = texts();
    let encoded = keys
        .encode(&[Arc::new(values.clone())], values.len())
        .unwrap();
    assert!(
        std::ptr::eq(encoded.get(16).as_ptr(), values.value(16).as_ptr()),
        "not copied"
    );
}

#[test]
fn every_type_keeps_its_order() {
    let numbers = [
        None,
        Some(0.0),
        Some(-1.5),
        Some(1.5),
        Some(f64::MIN),
        Some(f64::INFINITY),
        Some(f64::NAN),
        Some(1e-300),
    ];
    check(&[Arc::new(Float64Array::from(numbers.to_vec()))]);
    check(&[Arc::new(Int64Array::from(vec![
        None,
        Some(0),
        Some(-1),
        Some(i64::MIN),
        Some(i64::MAX),
    ]))]);
    check(&[Arc::new(TimestampMillisecondArray::from(vec![
        None,
        Some(-1),
        Some(i64::MAX),
    ]))]);
    check(&[Arc::new(BooleanArray::from(vec![
        None,
        Some(true),
        Some(false),
    ]))]);
    let decimals = Decimal128Array::from(vec![
        None,
        Some(-7),
        Some(0),
        Some(i128::from(i64::MAX) * 3),
    ]);
    check(&[Arc::new(decimals.with_precision_and_scale(30, 4).unwrap())]);
    check(&[Arc::new(BinaryArray::from_opt_vec(vec![
        None,
        Some(&[][..]),
        Some(&[0]),
        Some(&[0, 0xff]),
        Some(&[0xff]),
    ]))]);
}

#[test]
fn columns_compare_left_to_right() {
    let mut random = fastrand::Rng::with_seed(5);
    let pool = texts();
    let mut pick = || {
        (0..60)
            .map(|_| random.usize(..pool.len()))
            .collect::<Vec<_>>()
    };
    let of = |picks: Vec<usize>| -> StringArray {
        picks
            .into_iter()
            .map(|at| pool.iter().nth(at).flatten())
            .collect()
    };
    let (first, second) = (of(pick()), of(pick()));
    let numbers: Int64Array = pick()
        .into_iter()
        .map(|at| (at > 2).then_some(at as i64 - 8))
        .collect();
    check(&[Arc::new(first.clone()), Arc::new(second.clone())]);
    check(&[Arc::new(numbers.clone()), Arc::new(second), Arc::new(first)]);
}

#[test]
fn equal_doubles_are_one_group() {
    let column: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN]));
    let encoded = GroupKeys::new([DataType::Float64])
        .unwrap()
        .encode(&[column], 4)
        .unwrap();
    assert_eq!(
        (encoded.get(0), encoded.get(2)),
        (encoded.get(1), encoded.get(3))
    );
}

#[test]
fn no_columns_are_one_group() {
    let keys = GroupKeys::new([]).unwrap();
    assert_eq!(keys.encode(&[], 5).unwrap().get(4), b"");
    assert!(keys.decode([&b""[..]]).unwrap().is_empty());
}

#[test]
fn damaged_keys_are_errors() {
    let keys = GroupKeys::new([DataType::Utf8, DataType::Int64]).unwrap();
    for damaged in [
        &b""[..],
        b"\x01ab",
        b"\x01ab\0",
        b"\x01ab\0\x01",
        b"\x02",
        b"\0\x01123",
        b"\0\0\0",
        b"\x01\xff\0\x01\0",
    ] {
        assert!(
            matches!(keys.decode([damaged]), Err(KeyError::Damaged(_))),
            "{damaged:?}"
        );
    }
    assert!(
        GroupKeys::new([DataType::Utf8])
            .unwrap()
            .decode([&b"\xff"[..]])
            .is_err()
    );
    assert!(matches!(
        GroupKeys::new([DataType::Duration(arrow::datatypes::TimeUnit::Second)]),
        Err(KeyError::UnsupportedType(_))
    ));
}
