//! Ten times the input for half a minute: workers come by lag, the backlog goes, workers go, and every row is there once.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use streamjob_tests::failure;

use crate::support::{Setup, Story};
use crate::watched::Watched;

const JOB: &str = "spike";
/// Events a second, and how long: quiet, spike, quiet.
const QUIET: f64 = 1_500.0;
const SPIKE: f64 = 15_000.0;
const STAGES: [(f64, f64); 3] = [(QUIET, 20.0), (SPIKE, 30.0), (QUIET, 80.0)];
const TARGET_LAG: i64 = 5_000;
const CATCH_UP_WITHIN: Duration = Duration::from_secs(30);
/// From a decision to pods that have their slots, on two cores that everything shares.
const SCALE_UP: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(240);

/// A worker that may use a fifth of a core. Each event costs it about 0.03 ms: a distance of two texts, always true.
const SPEC: &str = "\
replicas: 1
  resources: {limits: {cpu: 200m, memory: 1Gi}}
  autoscaling:
    minReplicas: 1
    maxReplicas: 4
    targetLag: 5000
    catchUpWithin: 30s
    scaleDownStabilization: 15s";
const WORK: &str = "where: \"levenshtein(repeat(user_id, 20), repeat(user_id, 19)) >= 0\"";

#[test]
fn a_spike_is_worked_off_by_more_workers_that_go_again() -> failure::Result {
    let watched = Watched::start()?;
    let total = |of: fn(&(f64, f64)) -> f64| STAGES.iter().map(of).sum::<f64>();
    let (events, seconds) = (total(|(rate, long)| rate * long), total(|(_, long)| *long));
    let mut setup = Setup::new(
        JOB,
        watched.kafka.bootstrap(),
        events as u64,
        Duration::from_secs_f64(seconds),
    );
    setup.s3 = Some(watched.s3.endpoint());
    setup.pace = pace;
    let mut story = Story::begin(setup)?;
    let manifest = crate::manifest(&story, SPEC).replace(
        "      from: events\n",
        &format!("      from: events\n      {WORK}\n"),
    );
    watched.apply(&manifest)?;
    watched.await_workers(JOB, 1)?;
    story.uid = watched.uid(JOB)?;
    let trace = Trace::of(&watched)?;
    trace.show();
    trace.judge()?;
    for decision in watched.job(JOB)?["status"]["scaling"]
        .as_array()
        .into_iter()
        .flatten()
    {
        eprintln!("  {decision}");
    }
    let events = watched.kubectl(["get", "events", "--field-selector", "reason=Scaled"])?;
    ensure_told(&events, trace.changes())?;
    story.finish(Vec::new())?;
    watched.tell("every row is there, once");
    watched.audit()?;
    Ok(())
}

/// When, as a part of the whole time, this part of the events is due.
fn pace(share: f64) -> f64 {
    let events: f64 = STAGES.iter().map(|(rate, long)| rate * long).sum();
    let seconds: f64 = STAGES.iter().map(|(_, long)| long).sum();
    let (mut left, mut at) = (share * events, 0.0);
    for (rate, long) in STAGES {
        let here = (left / rate).min(long);
        at += here;
        left -= here * rate;
    }
    at / seconds
}

/// What somebody who watches the job sees, once a second.
struct Look {
    at: Duration,
    desired: i64,
    replicas: i64,
    lag: i64,
    rate: i64,
}

struct Trace(Vec<Look>);

impl Trace {
    /// Until there is one worker again, after there were more.
    fn of(watched: &Watched) -> Result<Trace> {
        let start = Instant::now();
        let mut looks: Vec<Look> = Vec::new();
        loop {
            let status = watched.job(JOB)?["status"].take();
            let number = |field: &str| status[field].as_i64().unwrap_or(0);
            looks.push(Look {
                at: start.elapsed(),
                desired: number("desired"),
                replicas: number("replicas"),
                lag: number("lag"),
                rate: number("rate"),
            });
            let grew = looks.iter().any(|look| look.desired > 1);
            if grew && number("desired") == 1 && number("replicas") == 1 {
                return Ok(Trace(looks));
            }
            ensure!(start.elapsed() < LIMIT, "no end of it: {status:#}");
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    fn show(&self) {
        eprintln!("seconds  desired  replicas     lag    rate");
        let mut shown = None;
        for look in &self.0 {
            let what = (look.desired, look.replicas, look.lag, look.rate);
            if shown.replace(what) != Some(what) {
                eprintln!(
                    "{:7.0} {:8} {:9} {:7} {:7}",
                    look.at.as_secs_f64(),
                    look.desired,
                    look.replicas,
                    look.lag,
                    look.rate
                );
            }
        }
    }

    /// The numbers of workers that it was to have, one after another.
    fn changes(&self) -> Vec<i64> {
        let mut desired: Vec<i64> = self.0.iter().map(|look| look.desired).collect();
        desired.dedup();
        desired
    }

    fn judge(&self) -> Result<()> {
        let changes = self.changes();
        let signs: Vec<bool> = changes.windows(2).map(|pair| pair[0] < pair[1]).collect();
        let reversals = signs.windows(2).filter(|pair| pair[0] != pair[1]).count();
        ensure!(
            reversals == 1,
            "up, then down, is one reversal: {changes:?}"
        );
        let up = self.0.iter().find(|look| look.desired > 1);
        let up = up.context("it never scales up")?.at;
        let behind = self.0.iter().rev().find(|look| look.lag > TARGET_LAG);
        let caught_up = behind.context("there was no backlog")?.at;
        eprintln!(
            "workers: {changes:?}; backlog gone {:.0?} after the first decision to scale up",
            caught_up.saturating_sub(up)
        );
        // The spike goes on after the decision; what comes meanwhile must be worked off too.
        let spike = Duration::from_secs_f64(STAGES[1].1);
        let limit = spike + CATCH_UP_WITHIN + SCALE_UP;
        ensure!(caught_up - up < limit, "it took longer than {limit:?}");
        Ok(())
    }
}

/// Every change is told in an event.
fn ensure_told(events: &str, changes: Vec<i64>) -> Result<()> {
    let told: BTreeSet<String> = changes
        .windows(2)
        .map(|pair| format!("{} to {} workers", pair[0], pair[1]))
        .filter(|told| !events.contains(told))
        .collect();
    ensure!(told.is_empty(), "no event tells {told:?}:\n{events}");
    Ok(())
}
