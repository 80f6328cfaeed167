//! Finds the job's inputs on this cluster or machine: topics, partitions, offsets, files; and opens them.
//!
//! Resolved once for the process (how many tasks there are) and again by each slot when the protocol asks, so that what the
//! journal noted at the first start can be compared with what is there now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::bounded;
use streamjob_core::commit::record::{JobFacts, TopicFacts};
use streamjob_core::engine::{EngineError, Layout, SlotEngine, TaskId, input_name};
use streamjob_core::plan::{JobPlan, SourceKind, SourcePlan, StageInput};
use streamjob_crds::{GenerateSource, StartFrom, Until};

use crate::driver::inputs::{Inputs, SlotInput, now_ms};
use crate::source::file::{FileError, FilePartition, FoundFile};
use crate::source::generate::GeneratePartition;
use crate::source::kafka::{KafkaReader, Span};
use crate::source::{Input, SourceError};
use crate::topics::{Admin, At, TopicError};

#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(
        "source `{source_name}`: topic `{topic}` does not exist on connection `{connection}`; create it, or correct `kafka.topic`"
    )]
    NoTopic {
        source_name: String,
        topic: String,
        connection: String,
    },
    #[error(
        "source `{source_name}`: topic `{topic}` is compacted (cleanup.policy): older events of a key are deleted, so the same log would not give the same rows; read a topic with `cleanup.policy=delete`"
    )]
    Compacted { source_name: String, topic: String },
    #[error("source `{source_name}`: startFrom.timestamp `{text}` is not an RFC 3339 time")]
    StartTime { source_name: String, text: String },
    #[error("source `{source_name}`: {message}")]
    Generate {
        source_name: String,
        message: String,
    },
}

impl ResolveError {
    /// Servers do not answer: it may pass.
    pub fn unreachable(&self) -> bool {
        matches!(self, ResolveError::Topic(error) if error.kafka().unreachable())
    }
}

/// Where a stage's input comes from.
pub enum Origin {
    Topic {
        reader: Arc<KafkaReader>,
        admin: Admin,
        topic: TopicFacts,
    },
    Files(Vec<FoundFile>),
    Generated {
        partitions: u32,
    },
    /// The other tasks of this process.
    InProcess,
}

impl Origin {
    pub fn partitions(&self, slots: u32) -> u32 {
        match self {
            Origin::Topic { topic, .. } => topic.partitions,
            Origin::Files(files) => files.len() as u32,
            Origin::Generated { partitions } => *partitions,
            Origin::InProcess => slots,
        }
    }

    /// Paths of the files, if it is files.
    pub fn files(&self) -> Option<Vec<String>> {
        match self {
            Origin::Files(files) => Some(files.iter().map(|file| file.path.clone()).collect()),
            _ => None,
        }
    }
}

pub struct Resolver {
    pub plan: Arc<JobPlan>,
    pub layout: Arc<Layout>,
    /// By stage.
    pub origins: Vec<Origin>,
    /// The job file's folder.
    pub folder: PathBuf,
}

/// The topic of a Kafka source as it is now.
pub fn source_topic(
    admin: &Admin,
    source_name: &str,
    connection: &str,
    topic: &str,
) -> Result<TopicFacts, ResolveError> {
    let found = describe(admin, topic)?.ok_or_else(|| ResolveError::NoTopic {
        source_name: source_name.to_owned(),
        topic: topic.to_owned(),
        connection: connection.to_owned(),
    })?;
    match admin.compacted(topic)? {
        true => Err(ResolveError::Compacted {
            source_name: source_name.to_owned(),
            topic: topic.to_owned(),
        }),
        false => Ok(found),
    }
}

pub fn describe(admin: &Admin, topic: &str) -> Result<Option<TopicFacts>, TopicError> {
    let found = admin.describe(&[topic])?.remove(topic);
    Ok(found.map(|found| TopicFacts {
        topic: topic.to_owned(),
        id: found.id,
        partitions: found.partitions,
    }))
}

