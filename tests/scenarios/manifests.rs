//! Manifests that are wrong are refused before anything runs, with all that is wrong and where.

use streamjob_tests::failure::Result;
use streamjob_tests::scratch::Scratch;
use streamjob_tests::worker::{PATIENCE, Worker, exit};

const WRONG: &str = "\
apiVersion: streamjob.dev/v1alpha1
kind: StreamJob
metadata: {name: wrong}
spec:
  sources:
    - name: events
      file: {path: in.ndjson}
      colums: []
      columns:
        - {name: ts, type: Timestmp}
        - {name: amount, type: Double}
      eventTime: {column: time}
  steps:
    - name: big
      from: evnts
      where: \"amount > \"
  sinks:
    - {name: out, from: big, stdout: {}}
";

#[test]
fn all_problems_are_told_at_once_with_their_place() -> Result {
    let scratch = Scratch::new("wrong");
    let job = scratch.write("job.yaml", WRONG);
    for command in ["validate", "run"] {
        let worker = Worker::start(scratch.path(), [command.as_ref(), job.as_os_str()])?;
        worker.expect_exit(exit::BAD_MANIFEST)?;
        println!("{}", worker.said());
        for part in [
            "job.yaml:8:7",
            "colums",
            "columns",
            "job.yaml:10:28",
            "Timestmp",
            "Timestamp",
        ] {
            worker.expect_said(part)?;
        }
    }
    Ok(())
}

#[test]
fn problems_of_meaning_are_told_too() -> Result {
    let scratch = Scratch::new("meaning");
    let text = WRONG
        .replace("      colums: []\n", "")
        .replace("Timestmp", "Timestamp");
    let job = scratch.write("job.yaml", text);
    let worker = Worker::start(scratch.path(), ["validate".as_ref(), job.as_os_str()])?;
    worker.expect_exit(exit::BAD_MANIFEST)?;
    println!("{}", worker.said());
    for part in ["evnts", "events", "time"] {
        worker.expect_said(part)?;
    }
    Ok(())
}

#[test]
fn a_wrong_command_line_is_a_usage_error() -> Result {
    let scratch = Scratch::new("usage");
    for arguments in [
        vec!["walk"],
        vec!["run"],
        vec!["run", "job.yaml", "--slots", "x"],
    ] {
        let worker = Worker::start(scratch.path(), arguments)?;
        assert_eq!(worker.wait(PATIENCE)?, exit::USAGE, "{}", worker.said());
    }
    Ok(())
}
