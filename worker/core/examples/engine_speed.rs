//! Prints what the data path costs: CPU nanoseconds an event, for the click job as `make bench` runs it, without Kafka:
//! JSON in memory goes in, encoded rows come out. Linux only. Argument: how many events (1,000,000).
//!
//! The digest of all rows comes with it: a change that is only faster gives the same.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use streamjob_core::decode::Decoder;
use streamjob_core::engine::{Event, Layout, SlotEngine, TaskId};
use streamjob_core::key::partition_of;
use streamjob_core::manifest;
use streamjob_core::plan::JobPlan;

/// The worker's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTITIONS: u32 = 4;
const USERS: u64 = 10_000;
/// Events of a second of event time.
const RATE: u64 = 5_000;
/// Events of an epoch, and those that a task gets in a row.
const EPOCH: usize = 65_536;
const ROUND: usize = 2_048;
const RUNS: usize = 5;

const COLUMNS: &str = "
        - {name: event_id, type: String}
        - {name: event_type, type: String}
        - {name: ts, type: Timestamp, path: timestamp}
        - {name: user_id, type: String}
        - {name: amount, type: Double, path: data.amount, nullable: true}
        - {name: page, type: String, path: data.page}";

/// The step of a pattern, by what is measured.
const PATTERNS: [(&str, &str); 3] = [
    (
        "VIEW{3} BUY in 60 s",
        "match: {partitionBy: [user_id], pattern: 'VIEW{3} BUY', within: 60s, define: [{name: VIEW, when: event_type = 'view'}, {name: BUY, when: event_type = 'purchase'}], measures: [first(VIEW.ts) AS since, BUY.amount AS amount]}",
    ),
    (
        "the same, overlapping",
        "match: {partitionBy: [user_id], pattern: 'VIEW{3} BUY', within: 60s, afterMatch: SkipToNextEvent, define: [{name: VIEW, when: event_type = 'view'}, {name: BUY, when: event_type = 'purchase'}], measures: [first(VIEW.ts) AS since, BUY.amount AS amount]}",
    ),
    (
        "the same, looking back",
        "match: {partitionBy: [user_id], pattern: 'VIEW{3} BUY', within: 60s, define: [{name: VIEW, when: event_type = 'view'}, {name: BUY, when: event_type = 'purchase' AND amount > first(VIEW.amount)}], measures: [first(VIEW.ts) AS since, BUY.amount AS amount]}",
    ),
];

/// The window of the job, by what is measured.
const WINDOWS: [(&str, &str); 4] = [
    ("tumbling 10 s", "window: {tumbling: {size: 10s}}"),
    (
        "tumbling 10 s, late 5 s",
        "window: {tumbling: {size: 10s}, allowedLateness: 5s}",
    ),
    (
        "sliding 60/10 s",
        "window: {sliding: {size: 60s, slide: 10s}}",
    ),
    ("session 3 s", "window: {session: {gap: 3s}}"),
];

const AGGREGATE: &str =
    "aggregate: [count(*) AS clicks, sum(amount) AS total, max(amount) AS biggest]";

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let events = std::env::args()
        .nth(1)
        .map_or(Ok(1_000_000), |events| events.parse::<u64>())?;
    let logs = logs(events);
    let bytes: usize = logs.iter().map(|log| log.bytes.len()).sum();
    println!("{events} events of {} bytes", bytes as u64 / events.max(1));
    let windowed = |window: &str| format!("groupBy: [user_id], {window}, {AGGREGATE}");
    let plan = plan(&windowed(WINDOWS[0].1))?;
    let (nanos, rows) = best(|| decode(&plan, &logs))?;
    println!(
        "{:>24}: {:>4} ns/event, {rows} rows",
        "decode",
        nanos / events
    );
    let windows = WINDOWS.map(|(name, window)| (name, windowed(window)));
    let patterns = PATTERNS.map(|(name, step)| (name, step.to_string()));
    for (name, step) in windows.into_iter().chain(patterns) {
        let plan = self::plan(&step)?;
        let (nanos, (rows, digest)) = best(|| run(&plan, &logs))?;
        println!(
            "{name:>24}: {:>4} ns/event, {rows} rows, digest {digest:016x}",
            nanos / events
        );
    }
    Ok(())
}

/// The best of some runs, since other programs run too, and what it gives.
fn best<T>(mut run: impl FnMut() -> Outcome<T>) -> Outcome<(u64, T)> {
    let mut timed = || {
        let start = cpu_nanos()?;
        let outcome = run()?;
        Ok((cpu_nanos()? - start, outcome))
    };
    let first = timed();
    (1..RUNS).fold(first, |best, _| {
        let (best, next) = (best?, timed()?);
        Ok(if next.0 < best.0 { next } else { best })
    })
}

