//! Brings a job up in this process: connects, resolves, starts its slots, waits for their ends, brings it down.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};
use streamjob_core::commit::record::{JobFacts, TopicFacts};
use streamjob_core::commit::{Fact, Identity, Settings, SlotProtocol, Term};
use streamjob_core::engine::{Layout, TaskId, input_name};
use streamjob_core::output::Target;
use streamjob_core::plan::{JobPlan, JournalPlan, SinkKind, SourceKind, plan_hash};
use streamjob_crds::KafkaSink;

use crate::checkpoint::{Checkpoints, StorageConfig};
use crate::cli::args::RunArgs;
use crate::cli::job::Job;
use crate::cli::{ExitCode, Failure};
use crate::commit::file::FileLedger;
use crate::commit::kafka::{InternalInput, KafkaLedger, KafkaLedgerPlan};
use crate::commit::{Committer, Ledger};
use crate::connect::Kafka;
use crate::driver::{Driver, DriverError, Ended};
use crate::http::Server;
use crate::journal::file::FileJournal;
use crate::journal::kafka::{self as journal, KafkaJournal};
use crate::metrics::Metrics;
use crate::names;
use crate::peers::Peers;
use crate::peers::journals::Journals;
use crate::progress::{Progress, Show};
use crate::report::SlotReport;
use crate::resolve::{self, Origin, Resolver};
use crate::secrets::Secrets;
use crate::sink::ExternalSink;
use crate::sink::file::{Existing, FileSink};
use crate::sink::stdout::StdoutSink;
use crate::source::kafka::KafkaReader;
use crate::status::{Board, JobIdentity};
use crate::topics::{Admin, NewTopic};

/// How long servers may take to answer at the start.
const CONNECT: Duration = Duration::from_secs(15);
const MOST_DEFAULT_SLOTS: u32 = 64;

/// Runs the job until its end or a signal.
pub fn run(job: &Job, args: &RunArgs) -> Result<ExitCode, Failure> {
    let names = Names::of(job, args);
    let secrets = Secrets::new(
        args.secrets_dir
            .clone()
            .unwrap_or_else(|| job.folder.join("secrets")),
    );
    let stop = Arc::new(AtomicBool::new(false));
    watch_signals(stop.clone())?;
    let kafkas = Kafkas::connect(job, &secrets, &names)?;
    let storage =
        StorageConfig::of(&job.plan.spec, &job.folder, &args.state_dir).ok_or_else(|| {
            Failure::new(
                ExitCode::BadManifest,
                anyhow::anyhow!("checkpoint.storage names no S3 connection"),
            )
        })?;
    if args.fresh {
        forget(job, &names, &kafkas, &args.state_dir)?;
    }
    let checkpoints = Checkpoints::open(&storage, &names.uid, &secrets).map_err(unreachable)?;
    let setup = Setup::resolve(job, &names, &kafkas, &args.state_dir)?;
    let slots = setup.hosted(args)?;
    let identity = JobIdentity {
        namespace: names.namespace.clone(),
        name: names.name.clone(),
        uid: names.uid.clone(),
    };
    let metrics =
        Metrics::new(&identity).map_err(|error| Failure::new(ExitCode::Refused, error))?;
    let board = Arc::new(Board::new(identity));
    board.expect(slots.len());
    let server = Server::start(args.listen, board.clone(), metrics.clone())
        .map_err(|error| Failure::new(ExitCode::Usage, error))?;
    tracing::info!("listening on http://{}", server.address());
    let on_stdout = job
        .plan
        .sinks
        .iter()
        .any(|sink| matches!(sink.kind, SinkKind::Stdout));
    let json = args.log_format == crate::cli::args::LogFormat::Json;
    let _progress = Progress::start(board.clone(), Show::suitable(args.quiet, json, on_stdout))
        .map_err(|error| Failure::new(ExitCode::Refused, error))?;
    let starter = Starter {
        job,
        args,
        names: &names,
        setup: &setup,
        checkpoints: &checkpoints,
        board: &board,
        metrics: &metrics,
    };
    let outcome = starter.run_slots(&slots, &stop);
    checkpoints.settle(Duration::from_secs(5));
    outcome
}

fn unreachable(error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(ExitCode::Unreachable, error)
}

fn watch_signals(stop: Arc<AtomicBool>) -> Result<(), Failure> {
    crate::signals::on_terminate(move || stop.store(true, Ordering::Release))
        .map_err(|error| Failure::new(ExitCode::Refused, error))
}

