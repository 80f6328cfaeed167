//! The rules of deduplication, each in a few rows; random logs are held against an oracle elsewhere.

use arrow::array::{StringArray, TimestampMillisecondArray};

use super::*;
use crate::chunk::W_END;
use crate::expr::{Compiled, TIMESTAMP};

/// Rows (id, time, watermark before), one chunk; what passes and what is late, by time.
struct Bench {
    step: Dedup,
    out: StepOutput,
}

fn schema() -> Schema {
    Schema::new(vec![
        Field::new("id", DataType::Utf8, true),
        Field::new("t", TIMESTAMP, false),
    ])
}

fn plan(within: Millis) -> DedupPlan {
    DedupPlan {
        by: vec![Compiled::column(&schema(), 0)],
        within,
    }
}

fn chunk(rows: &[(Option<&str>, Millis, Millis)]) -> Chunk {
    let times = || rows.iter().map(|row| row.1);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.0).collect::<StringArray>()),
        Arc::new(TimestampMillisecondArray::from_iter_values(times())),
    ];
    Chunk {
        rows: RecordBatch::try_new(Arc::new(schema()), columns).expect("columns fit"),
        times: times().collect(),
        before: rows.iter().map(|row| row.2).collect(),
        deletes: None,
    }
}

fn held(windows: usize, keys: usize) -> StateSize {
    StateSize {
        windows,
        keys,
        starts: 0,
    }
}

fn times(chunks: &[Chunk]) -> Vec<Millis> {
    chunks
        .iter()
        .flat_map(|chunk| chunk.times.clone())
        .collect()
}

impl Bench {
    fn new(within: Millis) -> Self {
        Bench {
            step: Dedup::new(plan(within), true, true).expect("a step"),
            out: StepOutput::default(),
        }
    }

    fn rows(mut self, rows: &[(Option<&str>, Millis, Millis)]) -> Self {
        self.step.rows(&chunk(rows), &mut self.out).expect("rows");
        self
    }
}

#[test]
fn the_first_in_the_log_wins_and_reach_is_inclusive_on_both_sides() {
    let w = W_START;
    let bench = Bench::new(10).rows(&[
        (Some("a"), 100, w),
        (Some("b"), 100, w),
        (Some("a"), 110, w),
        (Some("a"), 90, w),
        (Some("a"), 89, w),
        (Some("a"), 111, w),
        (Some("a"), 121, w),
        (Some("a"), 122, w),
    ]);
    assert_eq!(times(&bench.out.main), [100, 100, 89, 111, 122]);
}

#[test]
fn null_is_a_value_like_any_other() {
    let bench = Bench::new(10).rows(&[
        (None, 1, W_START),
        (None, 2, W_START),
        (Some(""), 3, W_START),
    ]);
    assert_eq!(times(&bench.out.main), [1, 3]);
}

#[test]
fn rows_more_than_within_behind_are_late_and_copies_up_to_there_are_found() {
    let bench = Bench::new(10).rows(&[
        (Some("a"), 80, W_START),
        (Some("x"), 100, 80),
        // W is 100: what it may be a copy of lies back to 80.
        (Some("a"), 90, 100),
        (Some("a"), 89, 100),
        (Some("c"), 90, 100),
    ]);
    assert_eq!(times(&bench.out.main), [80, 100, 90]);
    assert_eq!(times(&bench.out.late), [89]);
    assert_eq!(bench.out.late_count, 1);
}

#[test]
fn what_no_row_can_be_a_copy_of_is_forgotten() {
    let mut bench = Bench::new(100).rows(&[(Some("a"), 0, W_START), (Some("b"), 150, 0)]);
    assert_eq!(bench.step.held(), held(2, 2));
    bench.step.advance(200, &mut bench.out).expect("W moves");
    assert_eq!(bench.step.held(), held(2, 2));
    bench.step.advance(210, &mut bench.out).expect("W moves");
    assert_eq!(bench.step.held(), held(1, 1));
    bench.step.advance(W_END, &mut bench.out).expect("W moves");
    assert_eq!(bench.step.held(), StateSize::default());
    // A place that was freed serves another key.
    let bench = bench.rows(&[(Some("c"), W_END, W_END)]);
    assert_eq!(bench.step.held(), held(1, 1));
}

#[test]
fn saved_state_is_checked() {
    let bench = Bench::new(10).rows(&[(Some("a"), 1, W_START), (None, 50, 1), (Some("b"), 3, 50)]);
    let saved = bench.step.save().expect("state");
    let mut fresh = Bench::new(10).step;
    fresh.load(&saved).expect("its own state");
    assert_eq!(fresh.save().expect("state"), saved);
    assert!(fresh.load(&saved).is_err(), "rows are there twice");
    let other = DedupPlan {
        by: vec![Compiled::column(&schema(), 1)],
        within: 10,
    };
    let mut other = Dedup::new(other, true, true).expect("a step");
    assert!(other.load(&saved).is_err(), "other columns");
    assert!(Bench::new(10).step.load(&[]).is_err());
}
