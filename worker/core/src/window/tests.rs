//! The rules of windows, one table each; `random` checks them all at once against a naive reference.

mod bench;
mod random;
mod running;

use bench::*;

use super::*;
use crate::chunk::W_END;
use crate::plan::AggregateCall;
use crate::plan::AggregateFunction::*;

const NOTHING: [&str; 0] = [];
const TUMBLING: WindowKind = WindowKind::Tumbling {
    size: 10,
    offset: 0,
};

#[test]
fn a_window_fires_when_w_reaches_its_end() {
    let mut bench = Bench::new(counting(TUMBLING));
    assert_eq!(
        bench.rows(&[row(1, "a"), row(3, "b").w(1), row(9, "a").w(3)]),
        NOTHING
    );
    assert_eq!(bench.advance(9), NOTHING);
    assert_eq!(
        bench.advance(10),
        ["a [0, 10) 2 @9 before 9", "b [0, 10) 1 @9 before 9"]
    );
    assert_eq!(bench.advance(W_END), NOTHING);
}

#[test]
fn a_row_is_judged_against_the_w_that_rows_before_it_made() {
    let mut bench = Bench::new(counting(TUMBLING));
    // The row at 12 makes W 12: the next one is late, whatever the chunks are.
    let out = bench.rows(&[
        row(5, "a"),
        row(12, "a").w(5),
        row(6, "a").w(12),
        row(13, "a").w(12),
    ]);
    assert_eq!(out, ["a [0, 10) 1 @9 before 5", "late 6 before 12"]);
    assert_eq!(bench.advance(W_END), ["a [10, 20) 2 @19 before 12"]);
    assert_eq!(bench.late, 1);
}

#[test]
fn windows_that_fire_together_come_out_by_end_then_key_with_nulls_first() {
    let mut bench = Bench::new(counting(TUMBLING));
    bench.rows(&[
        row(15, "a"),
        row(1, "b"),
        row(2, "B"),
        row(3, "é"),
        row(4, ""),
        null_key(5),
        row(16, "aa"),
    ]);
    assert_eq!(
        bench.advance(30),
        [
            "null [0, 10) 1 @9 before start",
            " [0, 10) 1 @9 before start",
            "B [0, 10) 1 @9 before start",
            "b [0, 10) 1 @9 before start",
            "é [0, 10) 1 @9 before start",
            "a [10, 20) 1 @19 before start",
            "aa [10, 20) 1 @19 before start",
        ]
    );
}

#[test]
fn each_row_goes_out_with_the_w_from_before_the_move_that_released_it() {
    let mut bench = Bench::new(counting(WindowKind::Sliding {
        size: 20,
        slide: 10,
        offset: 0,
    }));
    let out = bench.rows(&[row(5, "a"), row(12, "a").w(5), row(25, "a").w(12)]);
    assert_eq!(out, ["a [-10, 10) 1 @9 before 5"]);
    assert_eq!(bench.advance(25), ["a [0, 20) 2 @19 before 12"]);
    assert_eq!(
        bench.advance(W_END),
        ["a [10, 30) 2 @29 before 25", "a [20, 40) 1 @39 before 25"]
    );
}

#[test]
fn a_row_late_for_some_windows_only_is_counted_in_the_others() {
    let mut bench = Bench::new(counting(WindowKind::Sliding {
        size: 20,
        slide: 10,
        offset: 0,
    }));
    assert_eq!(bench.rows(&[row(5, "a").w(12)]), NOTHING);
    assert_eq!(
        bench.rows(&[row(5, "a").w(20)]),
        ["a [0, 20) 1 @19 before 12", "late 5 before 20"]
    );
}

#[test]
fn cumulating_windows_grow_to_their_size() {
    let mut bench = Bench::new(counting(WindowKind::Cumulating { size: 30, step: 10 }));
    bench.rows(&[row(5, "a"), row(15, "a")]);
    assert_eq!(
        bench.advance(W_END),
        [
            "a [0, 10) 1 @9 before start",
            "a [0, 20) 2 @19 before start",
            "a [0, 30) 2 @29 before start"
        ]
    );
}

