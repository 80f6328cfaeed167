//! What a run has to know before any slot starts: who it is, the clusters it dials, its topics and files, how many
//! slots and tasks there are. A job that lacks something is refused here, before anything of it runs.
//!
//! Slots are started and waited for in `run`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use sha2::{Digest, Sha256};
use streamjob_core::commit::Fact;
use streamjob_core::commit::record::{JobFacts, JournalRecord, TopicFacts};
use streamjob_core::engine::{Layout, TaskId};
use streamjob_core::plan::{JobPlan, JournalPlan, SinkKind, SourceKind, SourcePlan, slots};
use streamjob_crds::KafkaSink;

use crate::cli::args::{HostArgs, RunArgs};
use crate::cli::job::Job;
use crate::cli::{ExitCode, Failure};
use crate::connect::{ConnectError, Kafka};
use crate::journal::file::FileJournal;
use crate::journal::kafka::{self as journal, JournalError, KafkaJournal};
use crate::names;
use crate::resolve::{self, Origin, Resolver};
use crate::secrets::Secrets;
use crate::source::kafka::KafkaReader;
use crate::topics::{Admin, NewTopic};

/// How long servers may take to answer at the start.
const CONNECT: Duration = Duration::from_secs(15);

/// Who we are.
#[derive(Clone)]
pub struct Names {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub owner: String,
    pub incarnation: String,
}

