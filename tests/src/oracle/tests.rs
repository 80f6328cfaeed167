//! The oracle against examples worked out by hand.

use serde_json::json;

use super::*;

fn job(window: Window, allowed_lateness: i64) -> Job {
    Job {
        columns: vec![
            Column::new("k", "k", Kind::String, true),
            Column::new("t", "t", Kind::Timestamp, false),
            Column::new("v", "d.v", Kind::Double, true),
        ],
        event_time: "t".into(),
        max_out_of_orderness: 0,
        max_future: Some(1_000),
        filter: None,
        window: Some(WindowStep {
            window,
            allowed_lateness,
            emit_every: None,
            group: vec!["k".into()],
            aggregates: vec![Aggregate::new("n", Function::Count, None)],
            having: None,
        }),
    }
}

fn event(key: &str, time: i64) -> Entry {
    let payload = json!({"k": key, "t": time, "d": {"v": 1.5}})
        .to_string()
        .into_bytes();
    Entry::Event {
        payload: Some(payload),
        kafka_timestamp: None,
    }
}

fn windows(rows: &[Row]) -> Vec<(i64, i64, i64)> {
    let number = |row: &Row, name: &str| row[name].as_i64().unwrap();
    rows.iter()
        .map(|row| {
            (
                number(row, "window_start"),
                number(row, "window_end"),
                number(row, "n"),
            )
        })
        .collect()
}

fn last(job: &Job, entries: Vec<Entry>) -> (Vec<(i64, i64, i64)>, TaskOutcome) {
    let mut outcome = run(job, &[entries]);
    let rows = windows(&last_rows(job, &outcome));
    (rows, outcome.remove(0))
}

#[test]
fn a_row_is_judged_against_the_rows_before_it() {
    let job = job(
        Window::Tumbling {
            size: 10,
            offset: 0,
        },
        0,
    );
    let (rows, outcome) = last(
        &job,
        vec![
            event("a", -1),
            event("a", 9),
            event("a", 3),
            event("a", 10),
            event("a", 9),
        ],
    );
    assert_eq!(rows, [(-10, 0, 1), (0, 10, 2), (10, 20, 1)]);
    assert_eq!(outcome.late.len(), 1);
}

#[test]
fn sliding_and_cumulating_windows_overlap() {
    let sliding = job(
        Window::Sliding {
            size: 10,
            slide: 5,
            offset: 2,
        },
        0,
    );
    assert_eq!(
        last(&sliding, vec![event("a", 6)]).0,
        [(-3, 7, 1), (2, 12, 1)]
    );
    let cumulating = job(Window::Cumulating { size: 15, step: 5 }, 0);
    assert_eq!(
        last(&cumulating, vec![event("a", 6)]).0,
        [(0, 10, 1), (0, 15, 1)]
    );
}

#[test]
fn a_row_late_for_some_windows_counts_in_the_others() {
    let job = job(
        Window::Sliding {
            size: 10,
            slide: 5,
            offset: 0,
        },
        0,
    );
    let (rows, outcome) = last(&job, vec![event("b", 10), event("a", 6)]);
    assert!(outcome.late.is_empty());
    // [0, 10) had fired when a came.
    assert_eq!(rows, [(5, 15, 1), (5, 15, 1), (10, 20, 1)]);
}

#[test]
fn sessions_a_gap_apart_are_one() {
    let job = job(Window::Session { gap: 10 }, 0);
    assert_eq!(
        last(&job, vec![event("a", 0), event("a", 10), event("a", 21)]).0,
        [(0, 20, 2), (21, 31, 1)]
    );
}

#[test]
fn a_late_row_joins_two_sessions_and_withdraws_both() {
    let job = job(Window::Session { gap: 10 }, 50);
    let entries = vec![
        event("a", 0),
        event("a", 20),
        event("b", 40),
        event("a", 10),
    ];
    let (rows, outcome) = last(&job, entries);
    assert_eq!(rows, [(0, 30, 3), (40, 50, 1)]);
    let withdrawn: Vec<Row> = outcome
        .emitted
        .iter()
        .filter_map(|emission| match emission {
            Emission::Withdrawn(row) => Some(row.clone()),
            Emission::Row(_) => None,
        })
        .collect();
    assert_eq!(windows(&withdrawn), [(0, 10, 1), (20, 30, 1)]);
}

