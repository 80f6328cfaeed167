//! Brokers die under a running job, which goes on when they are back.

use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use streamjob_tests::failure::Result;
use streamjob_tests::process::wait_until;
use streamjob_tests::servers::kafka::Nodes;
use streamjob_tests::servers::{Kafka, KafkaOptions};
use streamjob_tests::worker::{PATIENCE, Worker};

use crate::support::{Setup, Story, by_form};

#[test]
fn the_only_broker_is_killed_and_comes_back() -> Result {
    let kafka = Kafka::start(&KafkaOptions::default())?;
    let setup = Setup::new(
        "broker",
        kafka.bootstrap(),
        100_000,
        Duration::from_secs(10),
    );
    let story = Story::begin(setup)?;
    let worker = story.worker(None)?;
    story.await_progress()?;
    kafka.kill9(0);
    // Not before the worker has noticed.
    worker.expect_said("kafka: ")?;
    kafka.restart(0)?;
    story.await_progress()?;
    story.finish(vec![worker])
}

#[test]
fn one_of_three_brokers_at_a_time_dies_freezes_or_leaves() -> Result {
    let kafka = Kafka::start(&KafkaOptions {
        nodes: Nodes::Three,
        ..KafkaOptions::default()
    })?;
    let rounds = by_form(3, 9);
    let feeding = Duration::from_secs(15) * rounds;
    let setup = Setup::new(
        "brokers",
        kafka.bootstrap(),
        by_form(100_000, 1_000_000),
        feeding,
    );
    let story = Story::begin(setup)?;
    let worker = story.worker(None)?;
    for round in 0..rounds as usize {
        story.await_progress()?;
        // One at a time: with two of three replicas away nobody may write, and no client can help it.
        story.cluster.await_whole()?;
        let node = round % kafka.node_count();
        match round % 3 {
            0 => {
                kafka.kill9(node);
                kafka.restart(node)?;
            }
            1 => {
                let before = epochs(&worker.status()?);
                kafka.freeze(node);
                await_commits(&worker, &before, story.expected.len())?;
                kafka.thaw(node);
            }
            _ => {
                kafka.stop(node)?;
                kafka.restart(node)?;
            }
        }
    }
    story.finish(vec![worker])
}

/// Each slot's last committed epoch.
fn epochs(status: &Value) -> Vec<Option<u64>> {
    let slots = status["slots"].as_array().into_iter().flatten();
    slots.map(|slot| slot["epoch"].as_u64()).collect()
}

/// Waits until every slot has committed since then, or all rows are out.
fn await_commits(worker: &Worker, since: &[Option<u64>], rows: usize) -> anyhow::Result<()> {
    wait_until(PATIENCE, || {
        let status = worker.status().ok()?;
        let now = epochs(&status);
        let all = since.len() == now.len() && since.iter().zip(&now).all(|(old, new)| new > old);
        (all || status["rowsOut"].as_u64()? >= rows as u64).then_some(())
    })
    .with_context(|| format!("a slot does not commit: {}", worker.tail()))
}