impl Names {
    pub fn of(job: &Job, args: &HostArgs) -> Self {
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
pub struct Kafkas(BTreeMap<String, (Kafka, Admin)>);

impl Kafkas {
    pub fn connect(job: &Job, secrets: &Secrets, names: &Names) -> Result<Self, Failure> {
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

    pub fn get(&self, name: &str) -> Result<&(Kafka, Admin), Failure> {
        self.0.get(name).ok_or_else(|| {
            Failure::new(
                ExitCode::BadManifest,
                anyhow!("no Kafka connection `{name}`"),
            )
        })
    }
}

fn bad_connection(error: ConnectError) -> Failure {
    bad_setting(error.is_unreachable(), error)
}

/// A secret or setting that is wrong is the user's to mend; a server that does not answer may come back.
pub fn bad_setting(passes: bool, error: impl Into<anyhow::Error>) -> Failure {
    match passes {
        true => unreachable(error),
        false => Failure::new(ExitCode::BadManifest, error),
    }
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
pub enum JobJournal {
    Kafka {
        kafka: Kafka,
        admin: Admin,
        journal: Arc<KafkaJournal>,
    },
    File {
        folder: PathBuf,
    },
}

impl JobJournal {
    /// A slot's last record as of now.
    pub fn last(&self, slot: u32) -> Result<Option<JournalRecord>, Failure> {
        match self {
            JobJournal::Kafka { journal, .. } => journal.last(slot).map_err(unreachable),
            JobJournal::File { folder } => last_in_file(folder),
        }
    }
}

/// What is known before any slot starts.
pub struct Setup {
    pub journal: JobJournal,
    pub resolver: Arc<Resolver>,
    pub layout: Arc<Layout>,
    pub exchange_topics: BTreeMap<usize, TopicFacts>,
}

impl Setup {
    pub fn resolve(
        job: &Job,
        names: &Names,
        kafkas: &Kafkas,
        state_dir: &Path,
    ) -> Result<Self, Failure> {
        let plan = &job.plan;
        let mut resolving = Resolving {
            job,
            names,
            kafkas,
            folder: state_dir.join(&names.uid),
            readers: BTreeMap::new(),
        };
        let (noted, opened) = resolving.noted()?;
        let mut origins = Vec::new();
        for source in &plan.sources {
            origins.push(resolving.source(source, noted.as_ref())?);
        }
        let first = origins.first().map_or(1, |origin| origin.partitions(1));
        let slots = slots(plan, Some(&[first])).unwrap_or(1);
        let (journal, exchange_topics) = resolving.journal(opened, slots)?;
        for index in 0..plan.exchanges.len() {
            origins.push(resolving.exchange(&journal, exchange_topics.get(&index))?);
        }
        let layout = Arc::new(Layout {
            slots,
            tasks: origins
                .iter()
                .map(|origin| origin.partitions(slots))
                .collect(),
            sink_partitions: sink_partitions(plan, kafkas)?,
            exchange_in_process: matches!(journal, JobJournal::File { .. }),
            files: origins
                .iter()
                .enumerate()
                .filter_map(|(stage, origin)| Some((stage, origin.files()?)))
                .collect(),
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
    pub fn hosted(&self, args: &RunArgs) -> Result<Vec<u32>, Failure> {
        let usage = |message: String| Failure::new(ExitCode::Usage, anyhow!(message));
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

    /// Slots of the whole job: with a file journal they all commit as one.
    pub fn slot_count(&self) -> u32 {
        match self.journal {
            JobJournal::File { .. } => 1,
            JobJournal::Kafka { .. } => self.layout.slots,
        }
    }

    pub fn tasks(&self, slot: u32) -> Vec<TaskId> {
        match self.journal {
            JobJournal::File { .. } => self.layout.all_tasks(),
            JobJournal::Kafka { .. } => self.layout.tasks_of(slot),
        }
    }
}

/// A job whose inputs are being looked up.
struct Resolving<'a> {
    job: &'a Job,
    names: &'a Names,
    kafkas: &'a Kafkas,
    /// Of a file journal.
    folder: PathBuf,
    /// By connection: one consumer, shared by all that read there.
    readers: BTreeMap<String, Arc<KafkaReader>>,
}

impl Resolving<'_> {
    /// What the job noted when it first ran (it says which files there were, and so how many tasks there are), and the
    /// journal on Kafka, if it is there.
    fn noted(&self) -> Result<(Option<JobFacts>, Option<KafkaJournal>), Failure> {
        if let JournalPlan::File = self.job.plan.journal {
            let last = last_in_file(&self.folder)?;
            return Ok((last.map(|record| record.facts), None));
        }
        let Some(journal) = open_journal(self.job, self.names, self.kafkas)? else {
            return Ok((None, None));
        };
        let noted = noted_facts(&journal).map_err(unreachable)?;
        Ok((noted, Some(journal)))
    }

    fn source(&mut self, source: &SourcePlan, noted: Option<&JobFacts>) -> Result<Origin, Failure> {
        Ok(match &source.kind {
            SourceKind::Kafka(kafka) => {
                let (connection, admin) = self.kafkas.get(&kafka.connection)?;
                let topic =
                    resolve::source_topic(admin, &source.name, &kafka.connection, &kafka.topic)
                        .map_err(|error| judged(error.unreachable(), error))?;
                self.topic(connection, admin, topic)?
            }
            SourceKind::File(file) => {
                let files = noted.and_then(|facts| facts.files.get(&source.name));
                let ends = noted.map(|facts| facts.end.clone()).unwrap_or_default();
                let folder = &self.job.folder;
                let files = resolve::files(folder, &file.path, files, &ends, &source.name);
                Origin::Files(files.map_err(|error| Failure::new(ExitCode::BadManifest, error))?)
            }
            SourceKind::Generate(generate) => Origin::Generated {
                partitions: generate.partitions,
            },
        })
    }

    /// The journal, made if it is not there, and the internal topics beside it.
    fn journal(
        &self,
        opened: Option<KafkaJournal>,
        slots: u32,
    ) -> Result<(JobJournal, BTreeMap<usize, TopicFacts>), Failure> {
        let JournalPlan::Kafka { connection } = &self.job.plan.journal else {
            let folder = self.folder.clone();
            return Ok((JobJournal::File { folder }, BTreeMap::new()));
        };
        let (kafka, admin) = self.kafkas.get(connection)?;
        let topic = journal::prepare(admin, &self.names.uid, slots)
            .map_err(|error| judged(error.unreachable(), error))?;
        let journal = match opened {
            Some(journal) => journal,
            None => KafkaJournal::open(kafka, admin.clone(), topic).map_err(bad_connection)?,
        };
        let topics = exchange_topics(&self.job.plan, admin, self.names, slots)?;
        let journal = JobJournal::Kafka {
            kafka: kafka.clone(),
            admin: admin.clone(),
            journal: Arc::new(journal),
        };
        Ok((journal, topics))
    }

    fn exchange(
        &mut self,
        journal: &JobJournal,
        topic: Option<&TopicFacts>,
    ) -> Result<Origin, Failure> {
        match (journal, topic) {
            (JobJournal::Kafka { kafka, admin, .. }, Some(topic)) => {
                self.topic(kafka, admin, topic.clone())
            }
            _ => Ok(Origin::InProcess),
        }
    }

    fn topic(
        &mut self,
        kafka: &Kafka,
        admin: &Admin,
        topic: TopicFacts,
    ) -> Result<Origin, Failure> {
        let reader = match self.readers.get(&kafka.name) {
            Some(reader) => reader.clone(),
            None => {
                let group = names::group(&self.names.uid);
                let reader = KafkaReader::new(kafka, &group, topic.partitions as usize);
                let reader = Arc::new(reader.map_err(bad_connection)?);
                self.readers.insert(kafka.name.clone(), reader.clone());
                reader
            }
        };
        Ok(Origin::Topic {
            reader,
            admin: admin.clone(),
            topic,
        })
    }
}

/// The job's journal on Kafka, if it has one there.
fn open_journal(
    job: &Job,
    names: &Names,
    kafkas: &Kafkas,
) -> Result<Option<KafkaJournal>, Failure> {
    let JournalPlan::Kafka { connection } = &job.plan.journal else {
        return Ok(None);
    };
    let (kafka, admin) = kafkas.get(connection)?;
    let topic = names::journal_topic(&names.uid);
    let topic = resolve::describe(admin, &topic).map_err(unreachable)?;
    topic
        .map(|topic| KafkaJournal::open(kafka, admin.clone(), topic).map_err(bad_connection))
        .transpose()
}

fn last_in_file(folder: &Path) -> Result<Option<JournalRecord>, Failure> {
    match FileJournal::open(folder).map_err(refused)?.read() {
        Fact::JournalRead { records, .. } => Ok(records.into_iter().next_back()),
        // The protocol reads it again, and says what is wrong.
        _ => Ok(None),
    }
}

/// The facts that the first slot which has ever run noted.
fn noted_facts(journal: &KafkaJournal) -> Result<Option<JobFacts>, JournalError> {
    for slot in 0..journal.topic().partitions {
        if let Some(record) = journal.last(slot)? {
            return Ok(Some(record.facts));
        }
    }
    Ok(None)
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
        admin
            .create_internal(&topic, slots)
            .map_err(|error| judged(error.kafka().unreachable(), error))?;
        let found = resolve::describe(admin, &topic).map_err(unreachable)?;
        topics.insert(
            index,
            found.ok_or_else(|| {
                refused(anyhow!(
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
            admin
                .create(&new)
                .map_err(|error| judged(error.kafka().unreachable(), error))?;
        }
        let found = resolve::describe(admin, &sink.topic).map_err(unreachable)?;
        found.map(|topic| topic.partitions).ok_or_else(|| {
            refused(anyhow!(
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

/// By whether it may pass by itself.
pub fn judged(passes: bool, error: impl Into<anyhow::Error>) -> Failure {
    match passes {
        true => unreachable(error),
        false => refused(error),
    }
}

/// Starting again later may help.
pub fn unreachable(error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(ExitCode::Unreachable, error)
}

/// Starting again does not help: somebody has to mend something.
pub fn refused(error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(ExitCode::Refused, error)
}
