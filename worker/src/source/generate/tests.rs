//! Pace, positions and ends of the `generate` source.

use super::*;

fn partition(extra: &str, partition: u32, position: i64) -> GeneratePartition {
    let yaml = format!(
        r#"{{"partitions": 2, "seed": 7, "fields": [
            {{"name": "ts", "now": {{}}}}, {{"name": "user", "choice": ["a", "b", "c"]}}] {extra}}}"#
    );
    let generate: GenerateSource = serde_json::from_str(&yaml).unwrap();
    GeneratePartition {
        generator: Generator::new(&generate, &[], &[]).unwrap(),
        partition,
        position: position as u64,
        pace: generate.rows_per_second.map(|rows_per_second| Pace {
            rows_per_second,
            from: None,
        }),
        since: None,
        due: 0,
        event: Vec::new(),
    }
}

fn poll(input: &mut GeneratePartition, now: Millis, budget: Budget) -> Vec<(i64, String)> {
    let mut rows = Vec::new();
    input
        .poll(now, budget, &mut |row| {
            rows.push((
                row.position,
                String::from_utf8(row.payload.unwrap().to_vec()).unwrap(),
            ));
        })
        .unwrap();
    rows
}

#[test]
fn partitions_share_the_events_and_end() {
    let (mut even, mut odd) = (
        partition(r#", "rows": 7"#, 0, 0),
        partition(r#", "rows": 7"#, 1, 0),
    );
    let all = Budget::new(100, 1 << 20);
    let at = |rows: Vec<(i64, String)>| rows.into_iter().map(|row| row.0).collect::<Vec<_>>();
    assert_eq!(at(poll(&mut even, 0, Budget::new(2, 1 << 20))), [0, 2]);
    assert!(!even.ended());
    assert_eq!(at(poll(&mut even, 0, all)), [4, 6]);
    assert_eq!(at(poll(&mut odd, 0, all)), [1, 3, 5]);
    poll(&mut odd, 0, all);
    assert!(even.ended() && odd.ended() && odd.position() == 7);
}

#[test]
fn the_wall_clock_sets_the_pace() {
    let mut input = partition(r#", "rowsPerSecond": 10"#, 0, 100);
    let all = Budget::new(1000, 1 << 20);
    assert_eq!(poll(&mut input, 5000, all), []);
    assert!(input.caught_up());
    assert_eq!(poll(&mut input, 5999, all).len(), 5);
    assert_eq!(input.position(), 109);
    poll(&mut input, 7000, Budget::new(1, 1 << 20));
    assert_eq!((input.caught_up(), input.lag()), (false, Some(9)));
}

#[test]
fn a_replay_is_not_paced_and_makes_the_same_events() {
    let all = Budget::new(1000, 1 << 20);
    let mut first = partition(r#", "rowsPerSecond": 10"#, 0, 0).since(1_000_000);
    let rows = poll(&mut first, 1_005_000, all);
    assert_eq!(rows.len(), 25);
    assert!(rows[1].1.contains("1000200"), "{}", rows[1].1);
    let mut again = partition(r#", "rowsPerSecond": 10"#, 0, 0).since(1_000_000);
    assert_eq!(poll(&mut again, 0, all.until(first.position())), rows);
    assert_eq!(again.position(), first.position());
}