#[test]
fn within_the_lateness_a_changed_window_goes_out_again_at_the_epochs_end() {
    let mut bench = Bench::new(counting(TUMBLING).lateness(10));
    bench.rows(&[row(1, "a"), row(2, "b")]);
    assert_eq!(bench.advance(10).len(), 2);
    assert_eq!(bench.end_epoch(), NOTHING);
    assert_eq!(
        bench.rows(&[row(3, "b").w(10), row(4, "b").w(11), row(5, "c").w(19)]),
        NOTHING
    );
    assert_eq!(
        bench.end_epoch(),
        ["b [0, 10) 3 @9 before 19", "c [0, 10) 1 @9 before 19"]
    );
    assert_eq!(bench.end_epoch(), NOTHING);
    // A change goes out before the window is gone, also when the epoch has not ended.
    assert_eq!(bench.rows(&[row(3, "a").w(19)]), NOTHING);
    assert_eq!(bench.advance(20), ["a [0, 10) 2 @9 before 19"]);
    assert_eq!(bench.rows(&[row(3, "a").w(20)]), ["late 3 before 20"]);
    assert_eq!(bench.step.store.counts().0, 0);
    assert_eq!(bench.step.store.counts().1, 0);
}

#[test]
fn a_group_that_no_longer_passes_having_is_withdrawn() {
    // having count < 3
    let mut bench = Bench::new(counting(TUMBLING).lateness(100).having_count_below(3));
    bench.rows(&[row(1, "a"), row(2, "b"), row(2, "b"), row(2, "b")]);
    assert_eq!(bench.advance(10), ["a [0, 10) 1 @9 before start"]);
    bench.rows(&[row(1, "a").w(10)]);
    assert_eq!(bench.end_epoch(), ["a [0, 10) 2 @9 before 10"]);
    bench.rows(&[row(1, "a").w(10)]);
    assert_eq!(bench.end_epoch(), ["delete a [0, 10) 2 @9 before 10"]);
    bench.rows(&[row(1, "a").w(10)]);
    assert_eq!(bench.end_epoch(), NOTHING);
}

#[test]
fn a_row_that_would_be_the_same_is_not_emitted_again() {
    let mut bench = Bench::new(plan(TUMBLING, vec![call(Max, Some("n"))]).lateness(100));
    bench.rows(&[row(1, "a").n(7)]);
    assert_eq!(bench.advance(10), ["a [0, 10) 7 @9 before start"]);
    bench.rows(&[row(1, "a").n(5).w(10)]);
    assert_eq!(bench.end_epoch(), NOTHING);
    bench.rows(&[row(1, "a").n(8).w(10)]);
    assert_eq!(bench.end_epoch(), ["a [0, 10) 8 @9 before 10"]);
}

#[test]
fn open_windows_with_changes_go_out_when_w_crosses_a_multiple_of_emit_every() {
    let mut bench = Bench::new(
        counting(WindowKind::Tumbling {
            size: 100,
            offset: 0,
        })
        .emit_every(10),
    );
    // Coming from the start is no crossing.
    assert_eq!(bench.rows(&[row(1, "b"), row(3, "a").w(1)]), NOTHING);
    assert_eq!(bench.advance(9), NOTHING);
    assert_eq!(bench.end_epoch(), NOTHING);
    assert_eq!(
        bench.advance(10),
        ["a [0, 100) 1 @99 before 9", "b [0, 100) 1 @99 before 9"]
    );
    assert_eq!(bench.advance(20), NOTHING);
    assert_eq!(
        bench.rows(&[row(25, "a").w(20), row(37, "a").w(25)]),
        NOTHING
    );
    assert_eq!(bench.advance(37), ["a [0, 100) 3 @99 before 25"]);
    // Fires: only what has changed since.
    bench.rows(&[row(38, "c").w(37)]);
    assert_eq!(bench.advance(1000), ["c [0, 100) 1 @99 before 37"]);
}

#[test]
fn rows_of_a_session_are_at_most_gap_apart_inclusive() {
    let mut bench = Bench::new(counting(WindowKind::Session { gap: 10 }));
    bench.rows(&[row(0, "a"), row(10, "a"), row(21, "a"), row(5, "b")]);
    assert_eq!(
        bench.advance(W_END),
        [
            "b [5, 15) 1 @14 before start",
            "a [0, 20) 2 @19 before start",
            "a [21, 31) 1 @30 before start"
        ]
    );
}

