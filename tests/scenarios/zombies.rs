//! Slots move while their old owner sleeps, or is wide awake: it finds out that it is not the owner any more, says so,
//! and nothing that it still does can be seen.

use std::time::Duration;

use anyhow::Context;
use streamjob_tests::failure::Result;
use streamjob_tests::process::wait_until;
use streamjob_tests::servers::{Kafka, S3};
use streamjob_tests::worker::{PATIENCE, exit};

use crate::support::{Setup, Story, by_form};

#[test]
fn a_frozen_worker_wakes_up_after_its_slots_were_taken_over() -> Result {
    let zombies = by_form(2, 5);
    let feeding = Duration::from_secs(6) * zombies;
    let mut setup = Setup::new(
        "zombies",
        Kafka::shared().bootstrap(),
        by_form(100_000, 1_000_000),
        feeding,
    );
    let s3 = S3::start()?;
    setup.s3 = Some(s3.endpoint());
    let story = Story::begin(setup)?;
    let steady = story.worker(Some("2-3"))?;
    let mut owner = story.worker(Some("0-1"))?;
    for _ in 0..zombies {
        story.await_progress()?;
        let before = term(&story, 0);
        owner.freeze();
        let heir = story.worker(Some("0-1"))?;
        await_claim(&story, 0, before)?;
        owner.thaw();
        owner.expect_exit(exit::TAKEN_OVER)?;
        assert!(owner.said().contains("taken over"), "{}", owner.tail());
        owner = heir;
    }
    story.finish(vec![steady, owner])
}

#[test]
fn two_workers_swap_their_slots() -> Result {
    let swaps = by_form(2, 6);
    let feeding = Duration::from_secs(4) * swaps;
    let mut setup = Setup::new(
        "swap",
        Kafka::shared().bootstrap(),
        by_form(100_000, 500_000),
        feeding,
    );
    let s3 = S3::start()?;
    setup.s3 = Some(s3.endpoint());
    let story = Story::begin(setup)?;
    let mut shares = ["0-1", "2-3"];
    let mut workers = [
        story.worker(Some(shares[0]))?,
        story.worker(Some(shares[1]))?,
    ];
    for _ in 0..swaps {
        story.await_progress()?;
        shares.swap(0, 1);
        let heirs = [
            story.worker(Some(shares[0]))?,
            story.worker(Some(shares[1]))?,
        ];
        for worker in &workers {
            worker.expect_exit(exit::TAKEN_OVER)?;
        }
        workers = heirs;
    }
    story.finish(workers.into())
}

/// The highest term under which a slot was claimed.
fn term(story: &Story, slot: usize) -> Option<u64> {
    story.newest().ok()?.get(slot)?.as_ref()?["term"].as_u64()
}

/// Waits until the slot is claimed under a higher term.
fn await_claim(story: &Story, slot: usize, before: Option<u64>) -> Result {
    let claimed = || (term(story, slot)? > before.unwrap_or(0)).then_some(());
    Ok(wait_until(PATIENCE, claimed).with_context(|| format!("slot {slot} is not claimed"))?)
}
