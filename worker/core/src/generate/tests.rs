//! Generated events: what they look like, that they can be made again, and where they go.

use arrow::datatypes::{DataType, TimeUnit};
use serde_json::{Value, json};

use super::*;
use crate::decode::Decoder;
use crate::encode::KeyEncoder;

fn source(spec: Value) -> GenerateSource {
    serde_json::from_value(spec).unwrap()
}

fn column(name: &str, path: &str, data_type: DataType) -> DecodeColumn {
    let path = path.split('.').map(str::to_owned).collect();
    DecodeColumn {
        name: name.into(),
        path,
        data_type,
        nullable: false,
        used: true,
    }
}

fn columns() -> Vec<DecodeColumn> {
    vec![
        column("id", "id", DataType::Utf8),
        column(
            "ts",
            "at.time",
            DataType::Timestamp(TimeUnit::Millisecond, None),
        ),
        column("amount", "data.amount", DataType::Float64),
        column("count", "data.count", DataType::Int64),
        column("kind", "kind", DataType::Utf8),
    ]
}

fn clicks() -> GenerateSource {
    source(json!({
        "rows": 5000, "seed": 7, "partitions": 4,
        "fields": [
            {"name": "id", "sequence": {"start": 10, "prefix": "e\"-"}},
            {"name": "data.amount", "uniform": {"min": -1.5, "max": 99.99}},
            {"name": "at.time", "every": {"start": "2026-01-01T00:00:00Z", "step": "100ms", "jitter": "2s"}},
            {"name": "data.count", "uniform": {"min": 1, "max": 3}},
            {"name": "kind", "choice": ["click", "view", "ü\n"]},
            {"name": "made", "now": {}},
            {"name": "n", "sequence": {}},
        ],
    }))
}

