//! Input that is wrong, and topics that change under a job: each is told in words, nothing is skipped.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use streamjob_tests::compare::assert_same_rows;
use streamjob_tests::failure;
use streamjob_tests::oracle::Row;
use streamjob_tests::process::wait_until;
use streamjob_tests::scratch::Scratch;
use streamjob_tests::servers::Kafka;
use streamjob_tests::topic::Cluster;
use streamjob_tests::worker::{PATIENCE, Worker, exit};

const NOW: i64 = 1_700_000_000_000;

/// A copying job over a topic of its own.
struct Copy {
    scratch: Scratch,
    cluster: Cluster,
    name: String,
    job: PathBuf,
}

impl Copy {
    fn new(name: &str, partitions: usize, bounded: bool) -> failure::Result<Copy> {
        let scratch = Scratch::new(name);
        let cluster = Cluster::new(Kafka::shared().bootstrap());
        let name = format!("{name}-{}", std::process::id());
        cluster.create_with(
            &format!("{name}-events"),
            partitions,
            &[("max.message.bytes", "16000000")],
        )?;
        let job = scratch.write("job.yaml", copy_job(&name, cluster.bootstrap(), bounded));
        Ok(Copy {
            scratch,
            cluster,
            name,
            job,
        })
    }

    fn source(&self) -> String {
        format!("{}-events", self.name)
    }

    fn run(&self, arguments: &[&str]) -> Result<Worker> {
        let all: Vec<&str> = ["--uid", &self.name]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        Worker::run(self.scratch.path(), &self.job, &all)
    }

    fn send(&self, payloads: &[Option<&[u8]>]) -> Result<()> {
        let writer = self.cluster.writer()?;
        for payload in payloads {
            writer.send_at(&self.source(), 0, None, *payload, Some(NOW))?;
        }
        writer.flush()
    }

    fn send_good(&self, numbers: std::ops::Range<i64>) -> Result<()> {
        let events: Vec<Vec<u8>> = numbers.map(good).collect();
        self.send(
            &events
                .iter()
                .map(|event| Some(event.as_slice()))
                .collect::<Vec<_>>(),
        )
    }

    fn rows(&self, sink: &str) -> Result<Vec<Row>> {
        self.cluster.rows(&format!("{}-{sink}", self.name))
    }

    fn await_rows(&self, count: usize) -> Result<()> {
        let enough = || (self.rows("rows").ok()?.len() >= count).then_some(());
        wait_until(PATIENCE, enough).with_context(|| format!("{count} rows do not come"))
    }

    /// Started and stopped again in good order, all input read.
    fn ran_before(&self) -> Result<()> {
        self.send_good(0..10)?;
        let worker = self.run(&[])?;
        self.await_rows(10)?;
        worker.terminate();
        worker.expect_exit(exit::DONE)
    }
}

