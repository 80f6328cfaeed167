//! A broker that wants TLS and a password: the job's secrets open it, wrong ones are told.

use anyhow::Context;
use streamjob_tests::compare::assert_same_rows;
use streamjob_tests::failure::Result;
use streamjob_tests::oracle::{Entry, Row, last_rows, run};
use streamjob_tests::scratch::Scratch;
use streamjob_tests::servers::kafka::{PASSWORD, USER};
use streamjob_tests::servers::{Kafka, KafkaOptions};
use streamjob_tests::topic::Cluster;
use streamjob_tests::worker::{Worker, exit};
use streamjob_tests::workload::Clicks;

use crate::support::{IDENTITY, Manifest, click_job};

const EVENTS: u64 = 5_000;

#[test]
fn over_tls_with_a_password() -> Result {
    let kafka = Kafka::start(&KafkaOptions {
        secure: true,
        ..KafkaOptions::default()
    })?;
    let cluster = Cluster::new(kafka.bootstrap());
    cluster.create("events", 2)?;
    let expected = fill(&cluster)?;
    let scratch = Scratch::new("tls");
    scratch.write(
        "secrets/kafka-ca/ca.crt",
        std::fs::read(kafka.ca().context("a secure broker has a CA")?)?,
    );
    scratch.write("secrets/kafka-user/password", PASSWORD);
    scratch.write("secrets/kafka-user/wrong", "guess");
    for mechanism in ["ScramSha512", "ScramSha256", "Plain"] {
        let sink = format!("rows-{mechanism}");
        cluster.create(&sink, 1)?;
        let job = scratch.write("job.yaml", manifest(&kafka, mechanism, &sink, "password"));
        let worker = Worker::run(scratch.path(), &job, &["--uid", mechanism])?;
        worker.expect_exit(exit::DONE)?;
        assert!(
            !worker.said().contains(PASSWORD),
            "the password is in the log"
        );
        assert_same_rows(&expected, &cluster.rows(&sink)?, &IDENTITY);
    }
    let job = scratch.write(
        "wrong.yaml",
        manifest(&kafka, "ScramSha512", "rows-ScramSha512", "wrong"),
    );
    let worker = Worker::run(scratch.path(), &job, &["--uid", "wrong"])?;
    worker.expect_exit(exit::UNREACHABLE)?;
    Ok(worker.expect_said("uthentication")?)
}

fn manifest(kafka: &Kafka, mechanism: &str, sink: &str, key: &str) -> String {
    Manifest {
        name: format!("secure-{}", mechanism.to_lowercase()),
        bootstrap: kafka.secure_bootstrap(),
        topic: "events".into(),
        sink: sink.into(),
        bounded: true,
        slots: 2,
        group: "user_id",
        s3: None,
        more_sinks: String::new(),
        security: format!(
            "        tls: {{caSecretRef: {{name: kafka-ca, key: ca.crt}}}}\n\
             \x20       sasl: {{mechanism: {mechanism}, username: {USER}, passwordSecretRef: {{name: kafka-user, key: {key}}}}}\n"
        ),
    }
    .yaml()
}

fn fill(cluster: &Cluster) -> Result<Vec<Row>> {
    let clicks = Clicks::default();
    let writer = cluster.writer()?;
    let mut log = vec![Vec::new(); 2];
    for number in 0..EVENTS {
        let click = clicks.click(number);
        let mut payload = Vec::new();
        click.render(&mut payload);
        let partition = click.partition(2);
        writer.send(
            "events",
            partition as i32,
            Some(click.key().as_bytes()),
            Some(&payload),
        )?;
        log[partition].push(Entry::Event {
            payload: Some(payload),
            kafka_timestamp: None,
        });
    }
    writer.flush()?;
    let job = click_job();
    Ok(last_rows(&job, &run(&job, &log)))
}