fn event(generator: &Generator, index: u64) -> String {
    let mut out = Vec::new();
    generator.event(index, 42, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn events_have_their_fields() {
    let generator = Generator::new(&clicks(), &columns(), &[]).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for index in 0..2000u64 {
        let text = event(&generator, index);
        assert!(
            text.starts_with(&format!(
                r#"{{"id":"e\"-{}","data":{{"amount":"#,
                index + 10
            )),
            "{text}"
        );
        let value: Value = serde_json::from_str(&text).unwrap();
        let amount = value["data"]["amount"].as_f64().unwrap();
        assert!((-1.5..=99.99).contains(&amount), "{text}");
        let time = value["at"]["time"].as_i64().unwrap() - 1_767_225_600_000 - index as i64 * 100;
        assert!((-2000..=2000).contains(&time), "{text}");
        assert_eq!(
            (value["made"].as_i64(), value["n"].as_u64()),
            (Some(42), Some(index))
        );
        seen.insert((
            value["data"]["count"].as_i64().unwrap(),
            value["kind"].as_str().unwrap().to_owned(),
        ));
    }
    assert_eq!(seen.len(), 9, "all combinations: {seen:?}");
}

#[test]
fn decimals_are_written_out() {
    let fixed = |value: f64, data_type: DataType| {
        let source =
            source(json!({"fields": [{"name": "v", "uniform": {"min": value, "max": value}}]}));
        event(
            &Generator::new(&source, &[column("v", "v", data_type)], &[]).unwrap(),
            0,
        )
    };
    assert_eq!(fixed(-0.05, DataType::Float64), r#"{"v":-0.05}"#);
    assert_eq!(fixed(0.29, DataType::Float64), r#"{"v":0.29}"#);
    assert_eq!(fixed(12.5, DataType::Decimal128(9, 1)), r#"{"v":12.5}"#);
    assert_eq!(fixed(12.0, DataType::Int64), r#"{"v":12}"#);
}

#[test]
fn an_event_depends_on_seed_and_index_alone() {
    let mut other = clicks();
    other.seed = 8;
    let (generator, again, other) = (
        Generator::new(&clicks(), &columns(), &[]).unwrap(),
        Generator::new(&clicks(), &columns(), &["id".to_owned()]).unwrap(),
        Generator::new(&other, &columns(), &[]).unwrap(),
    );
    let backwards: Vec<String> = (0..100).rev().map(|index| event(&again, index)).collect();
    for (index, text) in backwards.iter().rev().enumerate() {
        assert_eq!(*text, event(&generator, index as u64));
    }
    assert!(
        (0..100)
            .filter(|index| event(&other, *index) == event(&generator, *index))
            .count()
            < 10
    );
    event(&generator, u64::MAX);
}

/// Partitions, read one by one, have every event once.
fn read(generator: &Generator) -> Vec<Vec<u64>> {
    let partition = |partition: u32| {
        let (mut indices, mut at) = (Vec::new(), 0);
        while at < 6000 {
            match generator.next_in(partition, at, at + 50) {
                Some(index) => {
                    assert_eq!(generator.partition(index), partition);
                    indices.push(index);
                    at = index + 1;
                }
                None => at += 50,
            }
        }
        indices
    };
    (0..4).map(partition).collect()
}

#[test]
fn partitions_share_the_events() {
    for key in [
        &[][..],
        &["kind".to_owned()],
        &["count".to_owned(), "amount".to_owned()],
    ] {
        let generator = Generator::new(&clicks(), &columns(), key).unwrap();
        let mut all = read(&generator).concat();
        all.sort();
        assert_eq!(all, (0..5000).collect::<Vec<_>>());
    }
    assert_eq!(
        Generator::new(&clicks(), &columns(), &[])
            .unwrap()
            .next_in(4, 0, 100),
        None
    );
}

#[test]
fn keys_are_those_that_sinks_write() {
    for (key, at) in [
        (&["kind"][..], &[4][..]),
        (&["count", "amount"], &[3, 2]),
        (&["id", "ts"], &[0, 1]),
    ] {
        let names: Vec<String> = key.iter().map(|name| (*name).to_owned()).collect();
        let generator = Generator::new(&clicks(), &columns(), &names).unwrap();
        let mut decoder = Decoder::new(&columns(), 1, None, "made", 0, false).unwrap();
        (0..500).for_each(|index| {
            decoder
                .push(Some(event(&generator, index).as_bytes()), 0, None)
                .unwrap()
        });
        let rows = decoder.finish().unwrap().rows;
        let keys = KeyEncoder::new(&rows.schema(), at)
            .unwrap()
            .bind(&rows)
            .unwrap();
        for index in 0..500 {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            assert_eq!(
                generator.key(index, &mut ours),
                keys.encode(index as usize, &mut theirs)
            );
            assert_eq!(
                String::from_utf8_lossy(&ours),
                String::from_utf8_lossy(&theirs)
            );
        }
    }
}

#[test]
fn problems_are_told_all_at_once() {
    let source = source(json!({
        "rowsPerSecond": 0,
        "fields": [
            {"name": "a"},
            {"name": "b", "now": {}, "sequence": {}},
            {"name": "c", "uniform": {"min": 2, "max": 1}},
            {"name": "d", "uniform": {"min": 1.2, "max": 1.8}},
            {"name": "e", "choice": []},
            {"name": "f", "choice": ["x", [1]]},
            {"name": "g", "every": {"start": "yesterday", "step": "1s"}},
            {"name": "a.x", "now": {}},
            {"name": "h.", "now": {}},
            {"name": "k", "now": {}},
        ],
    }));
    let columns = [
        column("d", "d", DataType::Int64),
        column("k", "k", DataType::Int64),
        column("t", "time", DataType::Int64),
    ];
    let found = problems(
        &source,
        &columns,
        &["k".to_owned()],
        "spec.sources[0].generate",
    );
    let paths: Vec<&str> = found
        .iter()
        .map(|problem| {
            problem
                .path
                .strip_prefix("spec.sources[0].generate")
                .unwrap()
        })
        .collect();
    assert_eq!(
        paths,
        [
            ".rowsPerSecond",
            ".fields[0]",
            ".fields[1]",
            ".fields[2].uniform",
            ".fields[3].uniform",
            ".fields[4].choice",
            ".fields[5].choice[1]",
            ".fields[6].every.start",
            ".fields[7].name",
            ".fields[8].name",
            ".fields[9].now",
            ".fields"
        ]
    );
    assert!(Generator::new(&source, &columns, &[]).is_err());
}
