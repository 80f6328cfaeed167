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
use streamjob_tests::workload::clicks::MAX_DISORDER_MS;

use crate::support::{IDENTITY, Manifest, click_job, click_step};

const PARTITIONS: usize = 4;
const EVENTS: u64 = 600_000;

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
            None => records.is_empty().then_some(0),
        };
        let position = position.with_context(|| format!("slot {slot}: {records:?}"))?;
        read.insert(slot, position);
    }
    Ok(read)
}

/// Both steps' rows: `spend` over all events, `pages` over those behind the change.
fn expected(clicks: &Clicks, read: &BTreeMap<usize, u64>) -> (Vec<Row>, Vec<Row>) {
    let of_users = click_job();
    let of_pages = Clicks::job(
        MAX_DISORDER_MS,
        WindowStep {
            group: vec!["page".into()],
            ..click_step()
        },
    );
    let mut users = Oracle::new(&of_users, PARTITIONS);
    let mut pages = Oracle::new(&of_pages, 1);
    let mut offsets = [0; PARTITIONS];
    let mut buffer = Vec::new();
    for click in (0..EVENTS).map(|number| clicks.click(number)) {
        click.render(&mut buffer);
        let partition = click.partition(PARTITIONS);
        users.event(partition, Some(&buffer), None);
        if offsets[partition] >= read[&partition] {
            pages.event(0, Some(&buffer), None);
        }
        offsets[partition] += 1;
    }
    users.end();
    pages.end();
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
    clicks.fill(&cluster, &topic("events"), PARTITIONS, EVENTS)?;
    let manifest = Manifest {
        name: name.clone(),
        bootstrap: cluster.bootstrap().into(),
        topic: topic("events"),
        sink: topic("rows"),
        bounded: true,
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
    let newest = || cluster.newest(&format!("streamjob-{name}-journal"));
    let plan_hashes = || -> anyhow::Result<Vec<String>> {
        let records = newest()?.into_iter().flatten();
        let hashes = records.map(|record| record["planHash"].as_str().unwrap_or_default().into());
        Ok(hashes.collect())
    };

    // Slots 1 and 3 have not begun when the job is changed; the others are in the midst of it.
    let half = Worker::run(folder, &first, &["--uid", &name, "--slots", "0,2"])?;
    wait_until(PATIENCE, || {
        let newest = newest().ok()?.into_iter().flatten();
        let checkpointed = newest.filter(|record| {
            record["checkpoints"]
                .as_array()
                .is_some_and(|named| !named.is_empty())
        });
        (checkpointed.count() == 2).then_some(())
    })
    .with_context(|| format!("no checkpoints: {}", half.tail()))?;
    half.kill9();
    let before = plan_hashes()?.pop().context("the journal is empty")?;
    assert!(
        newest()?
            .iter()
            .flatten()
            .any(|record| record["ended"].is_null()),
        "the job was done before it was changed"
    );

    // It has claimed some slots as changed, and has hardly replayed them.
    let killed = Worker::run(folder, &second, &["--uid", &name])?;
    wait_until(PATIENCE, || {
        let hashes = plan_hashes().ok()?;
        hashes.iter().any(|hash| *hash != before).then_some(())
    })
    .with_context(|| format!("the change does not begin: {}", killed.tail()))?;
    killed.kill9();
    let read = read_before(
        &cluster.journal(&format!("streamjob-{name}-journal"))?,
        &before,
    )?;

    let text = std::fs::read_to_string(&second)?;
    let other = text.replacen("size: 10s", "size: 20s", 1);
    let other = Worker::run(
        folder,
        &scratch.write("other.yaml", other),
        &["--uid", &name],
    )?;
    other.expect_exit(exit::REFUSED)?;
    other.expect_said("`spend` Incompatible (its window, groups or aggregates are other ones)")?;

    let whole = Worker::run(folder, &second, &["--uid", &name])?;
    whole.expect_exit(exit::DONE)?;
    whole.expect_said("the job was changed: `events` Kept, `pages` New, `spend` Kept")?;
    let (users, pages) = expected(&clicks, &read);
    assert_same_rows(&users, &cluster.rows(&topic("rows"))?, &IDENTITY);
    assert_same_rows(
        &pages,
        &cluster.rows(&topic("pages"))?,
        &["page", "window_start"],
    );
    Ok(())
}
