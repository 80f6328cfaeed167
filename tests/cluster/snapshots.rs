//! A job's state outlives the job: snapshots of a running and of a suspended one, another job that goes on from one, and what is
//! deleted with whom.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use streamjob_tests::failure;
use streamjob_tests::process::wait_until;
use streamjob_tests::topic::Cluster;

use crate::support::{Setup, Story};
use crate::watched::{PATIENCE, Watched, condition, holds};

const JOB: &str = "before";
const NEXT: &str = "after";

#[test]
fn another_job_goes_on_from_a_snapshot_and_every_row_is_there_once() -> failure::Result {
    let watched = Watched::start()?;
    let mut setup = Setup::new(
        JOB,
        watched.kafka.bootstrap(),
        80_000,
        Duration::from_secs(80),
    );
    setup.s3 = Some(watched.s3.endpoint());
    let mut story = Story::begin(setup)?;
    let deleted = "deletionPolicy: Delete\n  deletionTimeout: 90s";
    watched.apply(&crate::manifest(
        &story,
        &format!("replicas: 2\n  {deleted}"),
    ))?;
    watched.await_workers(JOB, 2)?;
    story.await_progress()?;

    let running = taken(&watched, "running", "deletionPolicy: Delete")?;
    watched.await_workers(JOB, 2)?;
    assert!(story.await_progress()?, "the input ended too early");
    watched.tell("the job goes on after it");
    nothing_comes_of_a_snapshot_of_nothing(&watched)?;

    watched.kubectl(["patch", "sj", JOB, "--type=merge", "-p", SUSPEND])?;
    watched.await_status(JOB, PATIENCE, |status| {
        let pods = status["replicas"].as_u64()?;
        (holds(status, "Suspended") && pods == 0).then_some(())
    })?;
    let last = taken(&watched, "last", "deletionPolicy: Retain")?;
    the_job_is_deleted_with_its_state(&watched, &story.cluster)?;

    // It is there before what it begins with.
    let next = crate::manifest(&story, "replicas: 2\n  restoreFrom: {snapshot: other}")
        .replace(&format!("name: {JOB},"), &format!("name: {NEXT},"));
    watched.apply(&next)?;
    let why = reason(&watched, NEXT, "Restored")?;
    assert!(why == "SnapshotNotFound", "{why}");
    let immutable = watched.apply(&next.replace("snapshot: other", "snapshot: last"));
    let refused = format!("{:#}", immutable.err().context("it is taken")?);
    assert!(refused.contains("`restoreFrom` is immutable"), "{refused}");
    watched.kubectl(["delete", "sj", NEXT])?;
    let timeout = "deletionPolicy: Delete\n  deletionTimeout: 10s\n  restoreFrom: {snapshot: last}";
    watched.apply(&next.replace("restoreFrom: {snapshot: other}", timeout))?;
    watched.await_workers(NEXT, 2)?;
    story.uid = watched.uid(NEXT)?;
    let status = watched.job(NEXT)?["status"].take();
    assert!(holds(&status, "Restored"), "{status:#}");
    watched.tell("another job goes on from the last snapshot");

    watched.kubectl(["delete", "sjs", "running", "--timeout=100s"])?;
    assert!(!running.exists() && last.exists(), "{}", running.display());
    watched.kubectl(["delete", "sjs", "last"])?;
    assert!(last.exists(), "a snapshot that is to stay is gone");
    watched.tell("a snapshot's objects are deleted with it, if it says so");
    eprintln!("{}", watched.kubectl(["get", "sj"])?);
    story.finish(Vec::new())?;
    watched.tell("every row is there, once");
    a_delete_ends_without_kafka(&watched)?;
    watched.audit()?;
    Ok(())
}

const SUSPEND: &str = "{\"spec\": {\"suspend\": true}}";

fn snapshot(name: &str, job: &str, more: &str) -> String {
    format!(
        "apiVersion: streamjob.dev/v1alpha1\nkind: StreamSnapshot\nmetadata: {{name: {name}}}\n\
         spec:\n  jobRef: {{name: {job}}}\n  {more}\n"
    )
}

