//! Workers are killed at random moments; every row is in the output exactly once.

use std::thread;
use std::time::Duration;

use streamjob_tests::failure::Result;
use streamjob_tests::servers::{Kafka, S3};
use streamjob_tests::worker::Worker;

use crate::support::{Setup, Story, by_form};

#[test]
fn nothing_happens() -> Result {
    let setup = Setup::new(
        "quiet",
        Kafka::shared().bootstrap(),
        100_000,
        Duration::ZERO,
    );
    let story = Story::begin(setup)?;
    let worker = story.worker(None)?;
    story.finish(vec![worker])
}

#[test]
fn one_worker_is_killed_again_and_again() -> Result {
    let kills = by_form(8, 25);
    let mut setup = Setup::new(
        "killed",
        Kafka::shared().bootstrap(),
        by_form(200_000, 2_500_000),
        life() * kills,
    );
    let s3 = S3::start()?;
    setup.s3 = Some(s3.endpoint());
    let story = Story::begin(setup)?;
    for _ in 0..kills {
        let worker = story.worker(None)?;
        live_and_die(worker);
    }
    let worker = story.worker(None)?;
    story.finish(vec![worker])
}

#[test]
fn two_workers_share_the_slots_and_are_killed_in_turn() -> Result {
    let kills = by_form(8, 30);
    let mut setup = Setup::new(
        "shared",
        Kafka::shared().bootstrap(),
        by_form(200_000, 2_500_000),
        life() * kills,
    );
    let s3 = S3::start()?;
    setup.s3 = Some(s3.endpoint());
    let story = Story::begin(setup)?;
    let shares = ["0,2", "1,3"];
    let mut workers = [
        story.worker(Some(shares[0]))?,
        story.worker(Some(shares[1]))?,
    ];
    for kill in 0..kills {
        let victim = (kill % 2) as usize;
        live(&workers[victim]);
        workers[victim].kill9();
        workers[victim] = story.worker(Some(shares[victim]))?;
    }
    story.finish(workers.into())
}

/// About how long a worker lives, start-up included.
fn life() -> Duration {
    Duration::from_millis(1_500)
}

fn live(worker: &Worker) {
    // Not a wait for a condition: the moment of death is meant to be any.
    thread::sleep(life().mul_f64(0.1 + 1.8 * fastrand::f64()));
    assert!(
        worker.ended().is_none(),
        "the worker ended by itself; its log ends:\n{}",
        worker.tail()
    );
}

fn live_and_die(worker: Worker) {
    live(&worker);
    worker.kill9();
}
