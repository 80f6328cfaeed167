//! The rules of the interval join, each in a few rows; random logs are held against an oracle elsewhere.

use std::sync::Arc;

use arrow::array::{Int64Array, StringArray};
use arrow::datatypes::{Field, Int64Type, Schema};

use super::*;

/// Left rows have `a`, right ones `b`.
fn input() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("#right", DataType::Boolean, false),
        Field::new("#on0", DataType::Utf8, true),
        Field::new("a", DataType::Int64, true),
        Field::new("orders.b", DataType::Int64, true),
    ]))
}

fn plan(keep_left: bool, keep_right: bool) -> JoinPlan {
    JoinPlan {
        input: input(),
        on: 1,
        left: 1,
        before: 10,
        after: 5,
        keep_left,
        keep_right,
    }
}

fn step(keep_left: bool, keep_right: bool) -> Join {
    let schema = Schema::new(input().fields()[2..].to_vec());
    Join::new(plan(keep_left, keep_right), Arc::new(schema), true).expect("a step")
}

/// A row: its side, key, and time, which is also its value; W before it.
type Given<'a> = (usize, Option<&'a str>, Millis, Millis);

fn chunk(rows: &[Given<'_>]) -> Chunk {
    let of = |side: usize| -> ArrayRef {
        let values = rows.iter().map(|row| (row.0 == side).then_some(row.2));
        Arc::new(values.collect::<Int64Array>())
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(
            rows.iter()
                .map(|row| Some(row.0 == RIGHT))
                .collect::<BooleanArray>(),
        ),
        Arc::new(rows.iter().map(|row| row.1).collect::<StringArray>()),
        of(LEFT),
        of(RIGHT),
    ];
    Chunk {
        rows: RecordBatch::try_new(input(), columns).expect("columns fit"),
        times: rows.iter().map(|row| row.2).collect(),
        before: rows.iter().map(|row| row.3).collect(),
        deletes: None,
    }
}

/// (left, right) @time
fn lines(chunks: &[Chunk]) -> Vec<String> {
    let line = |chunk: &Chunk, row: usize| {
        let value = |at: usize| {
            let column = chunk.rows.column(at).as_primitive::<Int64Type>();
            match column.is_valid(row) {
                true => column.value(row).to_string(),
                false => "-".into(),
            }
        };
        format!("({}, {}) @{}", value(0), value(1), chunk.times[row])
    };
    chunks
        .iter()
        .flat_map(|chunk| (0..chunk.len()).map(move |row| line(chunk, row)))
        .collect()
}

fn given(step: &mut Join, rows: &[Given<'_>]) -> Vec<String> {
    let mut out = StepOutput::default();
    step.rows(&chunk(rows), &mut out).expect("rows");
    lines(&out.main)
}

fn advance(step: &mut Join, w: Millis) -> Vec<String> {
    let mut out = StepOutput::default();
    step.advance(w, &mut out).expect("advance");
    lines(&out.main)
}

const A: Option<&str> = Some("a");
const W: Millis = W_START;

#[test]
fn reach_is_inclusive_and_pairs_go_out_when_the_second_row_is_read() {
    let mut step = step(false, false);
    // The left row at 100 reaches right ones from 90 to 105.
    let rows = [
        (RIGHT, A, 89, W),
        (RIGHT, A, 90, W),
        (RIGHT, Some("b"), 100, W),
        (LEFT, A, 100, W),
        (RIGHT, A, 105, W),
        (RIGHT, A, 106, W),
    ];
    assert_eq!(
        given(&mut step, &rows),
        ["(100, 90) @100", "(100, 105) @105"]
    );
}

#[test]
fn rows_without_a_match_go_out_when_w_is_past_their_reach_if_their_side_is_kept() {
    let rows = [(LEFT, A, 100, W), (RIGHT, A, 200, W), (LEFT, None, 7, W)];
    let mut both = step(true, true);
    assert_eq!(given(&mut both, &rows), ["(7, -) @7"]);
    assert_eq!(advance(&mut both, 105), [""; 0]);
    assert_eq!(advance(&mut both, 106), ["(100, -) @105"]);
    assert_eq!(advance(&mut both, 210), [""; 0]);
    assert_eq!(advance(&mut both, 211), ["(-, 200) @210"]);
    assert_eq!(both.held(), StateSize::default());
    let mut none = step(false, false);
    assert_eq!(given(&mut none, &rows), [""; 0]);
    assert_eq!(advance(&mut none, W_END), [""; 0]);
    assert_eq!(none.held(), StateSize::default());
}

#[test]
fn late_rows_go_aside_and_match_nothing() {
    let mut step = step(true, true);
    let mut out = StepOutput::default();
    let rows = chunk(&[(LEFT, A, 100, W), (RIGHT, A, 99, 100), (RIGHT, A, 100, 100)]);
    step.rows(&rows, &mut out).expect("rows");
    assert_eq!(lines(&out.main), ["(100, 100) @100"]);
    assert_eq!((out.late_count, &out.late[0].times), (1, &vec![99]));
}

#[test]
fn saved_state_is_the_whole_state() {
    let mut one = step(true, true);
    given(
        &mut one,
        &[
            (LEFT, A, 100, W),
            (RIGHT, A, 95, W),
            (RIGHT, Some("b"), 95, W),
            (LEFT, A, 100, 60),
        ],
    );
    let saved = one.save().expect("state");
    let mut two = step(true, true);
    two.load(&saved).expect("its own state");
    assert_eq!(two.save().expect("state"), saved);
    assert!(two.load(&saved).is_err(), "it has state already");
    for step in [&mut one, &mut two] {
        assert_eq!(given(step, &[(RIGHT, A, 104, 90)]), ["(100, 104) @104"; 2]);
        assert_eq!(advance(step, W_END), ["(-, 95) @105"]);
    }
}
