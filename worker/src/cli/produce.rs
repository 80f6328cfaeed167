//! `produce`: fills the topic of a Kafka source, with events from a file or made up to fit the source's columns.
//!
//! Events are keyed as the source declares and partitioned as Java clients do, so that the promise of `key` holds. Nothing here is
//! transactional: a `produce` that was broken off has sent what it said.

mod invent;
mod keys;

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use streamjob_core::generate::Generator;
use streamjob_core::key::partition_of;
use streamjob_core::plan::{SourceKind, SourcePlan};
use streamjob_core::problem::did_you_mean;
use streamjob_crds::KafkaSource;

use super::args::ProduceArgs;
use super::job::Job;
use super::{ExitCode, Failure};
use crate::commit::producer::{Producer, TopicIndex};
use crate::connect::{ConnectError, Kafka};
use crate::http::now;
use crate::progress::grouped;
use crate::secrets::Secrets;
use crate::topics::{Admin, NewTopic};
use keys::Keys;

/// How long servers may take to answer at the start, and to acknowledge.
const PATIENCE: Duration = Duration::from_secs(15);
const ACKNOWLEDGE: Duration = Duration::from_secs(60);
/// Events between two waits for acknowledgement: bounds the memory.
const BURST: usize = 20_000;
/// Events whose keys are decoded together.
const BATCH: usize = 1_000;
const TELL_EVERY: Duration = Duration::from_secs(1);

pub fn produce(args: &ProduceArgs) -> Result<ExitCode, Failure> {
    let job = Job::load(&args.job.path)?;
    let (source, kafka) = kafka_source(&job, &args.source)?;
    let secrets = args.secrets_dir.clone();
    let secrets = Secrets::new(secrets.unwrap_or_else(|| job.folder.join("secrets")));
    let mut outlet = Outlet::open(&job, kafka, &secrets, args)?;
    match (&args.file, args.rows) {
        (Some(file), _) => {
            let keys = Keys::new(source).map_err(bad)?;
            from_file(&mut outlet, file, keys)?;
        }
        (None, rows) => {
            let generate = invent::invent(source, rows.unwrap_or(0), args.seed, args.rate);
            let generator =
                Generator::new(&generate, &source.columns, &source.key).map_err(|problems| {
                    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
                    bad(anyhow!(told.join("; ")))
                })?;
            made_up(&mut outlet, &generator, rows.unwrap_or(0))?;
        }
    }
    outlet.finish()?;
    Ok(ExitCode::Done)
}

fn bad(error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(ExitCode::BadManifest, error)
}

fn kafka_source<'a>(
    job: &'a Job,
    name: &str,
) -> Result<(&'a SourcePlan, &'a KafkaSource), Failure> {
    let sources = &job.plan.sources;
    let Some(source) = sources.iter().find(|source| source.name == name) else {
        let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
        let hint = match did_you_mean(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the job has {}", names.join(", ")),
        };
        return Err(Failure::new(
            ExitCode::Usage,
            anyhow!("the job has no source `{name}`: {hint}"),
        ));
    };
    match &source.kind {
        SourceKind::Kafka(kafka) => Ok((source, kafka)),
        _ => Err(Failure::new(
            ExitCode::Usage,
            anyhow!("source `{name}` reads no Kafka topic, so there is nothing to fill"),
        )),
    }
}

/// Sends every line that is not blank.
fn from_file(outlet: &mut Outlet, path: &Path, mut keys: Keys) -> Result<(), Failure> {
    let failed = |error: io::Error| bad(anyhow!("cannot read {}: {error}", path.display()));
    let mut lines: Box<dyn BufRead> = match path == Path::new("-") {
        true => Box::new(io::stdin().lock()),
        false => Box::new(BufReader::with_capacity(
            1 << 18,
            File::open(path).map_err(failed)?,
        )),
    };
    let mut batch: Vec<Vec<u8>> = Vec::with_capacity(BATCH);
    loop {
        let mut line = Vec::new();
        let read = lines.read_until(b'\n', &mut line).map_err(failed)?;
        let text = line.trim_ascii();
        if !text.is_empty() {
            batch.push(text.to_vec());
        }
        if batch.len() == BATCH || read == 0 {
            let found = keys.of(&batch).map_err(bad)?;
            for (event, key) in batch.iter().zip(found) {
                outlet.send(key.as_deref(), event)?;
            }
            batch.clear();
        }
        if read == 0 {
            outlet.misfits = keys.misfits();
            return Ok(());
        }
    }
}

fn made_up(outlet: &mut Outlet, generator: &Generator, rows: u64) -> Result<(), Failure> {
    let (mut event, mut key) = (Vec::new(), Vec::new());
    for index in 0..rows {
        event.clear();
        key.clear();
        generator.event(index, now(), &mut event);
        let keyed = generator.key(index, &mut key);
        outlet.send(keyed.then_some(key.as_slice()), &event)?;
    }
    Ok(())
}

