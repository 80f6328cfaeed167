//! One job, three inputs: a file, a topic with one partition, a topic with four partitions and two workers. The final
//! rows are the same.

use std::time::Duration;

use streamjob_tests::compare::assert_same_rows;
use streamjob_tests::failure::Result;
use streamjob_tests::oracle::{Entry, Row, last_rows, run};
use streamjob_tests::scratch::Scratch;
use streamjob_tests::servers::Kafka;
use streamjob_tests::topic::Cluster;
use streamjob_tests::worker::{PATIENCE, Worker, exit};
use streamjob_tests::workload::Clicks;

use crate::support::{IDENTITY, Manifest, click_job};

const EVENTS: u64 = 60_000;

#[test]
fn from_a_file_and_from_one_or_four_partitions() -> Result {
    let scratch = Scratch::new("same");
    let cluster = Cluster::new(Kafka::shared().bootstrap());
    let (lines, expected) = input();
    scratch.write(
        "events.ndjson",
        lines
            .iter()
            .flat_map(|(_, line)| [line.as_slice(), b"\n"].concat())
            .collect::<Vec<u8>>(),
    );

    let job = scratch.write("file.yaml", file_job());
    Worker::run(scratch.path(), &job, &[])?.expect_exit(exit::DONE)?;
    let rows: Vec<Row> = std::fs::read_to_string(scratch.path().join("rows.ndjson"))?
        .lines()
        .map(serde_json::from_str)
        .collect::<serde_json::Result<_>>()?;
    assert_same_rows(&expected, &rows, &IDENTITY);

    assert_same_rows(
        &expected,
        &kafka_rows(&scratch, &cluster, &lines, 1, &[None])?,
        &IDENTITY,
    );
    let rows = kafka_rows(&scratch, &cluster, &lines, 4, &[Some("0,3"), Some("1-2")])?;
    assert_same_rows(&expected, &rows, &IDENTITY);
    Ok(())
}

/// The events with the users they belong to, and the rows that follow from them.
fn input() -> (Vec<(usize, Vec<u8>)>, Vec<Row>) {
    let clicks = Clicks {
        seed: 5,
        ..Clicks::default()
    };
    let mut lines = Vec::new();
    for number in 0..EVENTS {
        let click = clicks.click(number);
        let mut line = Vec::new();
        click.render(&mut line);
        lines.push((click.partition(4), line));
    }
    let entry = |line: &Vec<u8>| Entry::Event {
        payload: Some(line.clone()),
        kafka_timestamp: None,
    };
    let log: Vec<Entry> = lines.iter().map(|(_, line)| entry(line)).collect();
    let job = click_job();
    let outcome = run(&job, &[log]);
    assert!(outcome[0].late.is_empty());
    (lines, last_rows(&job, &outcome))
}

fn kafka_rows(
    scratch: &Scratch,
    cluster: &Cluster,
    lines: &[(usize, Vec<u8>)],
    partitions: usize,
    shares: &[Option<&str>],
) -> Result<Vec<Row>> {
    let name = format!("same-{partitions}-{}", std::process::id());
    let (topic, sink) = (format!("{name}-events"), format!("{name}-rows"));
    cluster.create(&topic, partitions)?;
    cluster.create(&sink, 2)?;
    let writer = cluster.writer()?;
    for (partition, line) in lines {
        writer.send(&topic, (partition % partitions) as i32, None, Some(line))?;
    }
    writer.flush()?;
    let manifest = Manifest {
        name: name.clone(),
        bootstrap: cluster.bootstrap().into(),
        topic,
        sink: sink.clone(),
        bounded: true,
        slots: partitions,
        group: "user_id",
        s3: None,
        more_sinks: String::new(),
        security: String::new(),
    };
    let job = scratch.write(&format!("{name}.yaml"), manifest.yaml());
    let workers: Vec<Worker> = shares
        .iter()
        .map(|share| match share {
            None => Worker::run(scratch.path(), &job, &[]),
            Some(slots) => Worker::run(scratch.path(), &job, &["--slots", slots]),
        })
        .collect::<anyhow::Result<_>>()?;
    for worker in &workers {
        worker.expect_exit(exit::DONE)?;
    }
    // Done is done, whatever was appended since.
    let (partition, line) = &lines[0];
    writer.send(
        &manifest.topic,
        (partition % partitions) as i32,
        None,
        Some(line),
    )?;
    writer.flush()?;
    let again = Worker::run(scratch.path(), &job, &[])?;
    assert_eq!(
        again.wait(PATIENCE.max(Duration::from_secs(60)))?,
        exit::DONE
    );
    Ok(cluster.rows(&sink)?)
}

fn file_job() -> String {
    format!(
        "\
apiVersion: streamjob.dev/v1alpha1
kind: StreamJob
metadata: {{name: same-file}}
spec:
  sources:
    - name: events
      file: {{path: events.ndjson}}
{spend}  sinks:
    - {{name: rows, from: spend, file: {{path: rows.ndjson}}}}
",
        spend = Clicks::spend_yaml("user_id")
    )
}