impl Resolver {
    /// Facts as they are now; first and last positions as they were when the input was first read (`known`), or as they are
    /// now if it never was.
    pub fn resolve(
        &self,
        tasks: &[TaskId],
        known: Option<&JobFacts>,
    ) -> Result<(JobFacts, BTreeMap<String, i64>), ResolveError> {
        let mut facts = JobFacts {
            slots: self.layout.slots,
            ..JobFacts::default()
        };
        for (stage, origin) in self.origins.iter().enumerate() {
            let name = self.stage_name(stage).to_owned();
            match origin {
                Origin::Topic { admin, topic, .. } => {
                    if let Some(now) = describe(admin, &topic.topic)? {
                        facts.topics.insert(name, now);
                    }
                }
                Origin::Files(files) => {
                    let here = files
                        .iter()
                        .filter(|file| self.folder.join(&file.path).exists());
                    facts
                        .files
                        .insert(name, here.map(|file| file.path.clone()).collect());
                }
                Origin::Generated { .. } | Origin::InProcess => {}
            }
        }
        if let Some(known) = known {
            (facts.start, facts.end) = (known.start.clone(), known.end.clone());
            facts.began = known.began.clone();
        }
        self.bounds(tasks, &mut facts)?;
        let start = facts.start.clone();
        Ok((facts, start))
    }

    /// First and last positions, as of now, of those of the tasks' inputs that have none.
    fn bounds(&self, tasks: &[TaskId], facts: &mut JobFacts) -> Result<(), ResolveError> {
        for task in tasks {
            let name = input_name(&self.plan, *task);
            if facts.start.contains_key(&name) {
                continue;
            }
            let (start, end) = match &self.origins[task.stage] {
                Origin::InProcess => continue,
                Origin::Files(files) => {
                    (0, files.get(task.partition as usize).map(|file| file.end))
                }
                Origin::Generated { .. } => {
                    let (source, generate) = self.generate_source(*task)?;
                    if generate.fields.iter().any(|field| field.now.is_some()) {
                        facts.began.insert(source.name.clone(), now_ms());
                    }
                    (0, None)
                }
                Origin::Topic { admin, topic, .. } => self.topic_bounds(*task, admin, topic)?,
            };
            facts.start.insert(name.clone(), start);
            if let Some(end) = end {
                facts.end.insert(name, end);
            }
        }
        Ok(())
    }

    fn topic_bounds(
        &self,
        task: TaskId,
        admin: &Admin,
        topic: &TopicFacts,
    ) -> Result<(i64, Option<i64>), ResolveError> {
        let at = |at: At| -> Result<i64, ResolveError> {
            let partition = i32::try_from(task.partition).unwrap_or(i32::MAX);
            Ok(admin
                .list(&[(&topic.topic, partition)], at)?
                .first()
                .copied()
                .unwrap_or_default())
        };
        let StageInput::Source(index) = self.plan.stages[task.stage].input else {
            return Ok((at(At::Earliest)?, None));
        };
        let source = &self.plan.sources[index];
        let SourceKind::Kafka(kafka) = &source.kind else {
            return Ok((0, None));
        };
        let start = match &kafka.start_from {
            StartFrom::Earliest => at(At::Earliest)?,
            StartFrom::Latest => at(At::Latest)?,
            StartFrom::Timestamp(text) => {
                let time =
                    streamjob_core::decode::parse_rfc3339(text.as_bytes()).ok_or_else(|| {
                        ResolveError::StartTime {
                            source_name: source.name.clone(),
                            text: text.clone(),
                        }
                    })?;
                at(At::Time(time))?
            }
        };
        let end = match kafka.until {
            Some(Until::Latest) => Some(at(At::Latest)?.max(start)),
            None => None,
        };
        Ok((start, end))
    }

