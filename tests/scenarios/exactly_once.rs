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
    killed_in_turn("killed", by_form(8, 25), &[None])
}

#[test]
fn two_workers_share_the_slots_and_are_killed_in_turn() -> Result {
    killed_in_turn("shared", by_form(8, 30), &[Some("0,2"), Some("1,3")])
}

/// A worker for each share of the slots, and `kills` deaths.
fn killed_in_turn(name: &'static str, kills: u32, shares: &[Option<&str>]) -> Result {
    let s3 = S3::start()?;
    let events = by_form(200_000, 2_500_000);
    let mut setup = Setup::new(name, Kafka::shared().bootstrap(), events, life() * kills);
    setup.s3 = Some(s3.endpoint());
    let story = Story::begin(setup)?;
    let start = |share: &Option<&str>| story.worker(*share);
    let mut workers = shares
        .iter()
        .map(start)
        .collect::<anyhow::Result<Vec<_>>>()?;
    for kill in 0..kills as usize {
        let victim = kill % shares.len();
        live(&workers[victim]);
        workers[victim].kill9();
        workers[victim] = start(&shares[victim])?;
    }
    story.finish(workers)
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
