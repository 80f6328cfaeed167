//! The journal on Kafka: an internal topic with a partition a slot, whose records are written by the slots' producers and
//! read here. What it says is never cached: every reading goes to the end that readers of committed records see.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use streamjob_core::commit::record::{JournalRecord, TopicFacts};

use crate::connect::{ConnectError, Kafka};
use crate::names;
use crate::source::kafka::{KafkaReader, Span};
use crate::source::{SourceError, read_to_end};
use crate::topics::{Admin, At, TopicError};

/// A reading that gets nothing for this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// A broker that has just started may not know a topic yet: it is missing when it is not found for this long.
const MISSING: Duration = Duration::from_secs(3);
/// Between two looks at something that passes.
const POLL: Duration = Duration::from_millis(50);
/// Records and markers at the end of a partition among which the last record is looked for first.
const TAIL: i64 = 8;

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error(
        "the journal topic `{topic}` is missing, but the consumer group `{group}` shows that the job has run: restore the topic if you can; --fresh forgets the job's progress and state and puts rows out a second time"
    )]
    Missing { topic: String, group: String },
    #[error("the journal topic `{topic}` is gone")]
    Gone { topic: String },
    #[error(
        "the journal topic `{topic}` was deleted and made again: restore the old one if you can; --fresh forgets the job's progress and state"
    )]
    Recreated { topic: String },
    #[error(
        "the journal topic `{topic}` has {found} partitions, the job has {slots} slots: maxParallelism is immutable; set it back or start a new job"
    )]
    Slots {
        topic: String,
        found: u32,
        slots: u32,
    },
    #[error(
        "record {offset} of the journal topic `{topic}` partition {slot} is none of ours: {error}"
    )]
    Foreign {
        topic: String,
        slot: u32,
        offset: i64,
        error: serde_json::Error,
    },
    #[error(
        "the journal topic `{topic}` partition {slot} could not be read to its end at {end} within {PATIENCE:?}"
    )]
    Slow { topic: String, slot: u32, end: i64 },
    #[error(
        "the journal topic `{topic}` partition {slot} has a transaction that began at offset {open} and did not end within {PATIENCE:?}, though its producer is fenced: \
         if that lasts, a broker lost its marker (Kafka 4.3.0 to 4.4.0 do so when a partition is without a leader for a moment), and whether it was committed \
         is not to be seen here; `kafka-transactions.sh describe-producers` on the output topics tells: where it has ended, its rows were committed. \
         `kafka-transactions.sh abort --topic {topic} --partition {slot} --start-offset {open}` gives the epoch up, and its rows are written again"
    )]
    Hanging { topic: String, slot: u32, open: i64 },
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl JournalError {
    /// Reading may be tried again: servers do not answer, or not as they should, which passes.
    pub fn unreachable(&self) -> bool {
        match self {
            JournalError::Topic(error) => !error.kafka().permanent(),
            JournalError::Slow { .. } | JournalError::Hanging { .. } => true,
            _ => false,
        }
    }
}

/// A slot's part of the journal.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// With their offsets, in order.
    pub records: Vec<(i64, JournalRecord)>,
    /// Whether earlier records have been deleted.
    pub trimmed: bool,
}

/// Reads the journal of one job, for all slots of the process.
pub struct KafkaJournal {
    admin: Admin,
    topic: TopicFacts,
    reader: Mutex<Opened>,
}

struct Opened {
    reader: KafkaReader,
    wake: Sender<()>,
    woken: Receiver<()>,
}

/// Finds the job's journal topic, or makes it if the job has never run.
pub fn prepare(admin: &Admin, uid: &str, slots: u32) -> Result<TopicFacts, JournalError> {
    let name = names::journal_topic(uid);
    if admin.describe(&[&name])?.is_empty() {
        let group = names::group(uid);
        if admin.group_has_offsets(&group)? {
            return Err(JournalError::Missing { topic: name, group });
        }
        admin.create_internal(&name, slots)?;
    }
    let found = admin.describe(&[&name])?.remove(&name);
    let topic = found.ok_or_else(|| JournalError::Gone {
        topic: name.clone(),
    })?;
    match topic.partitions == slots {
        true => Ok(TopicFacts {
            topic: name,
            id: topic.id,
            partitions: slots,
        }),
        false => Err(JournalError::Slots {
            topic: name,
            found: topic.partitions,
            slots,
        }),
    }
}

