//! A job with state is changed, gets another version of operator and workers, and the one of before again: every row is there once.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use streamjob_tests::failure;
use streamjob_tests::process::wait_until;
use streamjob_tests::servers::kubernetes::{NEXT_TAG, TAG, next_version};

use crate::commits::{Commits, now};
use crate::support::{Setup, Story};
use crate::watched::{PATIENCE, Watched};

const JOB: &str = "upgraded";
/// Longest silence of a slot while its worker is replaced, on a machine whose two cores do all of it.
const GOES_ON: Duration = Duration::from_secs(20);
const WORKER: &str = "/usr/bin/streamjob-worker";

#[test]
fn a_change_an_upgrade_and_a_rollback_keep_the_state() -> failure::Result {
    let watched = Watched::start()?;
    let mut setup = Setup::new(
        JOB,
        watched.kafka.bootstrap(),
        110_000,
        Duration::from_secs(110),
    );
    setup.s3 = Some(watched.s3.endpoint());
    let mut story = Story::begin(setup)?;
    watched.apply(&crate::manifest(&story, "replicas: 2"))?;
    watched.await_workers(JOB, 2)?;
    story.uid = watched.uid(JOB)?;
    let commits = Commits::follow(&story.cluster, &format!("streamjob-{}-journal", story.uid))?;
    story.await_progress()?;
    watched.kubernetes.add_next_image()?;
    let upgraded = Upgraded {
        watched: &watched,
        story: &story,
        commits: &commits,
    };
    upgraded.another_step()?;
    let this = env!("CARGO_PKG_VERSION");
    upgraded.to(NEXT_TAG, &next_version())?;
    upgraded.to(TAG, this)?;
    story.finish(Vec::new())?;
    watched.tell("every row is there, once");
    watched.audit()?;
    Ok(())
}

struct Upgraded<'a> {
    watched: &'a Watched,
    story: &'a Story,
    commits: &'a Commits,
}

impl Upgraded<'_> {
    /// What is new begins beside what stays.
    fn another_step(&self) -> Result<()> {
        let Upgraded {
            watched,
            story,
            commits,
        } = self;
        let from = now();
        let topic = format!("{}-pages", story.manifest.sink);
        let sinks = format!(
            "    - name: pages
      from: events
      groupBy: [page]
      window: {{tumbling: {{size: 10s}}}}
      aggregate: [\"count(*) AS clicks\"]
  sinks:
    - {{name: pages, from: pages, kafka: {{connection: main, topic: {topic}, key: [page], create: {{partitions: 2}}}}}}
"
        );
        let manifest = crate::manifest(story, "replicas: 2").replace("  sinks:\n", &sinks);
        watched.apply(&manifest)?;
        let rows = wait_until(PATIENCE, || {
            let rows = story.cluster.rows(&topic).ok()?.len();
            (rows > 0).then_some(rows)
        });
        let rows = rows.context("the new step has no rows")?;
        watched.await_workers(JOB, 2)?;
        ensure!(story.await_progress()?, "the input ended too early");
        let events = watched.kubectl(["get", "events", "-o", "jsonpath={.items[*].reason}"])?;
        ensure!(
            events.contains("Upgrading") && !events.contains("UpgradeBlocked"),
            "{events}"
        );
        let slots = commits.since(from).into_iter();
        let gap = slots.map(|slot| slot.longest_gap).max().unwrap_or_default();
        watched.tell(&format!(
            "another step has {rows} rows: the longest gap of the one that stays {gap:.1?}"
        ));
        Ok(())
    }

    /// Rolls operators and workers, while the job runs.
    fn to(&self, tag: &str, version: &str) -> Result<()> {
        let (from, before) = (now(), self.commits.owners());
        self.watched.upgrade_to(tag)?;
        let others = wait_until(PATIENCE, || self.commits.taken_over(from, &before));
        others.context("not all slots are committed by other workers than before")?;
        let rolled = wait_until(PATIENCE, || {
            let images = self.images().ok()?;
            images
                .iter()
                .all(|image| image.ends_with(tag))
                .then_some(())
        });
        rolled.with_context(|| {
            format!("not all workers are of the new image: {:?}", self.images())
        })?;
        self.watched.await_workers(JOB, 2)?;
        for worker in 0..2 {
            let pod = format!("{JOB}-{worker}");
            let said = self
                .watched
                .kubectl(["exec", &pod, "--", WORKER, "--version"])?;
            ensure!(said.trim_end().ends_with(version), "{pod}: {said}");
        }
        ensure!(self.story.await_progress()?, "the input ended too early");
        let slots = self.commits.since(from).into_iter();
        let gap = slots.map(|slot| slot.longest_gap).max().unwrap_or_default();
        self.watched.tell(&format!(
            "all workers are of version {version}: longest gap {gap:.1?}"
        ));
        ensure!(gap < GOES_ON, "a slot stood still for {gap:?}");
        Ok(())
    }

    fn images(&self) -> Result<Vec<String>> {
        let selector = format!("streamjob.dev/job={JOB}");
        let path = "jsonpath={.items[*].spec.containers[0].image}";
        let images = self
            .watched
            .kubectl(["get", "pods", "-l", &selector, "-o", path])?;
        Ok(images.split_whitespace().map(str::to_owned).collect())
    }
}