/// Who we are.
struct Names {
    namespace: String,
    name: String,
    uid: String,
    owner: String,
    incarnation: String,
}

impl Names {
    fn of(job: &Job, args: &RunArgs) -> Self {
        let (namespace, name) = (job.namespace.clone(), job.name.clone());
        let uid = args.uid.clone().unwrap_or_else(|| {
            let digest = Sha256::digest(format!("{namespace}/{name}"));
            let hex: String = digest
                .iter()
                .take(6)
                .map(|byte| format!("{byte:02x}"))
                .collect();
            format!("{name}-{hex}")
        });
        let owner = ["POD_NAME", "HOSTNAME"]
            .iter()
            .find_map(|key| std::env::var(key).ok());
        let incarnation = format!(
            "{:x}-{:x}",
            std::process::id(),
            crate::driver::inputs::now_us()
        );
        Names {
            namespace,
            name,
            uid,
            owner: owner.unwrap_or_else(|| "worker".to_owned()),
            incarnation,
        }
    }
}

/// The clusters that the job dials, by connection.
struct Kafkas(BTreeMap<String, (Kafka, Admin)>);

impl Kafkas {
    fn connect(job: &Job, secrets: &Secrets, names: &Names) -> Result<Self, Failure> {
        let used = used_connections(&job.plan);
        let mut all = BTreeMap::new();
        for connection in &job.plan.spec.connections {
            let Some(spec) = connection
                .kafka
                .as_ref()
                .filter(|_| used.contains(&connection.name))
            else {
                continue;
            };
            let kafka = Kafka::resolve(
                &connection.name,
                spec,
                secrets,
                &format!("streamjob-{}", names.name),
            )
            .map_err(bad_connection)?;
            let admin = Admin::connect(&kafka, CONNECT).map_err(bad_connection)?;
            all.insert(connection.name.clone(), (kafka, admin));
        }
        Ok(Kafkas(all))
    }

    fn get(&self, name: &str) -> Result<&(Kafka, Admin), Failure> {
        self.0.get(name).ok_or_else(|| {
            Failure::new(
                ExitCode::BadManifest,
                anyhow::anyhow!("no Kafka connection `{name}`"),
            )
        })
    }
}

/// A secret or setting that is wrong is the user's to mend; a server that does not answer may come back.
fn bad_connection(error: crate::connect::ConnectError) -> Failure {
    let code = if error.is_unreachable() {
        ExitCode::Unreachable
    } else {
        ExitCode::BadManifest
    };
    Failure::new(code, error)
}

fn used_connections(plan: &JobPlan) -> Vec<String> {
    let sources = plan.sources.iter().filter_map(|source| match &source.kind {
        SourceKind::Kafka(kafka) => Some(kafka.connection.clone()),
        _ => None,
    });
    let sinks = plan.sinks.iter().filter_map(|sink| match &sink.kind {
        SinkKind::Kafka(kafka) => Some(kafka.connection.clone()),
        _ => None,
    });
    let journal = match &plan.journal {
        JournalPlan::Kafka { connection } => Some(connection.clone()),
        JournalPlan::File => None,
    };
    sources.chain(sinks).chain(journal).collect()
}

/// The journal of the job, wherever it is.
enum JobJournal {
    Kafka {
        kafka: Kafka,
        admin: Admin,
        journal: Arc<KafkaJournal>,
    },
    File {
        folder: PathBuf,
    },
}

/// What is known before any slot starts.
struct Setup {
    journal: JobJournal,
    resolver: Arc<Resolver>,
    layout: Arc<Layout>,
    exchange_topics: BTreeMap<usize, TopicFacts>,
}