impl KafkaJournal {
    pub fn open(kafka: &Kafka, admin: Admin, topic: TopicFacts) -> Result<Self, ConnectError> {
        // Records are taken as fast as they come: no need for room for all partitions.
        let reader = KafkaReader::new(kafka, &topic.topic, 1)?;
        let (wake, woken) = crossbeam_channel::bounded(1);
        Ok(KafkaJournal {
            admin,
            topic,
            reader: Mutex::new(Opened {
                reader,
                wake,
                woken,
            }),
        })
    }

    pub fn topic(&self) -> &TopicFacts {
        &self.topic
    }

    /// All of a slot's records. `settled`: no transaction is open on the slot's partition, because its owner has just
    /// been fenced, so all that is written is read. A broker that comes back may show less for a moment.
    pub fn read(&self, slot: u32, settled: bool) -> Result<Reading, JournalError> {
        let at = if settled { At::Written } else { At::Latest };
        let (earliest, end) = self.bounds(slot, at)?;
        if settled {
            self.await_stable(slot, end)?;
        }
        let records = self.records(slot, earliest, end)?;
        Ok(Reading {
            records,
            trimmed: earliest > 0,
        })
    }

    /// A slot's last record.
    pub fn last(&self, slot: u32) -> Result<Option<JournalRecord>, JournalError> {
        let (earliest, end) = self.bounds(slot, At::Latest)?;
        let mut tail = TAIL;
        loop {
            let from = end.saturating_sub(tail).max(earliest);
            let found = self.records(slot, from, end)?.pop();
            if found.is_some() || from == earliest {
                return Ok(found.map(|(_, record)| record));
            }
            tail = tail.saturating_mul(8);
        }
    }

    /// Deletes a slot's records before an offset.
    pub fn trim(&self, slot: u32, before: i64) -> Result<(), TopicError> {
        self.admin
            .delete_records(&self.topic.topic, &[(partition(slot), before)])
    }

    /// First offset of the slot's partition and its end, as `at` means it, of the topic that is the job's.
    fn bounds(&self, slot: u32, at: At) -> Result<(i64, i64), JournalError> {
        self.check_topic()?;
        let end = self.offset(slot, at)?;
        Ok((self.offset(slot, At::Earliest)?, end))
    }

    /// Whether the topic is there, and the one that it was.
    pub fn check_topic(&self) -> Result<(), JournalError> {
        let topic = self.topic.topic.clone();
        let began = Instant::now();
        loop {
            match self.admin.describe(&[&topic])?.remove(&topic) {
                Some(found) if found.id == self.topic.id => return Ok(()),
                Some(_) => return Err(JournalError::Recreated { topic }),
                None if began.elapsed() > MISSING => return Err(JournalError::Gone { topic }),
                None => std::thread::sleep(POLL),
            }
        }
    }

    fn offset(&self, slot: u32, at: At) -> Result<i64, TopicError> {
        let found = self
            .admin
            .list(&[(&self.topic.topic, partition(slot))], at)?;
        Ok(found.first().copied().unwrap_or(0))
    }

    /// Waits until readers of committed records see the slot's partition up to `end`.
    fn await_stable(&self, slot: u32, end: i64) -> Result<(), JournalError> {
        let began = Instant::now();
        loop {
            let open = self.offset(slot, At::Latest)?;
            if open >= end {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                let topic = self.topic.topic.clone();
                return Err(JournalError::Hanging { topic, slot, open });
            }
            std::thread::sleep(POLL);
        }
    }

    fn records(
        &self,
        slot: u32,
        from: i64,
        end: i64,
    ) -> Result<Vec<(i64, JournalRecord)>, JournalError> {
        let opened = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let span = Span {
            topic: &self.topic,
            partition: slot,
            position: from,
            end: Some(end),
        };
        let mut input = opened.reader.input(&span, opened.wake.clone())?;
        let mut records = Vec::new();
        let mut foreign = None;
        let all =
            read_to_end(
                &mut input,
                &opened.woken,
                PATIENCE,
                &mut |row| match serde_json::from_slice(row.payload.unwrap_or_default()) {
                    Ok(record) => records.push((row.position, record)),
                    Err(error) => {
                        foreign.get_or_insert((row.position, error));
                    }
                },
            )?;
        if !all {
            let topic = self.topic.topic.clone();
            return Err(JournalError::Slow { topic, slot, end });
        }
        match foreign {
            None => Ok(records),
            Some((offset, error)) => Err(JournalError::Foreign {
                topic: self.topic.topic.clone(),
                slot,
                offset,
                error,
            }),
        }
    }
}

fn partition(slot: u32) -> i32 {
    i32::try_from(slot).unwrap_or(i32::MAX)
}
