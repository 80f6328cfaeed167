//! From `helm install` to rows, then to two workers under load, through changes, with the operator gone for a while.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use streamjob_tests::failure;
use streamjob_tests::process::wait_until;

use crate::support::{Setup, Story};
use crate::watched::{PATIENCE, Watched, condition, holds};

const JOB: &str = "first-job";
/// What a user is promised, from the apply to the first row.
const FIRST_ROW: Duration = Duration::from_secs(60);

#[test]
fn the_first_job_runs_scales_pauses_and_outlives_its_operator() -> failure::Result {
    let watched = Watched::start()?;
    let mut setup = Setup::new(
        JOB,
        watched.kafka.bootstrap(),
        84_000,
        Duration::from_secs(70),
    );
    setup.s3 = Some(watched.s3.endpoint());
    let mut story = Story::begin(setup)?;
    watched.apply(&crate::manifest(&story, "replicas: 1"))?;
    let applied = Instant::now();
    wait_until(PATIENCE, || (story.rows_out().ok()? > 0).then_some(()))
        .context("no row comes out")?;
    let took = applied.elapsed();
    watched.tell(&format!("first rows, {took:.1?} after the apply"));
    assert!(took < FIRST_ROW, "the first row took {took:?}");
    story.uid = watched.uid(JOB)?;
    watched.await_workers(JOB, 1)?;

    watched.scale(JOB, 2)?;
    watched.await_workers(JOB, 2)?;
    let pauses = pauses(&watched)?;
    watched.tell(&format!("two workers; slots paused for {pauses:?}"));
    going_on(&story)?;

    a_change_of_the_rows_is_not_carried_out(&watched, &story)?;
    it_is_suspended_and_resumed(&watched, &story)?;

    watched.operators(0)?;
    watched.tell("the operator is gone");
    for _ in 0..3 {
        going_on(&story)?;
    }
    watched.tell("rows go on without it");
    watched.operators(1)?;
    watched.await_workers(JOB, 2)?;
    watched.tell("the operator is back");
    eprintln!("{}", watched.kubectl(["get", "sj"])?);
    story.finish(Vec::new())?;
    watched.tell("every row is there, once");
    watched.audit()?;
    Ok(())
}

/// How long the slots that have moved stood still, as the status tells it.
fn pauses(watched: &Watched) -> Result<Vec<String>> {
    let status = watched.job(JOB)?["status"].take();
    let slots = status["slots"].as_array().context("no slots")?;
    let pauses = slots.iter().filter_map(|slot| slot["pause"].as_str());
    Ok(pauses.map(str::to_owned).collect())
}

fn going_on(story: &Story) -> Result<()> {
    let more = story.await_progress()?;
    ensure!(more, "the input ended too early to show anything");
    Ok(())
}

/// The state is of other windows: the job goes on as it was, says why, and can still be scaled.
fn a_change_of_the_rows_is_not_carried_out(watched: &Watched, story: &Story) -> Result<()> {
    let manifest = crate::manifest(story, "replicas: 1");
    let told = watched.apply(&manifest.replace("size: 10s", "size: 20s"))?;
    let why = watched.await_status(JOB, PATIENCE, |status| {
        let blocked = condition(status, "UpgradeBlocked")?;
        (blocked["status"] == "True").then(|| blocked["message"].to_string())
    })?;
    ensure!(why.contains("`spend` Incompatible"), "{why}");
    let mut steps = watched.job(JOB)?["status"]["steps"].take();
    let reason = steps[1]["reason"].take();
    let expected = json!([
        {"name": "events", "state": "Kept"},
        {"name": "spend", "state": "Incompatible", "reason": null},
    ]);
    ensure!(steps == expected && reason.is_string(), "{steps}");
    watched.await_workers(JOB, 1)?;
    going_on(story)?;
    watched.tell(&format!("another window is not carried out: {why}; {told}"));
    watched.apply(&manifest.replace("replicas: 1", "replicas: 2"))?;
    watched.await_status(JOB, PATIENCE, |status| {
        condition(status, "UpgradeBlocked").is_none().then_some(())
    })?;
    watched.await_workers(JOB, 2)?;
    watched.tell("set back, and two workers again");
    going_on(story)
}

fn it_is_suspended_and_resumed(watched: &Watched, story: &Story) -> Result<()> {
    let suspend = |suspend: bool| {
        let patch = format!("{{\"spec\": {{\"suspend\": {suspend}}}}}");
        watched.kubectl(["patch", "sj", JOB, "--type=merge", "-p", &patch])
    };
    suspend(true)?;
    watched.await_status(JOB, PATIENCE, |status| {
        let pods = status["replicas"].as_u64()?;
        (holds(status, "Suspended") && pods == 0).then_some(())
    })?;
    let rows = story.rows_out()?;
    watched.tell("suspended: no pods");
    suspend(false)?;
    watched.await_workers(JOB, 2)?;
    going_on(story)?;
    let more = story.rows_out()?.saturating_sub(rows);
    watched.tell(&format!("resumed: {more} more rows"));
    Ok(())
}