impl Setup {
    fn resolve(
        job: &Job,
        names: &Names,
        kafkas: &Kafkas,
        state_dir: &Path,
    ) -> Result<Self, Failure> {
        let plan = &job.plan;
        // The journal's noted facts say which files there were, and so how many tasks there are.
        let (noted, opened) = match &plan.journal {
            JournalPlan::File => {
                let folder = state_dir.join(&names.uid);
                (noted_in_file(&folder)?, None)
            }
            JournalPlan::Kafka { connection } => {
                let (kafka, admin) = kafkas.get(connection)?;
                let found = resolve::describe(admin, &names::journal_topic(&names.uid))
                    .map_err(unreachable)?;
                match found {
                    None => (None, None),
                    Some(topic) => {
                        let journal = KafkaJournal::open(kafka, admin.clone(), topic)
                            .map_err(bad_connection)?;
                        (noted_facts(&journal).map_err(unreachable)?, Some(journal))
                    }
                }
            }
        };
        let mut readers = BTreeMap::new();
        let mut origins = Vec::new();
        for source in &plan.sources {
            origins.push(match &source.kind {
                SourceKind::Kafka(kafka) => {
                    let (connection, admin) = kafkas.get(&kafka.connection)?;
                    let topic =
                        resolve::source_topic(admin, &source.name, &kafka.connection, &kafka.topic)
                            .map_err(refused)?;
                    let reader = reader(&mut readers, connection, names, topic.partitions)?;
                    Origin::Topic {
                        reader,
                        admin: admin.clone(),
                        topic,
                    }
                }
                SourceKind::File(file) => {
                    let noted_files = noted
                        .as_ref()
                        .and_then(|facts: &JobFacts| facts.files.get(&source.name));
                    let ends = noted
                        .as_ref()
                        .map(|facts| facts.end.clone())
                        .unwrap_or_default();
                    let files =
                        resolve::files(&job.folder, &file.path, noted_files, &ends, &source.name);
                    Origin::Files(
                        files.map_err(|error| Failure::new(ExitCode::BadManifest, error))?,
                    )
                }
                SourceKind::Generate(generate) => Origin::Generated {
                    partitions: generate.partitions,
                },
            });
        }
        let first = origins.first().map_or(1, |origin| origin.partitions(1));
        let slots = plan
            .spec
            .max_parallelism
            .unwrap_or(first.clamp(1, MOST_DEFAULT_SLOTS));
        let (journal, exchange_topics) = match &plan.journal {
            JournalPlan::File => (
                JobJournal::File {
                    folder: state_dir.join(&names.uid),
                },
                BTreeMap::new(),
            ),
            JournalPlan::Kafka { connection } => {
                let (kafka, admin) = kafkas.get(connection)?;
                let topic = journal::prepare(admin, &names.uid, slots).map_err(refused)?;
                let journal = match opened {
                    Some(journal) => journal,
                    None => {
                        KafkaJournal::open(kafka, admin.clone(), topic).map_err(bad_connection)?
                    }
                };
                let topics = exchange_topics(plan, admin, names, slots)?;
                (
                    JobJournal::Kafka {
                        kafka: kafka.clone(),
                        admin: admin.clone(),
                        journal: Arc::new(journal),
                    },
                    topics,
                )
            }
        };
        for index in 0..plan.exchanges.len() {
            origins.push(match (&journal, exchange_topics.get(&index)) {
                (JobJournal::Kafka { kafka, admin, .. }, Some(topic)) => {
                    let reader = reader(&mut readers, kafka, names, topic.partitions)?;
                    Origin::Topic {
                        reader,
                        admin: admin.clone(),
                        topic: topic.clone(),
                    }
                }
                _ => Origin::InProcess,
            });
        }
        let layout = Arc::new(Layout {
            slots,
            tasks: origins
                .iter()
                .map(|origin| origin.partitions(slots))
                .collect(),
            sink_partitions: sink_partitions(plan, kafkas)?,
            exchange_in_process: matches!(journal, JobJournal::File { .. }),
        });
        let resolver = Resolver {
            plan: plan.clone(),
            layout: layout.clone(),
            origins,
            folder: job.folder.clone(),
        };
        Ok(Setup {
            journal,
            resolver: Arc::new(resolver),
            layout,
            exchange_topics,
        })
    }

    /// The slots of this process. A file journal has one, which holds all tasks.
    fn hosted(&self, args: &RunArgs) -> Result<Vec<u32>, Failure> {
        let usage = |message: String| Failure::new(ExitCode::Usage, anyhow::anyhow!(message));
        match (&self.journal, &args.slots) {
            (JobJournal::File { .. }, Some(_)) => {
                Err(usage("--slots needs a job with Kafka: without it, all slots commit as one in this process".to_owned()))
            }
            (JobJournal::File { .. }, None) => Ok(vec![0]),
            (JobJournal::Kafka { .. }, None) => Ok((0..self.layout.slots).collect()),
            (JobJournal::Kafka { .. }, Some(slots)) => match slots.0.iter().find(|slot| **slot >= self.layout.slots) {
                Some(slot) => Err(usage(format!("--slots {slot}: the job has slots 0 to {}", self.layout.slots - 1))),
                None => Ok(slots.0.clone()),
            },
        }
    }

