//! Five hundred jobs on one operator: how long until a change is dealt with, what that costs, and that rest costs no writes.
//! A benchmark: it prints figures. The jobs are suspended, so that there are no pods.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use hdrhistogram::Histogram;
use serde_json::Value;
use streamjob_tests::process::{Process, wait_until};
use streamjob_tests::scratch::Scratch;
use streamjob_tests::{failure, machine};

use crate::commits::now;
use crate::watched::{NAMESPACE, Watched};

const JOBS: usize = 500;
const GOOD: &str = include_str!("../../manifests/samples/cluster-revenue.yaml");
const PATIENCE: Duration = Duration::from_secs(300);
/// How long nothing is done.
const REST: Duration = Duration::from_secs(75);

#[test]
#[ignore = "a benchmark: make cluster-bench"]
fn five_hundred_jobs() -> failure::Result {
    let watched = Watched::start()?;
    let bench = Bench {
        watched: &watched,
        scratch: Scratch::new("many-jobs"),
    };
    let made = bench.apply_all("10s")?;
    watched.tell(&format!(
        "{JOBS} jobs made; from change to reconciled: {made}"
    ));
    let before = bench.cost()?;
    let changed = bench.apply_all("20s")?;
    let after = bench.cost()?;
    watched.tell(&format!(
        "{JOBS} jobs changed; from change to reconciled: {changed}"
    ));
    let looks = after.reconciles - before.reconciles;
    eprintln!(
        "  {looks} reconciliations, {} calls ({:.2} each), of them {} writes; {:.1} s of CPU; {} MB resident",
        after.calls - before.calls,
        (after.calls - before.calls) as f64 / looks as f64,
        after.writes - before.writes,
        after.cpu - before.cpu,
        after.resident >> 20,
    );
    std::thread::sleep(REST);
    let rested = bench.cost()?;
    let (calls, writes) = (rested.calls - after.calls, rested.writes - after.writes);
    watched.tell(&format!(
        "{REST:?} of rest: {} reconciliations, {calls} calls, {writes} writes, {:.2} s of CPU",
        rested.reconciles - after.reconciles,
        rested.cpu - after.cpu,
    ));
    assert_eq!(writes, 0, "rest costs writes");
    Ok(())
}

struct Bench<'a> {
    watched: &'a Watched,
    scratch: Scratch,
}

/// What the leading operator has used so far.
struct Cost {
    reconciles: u64,
    calls: u64,
    writes: u64,
    /// Seconds.
    cpu: f64,
    resident: u64,
}

