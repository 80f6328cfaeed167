//! What the stories share: the job they run, its input and expected output, and how they end.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use streamjob_tests::compare::assert_same_rows;
use streamjob_tests::failure;
use streamjob_tests::oracle::{
    Aggregate, Emission, Function, Job, Oracle, Row, Window, WindowStep, last_rows,
};
use streamjob_tests::process::{lock, wait_until};
use streamjob_tests::scratch::Scratch;
use streamjob_tests::servers::s3;
use streamjob_tests::topic::{Cluster, Reader};
use streamjob_tests::worker::{PATIENCE, Worker, exit};
use streamjob_tests::workload::clicks::MAX_DISORDER_MS;
use streamjob_tests::workload::{Click, Clicks};

/// The columns that say which row of the click job is meant.
pub const IDENTITY: [&str; 3] = ["user_id", "window_start", "window_end"];

/// Whether the long forms are asked for.
pub fn long_form() -> bool {
    std::env::var_os("STREAMJOB_CHAOS").is_some_and(|value| value == "1")
}

/// One of two numbers, by the form.
pub fn by_form<T>(short: T, long: T) -> T {
    if long_form() { long } else { short }
}

/// The rows of an output file.
pub fn rows(path: &Path) -> failure::Result<Vec<Row>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.lines()
        .map(|line| Ok(serde_json::from_str(line).with_context(|| line.to_string())?))
        .collect()
}

/// Count, sum and maximum per user and 10 s.
pub fn click_step() -> WindowStep {
    WindowStep {
        window: Window::Tumbling {
            size: 10_000,
            offset: 0,
        },
        allowed_lateness: 0,
        emit_every: None,
        group: vec!["user_id".into()],
        aggregates: vec![
            Aggregate::new("clicks", Function::Count, None),
            Aggregate::new("total", Function::Sum, Some("amount")),
            Aggregate::new("biggest", Function::Max, Some("amount")),
        ],
        having: None,
    }
}

/// The same for the oracle.
pub fn click_job() -> Job {
    Clicks::job(MAX_DISORDER_MS, click_step())
}

/// Each page's rows over all partitions. Nothing is late: the exchange carries the watermarks of the rows' own partitions.
pub fn expected_by_page(clicks: &Clicks, events: u64) -> Vec<Row> {
    let step = WindowStep {
        group: vec!["page".into()],
        ..click_step()
    };
    let job = Clicks::job(MAX_DISORDER_MS, step);
    let mut oracle = Oracle::new(&job, 1);
    let mut buffer = Vec::new();
    for click in (0..events).map(|number| clicks.click(number)) {
        click.render(&mut buffer);
        oracle.event(0, Some(&buffer), None);
    }
    oracle.end();
    let outcome = oracle.into_outcome();
    assert!(outcome[0].late.is_empty());
    last_rows(&job, &outcome)
}

/// The job's manifest, in parts.
pub struct Manifest {
    pub name: String,
    pub bootstrap: String,
    pub topic: String,
    pub sink: String,
    /// Ends with the input that there is at the first start.
    pub bounded: bool,
    pub slots: usize,
    /// The column that rows are grouped by; the source's key is `user_id`.
    pub group: &'static str,
    /// Address of an S3 server for checkpoints, every second.
    pub s3: Option<String>,
    /// More sinks, as YAML list items.
    pub more_sinks: String,
    /// Inside of the Kafka connection, as YAML lines.
    pub security: String,
}

impl Manifest {
    pub fn yaml(&self) -> String {
        let Manifest {
            name,
            bootstrap,
            topic,
            sink,
            slots,
            group,
            more_sinks,
            security,
            ..
        } = self;
        let servers = bootstrap
            .split(',')
            .map(|server| format!("\"{server}\""))
            .collect::<Vec<_>>()
            .join(", ");
        let until = if self.bounded { ", until: Latest" } else { "" };
        let lake = match &self.s3 {
            None => String::new(),
            Some(endpoint) => format!(
                "    - name: lake\n      s3: {{endpoint: \"{endpoint}\", region: {}, bucket: {}, pathStyle: true}}\n",
                s3::REGION,
                s3::BUCKET,
            ),
        };
        let storage = match &self.s3 {
            None => "",
            Some(_) => ", storage: {s3: {connection: lake, prefix: checkpoints/}}",
        };
        format!(
            "\
apiVersion: streamjob.dev/v1alpha1
kind: StreamJob
metadata: {{name: {name}, namespace: tests}}
spec:
  maxParallelism: {slots}
  connections:
    - name: main
      kafka:
        bootstrapServers: [{servers}]
{security}{lake}  sources:
    - name: events
      kafka: {{connection: main, topic: {topic}, startFrom: Earliest{until}}}
{spend}  sinks:
    - {{name: rows, from: spend, kafka: {{connection: main, topic: {sink}, key: [{group}]}}}}
{more_sinks}  checkpoint: {{interval: 1s{storage}}}
",
            spend = Clicks::spend_yaml(group),
        )
    }
}