fn copy_job(name: &str, bootstrap: &str, bounded: bool) -> String {
    let until = if bounded { ", until: Latest" } else { "" };
    format!(
        "\
apiVersion: streamjob.dev/v1alpha1
kind: StreamJob
metadata: {{name: copy, namespace: tests}}
spec:
  connections:
    - {{name: main, kafka: {{bootstrapServers: [\"{bootstrap}\"]}}}}
  sources:
    - name: events
      kafka: {{connection: main, topic: {name}-events{until}}}
      columns:
        - {{name: id, type: Int64}}
        - {{name: ts, type: Timestamp}}
        - {{name: amount, type: Double, nullable: true}}
      eventTime: {{column: ts, maxFuture: 1h}}
  steps:
    - {{name: all, from: events, select: [id, ts, amount]}}
  sinks:
    - {{name: rows, from: all, kafka: {{connection: main, topic: {name}-rows, create: {{partitions: 1}}}}}}
    - {{name: bad, from: events.malformed, kafka: {{connection: main, topic: {name}-bad, create: {{partitions: 1}}}}}}
"
    )
}

fn good(number: i64) -> Vec<u8> {
    json!({"id": number, "ts": NOW, "amount": 0.5})
        .to_string()
        .into_bytes()
}

fn good_row(number: i64) -> Row {
    Row::from_iter([
        ("id".into(), json!(number)),
        ("ts".into(), json!(NOW)),
        ("amount".into(), json!(0.5)),
    ])
}

#[test]
fn every_malformed_event_is_told_and_the_others_go_on() -> failure::Result {
    let copy = Copy::new("malformed", 1, true)?;
    let huge = [
        b"{\"id\":1,\"ts\":1,\"text\":\"".as_slice(),
        &vec![b'x'; 10 << 20],
    ]
    .concat();
    let far = format!("{{\"id\":1,\"ts\":{}}}", NOW + 3_600_001);
    let cases: Vec<(Option<&[u8]>, &str)> = vec![
        (Some(b"this is not JSON"), "InvalidJson"),
        (Some(b"{\"id\":1,\"ts\":17"), "InvalidJson"),
        (Some(b"[1,2]"), "NotAnObject"),
        (Some(b"{\"id\":1,\"ts\":1} {}"), "TrailingData"),
        (Some(b"{\"id\":\"1\",\"ts\":1}"), "WrongType"),
        (
            Some(b"{\"id\":1,\"ts\":1,\"amount\":\"much\"}"),
            "WrongType",
        ),
        (Some(b"{\"ts\":1}"), "MissingColumn"),
        (Some(b"{\"id\":null,\"ts\":1}"), "MissingColumn"),
        (
            Some(b"{\"id\":1,\"ts\":1,\"text\":\"\xff\xfe\"}"),
            "InvalidUtf8",
        ),
        (Some(b""), "Empty"),
        (None, "NullValue"),
        (Some(&huge), "InvalidJson"),
        (Some(b"{\"id\":9223372036854775808,\"ts\":1}"), "OutOfRange"),
        (Some(far.as_bytes()), "FarFuture"),
    ];
    let goods: Vec<Vec<u8>> = (0..cases.len() as i64).map(good).collect();
    let both = cases
        .iter()
        .zip(&goods)
        .flat_map(|((bad, _), good)| [*bad, Some(good.as_slice())]);
    copy.send(&both.collect::<Vec<_>>())?;
    copy.run(&[])?.expect_exit(exit::DONE)?;

    let expected: Vec<Row> = (0..cases.len() as i64).map(good_row).collect();
    assert_same_rows(&expected, &copy.rows("rows")?, &["id"]);
    let told = copy.rows("bad")?;
    assert_eq!(told.len(), cases.len(), "{told:?}");
    for (at, ((payload, reason), row)) in cases.iter().zip(&told).enumerate() {
        let raw = payload
            .map(|bytes| String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]).into_owned());
        println!(
            "{}",
            json!(row).to_string().chars().take(160).collect::<String>()
        );
        assert_eq!(row["reason"], *reason, "event {at}");
        assert_eq!(
            (&row["topic"], &row["partition"]),
            (&json!(copy.source()), &json!(0))
        );
        assert_eq!(
            (&row["offset"], &row["timestamp"]),
            (&json!(2 * at), &json!(NOW))
        );
        assert_eq!(
            row["raw"],
            raw.map_or(Value::Null, Value::String),
            "event {at}"
        );
    }
    Ok(())
}

/// Starts the job, breaks something under it, and sees it refuse to go on.
fn refuses(name: &str, says: &[&str], break_it: impl Fn(&Copy) -> Result<()>) -> failure::Result {
    let copy = Copy::new(name, 1, false)?;
    copy.send_good(0..10)?;
    let worker = copy.run(&[])?;
    copy.await_rows(10)?;
    break_it(&copy)?;
    worker.expect_exit(exit::REFUSED)?;
    says_all(&worker, says)
}

fn says_all(worker: &Worker, says: &[&str]) -> failure::Result {
    println!("{}", worker.tail().lines().last().unwrap_or_default());
    for text in says {
        worker.expect_said(text)?;
    }
    Ok(())
}

#[test]
fn a_deleted_topic_stops_the_job() -> failure::Result {
    refuses("deleted", &["deleted-", "-events", "gone"], |copy| {
        copy.cluster.delete(&copy.source())
    })
}

#[test]
fn a_recreated_topic_stops_the_job() -> failure::Result {
    refuses("recreated", &["re-created", "--fresh"], |copy| {
        copy.cluster.delete(&copy.source())?;
        copy.cluster.create(&copy.source(), 1)?;
        copy.send_good(100..120)
    })
}

#[test]
fn an_enlarged_topic_stops_the_job() -> failure::Result {
    refuses("enlarged", &["partitions", "--fresh"], |copy| {
        copy.cluster.enlarge(&copy.source(), 3)
    })
}

#[test]
fn a_missing_journal_stops_the_job() -> failure::Result {
    refuses("journal", &["journal", "--fresh"], |copy| {
        copy.cluster
            .delete(&format!("streamjob-{}-journal", copy.name))?;
        copy.send_good(10..20)
    })
}

#[test]
fn positions_past_retention_are_refused() -> failure::Result {
    let copy = Copy::new("retention", 1, false)?;
    copy.ran_before()?;
    copy.send_good(10..30)?;
    copy.cluster.delete_records(&copy.source(), 0, 20)?;
    let worker = copy.run(&[])?;
    worker.expect_exit(exit::REFUSED)?;
    says_all(&worker, &[&copy.source(), "retention", "startFrom"])
}

#[test]
fn a_topic_recreated_between_two_runs_is_refused() -> failure::Result {
    let copy = Copy::new("between", 1, false)?;
    copy.ran_before()?;
    copy.cluster.delete(&copy.source())?;
    copy.cluster.create(&copy.source(), 1)?;
    copy.send_good(0..30)?;
    let worker = copy.run(&[])?;
    worker.expect_exit(exit::REFUSED)?;
    says_all(&worker, &["re-created", "--fresh"])?;
    // The way out that it names.
    let worker = copy.run(&["--fresh"])?;
    copy.await_rows(40)?;
    worker.terminate();
    Ok(worker.expect_exit(exit::DONE)?)
}

#[test]
fn a_second_start_takes_over() -> failure::Result {
    let copy = Copy::new("second", 2, false)?;
    copy.send_good(0..10)?;
    let first = copy.run(&[])?;
    copy.await_rows(10)?;
    let second = copy.run(&[])?;
    first.expect_exit(exit::TAKEN_OVER)?;
    says_all(&first, &["taken over"])?;
    copy.send_good(10..20)?;
    copy.await_rows(20)?;
    second.terminate();
    second.expect_exit(exit::DONE)?;
    assert_same_rows(
        &(0..20).map(good_row).collect::<Vec<_>>(),
        &copy.rows("rows")?,
        &["id"],
    );
    Ok(())
}

#[test]
fn a_lower_term_is_refused() -> failure::Result {
    let copy = Copy::new("term", 1, false)?;
    copy.send_good(0..10)?;
    let first = copy.run(&["--term", "7"])?;
    copy.await_rows(10)?;
    let second = copy.run(&["--term", "6"])?;
    second.expect_exit(exit::TAKEN_OVER)?;
    assert!(first.ended().is_none(), "{}", first.tail());
    Ok(())
}

#[test]
fn a_source_that_fails_on_malformed_events_stops_the_job() -> failure::Result {
    let copy = Copy::new("strict", 1, true)?;
    let strict = std::fs::read_to_string(&copy.job)?
        .replace("maxFuture: 1h}", "maxFuture: 1h}\n      onMalformed: Fail");
    let strict = strict
        .lines()
        .filter(|line| !line.contains("events.malformed"))
        .collect::<Vec<_>>()
        .join("\n");
    std::fs::write(&copy.job, strict)?;
    copy.send(&[Some(&good(0)), Some(b"no JSON")])?;
    let worker = copy.run(&[])?;
    worker.expect_exit(exit::REFUSED)?;
    says_all(&worker, &["InvalidJson", "no JSON"])
}

#[test]
fn unreachable_servers_are_told() -> failure::Result {
    let scratch = Scratch::new("unreachable");
    let job = scratch.write("job.yaml", copy_job("nowhere", "127.0.0.1:9", true));
    let worker = Worker::run(scratch.path(), &job, &[])?;
    assert_eq!(
        worker.wait(PATIENCE + Duration::from_secs(60))?,
        exit::UNREACHABLE,
        "{}",
        worker.tail()
    );
    says_all(&worker, &["127.0.0.1:9"])
}
