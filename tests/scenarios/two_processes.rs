//! What processes that share a job tell each other: how far they are, and rows whose keys belong to the other.

use std::thread;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use streamjob_tests::compare::assert_same_rows;
use streamjob_tests::failure::Result;
use streamjob_tests::process::wait_until;
use streamjob_tests::scratch::Scratch;
use streamjob_tests::servers::Kafka;
use streamjob_tests::topic::{Cluster, Writer};
use streamjob_tests::worker::{PATIENCE, Worker, exit};
use streamjob_tests::workload::Clicks;

use crate::support::{Manifest, by_form, expected_by_page};

#[test]
fn an_idle_partition_follows_the_slowest_one_of_another_process() -> Result {
    let name = format!("idle-{}", std::process::id());
    let scratch = Scratch::new("idle");
    let cluster = Cluster::new(Kafka::shared().bootstrap());
    cluster.create(&format!("{name}-events"), 2)?;
    cluster.create(&format!("{name}-rows"), 1)?;
    let writer = cluster.writer()?;
    let job = scratch.write("job.yaml", idle_job(&name, cluster.bootstrap()));
    // One user in each partition; partition 1 gets nothing more.
    send_user(&writer, &name, 1, 1_000)?;
    send_user(&writer, &name, 0, 1_000)?;
    let workers = [
        Worker::run(scratch.path(), &job, &["--uid", &name, "--slots", "0"])?,
        Worker::run(scratch.path(), &job, &["--uid", &name, "--slots", "1"])?,
    ];
    let mut time = 2_000;
    let row = wait_until(PATIENCE, || {
        // Never idle itself, so that only its watermark can move the other's.
        time += 100;
        send_user(&writer, &name, 0, time).ok()?;
        let rows = cluster.rows(&format!("{name}-rows")).ok()?;
        rows.into_iter().find(|row| row["user_id"] == "user1")
    })
    .context("the idle partition's window does not fire")?;
    assert_eq!(row["window_end"], json!(2_000));
    let newest = cluster.newest(&format!("streamjob-{name}-journal"))?;
    let w = |slot: usize| {
        let record = newest[slot].as_ref().context("a record")?;
        record["watermarks"][format!("events/{slot}")]
            .as_i64()
            .context("a watermark")
    };
    assert!(
        w(1)? <= time,
        "it must not be ahead of the one that is awake: {} and {}",
        w(1)?,
        w(0)?
    );
    for worker in &workers {
        worker.terminate();
        worker.expect_exit(exit::DONE)?;
    }
    Ok(())
}

fn send_user(writer: &Writer, name: &str, partition: i32, time: i64) -> anyhow::Result<()> {
    let event = json!({"user_id": format!("user{partition}"), "ts": time}).to_string();
    writer.send(
        &format!("{name}-events"),
        partition,
        None,
        Some(event.as_bytes()),
    )?;
    writer.flush()
}

fn idle_job(name: &str, bootstrap: &str) -> String {
    format!(
        "\
apiVersion: streamjob.dev/v1alpha1
kind: StreamJob
metadata: {{name: idle, namespace: tests}}
spec:
  maxParallelism: 2
  connections:
    - {{name: main, kafka: {{bootstrapServers: [\"{bootstrap}\"]}}}}
  sources:
    - name: events
      kafka: {{connection: main, topic: {name}-events}}
      columns:
        - {{name: user_id, type: String}}
        - {{name: ts, type: Timestamp}}
      key: [user_id]
      eventTime: {{column: ts, idleAfter: 2s}}
  steps:
    - name: counts
      from: events
      groupBy: [user_id]
      window: {{tumbling: {{size: 2s}}}}
      aggregate: [\"count(*) AS clicks\"]
  sinks:
    - {{name: rows, from: counts, kafka: {{connection: main, topic: {name}-rows}}}}
"
    )
}

#[test]
fn rows_are_re_keyed_between_two_workers_that_are_killed() -> Result {
    let (events, kills) = by_form((120_000, 4), (1_000_000, 12));
    let name = format!("rekeyed-{}", std::process::id());
    let scratch = Scratch::new("rekeyed");
    let cluster = Cluster::new(Kafka::shared().bootstrap());
    let (topic, sink) = (format!("{name}-events"), format!("{name}-rows"));
    cluster.create(&topic, 4)?;
    cluster.create(&sink, 2)?;
    let clicks = Clicks {
        seed: fastrand::u64(..),
        ..Clicks::default()
    };
    eprintln!("rekeyed: seed {} of the workload", clicks.seed);
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
    let start = |slots| Worker::run(scratch.path(), &job, &["--uid", &name, "--slots", slots]);
    let shares = ["0,2", "1,3"];
    let mut workers = [start(shares[0])?, start(shares[1])?];
    for kill in 0..kills {
        // Not a wait for a condition: the moment of death is meant to be any.
        thread::sleep(Duration::from_millis(fastrand::u64(100..1_500)));
        let victim = kill % 2;
        if workers[victim].ended().is_some() {
            // Faster than its death: then it must have ended well.
            workers[victim].expect_exit(exit::DONE)?;
            continue;
        }
        workers[victim].kill9();
        workers[victim] = start(shares[victim])?;
    }
    for worker in &workers {
        worker.expect_exit(exit::DONE)?;
    }
    let rows = cluster.rows(&sink)?;
    assert_same_rows(
        &expected_by_page(&clicks, events),
        &rows,
        &["page", "window_start"],
    );
    Ok(())
}