/// A running job over clicks: its topics, its input on the way, and the rows it must put out.
pub struct Story {
    pub scratch: Scratch,
    pub cluster: Cluster,
    pub manifest: Manifest,
    /// Of the job, where a cluster gives it another than the manifest's name.
    pub uid: String,
    pub expected: Vec<Row>,
    job: PathBuf,
    feeder: Feeder,
    output: Mutex<Output>,
}

/// The output as a reader of committed records sees it, on and on.
struct Output {
    reader: Reader,
    seen: usize,
}

pub struct Setup {
    pub name: &'static str,
    pub partitions: usize,
    pub events: u64,
    /// How long the input takes to come; zero: it is there before the job starts.
    pub feeding: Duration,
    /// After which part of that time a part of the events is there.
    pub pace: fn(f64) -> f64,
    /// What the harness dials.
    pub bootstrap: String,
    /// What the job dials, where that differs.
    pub job_bootstrap: Option<String>,
    pub s3: Option<String>,
}

impl Setup {
    pub fn new(name: &'static str, bootstrap: String, events: u64, feeding: Duration) -> Setup {
        Setup {
            name,
            partitions: 4,
            events,
            feeding,
            pace: |share| share,
            bootstrap,
            job_bootstrap: None,
            s3: None,
        }
    }
}

impl Story {
    /// Makes the topics, works out the expected rows, and starts to feed the input.
    pub fn begin(setup: Setup) -> failure::Result<Story> {
        let scratch = Scratch::new(setup.name);
        let cluster = Cluster::new(&setup.bootstrap);
        let unique = format!("{}-{}", setup.name, std::process::id());
        let (topic, sink) = (format!("{unique}-events"), format!("{unique}-rows"));
        cluster.create(&topic, setup.partitions)?;
        cluster.create(&sink, setup.partitions)?;
        // A hundred windows, so that rows come out all the time.
        let clicks = Clicks {
            seed: fastrand::u64(..),
            rate: (setup.events / 1_000).max(1),
            ..Clicks::default()
        };
        eprintln!("{}: seed {} of the workload", setup.name, clicks.seed);
        let expected = expected_rows(&clicks, setup.events, setup.partitions);
        let manifest = Manifest {
            name: setup.name.into(),
            bootstrap: setup.job_bootstrap.unwrap_or(setup.bootstrap),
            topic,
            sink,
            bounded: false,
            slots: setup.partitions,
            group: "user_id",
            s3: setup.s3,
            more_sinks: String::new(),
            security: String::new(),
        };
        let job = scratch.write("job.yaml", manifest.yaml());
        let feeder = Feeder::start(
            clicks,
            setup.events,
            setup.partitions,
            (setup.feeding, setup.pace),
            &cluster,
            &manifest.topic,
        )?;
        if setup.feeding.is_zero() {
            feeder.wait()?;
        }
        let output = Mutex::new(Output {
            reader: cluster.reader(&manifest.sink)?,
            seen: 0,
        });
        Ok(Story {
            output,
            scratch,
            cluster,
            uid: manifest.name.clone(),
            manifest,
            expected,
            job,
            feeder,
        })
    }

    /// The job file.
    pub fn job(&self) -> &Path {
        &self.job
    }

    /// A worker for some slots (`0,2-3`), or for all.
    pub fn worker(&self, slots: Option<&str>) -> Result<Worker> {
        let mut arguments = vec!["--uid", &self.uid];
        arguments.extend(slots.into_iter().flat_map(|slots| ["--slots", slots]));
        Worker::run(self.scratch.path(), &self.job, &arguments)
    }

    /// How many rows a reader of committed records has seen by now.
    pub fn rows_out(&self) -> Result<usize> {
        let mut output = lock(&self.output);
        while output.reader.next(Duration::from_millis(20))?.is_some() {
            output.seen += 1;
        }
        Ok(output.seen)
    }

    /// Waits until all rows are out, drains the workers, and compares everything.
    pub fn finish(self, workers: Vec<Worker>) -> failure::Result {
        self.feeder.wait()?;
        let limit = PATIENCE + self.feeder.feeding;
        let start = Instant::now();
        loop {
            let seen = self.rows_out()?;
            if seen >= self.expected.len() {
                break;
            }
            for worker in &workers {
                assert!(
                    worker.ended().is_none(),
                    "a worker ended early; its log ends:\n{}",
                    worker.tail()
                );
            }
            assert!(
                start.elapsed() < limit,
                "{seen} of {} rows after {limit:?}",
                self.expected.len()
            );
        }
        for worker in &workers {
            worker.terminate();
        }
        for worker in &workers {
            worker.expect_exit(exit::DONE)?;
        }
        assert_same_rows(
            &self.expected,
            &self.cluster.rows(&self.manifest.sink)?,
            &IDENTITY,
        );
        Ok(self.check_journal()?)
    }

