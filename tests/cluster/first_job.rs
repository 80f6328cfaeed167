//! From `helm install` to rows, then to two workers under load, with the operator gone for a while.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use streamjob_tests::failure;
use streamjob_tests::process::wait_until;
use streamjob_tests::servers::kubernetes::{HOST, REPOSITORY, TAG};
use streamjob_tests::servers::{Kafka, KafkaOptions, Kubernetes, S3, s3};

use crate::support::{Setup, Story};

const NAMESPACE: &str = "tests";
const JOB: &str = "first-job";
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../helm/streamjob");
/// What a user is promised, from the apply to the first row.
const FIRST_ROW: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn the_first_job_runs_scales_and_outlives_its_operator() -> failure::Result {
    let clock = Instant::now();
    let told = |what: &str| eprintln!("{:6.1} s  {what}", clock.elapsed().as_secs_f64());
    let kubernetes = Kubernetes::start()?;
    told("a cluster is ready");
    let kafka = Kafka::start(&KafkaOptions {
        host: Some(HOST.to_owned()),
        ..KafkaOptions::default()
    })?;
    let s3 = S3::start_on(HOST)?;
    let cluster = Watched { kubernetes };
    cluster.install()?;
    told("the chart is installed, the operator is ready");

    let mut setup = Setup::new(JOB, kafka.bootstrap(), 120_000, Duration::from_secs(100));
    setup.s3 = Some(s3.endpoint());
    let mut story = Story::begin(setup)?;
    cluster
        .kubernetes
        .apply(NAMESPACE, "job.yaml", &manifest(&story))?;
    let applied = Instant::now();
    wait_until(PATIENCE, || (story.rows_out().ok()? > 0).then_some(()))
        .context("no row comes out")?;
    let took = applied.elapsed();
    told(&format!(
        "first rows, {:.1} s after the apply",
        took.as_secs_f64()
    ));
    assert!(took < FIRST_ROW, "the first row took {took:?}");
    story.uid = cluster.job()?["metadata"]["uid"]
        .as_str()
        .context("no uid")?
        .to_owned();
    cluster.await_ready(1)?;

    cluster
        .kubernetes
        .kubectl(["-n", NAMESPACE, "scale", "sj", JOB, "--replicas=2"])?;
    cluster.await_ready(2)?;
    told(&format!(
        "two workers; slots paused for {:?}",
        cluster.pauses()?
    ));
    assert!(
        story.await_progress()?,
        "the input ended too early to show anything"
    );

    cluster.operators(0)?;
    told("the operator is gone");
    for _ in 0..3 {
        assert!(
            story.await_progress()?,
            "the input ended too early to show anything"
        );
    }
    told("rows go on without it");
    cluster.operators(1)?;
    cluster.await_ready(2)?;
    told("the operator is back");
    eprintln!(
        "{}",
        cluster.kubernetes.kubectl(["-n", NAMESPACE, "get", "sj"])?
    );
    story.finish(Vec::new())?;
    told("every row is there, once");
    Ok(())
}

/// The story's job, for a cluster: one worker, and a Secret instead of the environment.
fn manifest(story: &Story) -> String {
    story
        .manifest
        .yaml()
        .replace("spec:\n", "spec:\n  replicas: 1\n")
        .replace(
            "pathStyle: true",
            "pathStyle: true, credentialsSecretRef: {name: s3}",
        )
}

/// The cluster, as somebody with `kubectl` sees it.
struct Watched {
    kubernetes: Kubernetes,
}

impl Watched {
    /// A restricted namespace, the Secret of the checkpoints, and the chart.
    fn install(&self) -> Result<()> {
        let kubernetes = &self.kubernetes;
        kubernetes.kubectl(["create", "namespace", NAMESPACE])?;
        let restricted = "pod-security.kubernetes.io/enforce=restricted";
        kubernetes.kubectl(["label", "namespace", NAMESPACE, restricted])?;
        kubernetes.kubectl([
            "-n",
            NAMESPACE,
            "create",
            "secret",
            "generic",
            "s3",
            &format!("--from-literal=accessKeyId={}", s3::ACCESS_KEY),
            &format!("--from-literal=secretAccessKey={}", s3::SECRET_KEY),
        ])?;
        kubernetes.helm([
            "install",
            "streamjob",
            CHART,
            "--namespace",
            NAMESPACE,
            "--set",
            &format!("image.repository={REPOSITORY},image.tag={TAG},image.pullPolicy=Never"),
            "--set",
            "log=info",
            "--wait",
            "--timeout=90s",
        ])?;
        Ok(())
    }

    fn job(&self) -> Result<Value> {
        let json = self
            .kubernetes
            .kubectl(["-n", NAMESPACE, "get", "sj", JOB, "-o", "json"])?;
        Ok(serde_json::from_str(&json)?)
    }

    /// Waits until all slots run, spread over so many workers.
    fn await_ready(&self, workers: usize) -> Result<()> {
        let mut last = Value::Null;
        let ready = wait_until(PATIENCE, || {
            last = self.job().ok()?["status"].take();
            let conditions = last["conditions"].as_array()?;
            let ready = conditions.iter().find(|one| one["type"] == "Ready")?;
            let mut pods: Vec<&Value> = last["slots"]
                .as_array()?
                .iter()
                .map(|slot| &slot["pod"])
                .collect();
            pods.sort_by_key(|pod| pod.as_str());
            pods.dedup();
            (ready["status"] == "True" && pods.len() == workers).then_some(())
        });
        ready.with_context(|| format!("the job is not ready on {workers} workers: {last:#}"))
    }

    /// How long the slots that have moved stood still.
    fn pauses(&self) -> Result<Vec<String>> {
        let status = self.job()?["status"].take();
        let slots = status["slots"].as_array().context("no slots")?;
        let pauses = slots.iter().filter_map(|slot| slot["pause"].as_str());
        Ok(pauses.map(str::to_owned).collect())
    }

    /// Scales the operator, and waits until it is so.
    fn operators(&self, count: u32) -> Result<()> {
        let deployment = "deployment/streamjob-operator";
        let replicas = format!("--replicas={count}");
        self.kubernetes
            .kubectl(["-n", NAMESPACE, "scale", deployment, &replicas])?;
        let selector = "app.kubernetes.io/name=streamjob-operator";
        let there = wait_until(PATIENCE, || {
            let pods = ["-n", NAMESPACE, "get", "pods", "-l", selector, "-o", "name"];
            let pods = self.kubernetes.kubectl(pods).ok()?;
            (pods.lines().count() == count as usize).then_some(())
        });
        ensure!(there.is_some(), "the operator does not scale to {count}");
        Ok(())
    }
}
