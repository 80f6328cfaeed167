//! Events and what becomes of them: a table of cases, and a comparison with serde_json over mutated documents.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, Int64Type, TimeUnit, TimestampMillisecondType,
};

use super::*;

fn column(name: &str, path: &str, data_type: DataType, nullable: bool) -> DecodeColumn {
    let path = path.split('.').map(str::to_owned).collect();
    DecodeColumn {
        name: name.into(),
        path,
        data_type,
        nullable,
        used: true,
    }
}

const MILLIS: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

/// A time `t`, and a nullable `v` of the type in question.
fn decoder_of(data_type: DataType) -> Decoder {
    let columns = [
        column("t", "t", MILLIS, false),
        column("v", "v", data_type, true),
    ];
    Decoder::new(&columns, 0, None, "events", 3, true).unwrap()
}

/// Decodes `{"t":1,"v":<value>}`.
fn value(data_type: DataType, value: &str) -> Result<RecordBatch, Reason> {
    event(
        &mut decoder_of(data_type),
        format!(r#"{{"t":1,"v":{value}}}"#).as_bytes(),
    )
}

fn event(decoder: &mut Decoder, payload: &[u8]) -> Result<RecordBatch, Reason> {
    decoder.push(Some(payload), 0, None).unwrap();
    let decoded = decoder.finish().unwrap();
    match decoded.first_malformed {
        Some(malformed) => {
            assert_eq!((decoded.rows.num_rows(), decoded.malformed_count), (0, 1));
            Err(malformed.reason)
        }
        None => Ok(decoded.rows),
    }
}

#[test]
fn integers_are_strict() {
    let int = |text: &str| {
        value(DataType::Int64, text).map(|rows| rows.column(1).as_primitive::<Int64Type>().value(0))
    };
    let good = [
        ("0", 0),
        ("-0", 0),
        ("7", 7),
        ("-1", -1),
        ("12345678", 12345678),
        ("123456789", 123456789),
        ("1700000000123", 1700000000123),
        ("999999999999999999", 999999999999999999),
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808", i64::MIN),
    ];
    for (text, expected) in good {
        assert_eq!(int(text), Ok(expected), "{text}");
    }
    let bad = [
        ("9223372036854775808", Reason::OutOfRange),
        ("-9223372036854775809", Reason::OutOfRange),
        (
            "100000000000000000000000000000000000000000",
            Reason::OutOfRange,
        ),
        ("1.0", Reason::WrongType),
        ("1e3", Reason::WrongType),
        ("\"12\"", Reason::WrongType),
        ("true", Reason::WrongType),
        ("[1]", Reason::WrongType),
        ("{\"a\":1}", Reason::WrongType),
        ("01", Reason::InvalidJson),
        ("-", Reason::InvalidJson),
        ("+1", Reason::InvalidJson),
        ("1.", Reason::InvalidJson),
        ("1e", Reason::InvalidJson),
        ("[1", Reason::InvalidJson),
        ("nul", Reason::InvalidJson),
    ];
    for (text, expected) in bad {
        assert_eq!(int(text), Err(expected), "{text}");
    }
}

#[test]
fn doubles_are_the_nearest() {
    let double = |text: &str| {
        value(DataType::Float64, text)
            .map(|rows| rows.column(1).as_primitive::<Float64Type>().value(0))
    };
    let good = [
        "0",
        "1",
        "-1.5",
        "0.1",
        "123.45",
        "9007199254740993",
        "0.30000000000000004",
        "1e-7",
        "1E+22",
        "1e23",
        "5e-324",
        "1.7976931348623157e308",
        "123456789012345678901234567890",
        "0.000000000000000000000000000001",
        "8.41",
        "99999999.99",
        "72057594037927945",
        "1234567.1234567890123",
    ];
    for text in good {
        let expected: f64 = text.parse().unwrap();
        assert_eq!(
            double(text).map(f64::to_bits),
            Ok(expected.to_bits()),
            "{text}"
        );
    }
    assert_eq!(double("-0.0").map(f64::to_bits), Ok((-0.0f64).to_bits()));
    for text in ["1e309", "-1e999", "2e308"] {
        assert_eq!(double(text), Err(Reason::OutOfRange), "{text}");
    }
    for text in [".5", "1.e3", "00.1", "-", "1.5.", "0x10", "NaN", "Infinity"] {
        assert_eq!(double(text), Err(Reason::InvalidJson), "{text}");
    }
    assert_eq!(double("\"1\""), Err(Reason::WrongType));
}

#[test]
fn doubles_agree_with_the_standard_library() {
    let mut random = fastrand::Rng::with_seed(11);
    let mut decoder = decoder_of(DataType::Float64);
    for _ in 0..20_000 {
        let (whole, fraction) = (
            random.u64(..) >> random.u32(..64),
            random.u64(..) >> random.u32(..64),
        );
        let text = match random.u8(..3) {
            0 => format!("{whole}"),
            1 => format!("-{whole}.{fraction}"),
            _ => format!("{whole}.{fraction}e{}", random.i32(-300..280)),
        };
        let rows = event(&mut decoder, format!(r#"{{"t":1,"v":{text}}}"#).as_bytes()).unwrap();
        let value = rows.column(1).as_primitive::<Float64Type>().value(0);
        assert_eq!(
            value.to_bits(),
            text.parse::<f64>().unwrap().to_bits(),
            "{text}"
        );
    }
}

#[test]
fn decimals_are_exact() {
    let decimal = |text: &str| {
        value(DataType::Decimal128(6, 2), text)
            .map(|rows| rows.column(1).as_primitive::<Decimal128Type>().value(0))
    };
    let good = [
        ("0", 0),
        ("-0.000", 0),
        ("0e99", 0),
        ("1", 100),
        ("-12.3", -1230),
        ("12.340000000000000000000000000000000000000000000", 1234),
        ("9999.99", 999999),
        ("1.5e2", 15000),
        ("12345e-2", 12345),
        ("1000e-3", 100),
        ("0.05", 5),
        ("100", 10000),
    ];
    for (text, expected) in good {
        assert_eq!(decimal(text), Ok(expected), "{text}");
    }
    let bad = [
        ("0.001", Reason::Inexact),
        ("1.005", Reason::Inexact),
        ("1e-3", Reason::Inexact),
        ("1e-99999999999999999999", Reason::Inexact),
        ("10000", Reason::OutOfRange),
        ("1e99999999999999999999", Reason::OutOfRange),
        (
            "123456789012345678901234567890123456789012",
            Reason::OutOfRange,
        ),
        ("\"1\"", Reason::WrongType),
        ("1.", Reason::InvalidJson),
    ];
    for (text, expected) in bad {
        assert_eq!(decimal(text), Err(expected), "{text}");
    }
    let wide = value(
        DataType::Decimal128(38, 10),
        "-1234567890123456789012345678.0123456789",
    )
    .unwrap();
    let wide = wide.column(1).as_primitive::<Decimal128Type>().value(0);
    assert_eq!(wide, -12345678901234567890123456780123456789);
}

#[test]
fn strings_are_unescaped() {
    let text = |text: &str| {
        value(DataType::Utf8, text)
            .map(|rows| rows.column(1).as_string::<i32>().value(0).to_owned())
    };
    let good = [
        (r#""""#, ""),
        (r#""a""#, "a"),
        (r#""exactly sixteen!""#, "exactly sixteen!"),
        (r#""seventeen letters""#, "seventeen letters"),
        (
            r#""much longer than any word of a processor""#,
            "much longer than any word of a processor",
        ),
        (
            r#""gr\u00fc\u00df \"x\" \\ \/ \b\f\n\r\t""#,
            "grüß \"x\" \\ / \u{8}\u{c}\n\r\t",
        ),
        (r#""\uD83D\uDE00 😀""#, "😀 😀"),
        ("\"\u{7f}\u{80}\"", "\u{7f}\u{80}"),
    ];
    for (json, expected) in good {
        assert_eq!(text(json).as_deref(), Ok(expected), "{json}");
    }
    let bad = [
        r#""\uD83D""#,
        r#""\uDE00""#,
        r#""\uD83D\u0041""#,
        r#""\u12""#,
        r#""\u12g4""#,
        r#""\x""#,
        "\"a\nb\"",
        "\"\u{1}\"",
        "\"a",
    ];
    for json in bad {
        assert_eq!(text(json), Err(Reason::InvalidJson), "{json}");
    }
    assert_eq!(text("1"), Err(Reason::WrongType));
}

#[test]
fn timestamps_are_millis_or_rfc3339() {
    let time = |text: &str| {
        value(MILLIS, text).map(|rows| {
            rows.column(1)
                .as_primitive::<TimestampMillisecondType>()
                .value(0)
        })
    };
    let good = [
        ("1700000000123", 1700000000123),
        ("-5", -5),
        (r#""2023-11-14T22:13:20.123Z""#, 1700000000123),
        (r#""2023-11-14t22:13:20.1239999z""#, 1700000000123),
        (r#""2023-11-15T00:13:20.1+02:00""#, 1700000000100),
        (r#""2023-11-14T17:43:20-04:30""#, 1700000000000),
        (r#""1969-12-31T23:59:59.9995Z""#, -1),
        (r#""2024-02-29T00:00:00Z""#, 1709164800000),
        (r#""2016-12-31T23:59:60Z""#, 1483228799000),
        (r#""2023-11-14T22\u003a13:20Z""#, 1700000000000),
    ];
    for (text, expected) in good {
        assert_eq!(time(text), Ok(expected), "{text}");
    }
    for text in [
        "",
        "2023-11-14",
        "2023-11-14T22:13Z",
        "2023-11-14T22:13:20",
        "2023-02-29T00:00:00Z",
        "2023-13-01T00:00:00Z",
        "2023-11-14T24:00:00Z",
        "2023-11-14T22:13:20.Z",
        "2023-11-14T22:13:20+2:00",
        "2023-11-14T22:13:20Z ",
        "x",
    ] {
        assert_eq!(
            time(&format!("\"{text}\"")),
            Err(Reason::InvalidTimestamp),
            "{text}"
        );
    }
    assert_eq!(time("1.5"), Err(Reason::WrongType));
}

#[test]
fn rfc3339_agrees_with_jiff() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..10_000 {
        let millis = random.i64(-62_000_000_000_000..253_000_000_000_000);
        let text = jiff::Timestamp::from_millisecond(millis)
            .unwrap()
            .to_string();
        assert_eq!(parse_rfc3339(text.as_bytes()), Some(millis), "{text}");
    }
}

#[test]
fn booleans_and_bytes() {
    let boolean = |text: &str| {
        value(DataType::Boolean, text).map(|rows| rows.column(1).as_boolean().value(0))
    };
    assert_eq!((boolean("true"), boolean("false")), (Ok(true), Ok(false)));
    assert_eq!(boolean("1"), Err(Reason::WrongType));
    assert_eq!(boolean("tru"), Err(Reason::InvalidJson));
    let bytes = |text: &str| {
        value(DataType::Binary, text)
            .map(|rows| rows.column(1).as_binary::<i32>().value(0).to_vec())
    };
    assert_eq!(bytes(r#""AP\/+""#), Ok(vec![0x00, 0xff, 0xfe]));
    assert_eq!(bytes(r#""""#), Ok(vec![]));
    assert_eq!(bytes(r#""AP8""#), Err(Reason::InvalidBase64));
    assert_eq!(bytes("[1]"), Err(Reason::WrongType));
}

#[test]
fn malformed_events() {
    let nested = |depth: usize| {
        format!(
            r#"{{"t":1,"x":{}{}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        )
        .into_bytes()
    };
    let cases: Vec<(Vec<u8>, Reason)> = [
        ("", Reason::Empty),
        (" \r\n\t", Reason::Empty),
        ("[]", Reason::NotAnObject),
        ("null", Reason::NotAnObject),
        ("garbage", Reason::InvalidJson),
        ("{\"t\":1", Reason::InvalidJson),
        ("{\"t\":1,}", Reason::InvalidJson),
        ("{\"t\":1,\"x\"}", Reason::InvalidJson),
        ("{\"t\":1 \"x\":2}", Reason::InvalidJson),
        ("{t:1}", Reason::InvalidJson),
        ("{\"t\":1,\"x\":01}", Reason::InvalidJson),
        ("{\"t\":1,\"x\":[1,]}", Reason::InvalidJson),
        ("{\"t\":1,\"x\":[1}}", Reason::InvalidJson),
        ("{\"t\":1,\"x\":{\"a\" 1}}", Reason::InvalidJson),
        ("{\"t\":1,\"x\":\"\\q\"}", Reason::InvalidJson),
        ("{\"t\":1}}", Reason::TrailingData),
        ("{\"t\":1}{\"t\":1}", Reason::TrailingData),
        ("{\"t\":1}\0", Reason::TrailingData),
        ("{}", Reason::MissingColumn),
        ("{\"v\":1}", Reason::MissingColumn),
        ("{\"t\":null}", Reason::MissingColumn),
        ("{\"t\":9223372036854775807}", Reason::OutOfRange),
        ("{\"t\":1e3}", Reason::WrongType),
    ]
    .into_iter()
    .map(|(text, reason)| (text.as_bytes().to_vec(), reason))
    .chain([
        (b"{\"t\":1,\"x\":\"\xff\"}".to_vec(), Reason::InvalidUtf8),
        (nested(128), Reason::TooDeep),
    ])
    .collect();
    let mut decoder = decoder_of(DataType::Int64);
    for (payload, reason) in cases {
        assert_eq!(
            event(&mut decoder, &payload),
            Err(reason),
            "{}",
            String::from_utf8_lossy(&payload)
        );
        assert!(event(&mut decoder, b" {\"t\":1}\n").is_ok());
    }
    assert!(event(&mut decoder, &nested(127)).is_ok());
}

#[test]
fn a_malformed_event_leaves_no_trace() {
    let columns = [
        column("name", "name", DataType::Utf8, true),
        column("amount", "data.amount", DataType::Float64, true),
        column("t", "t", MILLIS, false),
        column("ok", "ok", DataType::Boolean, true),
    ];
    let mut decoder = Decoder::new(&columns, 2, Some(1000), "events", 3, true).unwrap();
    let mut push = |payload: Option<&str>, offset| {
        decoder
            .push(payload.map(str::as_bytes), offset, Some(5000))
            .unwrap()
    };
    push(
        Some(r#"{"name":"a","t":1,"data":{"amount":1.5},"ok":true}"#),
        10,
    );
    push(
        Some(r#"{"name":"half a row","data":{"amount":null},"ok":null,"t":"x"}"#),
        11,
    );
    push(Some(r#"{"name":null,"t":2,"data":[],"ok":false}"#), 12);
    push(None, 13);
    push(Some(r#"{"name":null,"t":6001,"data":{},"ok":null}"#), 14);
    push(
        Some(r#"{"ok":true,"data":{"x":{"amount":3},"amount":2},"t":6000,"name":"ü\n"}"#),
        15,
    );
    let decoded = decoder.finish().unwrap();

    assert_eq!(decoded.times, [1, 2, 6000]);
    let rows = &decoded.rows;
    assert_eq!(
        rows.column(0).as_string::<i32>().iter().collect::<Vec<_>>(),
        [Some("a"), None, Some("ü\n")]
    );
    let amounts = rows.column(1).as_primitive::<Float64Type>();
    assert_eq!(
        amounts.iter().collect::<Vec<_>>(),
        [Some(1.5), None, Some(2.0)]
    );
    assert_eq!(
        rows.column(3).as_boolean().iter().collect::<Vec<_>>(),
        [Some(true), Some(false), Some(true)]
    );

    let malformed = decoded.malformed.unwrap();
    assert_eq!(decoded.malformed_count, 3);
    let reasons: Vec<_> = malformed
        .column(1)
        .as_string::<i32>()
        .iter()
        .flatten()
        .collect();
    assert_eq!(reasons, ["InvalidTimestamp", "NullValue", "FarFuture"]);
    assert_eq!(
        malformed.column(4).as_primitive::<Int64Type>().values(),
        &[11, 13, 14]
    );
    assert!(
        malformed.column(0).is_null(1)
            && malformed.column(2).as_string::<i32>().value(0) == "events"
    );
    let first = decoded.first_malformed.unwrap();
    assert_eq!(
        first.detail,
        "column `t`: the string is not an RFC 3339 time"
    );

    assert!(decoder.is_empty());
    assert_eq!(decoder.finish().unwrap().rows.num_rows(), 0);
}

#[test]
fn unused_columns_are_checked_but_not_built() {
    let mut columns = vec![
        column("t", "t", MILLIS, false),
        column("a", "a", DataType::Utf8, false),
        column("b", "b", DataType::Binary, true),
        column("d", "d", DataType::Decimal128(5, 1), true),
    ];
    columns.iter_mut().for_each(|column| column.used = false);
    let mut decoder = Decoder::new(&columns, 0, None, "events", 0, false).unwrap();
    let rows = event(&mut decoder, br#"{"t":1,"a":"x","b":"AAAA","d":1.5}"#).unwrap();
    assert_eq!((rows.num_rows(), rows.num_columns()), (1, 0));
    for payload in [
        r#"{"t":1,"a":1}"#,
        r#"{"t":1,"a":"x","b":"?"}"#,
        r#"{"t":1,"a":"x","d":1.25}"#,
        r#"{"t":1}"#,
    ] {
        assert!(
            event(&mut decoder, payload.as_bytes()).is_err(),
            "{payload}"
        );
    }
}

#[test]
fn one_field_may_be_several_columns() {
    let columns = [
        column("t", "t", MILLIS, false),
        column("raw", "t", DataType::Int64, true),
        column("inner", "o.x.y", DataType::Int64, true),
        column("whole", "o.x", DataType::Utf8, true),
    ];
    let mut decoder = Decoder::new(&columns, 0, None, "events", 0, false).unwrap();
    let rows = event(&mut decoder, br#"{"t":7,"o":{"x":"text"}}"#).unwrap();
    assert_eq!(rows.column(1).as_primitive::<Int64Type>().value(0), 7);
    assert!(rows.column(2).is_null(0) && rows.column(3).as_string::<i32>().value(0) == "text");
    assert_eq!(
        event(&mut decoder, br#"{"t":7,"o":{"x":{"y":1}}}"#),
        Err(Reason::WrongType)
    );
    assert_eq!(
        event(&mut decoder, br#"{"t":"2020-01-01T00:00:00Z"}"#),
        Err(Reason::WrongType)
    );
}

#[test]
fn keys_in_any_order_with_any_spelling() {
    let columns = [
        column("t", "t", MILLIS, false),
        column("quoted", "a\"b", DataType::Int64, true),
        column(
            "long",
            "a_name_longer_than_sixteen_bytes",
            DataType::Int64,
            true,
        ),
        column("short", "s", DataType::Int64, true),
    ];
    let mut decoder = Decoder::new(&columns, 0, None, "events", 0, false).unwrap();
    let events = [
        r#"{"t":1,"a\"b":2,"a_name_longer_than_sixteen_bytes":3,"s":4}"#,
        r#"{"t":1,"a\"b":2,"a_name_longer_than_sixteen_bytes":3,"s":4}"#,
        r#"{"s":4,"unknown":[{"s":0}],"a_name_longer_than_sixteen_bytes":3,"a\u0022b":2,"t":1}"#,
        r#"{ "\u0074" : 1 , "a_name_longer_than_sixteen_bytez":0, "a_name_longer_than_sixteen_bytes" : 3 , "s":4, "s":9, "a\"b": 2 }"#,
    ];
    for payload in events {
        let rows = event(&mut decoder, payload.as_bytes()).unwrap();
        let values: Vec<i64> = (1..4)
            .map(|c| rows.column(c).as_primitive::<Int64Type>().value(0))
            .collect();
        assert_eq!(values, [2, 3, 4], "{payload}");
    }
}

#[test]
fn made_up_keys_do_not_fill_memory() {
    let mut decoder = decoder_of(DataType::Int64);
    for i in 0..2_000 {
        let rows = event(
            &mut decoder,
            format!(r#"{{"k{i}":1,"v":{i},"t":1}}"#).as_bytes(),
        )
        .unwrap();
        assert_eq!(rows.column(1).as_primitive::<Int64Type>().value(0), i);
    }
}

#[test]
fn ten_megabytes_of_one_value() {
    let long = "x".repeat(10 << 20);
    let payload = format!(r#"{{"t":1,"v":"{long}","skipped":"{long}"}}"#);
    let rows = event(&mut decoder_of(DataType::Utf8), payload.as_bytes()).unwrap();
    assert_eq!(rows.column(1).as_string::<i32>().value(0), long);
    decoder_of(DataType::Utf8)
        .push(Some(&payload.as_bytes()[..payload.len() - 1]), 0, None)
        .unwrap();
}

/// Mutates documents at random bytes: what serde_json takes, we take, with the same values; what it refuses, we refuse.
#[test]
fn agrees_with_serde_json_on_mutated_documents() {
    let columns = [
        column("t", "t", MILLIS, false),
        column("s", "s", DataType::Utf8, true),
        column("i", "o.i", DataType::Int64, true),
        column("f", "o.p.f", DataType::Float64, true),
        column("b", "b", DataType::Boolean, true),
    ];
    let mut decoder = Decoder::new(&columns, 0, None, "events", 0, false).unwrap();
    let seeds = [
        r#"{"t":1700000000123,"s":"user\u00e9 12 \ud83d\ude00","o":{"i":-12,"p":{"f":12.50,"g":[1,{"a":null}]}},"b":true}"#,
        r#"{"b": false, "x": [true, "\"", 1e5, {}, []], "t": 12, "s": "plain text of some length here", "o": {"p": {"f": 1e-3}, "i": 123456789}}"#,
        r#"{"t":0,"s":null,"o":{"i":null,"p":null},"b":null,"z":-0.5E+7}"#,
        r#"{"t":-7,"ü":"ü","o":[{"i":1}],"o2":{"i":2}}"#,
    ];
    const ALPHABET: &[u8] = b"{}[]\",:\\0123456789.eE+-truefalsn \n\tu\x00\x1f\xc3\xff";
    let mut random = fastrand::Rng::with_seed(0xDEC0DE);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..100_000 {
        let mut payload = seeds[random.usize(..seeds.len())].as_bytes().to_vec();
        for _ in 0..random.usize(..4) {
            let at = random.usize(..payload.len());
            let byte = ALPHABET[random.usize(..ALPHABET.len())];
            match random.u8(..4) {
                0 => payload[at] = byte,
                1 => payload.insert(at, byte),
                2 => drop(payload.remove(at)),
                _ => payload.truncate(at.max(5)),
            }
        }
        let got = event(&mut decoder, &payload);
        let shown = String::from_utf8_lossy(&payload);
        match expected(&payload) {
            Expected::Row(row) => {
                accepted += 1;
                let rows = got.unwrap_or_else(|reason| panic!("{reason}: {shown}"));
                assert_eq!(row_of(&rows), row, "{shown}");
            }
            Expected::Refused => {
                refused += 1;
                assert!(got.is_err(), "{shown}");
            }
            Expected::Unclear => {}
        }
    }
    assert!(
        accepted > 20_000 && refused > 20_000,
        "{accepted} {refused}"
    );
}

type Row = (i64, Option<String>, Option<i64>, Option<Near>, Option<bool>);

/// serde_json may round the wrong way, by one unit in the last place.
#[derive(Debug)]
struct Near(f64);

impl PartialEq for Near {
    fn eq(&self, other: &Near) -> bool {
        (self.0 - other.0).abs() <= self.0.abs() * f64::EPSILON
    }
}

enum Expected {
    Row(Row),
    Refused,
    Unclear,
}

fn row_of(rows: &RecordBatch) -> Row {
    let valid = |column: usize| rows.column(column).is_valid(0);
    (
        rows.column(0)
            .as_primitive::<TimestampMillisecondType>()
            .value(0),
        valid(1).then(|| rows.column(1).as_string::<i32>().value(0).to_owned()),
        valid(2).then(|| rows.column(2).as_primitive::<Int64Type>().value(0)),
        valid(3).then(|| Near(rows.column(3).as_primitive::<Float64Type>().value(0))),
        valid(4).then(|| rows.column(4).as_boolean().value(0)),
    )
}

/// What serde_json makes of it. It keeps the last of duplicate keys, where either is right, and refuses numbers beyond a double
/// even where nobody wants them: such documents are left out.
fn expected(payload: &[u8]) -> Expected {
    let value: serde_json::Value = match serde_json::from_slice(payload) {
        Ok(value) => value,
        Err(error) if error.to_string().contains("out of range") => return Expected::Unclear,
        Err(_) => return Expected::Refused,
    };
    let text = String::from_utf8_lossy(payload);
    // `-0` and `-0.0` are the same to serde_json, but only one is an integer.
    if text.contains("-0") && !text.contains("\"z\":-0.5E+7") {
        return Expected::Unclear;
    }
    if [
        "\"t\"", "\"s\"", "\"o\"", "\"i\"", "\"p\"", "\"f\"", "\"b\"",
    ]
    .iter()
    .any(|key| text.matches(key).count() > 1)
    {
        return Expected::Unclear;
    }
    row_of_value(&value).map_or(Expected::Refused, Expected::Row)
}

fn row_of_value(value: &serde_json::Value) -> Option<Row> {
    use serde_json::Value;
    fn typed<T>(value: Option<&Value>, read: impl Fn(&Value) -> Option<T>) -> Option<Option<T>> {
        match value {
            None | Some(Value::Null) => Some(None),
            Some(value) => read(value).map(Some),
        }
    }
    // serde_json reads `-0` as a double; here it is the integer 0.
    let int = |value: &Value| {
        value.as_i64().or_else(|| {
            (value
                .as_f64()
                .is_some_and(|value| value == 0.0 && value.is_sign_negative()))
            .then_some(0)
        })
    };
    let object = value.as_object()?;
    let outer = object.get("o").and_then(Value::as_object);
    let inner = outer
        .and_then(|outer| outer.get("p"))
        .and_then(Value::as_object);
    let time = match object.get("t")? {
        Value::String(text) => parse_rfc3339(text.as_bytes())?,
        value => int(value)?,
    };
    Some((
        time,
        typed(object.get("s"), |value| value.as_str().map(str::to_owned))?,
        typed(outer.and_then(|outer| outer.get("i")), int)?,
        typed(inner.and_then(|inner| inner.get("f")), |value| {
            value.as_f64().map(Near)
        })?,
        typed(object.get("b"), Value::as_bool)?,
    ))
}