impl Bench<'_> {
    /// Applies all jobs with this interval of checkpoints, and says how long each took until its status spoke of it.
    fn apply_all(&self, interval: &str) -> Result<String> {
        let job = |number: usize| {
            GOOD.replace("name: shop-revenue", &format!("name: job-{number:03}"))
                .replace("maxParallelism: 8", "maxParallelism: 8\n  suspend: true")
                .replace(
                    "    storage:",
                    &format!("    interval: {interval}\n    storage:"),
                )
        };
        let all: Vec<String> = (0..JOBS).map(job).collect();
        let start = Instant::now();
        let seen = Seen::watch(self.watched, &self.scratch)?;
        let watching = thread::spawn(move || seen.until_all_are_dealt_with());
        self.watched.apply(&all.join("\n---\n"))?;
        let took = watching.join();
        let took = took.map_err(|_| anyhow!("the watcher panicked"))??;
        let mut histogram: Histogram<u64> = Histogram::new(3)?;
        for millis in took {
            histogram.record(millis)?;
        }
        Ok(format!(
            "p50 {} ms, p99 {} ms, longest {} ms; all {:.1} s after the apply began",
            histogram.value_at_quantile(0.5),
            histogram.value_at_quantile(0.99),
            histogram.max(),
            start.elapsed().as_secs_f64(),
        ))
    }

    fn cost(&self) -> Result<Cost> {
        let leader = self.watched.leader()?;
        let pids = machine::running_with("streamjob-operator", &format!("POD_NAME={leader}"));
        let pid = pids.first().context("the leader has no process")?;
        let (cpu, resident) = machine::usage(*pid)?;
        let log = fs::read_to_string(self.watched.kubernetes.audit_log())?;
        let (mut calls, mut writes) = (0, 0);
        for line in log.lines() {
            let event: Value = serde_json::from_str(line)?;
            let account = format!("system:serviceaccount:{NAMESPACE}:streamjob-operator");
            // The lease is renewed all the time, by whoever leads.
            if event["user"]["username"] == account.as_str()
                && event["stage"] == "ResponseComplete"
                && event["objectRef"]["resource"] != "leases"
            {
                calls += 1;
                let reads = ["get", "list", "watch"];
                writes += u64::from(!reads.contains(&event["verb"].as_str().unwrap_or_default()));
            }
        }
        Ok(Cost {
            reconciles: self.reconciles(&leader)?,
            calls,
            writes,
            cpu: cpu.as_secs_f64(),
            resident,
        })
    }

    /// As the leader counts them.
    fn reconciles(&self, leader: &str) -> Result<u64> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{leader}:8080/proxy/metrics");
        let metrics = self.watched.kubernetes.kubectl(["get", "--raw", &path])?;
        let name = "streamjob_operator_reconcile_seconds_count ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        Ok(line
            .context("no count of reconciliations")?
            .trim()
            .parse()?)
    }
}

/// The jobs' generations and what their statuses speak of, as `kubectl` prints them.
struct Seen {
    kubectl: Process,
    before: BTreeMap<String, u64>,
}

impl Seen {
    fn watch(watched: &Watched, scratch: &Scratch) -> Result<Seen> {
        let before = watched.kubectl(["get", "sj", "-o", COLUMNS, "--no-headers"])?;
        let before = before.lines().filter_map(parsed);
        let before = before.map(|(name, generation, _)| (name, generation));
        let mut command = watched.kubernetes.tool("kubectl");
        command.args(["-n", NAMESPACE, "get", "sj", "--watch-only", "--no-headers"]);
        command.args(["-o", COLUMNS]);
        Ok(Seen {
            before: before.collect(),
            kubectl: Process::start(command, &format!("watch-{}", now()), scratch.path())?,
        })
    }

    /// From the first sight of each new generation to a status that speaks of it, in milliseconds.
    fn until_all_are_dealt_with(&self) -> Result<Vec<u64>> {
        let (mut changed, mut dealt) = (BTreeMap::new(), BTreeMap::new());
        let mut read = 0;
        let all = wait_until(PATIENCE, || {
            let text = self.kubectl.stdout();
            // Only whole lines.
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            for (name, generation, observed) in text[read..whole].lines().filter_map(parsed) {
                if self.before.get(&name) == Some(&generation) {
                    continue;
                }
                changed.entry(name.clone()).or_insert_with(now);
                if observed == Some(generation) {
                    dealt.entry(name).or_insert_with(now);
                }
            }
            read = whole;
            (dealt.len() == JOBS).then_some(())
        });
        all.with_context(|| format!("{} jobs are dealt with", dealt.len()))?;
        let took = |(name, at): (&String, &i64)| (at - changed[name]).unsigned_abs() / 1000;
        Ok(dealt.iter().map(took).collect())
    }
}

const COLUMNS: &str =
    "custom-columns=N:.metadata.name,G:.metadata.generation,O:.status.observedGeneration";

/// Name, generation, and the generation that the status speaks of.
fn parsed(line: &str) -> Option<(String, u64, Option<u64>)> {
    let mut fields = line.split_whitespace();
    let (name, generation) = (fields.next()?, fields.next()?.parse().ok()?);
    Some((name.to_owned(), generation, fields.next()?.parse().ok()))
}
