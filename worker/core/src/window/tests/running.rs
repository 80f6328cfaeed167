//! Running groups: when they go out, when they are forgotten, what is late.

use super::*;

const RUNNING: WindowKind = WindowKind::Running { ttl: 10 };

fn bench() -> Bench {
    Bench::new(counting(RUNNING))
}

#[test]
fn a_group_goes_out_at_the_end_of_an_epoch_that_changed_it() {
    let mut bench = bench();
    assert_eq!(
        bench.rows(&[row(1, "a"), row(3, "b"), row(2, "a")]),
        NOTHING
    );
    assert_eq!(
        bench.end_epoch(),
        ["a 2 @2 before start", "b 1 @3 before start"]
    );
    assert_eq!(bench.end_epoch(), NOTHING);
    bench.rows(&[row(4, "b")]);
    assert_eq!(bench.end_epoch(), ["b 2 @4 before start"]);
}

#[test]
fn it_is_withdrawn_when_w_is_more_than_ttl_past_its_newest_row() {
    let mut bench = bench();
    bench.rows(&[row(1, "a"), row(5, "a"), row(2, "b")]);
    bench.end_epoch();
    assert_eq!(bench.advance(12), NOTHING);
    assert_eq!(bench.advance(13), ["delete b 1 @2 before 12"]);
    assert_eq!(bench.advance(15), NOTHING);
    // What has not gone out yet does first.
    assert_eq!(bench.rows(&[row(5, "a").w(15)]), NOTHING);
    assert_eq!(
        bench.advance(16),
        ["a 3 @5 before 15", "delete a 3 @5 before 15"]
    );
    assert_eq!(bench.step.held(), StateSize::default());
    bench.rows(&[row(20, "a").w(16)]);
    assert_eq!(bench.end_epoch(), ["a 1 @20 before 16"]);
}

#[test]
fn the_end_of_the_input_forgets_nothing() {
    let mut bench = bench();
    bench.rows(&[row(1, "a")]);
    bench.end_epoch();
    bench.rows(&[row(2, "b")]);
    assert_eq!(bench.advance(W_END), ["b 1 @2 before start"]);
    assert_eq!(bench.end_epoch(), NOTHING);
    assert_eq!(bench.step.held().keys, 2);
    let state = bench.step.save().expect("state");
    let mut again = Bench::new(counting(RUNNING));
    again.step.load(&state).expect("state that is at its end");
}

#[test]
fn rows_more_than_ttl_behind_are_late_and_others_never_shorten_a_life() {
    let mut bench = bench();
    bench.rows(&[
        row(20, "a"),
        row(10, "a").w(20),
        row(9, "a").w(20),
        row(10, "b").w(20),
    ]);
    assert_eq!(bench.late, 1);
    assert_eq!(
        bench.end_epoch(),
        ["b 1 @10 before 20", "a 2 @20 before 20"]
    );
}

#[test]
fn one_that_no_longer_passes_having_is_withdrawn() {
    let mut bench = Bench::new(counting(RUNNING).having_count_below(2));
    bench.rows(&[row(1, "a")]);
    assert_eq!(bench.end_epoch(), ["a 1 @1 before start"]);
    bench.rows(&[row(2, "a")]);
    assert_eq!(bench.end_epoch(), ["delete a 1 @2 before start"]);
    assert_eq!(
        bench.advance(13),
        NOTHING,
        "nothing is left to be withdrawn"
    );
}
