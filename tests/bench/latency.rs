//! From a producer through a filter job to a consumer of committed records, 20,000 events a second.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use streamjob_tests::scratch::Scratch;
use streamjob_tests::servers::{Kafka, S3, s3};
use streamjob_tests::topic::Cluster;
use streamjob_tests::worker::{Worker, exit};

const RATE: u64 = 20_000;
const WARM_UP: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(30);

pub fn print() -> Result<()> {
    println!(
        "\nfilter job, exactly-once, {RATE} events/s, checkpoints to S3: producer to read_committed consumer"
    );
    let cluster = Cluster::new(Kafka::shared().bootstrap());
    let storage = S3::start()?;
    let scratch = Scratch::new("latency");
    cluster.create("latency-in", 4)?;
    cluster.create("latency-out", 4)?;
    let job = scratch.write(
        "job.yaml",
        manifest(cluster.bootstrap(), &storage.endpoint()),
    );
    let worker = Worker::run(scratch.path(), &job, &["--quiet"])?;
    // Nobody knows when a filter job is up but by its output.
    let start = Instant::now();
    let mut reader = cluster.reader("latency-out")?;
    let writer = cluster.prompt_writer()?;
    let feeder = thread::spawn(move || -> Result<()> {
        let total = RATE * (WARM_UP + MEASURED).as_secs();
        for number in 0..total {
            let due = Duration::from_secs_f64(number as f64 / RATE as f64);
            while start.elapsed() < due {
                writer.poll();
                thread::sleep(Duration::from_millis(1));
            }
            let sent = start.elapsed().as_micros();
            let event = format!(
                "{{\"event_id\":\"e{number}\",\"event_type\":\"click\",\"timestamp\":{},\"user_id\":\"user{}\",\"sent\":{sent},\"data\":{{\"amount\":{}.25,\"page\":\"/p/7\"}}}}",
                1_700_000_000_000 + number / 20,
                number % 10_000,
                number % 300,
            );
            writer.send(
                "latency-in",
                (number % 4) as i32,
                None,
                Some(event.as_bytes()),
            )?;
        }
        writer.flush()
    });
    let mut times = Histogram::<u64>::new(3)?;
    while start.elapsed() < WARM_UP + MEASURED + Duration::from_secs(2) {
        let Some(record) = reader.next(Duration::from_millis(5))? else {
            continue;
        };
        let now = start.elapsed();
        let sent = record.row()?["sent"]
            .as_u64()
            .context("a time in every row")?;
        if Duration::from_micros(sent) > WARM_UP {
            times.record((now.as_micros() as u64).saturating_sub(sent))?;
        }
    }
    feeder
        .join()
        .map_err(|_| anyhow::anyhow!("the feeder panicked"))??;
    let (cpu, rss) = worker.usage()?;
    worker.terminate();
    worker.expect_exit(exit::DONE)?;
    let at = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
    println!(
        "{:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}",
        "rows", "p50 ms", "p90 ms", "p99 ms", "max ms", "cpu s", "RSS MB"
    );
    println!(
        "{:>10} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>10.0}",
        times.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
        cpu.as_secs_f64(),
        rss as f64 / 1e6,
    );
    Ok(())
}

fn manifest(bootstrap: &str, endpoint: &str) -> String {
    format!(
        "\
apiVersion: streamjob.dev/v1alpha1
kind: StreamJob
metadata: {{name: latency}}
spec:
  maxParallelism: 1
  epoch: {{interval: 10ms}}
  connections:
    - {{name: main, kafka: {{bootstrapServers: [\"{bootstrap}\"]}}}}
    - {{name: lake, s3: {{endpoint: \"{endpoint}\", region: {region}, bucket: {bucket}, pathStyle: true}}}}
  sources:
    - name: events
      kafka: {{connection: main, topic: latency-in}}
      columns:
        - {{name: event_id, type: String}}
        - {{name: ts, type: Timestamp, path: timestamp}}
        - {{name: sent, type: Int64}}
        - {{name: amount, type: Double, path: data.amount}}
      eventTime: {{column: ts}}
  steps:
    - {{name: some, from: events, where: \"amount >= 150\"}}
  sinks:
    - {{name: rows, from: some, kafka: {{connection: main, topic: latency-out}}}}
  checkpoint: {{interval: 5s, storage: {{s3: {{connection: lake, prefix: checkpoints/}}}}}}
",
        region = s3::REGION,
        bucket = s3::BUCKET,
    )
}
