//! What is wrong with a job is said where its user looks: at `kubectl apply`, or else in a condition.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use streamjob_tests::failure;
use streamjob_tests::process::wait_until;
use streamjob_tests::servers::kubernetes::HOST;
use streamjob_tests::topic::Cluster;

use crate::watched::{PATIENCE, Watched, condition};

const GOOD: &str = include_str!("../../manifests/samples/cluster-revenue.yaml");
const JOB: &str = "shop-revenue";
/// How soon the condition tells.
const SOON: Duration = Duration::from_secs(1);

/// In the good manifest: what is replaced, by what, and what the answer must contain.
const BAD: [(&str, &str, &str); 40] = [
    // Forms and names
    (
        "name: shop-revenue",
        "name: Shop_Revenue",
        "a lowercase RFC 1123 subdomain",
    ),
    (
        "name: shop-revenue",
        "name: a-name-that-is-so-long-that-no-pod-of-it-could-ever-be-labelled",
        "at most 52 characters",
    ),
    ("  sinks:", "  sink:", "unknown field \"spec.sink\""),
    (
        "from: orders\n",
        "from: orders\n      wher: amount > 0\n",
        "unknown field \"spec.steps[0].wher\"",
    ),
    (
        "maxParallelism: 8",
        "maxParallelism: 0",
        "spec.maxParallelism in body should be greater than or equal to 1",
    ),
    (
        "maxParallelism: 8",
        "replicas: -1",
        "spec.replicas in body should be greater than or equal to 0",
    ),
    (
        "minReplicas: 1",
        "minReplicas: 9",
        "`minReplicas` is greater than `maxReplicas`",
    ),
    (
        "maxReplicas: 4",
        "maxReplicas: 4\n    mode: Maybe",
        "supported values: \"Auto\", \"Recommend\"",
    ),
    (
        "type: Decimal, precision: 12, scale: 2",
        "type: Money",
        "supported values: \"String\"",
    ),
    (
        "type: Decimal, precision: 12, scale: 2",
        "type: Decimal, precision: 99, scale: 2",
        "precision in body should be less than or equal to 38",
    ),
    (
        "partitions: 8",
        "partitions: 0",
        "create.partitions in body should be greater than or equal to 1",
    ),
    (
        "[\"kafka:9092\"]",
        "[]",
        "bootstrapServers in body should have at least 1 items",
    ),
    (
        "size: 1m",
        "size: soon",
        "window.tumbling.size in body should match",
    ),
    (
        "maxOutOfOrderness: 5s",
        "maxOutOfOrderness: 5",
        "maxOutOfOrderness in body must be of type string",
    ),
    (
        "maxOutOfOrderness: 5s",
        "maxOutOfOrderness: -5s",
        "maxOutOfOrderness in body should match",
    ),
    (
        "tumbling: {size: 1m}",
        "tumbling: {size: 1m}\n        session: {gap: 1m}",
        "exactly one of `tumbling`, `sliding`",
    ),
    (
        "      kafka:\n        connection: main",
        "      stdout: {}\n      kafka:\n        connection: main",
        "exactly one of `kafka`, `file`, `stdout` must be given",
    ),
    ("name: lake\n", "name: main\n", "Duplicate value"),
    (
        "name: revenue\n      from: orders",
        "name: orders\n      from: orders",
        "a step has the name of a source",
    ),
    // Names of things
    (
        "from: orders",
        "from: order",
        "spec.steps[0].from: there is no source or step `order` (did you mean `orders`?)",
    ),
    (
        "from: revenue",
        "from: revenues",
        "spec.sinks[0].from: there is no source or step `revenues` (did you mean `revenue`?)",
    ),
    (
        "connection: main, topic: orders",
        "connection: mian, topic: orders",
        "spec.sources[0].kafka.connection: there is no Kafka connection `mian` (did you mean `main`?)",
    ),
    (
        "connection: main, topic: orders",
        "connection: lake, topic: orders",
        "connection `lake` is no Kafka connection (there are: `main`)",
    ),
    (
        "s3: {connection: lake, prefix",
        "s3: {connection: main, prefix",
        "spec.checkpoint.storage.s3.connection: connection `main` is no S3 connection",
    ),
    (
        "groupBy: [shop_id]",
        "groupBy: [shop]",
        "spec.steps[0].groupBy[0]: there is no column `shop`",
    ),
    (
        "key: [shop_id]\n      eventTime",
        "key: [shop]\n      eventTime",
        "spec.sources[0].key[0]: there is no column `shop`",
    ),
    (
        "key: [shop_id]\n        create",
        "key: [shop]\n        create",
        "spec.sinks[0].kafka.key[0]: there is no column `shop`",
    ),
    (
        "column: ts,",
        "column: amount,",
        "the event time must be a Timestamp, but `amount` is declared as Decimal",
    ),
    // Expressions
    (
        "sum(amount) AS revenue",
        "sum(amout) AS revenue",
        "spec.steps[0].aggregate[1]: there is no column `amout` (did you mean `amount`?)",
    ),
    (
        "sum(amount) AS revenue",
        "summ(amount) AS revenue",
        "there is no function `summ` (did you mean `sum`?)",
    ),
    (
        "sum(amount) AS revenue",
        "sum(amount) AS orders",
        "two columns are named `orders` (rename one with AS)",
    ),
    (
        "sum(amount) AS revenue",
        "sum(amount",
        "not an SQL expression: expected ), found its end",
    ),
    (
        "sum(amount) AS revenue",
        "amount AS revenue",
        "put it into `groupBy` or into an aggregate function",
    ),
    (
        "from: orders\n",
        "from: orders\n      where: \"amount\"\n",
        "spec.steps[0].where: a condition is true or false, but this is of type Decimal(12, 2)",
    ),
    (
        "from: orders\n",
        "from: orders\n      where: \"ts < now()\"\n",
        "`now` is refused: equal input would not give equal output",
    ),
    (
        "tumbling: {size: 1m}",
        "sliding: {size: 1m, slide: 7s}",
        "`size` (1m) must be a multiple of `slide` (7s)",
    ),
    // What only a cluster minds
    (
        "kafka: {connection: main, topic: orders}",
        "file: {path: in.ndjson}",
        "spec.sources[0].file: files are for runs on a laptop",
    ),
    (
        "s3: {connection: lake, prefix: checkpoints/}",
        "local: {path: x}",
        "spec.checkpoint.storage.local: a folder is for runs on a laptop",
    ),
    (
        "    storage:\n      s3: {connection: lake, prefix: checkpoints/}",
        "    interval: 5s",
        "checkpoints must be where every worker can read them",
    ),
    (
        "[\"kafka:9092\"]",
        "[\"kafka:9092\"]\n        properties: {enable.idempotence: \"false\"}",
        "only properties that leave the commit protocol alone",
    ),
];