    fn tasks(&self, slot: u32) -> Vec<TaskId> {
        match self.journal {
            JobJournal::File { .. } => self.layout.all_tasks(),
            JobJournal::Kafka { .. } => self.layout.tasks_of(slot),
        }
    }
}

fn refused(error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(ExitCode::Refused, error)
}

fn noted_in_file(folder: &Path) -> Result<Option<JobFacts>, Failure> {
    match FileJournal::open(folder).map_err(refused)?.read() {
        Fact::JournalRead { records, .. } => {
            Ok(records.into_iter().next_back().map(|record| record.facts))
        }
        // The protocol reads it again, and says what is wrong.
        _ => Ok(None),
    }
}

/// The facts that the first slot which has ever run noted.
fn noted_facts(
    journal: &KafkaJournal,
) -> Result<Option<JobFacts>, crate::journal::kafka::JournalError> {
    for slot in 0..journal.topic().partitions {
        if let Some(record) = journal.last(slot)? {
            return Ok(Some(record.facts));
        }
    }
    Ok(None)
}

/// One consumer a connection, shared by all that read there.
fn reader(
    readers: &mut BTreeMap<String, Arc<KafkaReader>>,
    kafka: &Kafka,
    names: &Names,
    partitions: u32,
) -> Result<Arc<KafkaReader>, Failure> {
    if let Some(reader) = readers.get(&kafka.name) {
        return Ok(reader.clone());
    }
    let reader = KafkaReader::new(kafka, &names::group(&names.uid), partitions as usize)
        .map_err(bad_connection)?;
    let reader = Arc::new(reader);
    readers.insert(kafka.name.clone(), reader.clone());
    Ok(reader)
}

fn exchange_topics(
    plan: &JobPlan,
    admin: &Admin,
    names: &Names,
    slots: u32,
) -> Result<BTreeMap<usize, TopicFacts>, Failure> {
    let mut topics = BTreeMap::new();
    for (index, exchange) in plan.exchanges.iter().enumerate() {
        let topic = names::exchange_topic(&names.uid, &exchange.name);
        admin.create_internal(&topic, slots).map_err(refused)?;
        let found = resolve::describe(admin, &topic).map_err(unreachable)?;
        topics.insert(
            index,
            found.ok_or_else(|| {
                refused(anyhow::anyhow!(
                    "internal topic `{topic}` was made and is not there"
                ))
            })?,
        );
    }
    Ok(topics)
}

fn sink_partitions(plan: &JobPlan, kafkas: &Kafkas) -> Result<Vec<u32>, Failure> {
    let of = |name: &str, sink: &KafkaSink| -> Result<u32, Failure> {
        let (_, admin) = kafkas.get(&sink.connection)?;
        if let Some(create) = &sink.create {
            let new = NewTopic {
                name: &sink.topic,
                partitions: create.partitions,
                replication: create.replication_factor,
                config: &[],
            };
            admin.create(&new).map_err(refused)?;
        }
        let found = resolve::describe(admin, &sink.topic).map_err(unreachable)?;
        found.map(|topic| topic.partitions).ok_or_else(|| {
            refused(anyhow::anyhow!(
                "sink `{name}`: topic `{}` does not exist on connection `{}`; create it, or say `create: {{partitions: N}}` under `kafka`",
                sink.topic,
                sink.connection
            ))
        })
    };
    plan.sinks
        .iter()
        .map(|sink| match &sink.kind {
            SinkKind::Kafka(kafka) => of(&sink.name, kafka),
            SinkKind::File(_) | SinkKind::Stdout => Ok(1),
        })
        .collect()
}

/// Deletes what the job has noted: journal, internal topics, state. Output files are emptied when they are opened.
fn forget(job: &Job, names: &Names, kafkas: &Kafkas, state_dir: &Path) -> Result<(), Failure> {
    if let JournalPlan::Kafka { connection } = &job.plan.journal {
        let (_, admin) = kafkas.get(connection)?;
        let exchanges = job
            .plan
            .exchanges
            .iter()
            .map(|exchange| names::exchange_topic(&names.uid, &exchange.name));
        let topics: Vec<String> = std::iter::once(names::journal_topic(&names.uid))
            .chain(exchanges)
            .collect();
        let there: Vec<&str> = topics.iter().map(String::as_str).collect();
        admin.delete(&there).map_err(unreachable)?;
        admin
            .delete_group(&names::group(&names.uid))
            .map_err(unreachable)?;
    }
    let folder = state_dir.join(&names.uid);
    match std::fs::remove_dir_all(&folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(refused(anyhow::anyhow!(
            "cannot delete {}: {error}",
            folder.display()
        ))),
    }
}