#[test]
fn a_row_between_two_sessions_joins_them() {
    let calls = vec![
        call(Count, None),
        call(Sum, Some("n")),
        call(ArrayAgg { limit: 3 }, Some("n")),
    ];
    let mut bench = Bench::new(plan(WindowKind::Session { gap: 10 }, calls));
    bench.rows(&[
        row(20, "a").n(1),
        row(0, "a").n(2),
        row(20, "a").n(3),
        row(10, "a").n(4),
    ]);
    assert_eq!(bench.step.store.counts().0, 1);
    assert_eq!(
        bench.advance(W_END),
        ["a [0, 30) 4 10 [1, 2, 3] @29 before start"]
    );
}

#[test]
fn a_session_row_is_late_if_the_merged_session_is() {
    let mut bench = Bench::new(counting(WindowKind::Session { gap: 10 }));
    // Alone, a row at 15 would be late at W 25; with the kept session [20, 30) it is not.
    assert_eq!(
        bench.rows(&[row(20, "a"), row(15, "a").w(25), row(15, "b").w(25)]),
        ["late 15 before 25"]
    );
    assert_eq!(bench.advance(W_END), ["a [15, 30) 2 @29 before 25"]);
}

#[test]
fn an_emitted_session_that_grows_is_withdrawn_and_emitted_anew() {
    let mut bench = Bench::new(counting(WindowKind::Session { gap: 10 }).lateness(100));
    bench.rows(&[row(0, "a"), row(30, "a")]);
    assert_eq!(
        bench.advance(40),
        [
            "a [0, 10) 1 @9 before start",
            "a [30, 40) 1 @39 before start"
        ]
    );
    // Within its bounds: emitted again.
    assert_eq!(bench.rows(&[row(0, "a").w(40)]), NOTHING);
    assert_eq!(bench.end_epoch(), ["a [0, 10) 2 @9 before 40"]);
    // Other bounds, fired still.
    assert_eq!(
        bench.rows(&[row(10, "a").w(40)]),
        ["delete a [0, 10) 2 @9 before 40"]
    );
    assert_eq!(bench.end_epoch(), ["a [0, 20) 3 @19 before 40"]);
    // Joins two.
    assert_eq!(
        bench.rows(&[row(20, "a").w(40)]),
        [
            "delete a [30, 40) 1 @39 before 40",
            "delete a [0, 20) 3 @19 before 40"
        ]
    );
    // Open again: goes out when it fires.
    assert_eq!(bench.rows(&[row(40, "a").w(45)]), NOTHING);
    assert_eq!(bench.end_epoch(), NOTHING);
    assert_eq!(bench.advance(50), ["a [0, 50) 6 @49 before 45"]);
}

#[test]
fn where_drops_rows_before_they_can_be_late_or_fail() {
    // where n > 0, sum(10 / n)
    let mut bench = Bench::new(plan(TUMBLING, vec![call(Sum, Some("10 / n"))]).where_n_above(0));
    let out = bench.rows(&[
        row(1, "a").n(5),
        row(2, "a").n(0),
        row(3, "a").without_n(),
        row(1, "a").n(2).w(20),
        row(1, "a").n(0).w(20),
        row(21, "a").n(1).w(20),
    ]);
    assert_eq!(out, ["a [0, 10) 2 @9 before start", "late 1 before 20"]);
    assert_eq!((bench.late, bench.failed), (1, 0));
}

#[test]
fn a_row_that_fails_changes_nothing() {
    let mut bench = Bench::new(plan(
        TUMBLING,
        vec![call(Count, None), call(Sum, Some("10 / n"))],
    ));
    let out = bench.rows(&[
        row(1, "a").n(5),
        row(2, "a").n(0),
        row(3, "a").n(10),
        row(4, "b").n(0),
    ]);
    assert_eq!(
        out,
        [
            "failed 2 a DivisionByZero: 10 / n",
            "failed 4 b DivisionByZero: 10 / n"
        ]
    );
    assert_eq!(bench.advance(10), ["a [0, 10) 2 3 @9 before start"]);
    assert_eq!(bench.failed, 2);
}

#[test]
fn a_filtered_call_does_not_look_at_the_rows_it_leaves_out() {
    let filtered = AggregateCall {
        filter: Some(n_above(0)),
        ..call(Sum, Some("10 / n"))
    };
    let mut bench = Bench::new(plan(TUMBLING, vec![call(Count, None), filtered]));
    assert_eq!(
        bench.rows(&[row(1, "a").n(5), row(2, "a").n(0), row(3, "a").without_n()]),
        NOTHING
    );
    assert_eq!(bench.advance(10), ["a [0, 10) 3 2 @9 before start"]);
}