/// Takes a snapshot, and says where its objects are.
fn taken(watched: &Watched, name: &str, more: &str) -> Result<PathBuf> {
    let since = Instant::now();
    watched.apply(&snapshot(name, JOB, more))?;
    let mut last = Value::Null;
    let ready = wait_until(PATIENCE, || {
        last = get(watched, name).ok()?["status"].take();
        (holds(&last, "Ready") || condition(&last, "Failed").is_some()).then_some(())
    });
    ensure!(
        ready.is_some() && holds(&last, "Ready"),
        "the snapshot {name} is not taken: {last:#}"
    );
    let location = last["location"].as_str().context("no location")?;
    let path = location
        .strip_prefix("s3://streams/")
        .context("another bucket")?;
    let folder = watched.s3.bucket_folder().join(path);
    ensure!(
        folder.join("catalogue.json").is_file(),
        "nothing is at {}",
        folder.display()
    );
    let took = since.elapsed();
    watched.tell(&format!("snapshot `{name}` after {took:.1?}: {location}"));
    eprintln!("{}", watched.kubectl(["get", "sjs"])?);
    Ok(folder)
}

fn get(watched: &Watched, snapshot: &str) -> Result<Value> {
    let json = watched.kubectl(["get", "sjs", snapshot, "-o", "json"])?;
    Ok(serde_json::from_str(&json)?)
}

fn reason(watched: &Watched, job: &str, kind: &str) -> Result<String> {
    watched.await_status(job, PATIENCE, |status| {
        let told = condition(status, kind)?;
        Some(told["reason"].as_str()?.to_owned())
    })
}

fn nothing_comes_of_a_snapshot_of_nothing(watched: &Watched) -> Result<()> {
    watched.apply(&snapshot("of-nothing", "nobody", ""))?;
    let told = wait_until(PATIENCE, || {
        let status = get(watched, "of-nothing").ok()?["status"].take();
        Some(condition(&status, "Ready")?["reason"].as_str()?.to_owned())
    });
    ensure!(told.as_deref() == Some("JobNotFound"), "{told:?}");
    let other = watched.apply(&snapshot("of-nothing", JOB, ""));
    let refused = format!("{:#}", other.err().context("it is taken")?);
    ensure!(refused.contains("`jobRef` is immutable"), "{refused}");
    watched.kubectl(["delete", "sjs", "of-nothing", "--timeout=30s"])?;
    Ok(())
}

fn the_job_is_deleted_with_its_state(watched: &Watched, cluster: &Cluster) -> Result<()> {
    let uid = watched.uid(JOB)?;
    let checkpoints = watched.s3.bucket_folder().join("checkpoints").join(&uid);
    let internal = || -> Result<usize> {
        let prefix = format!("streamjob-{uid}-");
        let topics = cluster.topics()?;
        Ok(topics
            .iter()
            .filter(|topic| topic.starts_with(&prefix))
            .count())
    };
    ensure!(
        internal()? > 0 && checkpoints.exists(),
        "there is nothing to delete"
    );
    let since = Instant::now();
    watched.kubectl(["delete", "sj", JOB, "--timeout=100s"])?;
    let left = internal()?;
    ensure!(left == 0, "{left} internal topics are still there");
    let objects = std::fs::read_dir(&checkpoints).map_or(0, Iterator::count);
    ensure!(objects == 0, "{objects} checkpoints are still there");
    let took = since.elapsed();
    watched.tell(&format!(
        "the job, its topics and its checkpoints are gone after {took:.1?}"
    ));
    Ok(())
}

fn a_delete_ends_without_kafka(watched: &Watched) -> Result<()> {
    watched.kafka.kill9(0);
    let since = Instant::now();
    watched.kubectl(["delete", "sj", NEXT, "--timeout=100s"])?;
    let took = since.elapsed();
    let events = watched.kubectl([
        "get",
        "events",
        "-o",
        "jsonpath={range .items[*]}{.reason}: {.message}{\"\\n\"}{end}",
    ])?;
    let told = events
        .lines()
        .find(|event| event.starts_with("StateNotDeleted: "));
    let told = told.context("nobody says that the state is not deleted")?;
    ensure!(took < Duration::from_secs(60), "the delete took {took:?}");
    watched.tell(&format!(
        "without Kafka the delete ends after {took:.1?}: {told}"
    ));
    Ok(())
}