/// Starts slots and waits for them.
struct Starter<'a> {
    job: &'a Job,
    args: &'a RunArgs,
    names: &'a Names,
    setup: &'a Setup,
    checkpoints: &'a Checkpoints,
    board: &'a Arc<Board>,
    metrics: &'a Metrics,
}

impl Starter<'_> {
    /// Each slot has a thread. The first that must not go on brings the others down in good order.
    fn run_slots(&self, slots: &[u32], stop: &AtomicBool) -> Result<ExitCode, Failure> {
        let peers = Arc::new(Peers::new(self.setup.layout.all_tasks()));
        let _elsewhere = self.follow_others(slots, &peers)?;
        let files = self.file_sinks()?;
        let drivers = slots
            .iter()
            .map(|slot| self.driver(*slot, slots.len() as u32, &peers, &files))
            .collect::<Result<Vec<_>, _>>()?;
        let outcomes = std::thread::scope(|scope| {
            let threads: Vec<_> = drivers
                .into_iter()
                .map(|driver| {
                    scope.spawn(move || {
                        let outcome = driver.run(&|| stop.load(Ordering::Acquire));
                        if outcome.is_err() {
                            stop.store(true, Ordering::Release);
                        }
                        outcome
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join())
                .collect::<Vec<_>>()
        });
        let mut done = true;
        let mut worst: Option<Failure> = None;
        for outcome in outcomes {
            match outcome {
                Ok(Ok(ended)) => done &= ended == Ended::Done,
                Ok(Err(error)) => worst = worst.or(Some(failure(error))),
                Err(_) => {
                    worst = worst.or(Some(refused(anyhow::anyhow!(
                        "a slot's thread panicked: see above, and please report it"
                    ))))
                }
            }
        }
        match worst {
            Some(failure) => Err(failure),
            None => {
                tracing::info!(
                    "{}",
                    if done {
                        "done: all input is read, all rows are out"
                    } else {
                        "stopped; the next run goes on from here"
                    }
                );
                Ok(ExitCode::Done)
            }
        }
    }

    /// Slots of other processes tell idle tasks here how far they are.
    fn follow_others(
        &self,
        slots: &[u32],
        peers: &Arc<Peers>,
    ) -> Result<Option<Journals>, Failure> {
        let layout = &self.setup.layout;
        let elsewhere: Vec<u32> = (0..layout.slots)
            .filter(|slot| !slots.contains(slot))
            .collect();
        let JobJournal::Kafka { journal, .. } = &self.setup.journal else {
            return Ok(None);
        };
        if elsewhere.is_empty() {
            return Ok(None);
        }
        let here = slots
            .iter()
            .flat_map(|slot| self.setup.tasks(*slot))
            .collect();
        let names = layout
            .all_tasks()
            .into_iter()
            .map(|task| (input_name(&self.job.plan, task), task))
            .collect();
        Journals::follow(peers.clone(), journal.clone(), here, elsewhere, names)
            .map(Some)
            .map_err(refused)
    }

    fn driver(
        &self,
        slot: u32,
        hosted: u32,
        peers: &Arc<Peers>,
        files: &BTreeMap<usize, FileSink>,
    ) -> Result<Driver, Failure> {
        let plan = &self.job.plan;
        let sinks = self.external_sinks(files);
        let identity = Identity {
            job: self.names.uid.clone(),
            slot,
            term: self.args.term.map_or(Term::AfterLast, Term::Given),
            owner: self.names.owner.clone(),
            incarnation: self.names.incarnation.clone(),
        };
        let settings = Settings {
            guarantee: plan.spec.guarantee,
            plan_hash: plan_hash(plan),
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
            retain: plan.spec.checkpoint.retain as usize,
            external_sinks: sinks.values().map(|(name, _)| name.clone()).collect(),
        };
        let committer = Committer::spawn(
            slot,
            SlotProtocol::new(identity, settings),
            self.ledger(slot)?,
        )
        .map_err(refused)?;
        Ok(Driver {
            job: self.names.uid.clone(),
            slot,
            plan: plan.clone(),
            text: self.job.text.clone(),
            layout: self.setup.layout.clone(),
            tasks: self.setup.tasks(slot),
            committer,
            checkpoints: self.checkpoints.clone(),
            sinks,
            resolver: self.setup.resolver.clone(),
            peers: peers.clone(),
            report: SlotReport::new(plan.clone(), self.board.clone(), self.metrics.clone(), slot),
            term: 0,
            incarnation: self.names.incarnation.clone(),
            hosted,
        })
    }

    fn ledger(&self, slot: u32) -> Result<Box<dyn Ledger>, Failure> {
        match &self.setup.journal {
            JobJournal::File { folder } => Ok(Box::new(FileLedger::new(
                FileJournal::open(folder).map_err(refused)?,
            ))),
            JobJournal::Kafka {
                kafka,
                admin,
                journal,
            } => {
                let plan = KafkaLedgerPlan {
                    uid: self.names.uid.clone(),
                    slot,
                    guarantee: self.job.plan.spec.guarantee,
                    topics: self.topics(),
                    internal_inputs: self.internal_inputs(slot),
                };
                Ok(Box::new(KafkaLedger::new(
                    kafka.clone(),
                    admin.clone(),
                    journal.clone(),
                    plan,
                )))
            }
        }
    }

    /// Topics that are written in the transaction.
    fn topics(&self) -> BTreeMap<Target, String> {
        let sinks = self
            .job
            .plan
            .sinks
            .iter()
            .enumerate()
            .filter_map(|(index, sink)| match &sink.kind {
                SinkKind::Kafka(kafka) => Some((Target::Sink(index), kafka.topic.clone())),
                _ => None,
            });
        let exchanges = self
            .setup
            .exchange_topics
            .iter()
            .map(|(index, topic)| (Target::Exchange(*index), topic.topic.clone()));
        sinks.chain(exchanges).collect()
    }

    fn internal_inputs(&self, slot: u32) -> Vec<InternalInput> {
        let plan = &self.job.plan;
        let tasks = self.setup.tasks(slot).into_iter();
        tasks
            .filter_map(|task| {
                let exchange = task.stage.checked_sub(plan.sources.len())?;
                let topic = self.setup.exchange_topics.get(&exchange)?;
                Some(InternalInput {
                    input: input_name(plan, task),
                    topic: topic.topic.clone(),
                    partition: task.partition,
                })
            })
            .collect()
    }

    /// Output files are opened once and shared by the slots.
    fn file_sinks(&self) -> Result<BTreeMap<usize, FileSink>, Failure> {
        let mut files = BTreeMap::new();
        for (index, sink) in self.job.plan.sinks.iter().enumerate() {
            if let SinkKind::File(file) = &sink.kind {
                let existing = Existing {
                    overwrite: file.overwrite,
                    fresh: self.args.fresh,
                };
                let path = self.job.folder.join(&file.path);
                let opened = FileSink::open(&path, &self.names.uid, existing);
                files.insert(
                    index,
                    opened.map_err(|error| Failure::new(ExitCode::BadManifest, error))?,
                );
            }
        }
        Ok(files)
    }

    fn external_sinks(
        &self,
        files: &BTreeMap<usize, FileSink>,
    ) -> BTreeMap<usize, (String, Box<dyn ExternalSink>)> {
        let of = |index: usize| -> Option<Box<dyn ExternalSink>> {
            match &self.job.plan.sinks[index].kind {
                SinkKind::Kafka(_) => None,
                SinkKind::File(_) => files
                    .get(&index)
                    .map(|file| Box::new(file.clone()) as Box<dyn ExternalSink>),
                SinkKind::Stdout => Some(Box::<StdoutSink>::default()),
            }
        };
        (0..self.job.plan.sinks.len())
            .filter_map(|index| {
                Some((index, (self.job.plan.sinks[index].name.clone(), of(index)?)))
            })
            .collect()
    }
}

fn failure(error: DriverError) -> Failure {
    let code = error.exit_code();
    match error {
        DriverError::Stopped(reason) => {
            Failure::new(code, anyhow::anyhow!("{reason}\n  {}", reason.hint()))
        }
        other => Failure::new(code, other),
    }
}
