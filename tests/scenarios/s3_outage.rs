//! S3 is away for a while: commits go on, the missing checkpoint is told, and it is made up for.

use std::thread;
use std::time::Duration;

use anyhow::Context;
use streamjob_tests::failure::Result;
use streamjob_tests::process::wait_until;
use streamjob_tests::proxy::TcpProxy;
use streamjob_tests::servers::{Kafka, S3};
use streamjob_tests::worker::PATIENCE;

use crate::support::{Setup, Story, by_form};

#[test]
fn commits_go_on_without_s3() -> Result {
    let outage = Duration::from_secs(by_form(5, 30));
    let s3 = S3::start()?;
    let proxy = TcpProxy::start(0, s3.port())?;
    let feeding = outage * 3;
    let mut setup = Setup::new(
        "s3",
        Kafka::shared().bootstrap(),
        by_form(100_000, 1_000_000),
        feeding,
    );
    setup.s3 = Some(format!("http://{}", proxy.address()));
    let story = Story::begin(setup)?;
    let worker = story.worker(None)?;
    await_checkpoint_after(&story, 0)?;

    proxy.cut();
    story.await_progress()?;
    thread::sleep(outage / 2);
    story.await_progress()?;
    thread::sleep(outage / 2);
    wait_until(PATIENCE, || {
        let told = worker.get("/status").ok()?.contains("CheckpointStale");
        told.then_some(())
    })
    .context("nobody tells that the checkpoint is old")?;
    let during = newest_checkpoint(&story)?;
    proxy.heal();
    await_checkpoint_after(&story, during)?;

    // What was made up for serves.
    worker.kill9();
    let worker = story.worker(None)?;
    story.finish(vec![worker])
}

/// A killed worker that finds no S3 when it starts again must wait for its state, not begin without it.
#[test]
fn a_restart_without_s3_waits_or_says_so() -> Result {
    let s3 = S3::start()?;
    let mut setup = Setup::new(
        "s3-restart",
        Kafka::shared().bootstrap(),
        50_000,
        Duration::from_secs(8),
    );
    setup.s3 = Some(s3.endpoint());
    let story = Story::begin(setup)?;
    let worker = story.worker(None)?;
    await_checkpoint_after(&story, 0)?;
    worker.kill9();
    s3.stop();
    let lost = story.worker(None)?;
    let code = wait_until(Duration::from_secs(10), || {
        lost.ended().map(|status| status.code())
    });
    assert!(
        matches!(code, None | Some(Some(75))),
        "exit code {code:?}; the log ends:\n{}",
        lost.tail()
    );
    drop(lost);
    s3.resume()?;
    let worker = story.worker(None)?;
    story.finish(vec![worker])
}

/// The smallest of the slots' newest checkpointed epochs.
fn newest_checkpoint(story: &Story) -> anyhow::Result<u64> {
    let newest = |record: &Option<serde_json::Value>| -> u64 {
        let epoch = record
            .as_ref()
            .and_then(|record| record["checkpoints"][0]["epoch"].as_u64());
        epoch.unwrap_or(0)
    };
    Ok(story.newest()?.iter().map(newest).min().unwrap_or(0))
}

fn await_checkpoint_after(story: &Story, epoch: u64) -> Result {
    let newer = || (newest_checkpoint(story).ok()? > epoch).then_some(());
    wait_until(PATIENCE, newer).with_context(|| format!("no checkpoint after epoch {epoch}"))?;
    Ok(())
}