    /// Opens the inputs of the engine's tasks at the engine's positions.
    pub fn open(&self, engine: &SlotEngine, facts: &JobFacts) -> Result<Inputs, ResolveError> {
        let (wake, woken) = bounded(1);
        let mut inputs = Vec::new();
        for task in engine.task_ids() {
            let name = input_name(&self.plan, task);
            let position = engine.position(task).unwrap_or_default();
            let end = facts.end.get(&name).copied();
            let input: Box<dyn Input> = match &self.origins[task.stage] {
                Origin::InProcess => continue,
                Origin::Topic { reader, topic, .. } => {
                    let noted = facts
                        .topics
                        .get(self.stage_name(task.stage))
                        .unwrap_or(topic);
                    Box::new(reader.input(
                        &Span {
                            topic: noted,
                            partition: task.partition,
                            position,
                            end,
                        },
                        wake.clone(),
                    )?)
                }
                Origin::Files(files) => {
                    let path = files
                        .get(task.partition as usize)
                        .map(|file| self.folder.join(&file.path));
                    let path = path.unwrap_or_default();
                    Box::new(
                        FilePartition::open(path, position, end.unwrap_or(position))
                            .map_err(SourceError::from)?,
                    )
                }
                Origin::Generated { .. } => Box::new(self.generated(task, position, facts)?),
            };
            inputs.push(SlotInput {
                task,
                name,
                input,
                idle_after: self.idle_after(task.stage),
            });
        }
        Ok(Inputs::new(engine, inputs, woken)?)
    }

    /// Tells lag tools how far committed epochs are; nobody here reads it back.
    pub fn committed(&self, positions: &BTreeMap<TaskId, i64>) {
        for (task, position) in positions {
            if let Origin::Topic { reader, topic, .. } = &self.origins[task.stage] {
                reader.committed(&topic.topic, task.partition, *position);
            }
        }
    }

    fn generate_source(
        &self,
        task: TaskId,
    ) -> Result<(&SourcePlan, &GenerateSource), ResolveError> {
        if let StageInput::Source(index) = self.plan.stages[task.stage].input
            && let source = &self.plan.sources[index]
            && let SourceKind::Generate(generate) = &source.kind
        {
            return Ok((source, generate));
        }
        Err(EngineError::NoTask(task).into())
    }

    fn generated(
        &self,
        task: TaskId,
        position: i64,
        facts: &JobFacts,
    ) -> Result<GeneratePartition, ResolveError> {
        let (source, generate) = self.generate_source(task)?;
        let opened = GeneratePartition::open(generate, source, task.partition, position);
        let partition = opened.map_err(|error| ResolveError::Generate {
            source_name: source.name.clone(),
            message: error.to_string(),
        })?;
        Ok(match facts.began.get(&source.name) {
            Some(start) => partition.since(*start),
            None => partition,
        })
    }

    fn stage_name(&self, stage: usize) -> &str {
        match self.plan.stages[stage].input {
            StageInput::Source(source) => &self.plan.sources[source].name,
            StageInput::Exchange(exchange) => &self.plan.exchanges[exchange].name,
        }
    }

    fn idle_after(&self, stage: usize) -> Option<i64> {
        match self.plan.stages[stage].input {
            StageInput::Source(source) => Some(self.plan.sources[source].idle_after),
            StageInput::Exchange(_) => None,
        }
    }
}

/// Files that a source reads: those the journal notes, else those that are there now.
pub fn files(
    folder: &Path,
    pattern: &str,
    noted: Option<&Vec<String>>,
    ends: &BTreeMap<String, i64>,
    source: &str,
) -> Result<Vec<FoundFile>, FileError> {
    match noted {
        None => crate::source::file::resolve(folder, pattern),
        Some(noted) => Ok(noted
            .iter()
            .enumerate()
            .map(|(partition, path)| FoundFile {
                path: path.clone(),
                end: ends
                    .get(&format!("{source}/{partition}"))
                    .copied()
                    .unwrap_or_default(),
            })
            .collect()),
    }
}
