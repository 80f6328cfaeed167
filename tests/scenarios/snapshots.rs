//! A snapshot of a job, and another job that goes on from it: together they put out each row once.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use streamjob_tests::compare::assert_same_rows;
use streamjob_tests::failure::Result;
use streamjob_tests::process::wait_until;
use streamjob_tests::scratch::Scratch;
use streamjob_tests::servers::{Kafka, S3};
use streamjob_tests::topic::Cluster;
use streamjob_tests::worker::{PATIENCE, Worker, exit};
use streamjob_tests::workload::Clicks;

use crate::support::{Manifest, Setup, Story, expected_by_page};

/// `streamjob-worker <command> <job> --uid <uid> <arguments>`, run to its end.
fn worker(
    folder: &Path,
    command: &str,
    job: &Path,
    uid: &str,
    arguments: [&str; 2],
) -> Result<Worker> {
    let first = [OsStr::new(command), job.as_os_str()];
    let rest = ["--uid", uid].into_iter().chain(arguments);
    let worker = Worker::start(folder, first.into_iter().chain(rest.map(OsStr::new)))?;
    worker.wait(PATIENCE)?;
    Ok(worker)
}

#[test]
fn a_new_job_goes_on_where_a_killed_one_was() -> Result {
    let s3 = S3::start()?;
    let setup = Setup {
        s3: Some(s3.endpoint()),
        ..Setup::new(
            "snapshot",
            Kafka::shared().bootstrap(),
            60_000,
            Duration::from_secs(8),
        )
    };
    let mut story = Story::begin(setup)?;
    let first = story.worker(None)?;
    story.await_progress()?;
    story.await_progress()?;
    first.kill9();
    let folder = story.scratch.path().to_path_buf();
    let job = story.job().to_path_buf();
    let taken = worker(&folder, "snapshot", &job, &story.uid, ["--name", "cut"])?;
    taken.expect_exit(exit::DONE)?;
    assert!(story.rows_out()? > 0);
    story.uid = "snapshot-clone".into();
    let restored = worker(&folder, "restore", &job, &story.uid, ["--from", "cut"])?;
    restored.expect_exit(exit::DONE)?;
    let second = story.worker(None)?;
    story.await_progress()?;
    second.kill9();
    let third = story.worker(None)?;
    story.finish(vec![third])
}

#[test]
fn rows_under_way_between_steps_go_along() -> Result {
    let events = 40_000;
    let name = format!("under-way-{}", std::process::id());
    let scratch = Scratch::new("under-way");
    let cluster = Cluster::new(Kafka::shared().bootstrap());
    let (topic, sink) = (format!("{name}-events"), format!("{name}-rows"));
    cluster.create(&topic, 4)?;
    cluster.create(&sink, 2)?;
    let clicks = Clicks {
        seed: fastrand::u64(..),
        ..Clicks::default()
    };
    eprintln!("under-way: seed {} of the workload", clicks.seed);
    clicks.fill(&cluster, &topic, 4, events)?;
    let manifest = Manifest {
        name: name.clone(),
        bootstrap: cluster.bootstrap().into(),
        topic,
        sink: sink.clone(),
        bounded: true,
        slots: 4,
        group: "page",
        s3: None,
        more_sinks: String::new(),
        security: String::new(),
    };
    let job = scratch.write("job.yaml", manifest.yaml());
    let (folder, clone) = (scratch.path(), format!("{name}-clone"));

    // The rows for the slots 1 and 3 lie in the internal topic: nobody runs these slots.
    let half = Worker::run(folder, &job, &["--uid", &name, "--slots", "0,2"])?;
    wait_until(PATIENCE, || {
        let status = half.status().ok()?;
        (status["rowsIn"].as_u64()? >= events / 4 && status["lag"].as_u64()? == 0).then_some(())
    })
    .ok_or_else(|| anyhow::anyhow!("half of the slots do not read on: {}", half.tail()))?;
    half.kill9();
    assert_eq!(cluster.rows(&sink)?.len(), 0);

    let take = || worker(folder, "snapshot", &job, &name, ["--name", &name]);
    take()?.expect_exit(exit::DONE)?;
    let again = take()?;
    again.expect_exit(exit::REFUSED)?;
    again.expect_said("there is a snapshot")?;

    let other = manifest.yaml().replace("size: 10s", "size: 20s");
    let other = scratch.write("other.yaml", other);
    let unlike = worker(folder, "restore", &other, "unlike", ["--from", &name])?;
    unlike.expect_exit(exit::REFUSED)?;
    unlike.expect_said("`spend` Incompatible (its window, groups or aggregates are other ones)")?;

    let restore = || worker(folder, "restore", &job, &clone, ["--from", &name]);
    restore()?.expect_exit(exit::DONE)?;
    let run = Worker::run(folder, &job, &["--uid", &clone])?;
    run.expect_exit(exit::DONE)?;
    let rows = cluster.rows(&sink)?;
    assert_same_rows(
        &expected_by_page(&clicks, events),
        &rows,
        &["page", "window_start"],
    );

    let late = restore()?;
    late.expect_exit(exit::REFUSED)?;
    late.expect_said("the job has run before")?;
    Ok(())
}
