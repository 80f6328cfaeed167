//! Checkpoints in a real S3: kept as many as asked for, damaged, forgotten, refused.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;
use streamjob_tests::compare::assert_same_rows;
use streamjob_tests::failure::Result;
use streamjob_tests::oracle::Row;
use streamjob_tests::process::wait_until;
use streamjob_tests::scratch::Scratch;
use streamjob_tests::servers::S3;
use streamjob_tests::servers::s3::{ACCESS_KEY, BUCKET, REGION};
use streamjob_tests::worker::{PATIENCE, Worker, exit};

use crate::support::rows;

const RETAINED: usize = 2;

/// A job that counts generated events for some ten seconds, with a checkpoint every 200 ms.
struct Counting {
    scratch: Scratch,
    s3: S3,
}

impl Counting {
    fn new(name: &str) -> Result<Counting> {
        Ok(Counting {
            scratch: Scratch::new(name),
            s3: S3::start()?,
        })
    }

    /// `bucket` and more of the connection, as YAML.
    fn run(&self, connection: &str, arguments: &[&str]) -> Result<Worker> {
        let endpoint = self.s3.endpoint();
        let job = format!(
            "\
apiVersion: streamjob.dev/v1alpha1
kind: StreamJob
metadata: {{name: counting}}
spec:
  connections:
    - name: lake
      s3: {{endpoint: \"{endpoint}\", region: {REGION}, pathStyle: true, {connection}}}
  sources:
    - name: events
      generate:
        rows: 60000
        rowsPerSecond: 6000
        seed: 3
        fields:
          - {{name: k, choice: [a, b, c]}}
          - {{name: ts, every: {{step: 1ms}}}}
      columns:
        - {{name: k, type: String}}
        - {{name: ts, type: Timestamp}}
      eventTime: {{column: ts}}
  steps:
    - name: counts
      from: events
      groupBy: [k]
      window: {{tumbling: {{size: 1s}}}}
      aggregate: [\"count(*) AS n\"]
  sinks:
    - {{name: rows, from: counts, file: {{path: out.ndjson}}}}
  checkpoint: {{interval: 200ms, retain: {RETAINED}, storage: {{s3: {{connection: lake, prefix: kept/}}}}}}
"
        );
        let job = self.scratch.write("job.yaml", job);
        let all = [&["--uid", "counting"], arguments].concat();
        Ok(Worker::run(self.scratch.path(), &job, &all)?)
    }

    fn run_well(&self, arguments: &[&str]) -> Result<Worker> {
        self.run(&format!("bucket: {BUCKET}"), arguments)
    }

    /// Manifests that are in the bucket.
    fn kept(&self) -> Vec<PathBuf> {
        let all = files(&self.s3.bucket_folder().join("kept")).into_iter();
        all.filter(|path| path.ends_with("manifest.json")).collect()
    }

    /// Manifests that the journal names, newest first.
    fn named(&self) -> Result<Vec<PathBuf>> {
        let journal = fs::read_to_string(self.scratch.path().join(".streamjob/counting/journal"))?;
        let last = journal.lines().next_back().context("an empty journal")?;
        // What is before the record is its length and checksum.
        let json = last.find('{').map_or("", |at| &last[at..]);
        let record: Value = serde_json::from_str(json)?;
        let named = record["checkpoints"].as_array().into_iter().flatten();
        let names = named.filter_map(|checkpoint| checkpoint["manifest"].as_str());
        Ok(names
            .map(|name| self.s3.bucket_folder().join(name))
            .collect())
    }

    /// Waits until the journal names as many checkpoints as are kept.
    fn await_named(&self, worker: &Worker) -> Result {
        let enough = || (self.named().ok()?.len() == RETAINED).then_some(());
        let named = wait_until(PATIENCE, enough);
        named.with_context(|| format!("no checkpoints: {}", worker.tail()))?;
        Ok(())
    }

    fn rows(&self) -> Result<Vec<Row>> {
        rows(&self.scratch.path().join("out.ndjson"))
    }
}

/// All files below a folder; one that vanishes meanwhile is none.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.path() {
            path if path.is_dir() => files(&path),
            path => vec![path],
        })
        .collect()
}

#[test]
fn a_damaged_checkpoint_gives_way_to_the_one_before() -> Result {
    let undisturbed = Counting::new("whole")?;
    undisturbed.run_well(&[])?.expect_exit(exit::DONE)?;

    let counting = Counting::new("damaged")?;
    let worker = counting.run_well(&[])?;
    counting.await_named(&worker)?;
    worker.kill9();
    // One more may be there that the journal did not come to name.
    assert!(
        counting.kept().len() <= RETAINED + 2,
        "{:?}",
        counting.kept()
    );
    fs::write(&counting.named()?[0], "damaged")?;
    let worker = counting.run_well(&[])?;
    worker.expect_said("falling back to the checkpoint before")?;
    worker.expect_exit(exit::DONE)?;
    assert_same_rows(
        &undisturbed.rows()?,
        &counting.rows()?,
        &["k", "window_start"],
    );
    Ok(())
}

#[test]
fn a_fresh_start_deletes_the_checkpoints_of_before() -> Result {
    let counting = Counting::new("forgotten")?;
    let worker = counting.run_well(&[])?;
    counting.await_named(&worker)?;
    worker.terminate();
    worker.expect_exit(exit::DONE)?;
    let before = counting.kept();
    assert!(!before.is_empty());
    counting.run_well(&["--fresh"])?.expect_exit(exit::DONE)?;
    let after = counting.kept();
    let left = before.iter().filter(|old| after.contains(old)).count();
    assert_eq!(left, 0, "{after:?}");
    Ok(())
}

#[test]
fn what_s3_refuses_is_told_at_the_start() -> Result {
    let counting = Counting::new("refused")?;
    let worker = counting.run("bucket: no-such-bucket", &[])?;
    worker.expect_exit(exit::BAD_MANIFEST)?;
    worker.expect_said("the bucket `no-such-bucket` does not exist")?;

    counting.scratch.write("secrets/s3/accessKeyId", ACCESS_KEY);
    counting
        .scratch
        .write("secrets/s3/secretAccessKey", "wrong0");
    let wrong = format!("bucket: {BUCKET}, credentialsSecretRef: {{name: s3}}");
    let worker = counting.run(&wrong, &[])?;
    worker.expect_exit(exit::BAD_MANIFEST)?;
    worker.expect_said("check the credentials")?;
    assert!(!worker.said().contains("wrong0"), "{}", worker.tail());
    Ok(())
}