/// Time this process has spent on a CPU.
fn cpu_nanos() -> Outcome<u64> {
    let stat = std::fs::read_to_string("/proc/self/schedstat")?;
    Ok(stat.split(' ').next().ok_or("no schedstat")?.parse()?)
}

/// Decodes only.
fn decode(plan: &JobPlan, logs: &[Log]) -> Outcome<usize> {
    let source = &plan.sources[0];
    let mut rows = 0;
    for (partition, log) in (0..).zip(logs) {
        let (columns, time) = (&source.columns, source.time_column);
        let mut decoder = Decoder::new(columns, time, None, "events", partition, false)?;
        for at in 0..log.ends.len() {
            decoder.push(Some(log.event(at)), at as i64, None)?;
            if decoder.len() == 4_096 {
                rows += decoder.finish()?.times.len();
            }
        }
        rows += decoder.finish()?.times.len();
    }
    Ok(rows)
}

/// Runs the job over the logs: rows put out, and their digest.
fn run(plan: &Arc<JobPlan>, logs: &[Log]) -> Outcome<(u64, u64)> {
    let layout = Layout {
        slots: 1,
        tasks: vec![PARTITIONS],
        sink_partitions: vec![PARTITIONS],
        exchange_in_process: true,
        files: BTreeMap::new(),
    };
    let tasks: Vec<TaskId> = layout.all_tasks();
    let mut engine = SlotEngine::new(plan.clone(), Arc::new(layout), &tasks)?;
    let handles: Vec<usize> = tasks.iter().filter_map(|id| engine.handle(*id)).collect();
    let mut next = vec![0; logs.len()];
    let (mut in_epoch, mut rows, mut digest) = (0, 0, 0);
    loop {
        let mut read = 0;
        for ((log, handle), next) in logs.iter().zip(&handles).zip(&mut next) {
            let to = log.ends.len().min(*next + ROUND);
            for at in *next..to {
                let event = Event {
                    payload: Some(log.event(at)),
                    offset: at as i64,
                    next: at as i64 + 1,
                    timestamp: None,
                };
                engine.event(*handle, event)?;
            }
            read += to - *next;
            *next = to;
        }
        in_epoch += read;
        if read > 0 && in_epoch < EPOCH {
            continue;
        }
        in_epoch = 0;
        let ends = if read == 0 { &tasks[..] } else { &[] };
        let output = engine.close(&BTreeMap::new(), ends, false)?.output;
        rows += output.rows();
        let both = format!("{digest} {}", output.digest());
        digest = xxhash_rust::xxh3::xxh3_64(both.as_bytes());
        if read == 0 {
            return Ok((rows, digest));
        }
    }
}

fn plan(step: &str) -> Outcome<Arc<JobPlan>> {
    let text = format!(
        "
apiVersion: streamjob.dev/v1alpha1
kind: StreamJob
metadata: {{name: clicks}}
spec:
  connections:
    - {{name: main, kafka: {{bootstrapServers: [\"kafka:9092\"]}}}}
  sources:
    - name: events
      kafka: {{connection: main, topic: events}}
      columns:{COLUMNS}
      key: [user_id]
      eventTime: {{column: ts, maxOutOfOrderness: 4s}}
  steps:
    - {{name: spend, from: events, {step}}}
  sinks:
    - {{name: rows, from: spend, kafka: {{connection: main, topic: rows, key: [user_id]}}}}
"
    );
    let (_, plan) = manifest::validate(&text).map_err(|bad| bad.to_string())?;
    Ok(Arc::new(plan))
}

/// The events of a partition, one behind the other.
#[derive(Default)]
struct Log {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Log {
    fn event(&self, at: usize) -> &[u8] {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[at]]
    }
}

/// A user is active in 60 s of every 120 s; event times are up to 2 s off.
fn logs(events: u64) -> Vec<Log> {
    let mut logs: Vec<Log> = (0..PARTITIONS).map(|_| Log::default()).collect();
    let mut random = fastrand::Rng::with_seed(1);
    for number in 0..events {
        let nominal = 1_700_000_000_000 + number * 1_000 / RATE;
        let user = loop {
            let user = random.u64(0..USERS);
            if (nominal / 1_000 + user * 7_919) % 120 < 60 {
                break format!("user{user}");
            }
        };
        let time = nominal - 2_000 + random.u64(0..=4_000);
        let kind = ["click", "view", "purchase"][random.usize(0..3)];
        let (amount, page) = (random.u64(0..100_000), random.u64(0..1_000));
        let (whole, cents) = (amount / 100, amount % 100);
        let event = format!(
            r#"{{"event_id":"e{number}","event_type":"{kind}","timestamp":{time},"user_id":"{user}","data":{{"amount":{whole}.{cents:02},"page":"/p/{page}"}}}}"#
        );
        let log = &mut logs[partition_of(user.as_bytes(), PARTITIONS) as usize];
        log.bytes.extend_from_slice(event.as_bytes());
        log.ends.push(log.bytes.len());
    }
    logs
}