#[test]
fn what_is_wrong_with_a_job_is_said_at_once() -> failure::Result {
    let watched = Watched::start()?;
    every_bad_manifest_is_refused(&watched)?;
    conditions_tell_what_is_missing(&watched)?;
    without_the_webhook_the_condition_tells(&watched)?;
    watched.audit()?;
    Ok(())
}

fn every_bad_manifest_is_refused(watched: &Watched) -> Result<()> {
    let mut wrong = Vec::new();
    for (what, by, expected) in BAD {
        ensure!(GOOD.contains(what), "nothing to replace: {what}");
        let answer = match watched.apply(&GOOD.replacen(what, by, 1)) {
            Ok(_) => "it was taken".to_owned(),
            Err(refused) => format!("{refused:#}"),
        };
        if !answer.contains(expected) {
            wrong.push(format!(
                "{by}\n  should be: {expected}\n  but it is: {answer}"
            ));
        }
    }
    let jobs = watched.kubectl(["get", "sj", "-o", "name"])?;
    ensure!(
        wrong.is_empty() && jobs.is_empty(),
        "{}\n{jobs}",
        wrong.join("\n")
    );
    watched.tell(&format!("{} bad manifests are refused", BAD.len()));
    Ok(())
}

/// Kafka is down, then a Secret is missing, then a topic: each is named, and when it is mended the job goes on.
fn conditions_tell_what_is_missing(watched: &Watched) -> Result<()> {
    let told = |what: &str| {
        let since = Instant::now();
        watched.await_status(JOB, PATIENCE, |status| {
            let ready = condition(status, "Ready")?;
            let message = ready["message"].as_str()?;
            (ready["status"] == "False" && message.contains(what)).then(|| ready.clone())
        })?;
        let took = since.elapsed();
        watched.tell(&format!("Ready=False says `{what}` after {took:.1?}"));
        anyhow::Ok(())
    };
    let dead = format!("{HOST}:9");
    let with = |server: &str, secret: &str| {
        GOOD.replace("kafka:9092", server)
            .replace("http://minio:9000", &watched.s3.endpoint())
            .replace("{name: s3}", &format!("{{name: {secret}}}"))
    };
    watched.apply(&with(&dead, "s3"))?;
    told(&dead)?;
    let alive = watched.kafka.bootstrap();
    watched.apply(&with(&alive, "nowhere"))?;
    told("nowhere")?;
    watched.apply(&with(&alive, "s3"))?;
    told("topic `orders`")?;
    Cluster::new(&alive).create("orders", 4)?;
    watched.await_workers(JOB, 1)?;
    watched.tell("the topic is there: the job runs");
    watched.kubectl(["delete", "sj", JOB])?;
    let gone = wait_until(PATIENCE, || pods(watched).ok()?.is_empty().then_some(()));
    gone.context("the job's pods stay")
}

fn pods(watched: &Watched) -> Result<String> {
    let selector = format!("streamjob.dev/job={JOB}");
    watched.kubectl(["get", "pods", "-l", &selector, "-o", "name"])
}

/// Whoever does without the webhook sees the same in `Valid`; what the operator made of a good job goes on.
fn without_the_webhook_the_condition_tells(watched: &Watched) -> Result<()> {
    let configuration = "validatingwebhookconfiguration/tests-streamjob-operator";
    watched.kubectl(["delete", configuration])?;
    let bad = GOOD.replace("sum(amount)", "sum(amout)");
    // Apiservers forget a webhook a moment later.
    let applied = wait_until(PATIENCE, || {
        watched.apply(&bad).ok().map(|_| Instant::now())
    });
    let applied = applied.context("the job is not taken")?;
    let message = watched.await_status(JOB, PATIENCE, |status| {
        let valid = condition(status, "Valid").filter(|valid| valid["status"] == "False")?;
        valid["message"].as_str().map(str::to_owned)
    })?;
    let took = applied.elapsed();
    watched.tell(&format!(
        "Valid=False {took:.1?} after the apply: {message}"
    ));
    ensure!(message.starts_with("spec.steps[0].aggregate[1]: there is no column `amout`"));
    ensure!(took < SOON, "it took {took:?}");
    ensure!(pods(watched)?.is_empty(), "a wrong job has pods");
    watched.kubectl(["delete", "sj", JOB])?;
    watched.upgrade()?;
    let refused = wait_until(PATIENCE, || watched.apply(&bad).is_err().then_some(()));
    refused.context("after an upgrade the webhook does not refuse")?;
    watched.tell("an upgrade brings the webhook back");
    Ok(())
}