    /// Every epoch once, in order, and the rows they claim are the rows there are.
    fn check_journal(&self) -> Result<()> {
        let mut claimed = 0;
        for (slot, records) in self.journal()?.iter().enumerate() {
            let epochs: Vec<&Value> = records
                .iter()
                .filter(|record| record["kind"] == "Epoch")
                .collect();
            for pair in epochs.windows(2) {
                let (before, after) = (pair[0]["epoch"].as_u64(), pair[1]["epoch"].as_u64());
                ensure!(
                    before.map(|epoch| epoch + 1) == after,
                    "slot {slot}: epoch {after:?} follows {before:?}"
                );
            }
            let first = epochs.first().and_then(|record| record["epoch"].as_u64());
            // The journal's oldest records go with the checkpoints they belong to.
            if first == Some(1) {
                claimed += epochs
                    .iter()
                    .filter_map(|record| record["outputs"].as_u64())
                    .sum::<u64>();
            } else {
                return Ok(());
            }
        }
        ensure!(
            claimed as usize == self.expected.len(),
            "the journal claims {claimed} rows"
        );
        Ok(())
    }

    /// Its records by slot.
    pub fn journal(&self) -> Result<Vec<Vec<Value>>> {
        self.cluster
            .journal(&format!("streamjob-{}-journal", self.uid))
    }

    /// Newest record of each slot.
    pub fn newest(&self) -> Result<Vec<Option<Value>>> {
        self.cluster
            .newest(&format!("streamjob-{}-journal", self.uid))
    }

    /// Waits until the job's output has grown by at least a row. False: there is no more to come.
    pub fn await_progress(&self) -> Result<bool> {
        let before = self.rows_out()?;
        wait_until(PATIENCE, || {
            let seen = self.rows_out().ok()?;
            let all = seen >= self.expected.len();
            (seen > before || all).then_some(!all)
        })
        .context("no row comes out")
    }
}

/// Puts the input into its topic in the background, at an even pace.
struct Feeder {
    feeding: Duration,
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<Result<()>>>>,
}

impl Feeder {
    fn start(
        clicks: Clicks,
        events: u64,
        partitions: usize,
        (feeding, pace): (Duration, fn(f64) -> f64),
        cluster: &Cluster,
        topic: &str,
    ) -> Result<Feeder> {
        let writer = cluster.writer()?;
        let topic = topic.to_string();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let thread = thread::spawn(move || -> Result<()> {
            let start = Instant::now();
            let mut buffer = Vec::new();
            for click in closed(&clicks, events, partitions) {
                if stopping.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let due = feeding.mul_f64(pace(click.number as f64 / events as f64));
                while start.elapsed() < due {
                    writer.poll();
                    thread::sleep(Duration::from_millis(2));
                }
                click.render(&mut buffer);
                let partition = i32::try_from(click.partition(partitions))?;
                writer.send(
                    &topic,
                    partition,
                    Some(click.key().as_bytes()),
                    Some(&buffer),
                )?;
            }
            writer.flush()
        });
        Ok(Feeder {
            feeding,
            stop,
            thread: Mutex::new(Some(thread)),
        })
    }

    fn wait(&self) -> Result<()> {
        let thread = lock(&self.thread).take();
        thread.map_or(Ok(()), |thread| {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("the feeder panicked"))?
        })
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Feeds the whole workload to the oracle. The rows of windows that never fire are not expected.
fn expected_rows(clicks: &Clicks, events: u64, partitions: usize) -> Vec<Row> {
    let job = click_job();
    let mut oracle = Oracle::new(&job, partitions);
    feed_oracle(&mut oracle, clicks, events, partitions);
    let outcome = oracle.into_outcome();
    assert!(
        outcome
            .iter()
            .all(|task| task.late.is_empty() && task.malformed.is_empty())
    );
    let firings: usize = outcome.iter().map(|task| task.emitted.len()).sum();
    let rows = last_rows(&job, &outcome);
    assert!(
        outcome
            .iter()
            .flat_map(|task| &task.emitted)
            .all(|emission| matches!(emission, Emission::Row(_)))
    );
    assert_eq!(firings, rows.len(), "each window fires once");
    rows
}

fn feed_oracle(oracle: &mut Oracle, clicks: &Clicks, events: u64, partitions: usize) {
    let mut buffer = Vec::new();
    for click in closed(clicks, events, partitions) {
        click.render(&mut buffer);
        oracle.event(click.partition(partitions), Some(&buffer), None);
    }
}

/// The first events, and behind them those that close the windows.
pub fn closed(clicks: &Clicks, events: u64, partitions: usize) -> impl Iterator<Item = Click> {
    let first = (0..events).map(|number| clicks.click(number));
    first.chain(last_clicks(clicks, events, partitions))
}

/// An event for each partition, an hour later: it fires all windows before it.
fn last_clicks(clicks: &Clicks, events: u64, partitions: usize) -> Vec<Click> {
    let last = clicks.click(events.saturating_sub(1));
    let at = |user| Click {
        number: events,
        user,
        time: last.time + 3_600_000,
        ..last.clone()
    };
    (0..partitions)
        .map(|partition| {
            (0..)
                .map(at)
                .find(|click| click.partition(partitions) == partition)
        })
        .map(|click| click.expect("some user is in each partition"))
        .collect()
}
