//! A job that is changed while it has state: what stays goes on as if nothing had been, what is new begins at the change.

use std::collections::BTreeMap;

use anyhow::Context;
use streamjob_tests::compare::assert_same_rows;
use streamjob_tests::failure::Result;
use streamjob_tests::oracle::{Oracle, Row, WindowStep, last_rows};
use streamjob_tests::process::wait_until;
use streamjob_tests::scratch::Scratch;
use streamjob_tests::servers::Kafka;
use streamjob_tests::topic::Cluster;
use streamjob_tests::worker::{PATIENCE, Worker, exit};
use streamjob_tests::workload::Clicks;
use streamjob_tests::workload::clicks::{MAX_DISORDER_MS, fill};

use crate::support::{IDENTITY, Manifest, click_job, click_step, closed};

const PARTITIONS: usize = 4;
/// Until the first checkpoint, until the change, and in all.
const CHECKPOINTED: u64 = 100_000;
const CHANGED: u64 = 160_000;
const EVENTS: u64 = 300_000;

/// Another window beside the first, over rows that change hands; and a sink less.
fn changed(job: &str, sink: &str) -> String {
    let sinks = format!(
        "    - name: pages
      from: events
      groupBy: [page]
      window: {{tumbling: {{size: 10s}}}}
      aggregate: [\"count(*) AS clicks\", \"sum(amount) AS total\", \"max(amount) AS biggest\"]
  sinks:
    - {{name: pages, from: pages, kafka: {{connection: main, topic: {sink}, key: [page]}}}}
"
    );
    let job = job.replace("  sinks:\n", &sinks);
    let lines = job.lines().filter(|line| !line.contains("name: purchases"));
    lines.map(|line| format!("{line}\n")).collect()
}

/// How far each partition was read when the job was changed, from its journal.
fn read_before(
    journal: &[Vec<serde_json::Value>],
    before: &str,
) -> anyhow::Result<BTreeMap<usize, u64>> {
    let mut read = BTreeMap::new();
    for (slot, records) in journal.iter().enumerate() {
        let last = records.iter().rfind(|record| record["planHash"] == before);
        let position = match last {
            Some(last) => last["positions"][format!("events/{slot}")].as_u64(),
            None => {
                let begins = records.first().is_none_or(|first| first["epoch"] == 0);
                begins.then_some(0)
            }
        };
        let position = position.with_context(|| format!("slot {slot}: {records:?}"))?;
        read.insert(slot, position);
    }
    Ok(read)
}

/// Both steps' rows: `spend` over all events, `pages` over those behind the change.
fn expected(clicks: &Clicks, read: &BTreeMap<usize, u64>) -> (Vec<Row>, Vec<Row>) {
    let of_users = click_job();
    let by_page = WindowStep {
        group: vec!["page".into()],
        ..click_step()
    };
    let of_pages = Clicks::job(MAX_DISORDER_MS, by_page);
    let mut users = Oracle::new(&of_users, PARTITIONS);
    let mut pages = Oracle::new(&of_pages, 1);
    let mut offsets = [0; PARTITIONS];
    let mut buffer = Vec::new();
    for click in closed(clicks, EVENTS, PARTITIONS) {
        click.render(&mut buffer);
        let partition = click.partition(PARTITIONS);
        users.event(partition, Some(&buffer), None);
        if offsets[partition] >= read[&partition] {
            pages.event(0, Some(&buffer), None);
        }
        offsets[partition] += 1;
    }
    let (users, pages) = (users.into_outcome(), pages.into_outcome());
    assert!(pages[0].late.is_empty());
    (last_rows(&of_users, &users), last_rows(&of_pages, &pages))
}

#[test]
fn a_changed_job_keeps_the_state_of_what_stays() -> Result {
    let name = format!("upgrade-{}", std::process::id());
    let scratch = Scratch::new("upgrade");
    let cluster = Cluster::new(Kafka::shared().bootstrap());
    let topic = |of: &str| format!("{name}-{of}");
    cluster.create(&topic("events"), PARTITIONS)?;
    for sink in ["rows", "pages", "purchases"] {
        cluster.create(&topic(sink), 2)?;
    }
    let clicks = Clicks {
        seed: fastrand::u64(..),
        ..Clicks::default()
    };
    eprintln!("upgrade: seed {} of the workload", clicks.seed);
    let log = || closed(&clicks, EVENTS, PARTITIONS);
    let events = topic("events");
    fill(
        &cluster,
        &events,
        PARTITIONS,
        log().take(CHECKPOINTED as usize),
    )?;
    let manifest = Manifest {
        name: name.clone(),
        bootstrap: cluster.bootstrap().into(),
        topic: events.clone(),
        sink: topic("rows"),
        bounded: false,
        slots: PARTITIONS,
        group: "user_id",
        s3: None,
        more_sinks: format!(
            "    - {{name: purchases, from: events.malformed, kafka: {{connection: main, topic: {}}}}}\n",
            topic("purchases")
        ),
        security: String::new(),
    };
    let folder = scratch.path();
    let first = scratch.write("job.yaml", manifest.yaml());
    let second = scratch.write("changed.yaml", changed(&manifest.yaml(), &topic("pages")));
    let journal = || cluster.journal(&format!("streamjob-{name}-journal"));
    let newest_of = |slot: usize| journal().ok()?.into_iter().nth(slot)?.pop();

    // Slots 1 and 3 have not begun when the job is changed; the others have gone on from their checkpoints.
    let half = Worker::run(folder, &first, &["--uid", &name, "--slots", "0,2"])?;
    let read_to = |slot: usize| newest_of(slot)?["positions"][format!("events/{slot}")].as_u64();
    let checkpointed = wait_until(PATIENCE, || {
        let has_checkpoint = |slot| Some(!newest_of(slot)?["checkpoints"].as_array()?.is_empty());
        (half.status().ok()?["lag"] == 0 && has_checkpoint(0)? && has_checkpoint(2)?)
            .then(|| read_to(0))?
    });
    let checkpointed = checkpointed.with_context(|| format!("no checkpoints: {}", half.tail()))?;
    let rest = || log().skip(CHECKPOINTED as usize);
    fill(
        &cluster,
        &events,
        PARTITIONS,
        rest().take((CHANGED - CHECKPOINTED) as usize),
    )?;
    let went_on = wait_until(PATIENCE, || (read_to(0)? > checkpointed).then_some(()));
    went_on.with_context(|| format!("it does not go on: {}", half.tail()))?;
    half.kill9();
    let before = newest_of(0).context("the journal is empty")?["planHash"].take();
    let before = before.as_str().unwrap_or_default();
    fill(&cluster, &events, PARTITIONS, log().skip(CHANGED as usize))?;

    // It has claimed some slots as changed, and has hardly replayed them.
    let killed = Worker::run(folder, &second, &["--uid", &name])?;
    wait_until(PATIENCE, || {
        let said = "the job was changed: `events` Kept, `pages` New, `spend` Kept";
        killed.said().contains(said).then_some(())
    })
    .with_context(|| format!("the change does not begin: {}", killed.tail()))?;
    killed.kill9();
    let read = read_before(&journal()?, before)?;

    let text = std::fs::read_to_string(&second)?;
    let other = text.replacen("size: 10s", "size: 20s", 1);
    let other = scratch.write("other.yaml", other);
    let other = Worker::run(folder, &other, &["--uid", &name, "--slots", "0"])?;
    other.expect_exit(exit::REFUSED)?;
    other.expect_said("`spend` Incompatible (its window, groups or aggregates are other ones)")?;

    let whole = Worker::run(folder, &second, &["--uid", &name])?;
    let (users, pages) = expected(&clicks, &read);
    let all_out = || -> anyhow::Result<bool> {
        let out = |sink| anyhow::Ok(cluster.rows(&topic(sink))?.len());
        Ok(out("rows")? >= users.len() && out("pages")? >= pages.len())
    };
    wait_until(PATIENCE, || all_out().ok()?.then_some(()))
        .with_context(|| format!("rows are missing: {}", whole.tail()))?;
    whole.terminate();
    whole.expect_exit(exit::DONE)?;
    assert_same_rows(&users, &cluster.rows(&topic("rows"))?, &IDENTITY);
    assert_same_rows(
        &pages,
        &cluster.rows(&topic("pages"))?,
        &["page", "window_start"],
    );
    Ok(())
}
