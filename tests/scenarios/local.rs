//! Jobs without a server: files and generated events, stopped, gone on with, run again.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use streamjob_tests::compare::assert_same_rows;
use streamjob_tests::failure::Result;
use streamjob_tests::oracle::Row;
use streamjob_tests::process::wait_until;
use streamjob_tests::scratch::Scratch;
use streamjob_tests::worker::{PATIENCE, Worker, exit};

use crate::support::rows;

const COUNT_PER_KEY: &str = "\
apiVersion: streamjob.dev/v1alpha1
kind: StreamJob
metadata: {name: count}
spec:
  sources:
    - name: events
      file: {path: \"in/*.ndjson\"}
      columns:
        - {name: k, type: String}
        - {name: ts, type: Timestamp}
      eventTime: {column: ts}
  steps:
    - name: counts
      from: events
      groupBy: [k]
      window: {tumbling: {size: 10s}}
      aggregate: [\"count(*) AS n\"]
  sinks:
    - {name: rows, from: counts, file: {path: out.ndjson}}
    - {name: bad, from: events.malformed, file: {path: bad.ndjson}}
";

/// Events a millisecond apart, in windows of 100 ms.
fn generate_job(sink: &str, rows: u64, per_second: u64) -> String {
    timed_job("every: {step: 1ms}", sink, rows, per_second)
}

fn timed_job(time: &str, sink: &str, rows: u64, per_second: u64) -> String {
    format!(
        "\
apiVersion: streamjob.dev/v1alpha1
kind: StreamJob
metadata: {{name: generated}}
spec:
  sources:
    - name: events
      generate:
        rows: {rows}
        rowsPerSecond: {per_second}
        seed: 3
        fields:
          - {{name: id, sequence: {{}}}}
          - {{name: k, choice: [a, b, c]}}
          - {{name: ts, {time}}}
      columns:
        - {{name: id, type: Int64}}
        - {{name: k, type: String}}
        - {{name: ts, type: Timestamp}}
      eventTime: {{column: ts}}
  steps:
    - name: counts
      from: events
      groupBy: [k]
      window: {{tumbling: {{size: 100ms}}}}
      aggregate: [\"count(*) AS n\", \"min(id) AS first\", \"max(id) AS last\"]
  sinks:
    - {{name: rows, from: counts, {sink}}}
"
    )
}

#[test]
fn a_file_job_runs_to_its_end_once() -> Result {
    let scratch = Scratch::new("file");
    // Partitions are files in name order; a blank line is none; the second file's late row is on time in its own task.
    scratch.write(
        "in/1.ndjson",
        "{\"k\":\"a\",\"ts\":1}\n\n{\"k\":\"b\",\"ts\":9999}\n{\"k\":\"a\",\"ts\":10000}",
    );
    scratch.write("in/2.ndjson", "{\"k\":\"a\",\"ts\":5}\nnonsense\n");
    let job = scratch.write("job.yaml", COUNT_PER_KEY);
    Worker::run(scratch.path(), &job, &[])?.expect_exit(exit::DONE)?;
    let row = |k: &str, start: i64, n: i64| -> Row {
        let value = json!({"k": k, "window_start": start, "window_end": start + 10_000, "n": n});
        serde_json::from_value(value).expect("an object")
    };
    let expected = [row("a", 0, 2), row("b", 0, 1), row("a", 10_000, 1)];
    assert_same_rows(
        &expected,
        &rows(&scratch.path().join("out.ndjson"))?,
        &["k", "window_start"],
    );
    let bad = rows(&scratch.path().join("bad.ndjson"))?;
    assert_eq!(bad.len(), 1);
    assert_eq!(
        (&bad[0]["raw"], &bad[0]["offset"]),
        (&json!("nonsense"), &json!(17))
    );
    assert!(
        bad[0]["topic"]
            .as_str()
            .is_some_and(|path| path.contains("2.ndjson")),
        "{bad:?}"
    );

    scratch.write(
        "in/2.ndjson",
        "{\"k\":\"a\",\"ts\":5}\nnonsense\n{\"k\":\"z\",\"ts\":7}\n",
    );
    let again = Worker::run(scratch.path(), &job, &[])?;
    again.expect_exit(exit::DONE)?;
    again.expect_said("done")?;
    assert_same_rows(
        &expected,
        &rows(&scratch.path().join("out.ndjson"))?,
        &["k", "window_start"],
    );
    Ok(())
}

#[test]
fn a_file_that_the_job_did_not_write_is_left_alone() -> Result {
    let scratch = Scratch::new("foreign");
    scratch.write("in/1.ndjson", "{\"k\":\"a\",\"ts\":1}\n");
    scratch.write("out.ndjson", "precious\n");
    let job = scratch.write("job.yaml", COUNT_PER_KEY);
    let worker = Worker::run(scratch.path(), &job, &[])?;
    assert_ne!(worker.wait(PATIENCE)?, exit::DONE);
    worker.expect_said("overwrite")?;
    assert_eq!(
        fs::read_to_string(scratch.path().join("out.ndjson"))?,
        "precious\n"
    );
    Ok(())
}

#[test]
fn generated_events_are_the_same_each_time_and_go_to_the_screen() -> Result {
    let outputs: Vec<String> = (0..2)
        .map(|_| {
            let scratch = Scratch::new("stdout");
            let job = scratch.write("job.yaml", generate_job("stdout: {}", 1_000, 100_000));
            let worker = Worker::run(scratch.path(), &job, &[])?;
            worker.expect_exit(exit::DONE)?;
            Ok(worker.stdout())
        })
        .collect::<Result<_>>()?;
    assert_eq!(outputs[0], outputs[1]);
    let total: i64 = outputs[0]
        .lines()
        .map(|line| {
            Ok(serde_json::from_str::<Row>(line)?["n"]
                .as_i64()
                .unwrap_or(0))
        })
        .sum::<Result<i64>>()?;
    assert_eq!(total, 1_000);
    Ok(())
}

#[test]
fn a_stopped_job_goes_on_where_it_was() -> Result {
    let whole = Scratch::new("whole");
    let job = whole.write(
        "job.yaml",
        generate_job("file: {path: out.ndjson}", 6_000, 1_000_000),
    );
    Worker::run(whole.path(), &job, &[])?.expect_exit(exit::DONE)?;
    let expected = rows(&whole.path().join("out.ndjson"))?;

    let scratch = Scratch::new("stopped");
    let job = scratch.write(
        "job.yaml",
        generate_job("file: {path: out.ndjson}", 6_000, 1_500),
    );
    let out = scratch.path().join("out.ndjson");
    for stop in 1..=3 {
        let worker = Worker::run(scratch.path(), &job, &[])?;
        let grown = || (fs::read_to_string(&out).ok()?.lines().count() >= stop * 20).then_some(());
        wait_until(PATIENCE, grown).with_context(|| format!("no output: {}", worker.tail()))?;
        // In good order, then not.
        if stop % 2 == 1 {
            worker.terminate();
            assert_eq!(
                worker.wait(Duration::from_secs(30))?,
                exit::DONE,
                "{}",
                worker.tail()
            );
        } else {
            worker.kill9();
        }
    }
    Worker::run(scratch.path(), &job, &[])?.expect_exit(exit::DONE)?;
    assert_same_rows(&expected, &rows(&out)?, &["k", "window_start"]);
    Ok(())
}

#[test]
fn events_that_tell_the_time_are_the_same_in_a_replay() -> Result {
    let scratch = Scratch::new("now");
    let job = scratch.write(
        "job.yaml",
        timed_job("now: {}", "file: {path: out.ndjson}", 6_000, 1_500),
    );
    let out = scratch.path().join("out.ndjson");
    for kill in 1..=3 {
        let worker = Worker::run(scratch.path(), &job, &[])?;
        let grown = || (fs::read_to_string(&out).ok()?.lines().count() >= kill * 20).then_some(());
        wait_until(PATIENCE, grown).with_context(|| format!("no output: {}", worker.tail()))?;
        worker.kill9();
    }
    Worker::run(scratch.path(), &job, &[])?.expect_exit(exit::DONE)?;
    let rows = rows(&out)?;
    let total: i64 = rows.iter().filter_map(|row| row["n"].as_i64()).sum();
    assert_eq!(total, 6_000);
    let places: BTreeSet<String> = rows
        .iter()
        .map(|row| format!("{} {}", row["k"], row["window_start"]))
        .collect();
    assert_eq!(places.len(), rows.len(), "no window twice");
    Ok(())
}
