//! The cluster of a story, as somebody with `kubectl` sees it: the chart in a restricted namespace, a Kafka, an S3, and what
//! becomes of jobs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use streamjob_tests::process::wait_until;
use streamjob_tests::servers::kubernetes::{HOST, REPOSITORY, TAG};
use streamjob_tests::servers::{Kafka, KafkaOptions, Kubernetes, S3, s3};

pub const NAMESPACE: &str = "tests";
pub const PATIENCE: Duration = Duration::from_secs(120);
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../helm/streamjob");
const OPERATOR: &str = "app.kubernetes.io/name=streamjob-operator";

pub struct Watched {
    pub kubernetes: Kubernetes,
    pub kafka: Kafka,
    pub s3: S3,
    clock: Instant,
}

impl Watched {
    /// A cluster with the chart installed, and the servers that jobs dial.
    pub fn start() -> Result<Watched> {
        Watched::with(KafkaOptions::default())
    }

    /// With a Kafka of another kind.
    pub fn with(kafka: KafkaOptions) -> Result<Watched> {
        let clock = Instant::now();
        let kubernetes = Kubernetes::start()?;
        let watched = Watched {
            kafka: Kafka::start(&KafkaOptions {
                host: Some(HOST.to_owned()),
                ..kafka
            })?,
            s3: S3::start_on(HOST)?,
            kubernetes,
            clock,
        };
        watched.install()?;
        watched.tell("the chart is installed, the operator is ready");
        Ok(watched)
    }

    /// Says what has come about, and when.
    pub fn tell(&self, what: &str) {
        eprintln!("{:6.1} s  {what}", self.clock.elapsed().as_secs_f64());
    }

    /// A restricted namespace, the Secret of the checkpoints, and the chart.
    fn install(&self) -> Result<()> {
        let kubernetes = &self.kubernetes;
        kubernetes.kubectl(["create", "namespace", NAMESPACE])?;
        let restricted = "pod-security.kubernetes.io/enforce=restricted";
        kubernetes.kubectl(["label", "namespace", NAMESPACE, restricted])?;
        self.kubectl([
            "create",
            "secret",
            "generic",
            "s3",
            &format!("--from-literal=accessKeyId={}", s3::ACCESS_KEY),
            &format!("--from-literal=secretAccessKey={}", s3::SECRET_KEY),
        ])?;
        self.helm("install", TAG)
    }

    /// What brings the chart's objects back.
    pub fn upgrade(&self) -> Result<()> {
        self.upgrade_to(TAG)
    }

    /// To another image of operators and workers.
    pub fn upgrade_to(&self, tag: &str) -> Result<()> {
        self.helm("upgrade", tag)
    }

    fn helm(&self, action: &str, tag: &str) -> Result<()> {
        self.kubernetes.helm([
            action,
            "streamjob",
            CHART,
            "--namespace",
            NAMESPACE,
            "--set",
            &format!("image.repository={REPOSITORY},image.tag={tag},image.pullPolicy=Never"),
            "--set",
            "log=info",
            "--wait",
            "--timeout=90s",
        ])?;
        Ok(())
    }

    /// In the namespace of the story.
    pub fn kubectl<const N: usize>(&self, arguments: [&str; N]) -> Result<String> {
        let all = ["-n", NAMESPACE].into_iter().chain(arguments);
        self.kubernetes.kubectl(all)
    }

    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.kubernetes.apply(NAMESPACE, "job.yaml", manifest)
    }

    pub fn job(&self, name: &str) -> Result<Value> {
        let json = self.kubectl(["get", "sj", name, "-o", "json"])?;
        Ok(serde_json::from_str(&json)?)
    }

    pub fn uid(&self, job: &str) -> Result<String> {
        let uid = self.job(job)?["metadata"]["uid"].take();
        Ok(uid.as_str().context("no uid")?.to_owned())
    }

    /// Waits until the job's status is as wanted.
    pub fn await_status<T>(
        &self,
        job: &str,
        limit: Duration,
        look: impl Fn(&Value) -> Option<T>,
    ) -> Result<T> {
        let mut last = Value::Null;
        let found = wait_until(limit, || {
            last = self.job(job).ok()?["status"].take();
            look(&last)
        });
        found.with_context(|| format!("{job} does not get there in {limit:?}: {last:#}"))
    }

    /// Waits until all slots run, spread over so many workers, and no other is there.
    pub fn await_workers(&self, job: &str, workers: usize) -> Result<()> {
        self.await_status(job, PATIENCE, |status| {
            let pods = pods(status)?;
            let there = status["replicas"].as_u64()? == workers as u64;
            (holds(status, "Ready") && pods.len() == workers && there).then_some(())
        })
    }

    pub fn scale(&self, job: &str, workers: usize) -> Result<()> {
        self.kubectl(["scale", "sj", job, &format!("--replicas={workers}")])?;
        Ok(())
    }

    /// Scales the operator, and waits until it is so.
    pub fn operators(&self, count: usize) -> Result<()> {
        let replicas = format!("--replicas={count}");
        self.kubectl(["scale", "deployment/streamjob-operator", &replicas])?;
        let there = wait_until(PATIENCE, || {
            let ready = "jsonpath={range .items[*]}{.status.containerStatuses[0].ready} {end}";
            let pods = self
                .kubectl(["get", "pods", "-l", OPERATOR, "-o", ready])
                .ok()?;
            let all: Vec<&str> = pods.split_whitespace().collect();
            (all.len() == count && all.iter().all(|ready| *ready == "true")).then_some(())
        });
        ensure!(there.is_some(), "the operator does not scale to {count}");
        Ok(())
    }

    /// The pod of the operator that leads.
    pub fn leader(&self) -> Result<String> {
        let lease = self.kubectl(["get", "lease", "streamjob-operator", "-o", "json"])?;
        let lease: Value = serde_json::from_str(&lease)?;
        let holder = lease["spec"]["holderIdentity"].as_str();
        Ok(holder.context("nobody leads")?.to_owned())
    }
}

/// Whether a condition is true.
pub fn holds(status: &Value, kind: &str) -> bool {
    condition(status, kind).is_some_and(|condition| condition["status"] == "True")
}

pub fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = status["conditions"].as_array()?;
    conditions.iter().find(|one| one["type"] == kind)
}

/// The pods that have slots.
pub fn pods(status: &Value) -> Option<Vec<&str>> {
    let slots = status["slots"].as_array()?;
    let mut pods: Vec<&str> = slots
        .iter()
        .filter_map(|slot| slot["pod"].as_str())
        .collect();
    pods.sort_unstable();
    pods.dedup();
    Some(pods)
}
