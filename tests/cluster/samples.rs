//! Every sample in `manifests/samples` runs on a cluster, with the addresses of the story's servers; and what the chart has for a
//! monitoring is what the Prometheus operator takes.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use streamjob_tests::failure;
use streamjob_tests::process::wait_until;
use streamjob_tests::servers::KafkaOptions;
use streamjob_tests::servers::kafka::{PASSWORD, USER};
use streamjob_tests::topic::Cluster;

use crate::watched::{CHART, NAMESPACE, PATIENCE, Watched, holds};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/samples");
const POD_MONITORS: &str = include_str!("podmonitors.yaml");

#[test]
fn every_sample_runs() -> failure::Result {
    let watched = Watched::with(KafkaOptions {
        secure: true,
        ..KafkaOptions::default()
    })?;
    the_monitoring_is_taken(&watched)?;
    let ca = watched.kafka.ca().context("a secure broker has a CA")?;
    let ca = format!("--from-file=ca.crt={}", ca.display());
    watched.kubectl(["create", "secret", "generic", "kafka-ca", &ca])?;
    let password = format!("--from-literal=password={PASSWORD}");
    watched.kubectl(["create", "secret", "generic", "kafka-user", &password])?;
    let cluster = Cluster::new(watched.kafka.bootstrap());
    fill(&cluster)?;
    let mut count = 0;
    for file in fs::read_dir(SAMPLES)? {
        let path = file?.path();
        let text = fs::read_to_string(&path)?;
        let name = path.file_stem().context("a file has a name")?;
        let name = name.to_string_lossy().into_owned();
        it_runs(&watched, &cluster, &name, &text).with_context(|| name.clone())?;
        count += 1;
    }
    assert!(count >= 5, "{count} samples");
    eprintln!("{}", watched.kubectl(["get", "sj"])?);
    watched.audit()?;
    Ok(())
}

/// Orders and requests of some minutes: at the end of each minute there are rows.
fn fill(cluster: &Cluster) -> Result<()> {
    cluster.create("orders", 1)?;
    cluster.create("requests", 1)?;
    let writer = cluster.writer()?;
    for number in 0..60 {
        let at = 1_767_225_600_000_i64 + number * 5_000;
        let order = json!({
            "order_id": number.to_string(), "shop_id": "s1", "amount": 5.25, "ts": at,
            "payment": {"amount": 5.25}, "created_at": at,
        });
        let request = json!({
            "host": "h1", "url": "/A", "status": 500, "millis": 12.5, "ts": at,
        });
        for (topic, key, row) in [("orders", "s1", order), ("requests", "h1", request)] {
            let payload = row.to_string();
            writer.send(topic, 0, Some(key.as_bytes()), Some(payload.as_bytes()))?;
        }
    }
    writer.flush()
}

fn it_runs(watched: &Watched, cluster: &Cluster, name: &str, text: &str) -> Result<()> {
    let at = |text: &str, kafka: &str, server: String| {
        text.replace(kafka, &server)
            .replace("http://minio:9000", &watched.s3.endpoint())
            .replace("namespace: shop", &format!("namespace: {NAMESPACE}"))
    };
    let plain = watched.kafka.bootstrap();
    let lake = format!(
        "    - name: lake\n      s3: {{endpoint: \"{}\", bucket: streams, pathStyle: true, credentialsSecretRef: {{name: s3}}}}\n",
        watched.s3.endpoint()
    );
    let (job, manifest, topic) = match name {
        "cluster-revenue" => (
            "shop-revenue",
            at(text, "kafka:9092", plain),
            Some("revenue"),
        ),
        // As its first lines say.
        "filter" => {
            let text = at(text, "localhost:9092", plain)
                .replace("  sources:\n", &format!("{lake}  sources:\n"))
                + "  checkpoint: {storage: {s3: {connection: lake}}}\n";
            ("failures", text, Some("failures"))
        }
        "kafka-revenue" => {
            let text = at(text, "kafka:9093", watched.kafka.secure_bootstrap())
                .replace("username: revenue", &format!("username: {USER}"))
                // There is one broker, and another job with this topic.
                .replace("replicationFactor: 3", "replicationFactor: 1")
                .replace("topic: revenue\n", "topic: shop.revenue\n");
            ("revenue", text, Some("shop.revenue"))
        }
        // It makes its events up, and writes rows beside the log.
        _ if !text.contains("kafka:") => (name, text.to_owned(), None),
        _ => bail!("nobody knows how this sample is to be tried"),
    };
    watched.apply(&manifest)?;
    let wanted = if topic.is_some() { "Ready" } else { "Complete" };
    watched.await_status(job, PATIENCE, |status| holds(status, wanted).then_some(()))?;
    let rows = wait_until(Duration::from_secs(60), || {
        let rows = match topic {
            Some(topic) => cluster.rows(topic).ok()?.len(),
            None => {
                let log = watched.kubectl(["logs", &format!("{job}-0")]).ok()?;
                let is_row = |line: &&str| line.starts_with('{') && !line.contains("\"level\"");
                log.lines().filter(is_row).count()
            }
        };
        (rows > 0).then_some(rows)
    });
    let rows = rows.context("no row comes out")?;
    watched.tell(&format!("{name}: {wanted}, {rows} rows"));
    // The machine is small.
    watched.kubectl(["delete", "sj", job])?;
    Ok(())
}

fn the_monitoring_is_taken(watched: &Watched) -> Result<()> {
    let kubernetes = &watched.kubernetes;
    kubernetes.apply("default", "podmonitors.yaml", POD_MONITORS)?;
    let established = "--for=condition=Established";
    let crd = "crd/podmonitors.monitoring.coreos.com";
    kubernetes.kubectl(["wait", established, crd, "--timeout=30s"])?;
    let rendered = kubernetes.helm([
        "template",
        "streamjob",
        CHART,
        "--namespace",
        NAMESPACE,
        "--kube-version=1.33.0",
        "--show-only=templates/monitoring.yaml",
        "--set=monitoring.podMonitor=true,monitoring.dashboard=true,clusterWide=true",
        "--set-json=monitoring.labels={\"release\":\"prometheus\"}",
        "--set-json=monitoring.scrapers=[{\"namespaceSelector\":{}}]",
    ])?;
    kubernetes.apply(NAMESPACE, "monitoring.yaml", &rendered)?;
    let there = watched.kubectl([
        "get",
        "podmonitors,configmaps,networkpolicies",
        "-o",
        "name",
    ])?;
    for object in [
        "podmonitor.monitoring.coreos.com/streamjob-operator",
        "podmonitor.monitoring.coreos.com/streamjob-operator-workers",
        "configmap/streamjob-operator-dashboard",
        "networkpolicy.networking.k8s.io/streamjob-operator-scrapers",
    ] {
        ensure!(there.contains(object), "{object} is not there: {there}");
    }
    watched.tell("PodMonitors, dashboard and NetworkPolicy are taken");
    Ok(())
}
