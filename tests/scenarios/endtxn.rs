//! A commit request is stuck in the network and reaches the broker later, when the slot has gone on: a late duplicate
//! of it must not commit what came after it.

use std::thread;
use std::time::Duration;

use streamjob_tests::failure::Result;
use streamjob_tests::proxy::KafkaProxy;
use streamjob_tests::servers::{Kafka, KafkaOptions};

use crate::support::{Setup, Story, by_form};

#[test]
fn a_commit_request_arrives_late() -> Result {
    let times = by_form(5, 30);
    let kafka = Kafka::start(&KafkaOptions {
        proxied: true,
        ..KafkaOptions::default()
    })?;
    let proxy = KafkaProxy::start(&kafka, 0)?;
    let feeding = Duration::from_secs(3) * times;
    let mut setup = Setup::new(
        "endtxn",
        kafka.bootstrap(),
        by_form(100_000, 1_000_000),
        feeding,
    );
    setup.job_bootstrap = Some(kafka.proxied_bootstrap());
    let story = Story::begin(setup)?;
    let worker = story.worker(None)?;
    story.await_progress()?;
    let mut caught = 0;
    for _ in 0..times {
        proxy.withhold_end_txn();
        if !proxy.wait_withheld(Duration::from_secs(20)) {
            break;
        }
        caught += 1;
        // Any moment: before the retry, after it, in the middle of the next transaction.
        thread::sleep(Duration::from_millis(fastrand::u64(0..400)));
        eprintln!(
            "endtxn: the late request was answered with {}",
            proxy.deliver()?
        );
        story.await_progress()?;
    }
    assert!(
        caught >= times / 2,
        "{caught} of {times} commits were caught: the input ended too early"
    );
    story.finish(vec![worker])
}

#[test]
fn the_network_is_cut_and_goes_silent() -> Result {
    let times = by_form(2, 10);
    let kafka = Kafka::start(&KafkaOptions {
        proxied: true,
        ..KafkaOptions::default()
    })?;
    let proxy = KafkaProxy::start(&kafka, 0)?;
    let feeding = Duration::from_secs(8) * times;
    let mut setup = Setup::new(
        "network",
        kafka.bootstrap(),
        by_form(100_000, 500_000),
        feeding,
    );
    setup.job_bootstrap = Some(kafka.proxied_bootstrap());
    let story = Story::begin(setup)?;
    let worker = story.worker(None)?;
    for time in 0..times {
        story.await_progress()?;
        if time % 2 == 0 {
            proxy.cut()
        } else {
            proxy.black_hole()
        }
        thread::sleep(Duration::from_secs(by_form(2, 5)));
        proxy.heal();
    }
    story.finish(vec![worker])
}
