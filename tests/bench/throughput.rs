//! CPU and memory of the worker for the click job: from a topic that is full already, exactly once to another.

use std::time::{Duration, Instant};

use anyhow::Result;
use streamjob_tests::scratch::Scratch;
use streamjob_tests::servers::Kafka;
use streamjob_tests::topic::Cluster;
use streamjob_tests::worker::{Worker, exit};
use streamjob_tests::workload::{Amounts, Clicks};

struct Figures {
    events: u64,
    partitions: usize,
    rows: usize,
    wall: Duration,
    cpu: Duration,
    peak_rss: u64,
}

/// The workload.
pub fn print_one() -> Result<()> {
    println!("\nclick job, exactly-once, Kafka to Kafka, preloaded topic");
    header();
    row(&measure(&Clicks::spend_yaml("user_id"), 5_000_000, 4)?);
    Ok(())
}

/// Three views, then a purchase, of one user within a minute.
pub fn print_pattern() -> Result<()> {
    println!("\nthe same clicks, a pattern: VIEW{{3}} BUY within 60 s");
    header();
    row(&measure(&Clicks::pattern_yaml(), 5_000_000, 4)?);
    Ok(())
}

/// Cost per event over sizes and partitions.
pub fn print_flat() -> Result<()> {
    println!("\nthe same over sizes and partitions");
    header();
    for (events, partitions) in [
        (1_000_000, 4),
        (5_000_000, 4),
        (20_000_000, 4),
        (5_000_000, 1),
        (5_000_000, 16),
    ] {
        row(&measure(
            &Clicks::spend_yaml("user_id"),
            events,
            partitions,
        )?);
    }
    Ok(())
}

fn header() {
    println!(
        "{:>12} {:>10} {:>10} {:>8} {:>12} {:>14} {:>10}",
        "events", "partitions", "rows out", "wall s", "cpu s/M", "M events/s", "RSS MB"
    );
}

fn row(figures: &Figures) {
    let millions = figures.events as f64 / 1e6;
    println!(
        "{:>12} {:>10} {:>10} {:>8.2} {:>12.3} {:>14.2} {:>10.0}",
        figures.events,
        figures.partitions,
        figures.rows,
        figures.wall.as_secs_f64(),
        figures.cpu.as_secs_f64() / millions,
        millions / figures.wall.as_secs_f64(),
        figures.peak_rss as f64 / 1e6,
    );
}

/// `spend`: the job file from the source's columns to the end of the step of this name.
fn measure(spend: &str, events: u64, partitions: usize) -> Result<Figures> {
    let cluster = Cluster::new(Kafka::shared().bootstrap());
    let scratch = Scratch::new("throughput");
    let name = format!("bench-{events}-{partitions}-{}", fastrand::u32(..));
    let (topic, sink) = (format!("{name}-events"), format!("{name}-rows"));
    cluster.create(&topic, partitions)?;
    cluster.create(&sink, 4)?;
    let clicks = Clicks {
        amounts: Amounts::Cents,
        ..Clicks::default()
    };
    clicks.fill(&cluster, &topic, partitions, events)?;
    let job = scratch.write(
        "job.yaml",
        manifest(&name, cluster.bootstrap(), partitions, spend),
    );
    let children = children_cpu();
    let start = Instant::now();
    let worker = Worker::run(scratch.path(), &job, &["--quiet"])?;
    let mut peak_rss = 0;
    while worker.ended().is_none() {
        peak_rss = peak_rss.max(worker.usage().map_or(0, |(_, rss)| rss));
        std::thread::sleep(Duration::from_millis(20));
    }
    let wall = start.elapsed();
    worker.expect_exit(exit::DONE)?;
    // Only children that have been waited for count: the servers still run.
    let cpu = children_cpu() - children;
    let rows = cluster.read(&sink)?.len();
    cluster.delete(&topic)?;
    cluster.delete(&sink)?;
    Ok(Figures {
        events,
        partitions,
        rows,
        wall,
        cpu,
        peak_rss,
    })
}

fn manifest(name: &str, bootstrap: &str, partitions: usize, spend: &str) -> String {
    format!(
        "\
apiVersion: streamjob.dev/v1alpha1
kind: StreamJob
metadata: {{name: {name}}}
spec:
  maxParallelism: {partitions}
  connections:
    - {{name: main, kafka: {{bootstrapServers: [\"{bootstrap}\"]}}}}
  sources:
    - name: events
      kafka: {{connection: main, topic: {name}-events, until: Latest}}
{spend}  sinks:
    - {{name: rows, from: spend, kafka: {{connection: main, topic: {name}-rows, key: [user_id]}}}}
"
    )
}

/// CPU time of ended children.
fn children_cpu() -> Duration {
    // SAFETY: a plain system call that fills a struct of plain numbers.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        usage
    };
    let time = |at: libc::timeval| {
        Duration::from_micros(at.tv_sec.unsigned_abs() * 1_000_000 + at.tv_usec.unsigned_abs())
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}