#[test]
fn lateness_updates_and_having_withdraws() {
    let mut job = job(
        Window::Tumbling {
            size: 10,
            offset: 0,
        },
        10,
    );
    job.window.as_mut().unwrap().having = Some(Box::new(|row| row["n"].as_i64() < Some(2)));
    let (rows, outcome) = last(
        &job,
        vec![
            event("a", 1),
            event("a", 15),
            event("a", 2),
            event("a", 20),
            event("a", 3),
        ],
    );
    assert_eq!(rows, [(10, 20, 1), (20, 30, 1)]);
    assert_eq!(outcome.late.len(), 1);
}

#[test]
fn idle_time_fires_windows() {
    let job = job(
        Window::Tumbling {
            size: 10,
            offset: 0,
        },
        0,
    );
    let (rows, outcome) = last(&job, vec![event("a", 1), Entry::Idle(10), event("a", 2)]);
    assert_eq!(rows, [(0, 10, 1)]);
    assert_eq!(outcome.late.len(), 1);
}

#[test]
fn malformed_events_have_their_reason() {
    let job = job(
        Window::Tumbling {
            size: 10,
            offset: 0,
        },
        0,
    );
    let reason = |payload: &[u8]| decode::decode(&job, Some(payload), Some(0)).err();
    for bad in ["", "[]", "{", r#"{"t":1} x"#, "nonsense", "1"] {
        assert_eq!(reason(bad.as_bytes()), Some(Reason::NoObject), "{bad}");
    }
    assert_eq!(reason(b"{\"t\":1,\"k\":\"\xff\"}"), Some(Reason::NoObject));
    assert_eq!(decode::decode(&job, None, Some(0)), Err(Reason::NoObject));
    for bad in [
        r#"{"t":1.0}"#,
        r#"{"t":99999999999999999999}"#,
        r#"{"t":1,"k":2}"#,
        r#"{"t":1,"d":{"v":"1"}}"#,
    ] {
        assert_eq!(reason(bad.as_bytes()), Some(Reason::BadValue), "{bad}");
    }
    assert_eq!(reason(br#"{"k":"a"}"#), Some(Reason::Missing));
    assert_eq!(reason(br#"{"t":1001}"#), Some(Reason::FarFuture));
    assert_eq!(reason(br#"{"t":1000,"d":7,"more":[1]}"#), None);
}

#[test]
fn rfc3339_is_cut_to_milliseconds() {
    assert_eq!(decode::rfc3339("1970-01-01T00:00:01.2349Z"), Some(1_234));
    assert_eq!(decode::rfc3339("1969-12-31T23:59:59.9996Z"), Some(-1));
    assert_eq!(
        decode::rfc3339("2026-03-01T01:00:00+01:00"),
        Some(1_772_323_200_000)
    );
    assert_eq!(decode::rfc3339("2023-02-29T00:00:00Z"), None);
    assert_eq!(decode::rfc3339("2026-03-01"), None);
}

#[test]
fn aggregates_over_a_few_rows() {
    let rows: Vec<aggregate::Taken> = [
        (3, json!(2.0)),
        (1, json!(4.0)),
        (1, json!(null)),
        (3, json!(9.0)),
    ]
    .into_iter()
    .enumerate()
    .map(|(order, (time, value))| aggregate::Taken {
        order,
        time,
        row: Row::from_iter([("v".to_string(), value)]),
    })
    .collect();
    let of = |function| aggregate::aggregate(&Aggregate::new("x", function, Some("v")), &rows);
    assert_eq!(of(Function::Count), json!(3));
    assert_eq!(of(Function::Sum), json!(15.0));
    assert_eq!(of(Function::Avg), json!(5.0));
    assert_eq!(of(Function::Stddev), json!(13.0_f64.sqrt()));
    assert_eq!(
        (of(Function::Min), of(Function::Max)),
        (json!(2.0), json!(9.0))
    );
    assert_eq!(
        (of(Function::FirstValue), of(Function::LastValue)),
        (json!(4.0), json!(9.0))
    );
    assert_eq!(of(Function::ArrayAgg { limit: 2 }), json!([2.0, 4.0]));
    assert_eq!(
        (of(Function::Distinct), of(Function::Percentile(0.5))),
        (json!(3), json!(4.0))
    );
}