/// The topic, and how fast it is filled.
struct Outlet {
    producer: Producer,
    topic: TopicIndex,
    name: String,
    partitions: u32,
    rate: Option<u64>,
    quiet: bool,
    sent: u64,
    /// Events that do not fit the source's columns. They are sent too, without a key.
    misfits: u64,
    unacknowledged: usize,
    started: Instant,
    told: Instant,
}

impl Outlet {
    /// Connects, and creates the topic if it is not there.
    fn open(
        job: &Job,
        source: &KafkaSource,
        secrets: &Secrets,
        args: &ProduceArgs,
    ) -> Result<Self, Failure> {
        let mut connections = job.plan.spec.connections.iter();
        let connection = connections.find(|connection| connection.name == source.connection);
        let connection = connection.and_then(|connection| connection.kafka.as_ref());
        let connection = connection.ok_or_else(|| {
            bad(anyhow!(
                "there is no Kafka connection `{}`",
                source.connection
            ))
        })?;
        let kafka = Kafka::resolve(&source.connection, connection, secrets, "streamjob-produce")
            .map_err(unreached)?;
        let admin = Admin::connect(&kafka, PATIENCE).map_err(unreached)?;
        let unreachable = |error| Failure::new(ExitCode::Unreachable, anyhow!("{error}"));
        let new = NewTopic {
            name: &source.topic,
            partitions: args.partitions,
            replication: None,
            config: &[],
        };
        if admin
            .create(&new)
            .map_err(|error| unreachable(error.to_string()))?
            && !args.quiet
        {
            eprintln!(
                "created topic `{}` with {} partitions",
                source.topic, args.partitions
            );
        }
        let found = admin
            .describe(&[&source.topic])
            .map_err(|error| unreachable(error.to_string()))?;
        let partitions = found.get(&source.topic).map_or(0, |topic| topic.partitions);
        let producer = Producer::new(
            kafka.idempotent().set("linger.ms", "10"),
            "produce",
            &[&source.topic],
            PATIENCE,
        )
        .map_err(|error| unreachable(error.to_string()))?;
        let topic = producer.topic(&source.topic).filter(|_| partitions > 0);
        Ok(Outlet {
            topic: topic.ok_or_else(|| {
                unreachable(format!("topic `{}` is not to be found", source.topic))
            })?,
            producer,
            name: source.topic.clone(),
            partitions,
            rate: args.rate,
            quiet: args.quiet,
            sent: 0,
            misfits: 0,
            unacknowledged: 0,
            started: Instant::now(),
            told: Instant::now(),
        })
    }

    fn send(&mut self, key: Option<&[u8]>, event: &[u8]) -> Result<(), Failure> {
        self.keep_pace()?;
        let partition = match key {
            Some(key) => partition_of(key, self.partitions),
            None => (self.sent % u64::from(self.partitions)) as u32,
        };
        let deadline = Instant::now() + ACKNOWLEDGE;
        let partition = i32::try_from(partition).unwrap_or(i32::MAX);
        self.producer
            .send(self.topic, partition, key, Some(event), deadline)
            .map_err(|error| Failure::new(ExitCode::Unreachable, error))?;
        self.sent += 1;
        self.unacknowledged += 1;
        if self.unacknowledged >= BURST {
            self.acknowledged()?;
        }
        Ok(())
    }

    /// Waits until the next event is due. What waits for acknowledgement goes first.
    fn keep_pace(&mut self) -> Result<(), Failure> {
        let Some(rate) = self.rate else { return Ok(()) };
        let due = Duration::from_secs_f64(self.sent as f64 / rate as f64);
        let ahead = due.saturating_sub(self.started.elapsed());
        if ahead > Duration::from_millis(5) {
            self.acknowledged()?;
            std::thread::sleep(due.saturating_sub(self.started.elapsed()));
        }
        Ok(())
    }

    fn acknowledged(&mut self) -> Result<(), Failure> {
        self.producer
            .drain(Instant::now() + ACKNOWLEDGE)
            .map_err(|error| Failure::new(ExitCode::Unreachable, error))?;
        self.unacknowledged = 0;
        if !self.quiet && self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            eprintln!("sent {} events", grouped(self.sent));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.acknowledged()?;
        let seconds = self.started.elapsed().as_secs_f64();
        println!(
            "sent {} events to topic `{}` ({} partitions) in {seconds:.1} s",
            grouped(self.sent),
            self.name,
            self.partitions
        );
        if self.misfits > 0 {
            println!(
                "{} of them do not fit the source's columns; they were sent without a key",
                grouped(self.misfits)
            );
        }
        Ok(())
    }
}

fn unreached(error: ConnectError) -> Failure {
    let code = match error {
        ConnectError::Unreachable { .. } => ExitCode::Unreachable,
        _ => ExitCode::BadManifest,
    };
    Failure::new(code, error)
}

#[cfg(test)]
mod tests;