#[test]
fn a_sum_that_does_not_fit_fails_and_never_wraps() {
    let mut bench = Bench::new(plan(TUMBLING, vec![call(Sum, Some("n"))]).lateness(100));
    bench.rows(&[row(1, "a").n(i64::MAX), row(2, "b").n(1)]);
    assert_eq!(bench.advance(10).len(), 2);
    bench.rows(&[row(1, "a").n(1).w(10)]);
    // What was emitted no longer holds.
    assert_eq!(
        bench.end_epoch(),
        [
            "delete a [0, 10) 9223372036854775807 @9 before 10",
            "failed 9 a Overflow: sum does not fit Int64",
        ]
    );
    bench.rows(&[row(1, "a").n(-2).w(10)]);
    assert_eq!(
        bench.end_epoch(),
        ["a [0, 10) 9223372036854775806 @9 before 10"]
    );
}

#[test]
fn times_whose_window_cannot_be_told_fail() {
    for kind in [TUMBLING, WindowKind::Session { gap: 10 }] {
        let mut bench = Bench::new(counting(kind));
        let out = bench.rows(&[row(i64::MAX, "a"), row(1, "a")]);
        assert_eq!(out.len(), 1, "{out:?}");
        assert!(out[0].contains("OutOfRange"), "{out:?}");
        assert_eq!(bench.advance(W_END).len(), 1);
    }
    let mut bench = Bench::new(counting(TUMBLING));
    assert_eq!(bench.rows(&[row(i64::MIN, "a")]).len(), 1);
    // The latest window that can be told is kept until the end of input, whatever the lateness.
    let mut bench = Bench::new(counting(TUMBLING).lateness(i64::MAX));
    assert_eq!(
        bench.rows(&[row(i64::MAX - 20, "a"), row(-20, "a").w(i64::MAX - 30)]),
        NOTHING
    );
    assert_eq!(
        bench.end_epoch(),
        ["a [-20, -10) 1 @-11 before 9223372036854775777"]
    );
    assert_eq!(bench.advance(W_END).len(), 1);
    assert_eq!(bench.step.store.counts().0, 0);
}

#[test]
fn without_groups_there_is_one_group() {
    let mut bench = Bench::new(counting(TUMBLING).ungrouped());
    bench.rows(&[row(1, "a"), row(2, "b")]);
    assert_eq!(bench.advance(10), ["[0, 10) 2 @9 before start"]);
}

#[test]
fn withdrawn_rows_are_refused() {
    let mut bench = Bench::new(counting(TUMBLING));
    let mut chunk = chunk(&[row(1, "a")]);
    chunk.deletes = Some(vec![true].into());
    let result = bench.step.rows(&chunk, &mut StepOutput::default());
    assert!(matches!(result, Err(WindowError::Withdrawn)));
}

#[test]
fn state_of_another_shape_is_refused() {
    let mut bench = Bench::new(counting(TUMBLING).lateness(10));
    bench.rows(&[row(1, "a"), row(2, "b")]);
    let saved = bench.step.save().expect("saves");
    let load = |plan: Planned, state: &[arrow::array::RecordBatch]| {
        let mut step = WindowStep::new(plan.into(), true, true).expect("a step");
        step.load(state).map_err(|error| error.to_string())
    };
    assert_eq!(load(counting(TUMBLING).lateness(10), &saved), Ok(()));
    for wrong in [
        load(counting(TUMBLING), &saved),
        load(counting(TUMBLING).lateness(10).ungrouped(), &saved),
        load(
            plan(TUMBLING, vec![call(Sum, Some("n"))]).lateness(10),
            &saved,
        ),
        load(counting(TUMBLING).lateness(10), &[]),
        load(
            counting(TUMBLING).lateness(10),
            &[saved[0].slice(0, 1), saved[0].slice(1, 1)],
        ),
    ] {
        let message = wrong.expect_err("refused");
        assert!(message.starts_with("saved windows do not fit"), "{message}");
    }
    let twice = arrow::compute::concat_batches(&saved[0].schema(), [&saved[0], &saved[0]])
        .expect("one batch");
    let message = load(counting(TUMBLING).lateness(10), &[twice]).expect_err("refused");
    assert!(message.contains("it is there twice"), "{message}");
}
