//! The ledger on Kafka: one transaction holds an epoch's output and its journal record. At least once: output first, the
//! record when all of it is acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use streamjob_core::commit::record::JournalRecord;
use streamjob_core::commit::{Failure, StopReason};
use streamjob_core::output::{EpochOutput, Target};
use streamjob_crds::Guarantee;

use super::producer::{Producer, SendError, TopicIndex};
use super::{Journal, Ledger, LedgerError};
use crate::connect::client::{Code, KafkaError};
use crate::connect::{Kafka, TRANSACTION_TIMEOUT};
use crate::journal::kafka::{JournalError, KafkaJournal};
use crate::names;
use crate::topics::Admin;

/// Time for one epoch's commit: less than the transaction may last.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(13);
/// The coordinator finishes a predecessor's transaction first.
const INIT_TIMEOUT: Duration = Duration::from_secs(20);

/// An internal topic's partition that this slot reads: trimmed along with the slot's journal.
#[derive(Clone, Debug)]
pub struct InternalInput {
    /// Its name in the journal's positions.
    pub input: String,
    pub topic: String,
    pub partition: u32,
}

/// What a slot's ledger is about.
pub struct KafkaLedgerPlan {
    pub uid: String,
    pub slot: u32,
    pub guarantee: Guarantee,
    /// Topics of the Kafka sinks and exchanges. Targets that are not here are not written by the ledger.
    pub topics: BTreeMap<Target, String>,
    pub internal_inputs: Vec<InternalInput>,
}

pub struct KafkaLedger {
    kafka: Kafka,
    admin: Admin,
    journal: Arc<KafkaJournal>,
    plan: KafkaLedgerPlan,
    producer: Option<Ready>,
    /// Where records are in the journal, and what they say of internal inputs: oldest first.
    written: VecDeque<Written>,
}

/// A producer and its topics.
struct Ready {
    producer: Producer,
    journal: TopicIndex,
    targets: BTreeMap<Target, TopicIndex>,
}

struct Written {
    epoch: u64,
    offset: i64,
    /// By index of `internal_inputs`.
    positions: Vec<Option<i64>>,
}

impl KafkaLedger {
    pub fn new(
        kafka: Kafka,
        admin: Admin,
        journal: Arc<KafkaJournal>,
        plan: KafkaLedgerPlan,
    ) -> Self {
        KafkaLedger {
            kafka,
            admin,
            journal,
            plan,
            producer: None,
            written: VecDeque::new(),
        }
    }

    fn transactional(&self) -> bool {
        self.plan.guarantee == Guarantee::ExactlyOnce
    }

    fn make_producer(&self) -> Result<Ready, SendError> {
        let settings = match self.transactional() {
            true => self
                .kafka
                .transactional(&names::transactional_id(&self.plan.uid, self.plan.slot)),
            false => self.kafka.idempotent(),
        };
        let journal = self.journal.topic().topic.as_str();
        let mut topics: Vec<&str> = vec![journal];
        topics.extend(self.plan.topics.values().map(String::as_str));
        topics.sort_unstable();
        topics.dedup();
        let role = format!("{} slot {}", self.kafka.name, self.plan.slot);
        let mut producer = Producer::new(&settings, &role, &topics, INIT_TIMEOUT)?;
        let missing = || {
            KafkaError::new(
                Code::UnknownTopicOrPartition,
                "a topic of the job is missing",
            )
        };
        let index = |name: &str| producer.topic(name).ok_or_else(missing);
        let journal = index(journal)?;
        let mut targets = BTreeMap::new();
        for (target, topic) in &self.plan.topics {
            targets.insert(*target, index(topic)?);
        }
        producer.follow(journal);
        if self.transactional() {
            producer.init_transactions(INIT_TIMEOUT)?;
        }
        Ok(Ready {
            producer,
            journal,
            targets,
        })
    }

    fn note(&mut self, record: &JournalRecord, offset: i64) {
        let inputs = self.plan.internal_inputs.iter();
        self.written.push_back(Written {
            epoch: record.epoch,
            offset,
            positions: inputs
                .map(|input| record.positions.get(&input.input).copied())
                .collect(),
        });
    }

    fn explain(&self, error: JournalError) -> LedgerError {
        match error {
            JournalError::Gone { .. } | JournalError::Missing { .. } => LedgerError::Missing,
            error if error.unreachable() => LedgerError::Unreachable(error.to_string()),
            error => LedgerError::Refused(StopReason::JournalConflict {
                slot: self.plan.slot,
                what: error.to_string(),
            }),
        }
    }
}

impl Ledger for KafkaLedger {
    fn find(&mut self) -> Result<(), LedgerError> {
        let found = self.journal.check_topic();
        found.map_err(|error| self.explain(error))
    }

    fn read(&mut self) -> Result<Journal, LedgerError> {
        let settled = self.transactional() && self.producer.is_some();
        let reading = self
            .journal
            .read(self.plan.slot, settled)
            .map_err(|error| self.explain(error))?;
        self.written.clear();
        for (offset, record) in &reading.records {
            self.note(record, *offset);
        }
        Ok(Journal {
            records: reading
                .records
                .into_iter()
                .map(|(_, record)| record)
                .collect(),
            trimmed: reading.trimmed,
        })
    }

    fn init(&mut self) -> Result<(), Failure> {
        self.producer = None;
        self.producer = Some(self.make_producer().map_err(|error| failure(&error))?);
        Ok(())
    }

    fn commit(
        &mut self,
        record: &JournalRecord,
        output: Option<&Arc<EpochOutput>>,
    ) -> Result<(), Failure> {
        let transactional = self.transactional();
        let partition = i32::try_from(self.plan.slot).unwrap_or(i32::MAX);
        let ready = self.producer.as_mut().ok_or(Failure::Uncertain)?;
        let written = ready.write(record, output, partition, transactional);
        match written {
            Ok(offset) => {
                if let Some(offset) = offset {
                    self.note(record, offset);
                }
                Ok(())
            }
            Err(error) => {
                tracing::warn!(slot = self.plan.slot, epoch = record.epoch, "{error}");
                Err(failure(&error))
            }
        }
    }

    fn trim(&mut self, through: u64) {
        let last = self
            .written
            .iter()
            .rposition(|written| written.epoch <= through);
        let Some(first_kept) = last
            .and_then(|last| self.written.get(last + 1))
            .map(|kept| kept.offset)
        else {
            return;
        };
        let Some(passed) = last.and_then(|last| self.written.get(last)) else {
            return;
        };
        let inputs = self.plan.internal_inputs.iter().zip(&passed.positions);
        let read: Vec<(String, i32, i64)> = inputs
            .filter_map(|(input, position)| {
                let partition = i32::try_from(input.partition).ok()?;
                Some((input.topic.clone(), partition, (*position)?))
            })
            .collect();
        self.written.retain(|written| written.epoch > through);
        let (journal, admin, slot) = (self.journal.clone(), self.admin.clone(), self.plan.slot);
        let trimming = move || {
            let trimmed = journal.trim(slot, first_kept).and_then(|()| {
                read.iter().try_for_each(|(topic, partition, before)| {
                    admin.delete_records(topic, &[(*partition, *before)])
                })
            });
            // The next trim takes these records along.
            if let Err(error) = trimmed {
                tracing::warn!(slot, "old records are not deleted: {error}");
            }
        };
        // The broker takes its time, and epochs must not wait for it.
        if let Err(error) = std::thread::Builder::new()
            .name(format!("trim-{slot}"))
            .spawn(trimming)
        {
            tracing::warn!(slot, "old records are not deleted: {error}");
        }
    }
}

impl Ready {
    /// Returns the record's offset in the journal.
    fn write(
        &mut self,
        record: &JournalRecord,
        output: Option<&Arc<EpochOutput>>,
        partition: i32,
        transactional: bool,
    ) -> Result<Option<i64>, SendError> {
        let deadline = Instant::now() + COMMIT_TIMEOUT.min(TRANSACTION_TIMEOUT);
        let value = serde_json::to_vec(record)
            .map_err(|error| KafkaError::new(Code::ValueSerialization, error.to_string()))?;
        if transactional {
            self.producer.begin()?;
        }
        if let Some(output) = output {
            let targets = &self.targets;
            self.producer.send_output(
                output,
                |target| targets.get(&target.target).copied(),
                deadline,
            )?;
        }
        if !transactional {
            self.producer.drain(deadline)?;
        }
        self.producer
            .send(self.journal, partition, None, Some(&value), deadline)?;
        match transactional {
            true => self.producer.commit(deadline)?,
            false => self.producer.drain(deadline)?,
        }
        Ok(self.producer.followed_offset())
    }
}

/// What the protocol makes of an error: whatever may be over by itself is uncertain.
fn failure(error: &SendError) -> Failure {
    let kafka = match error {
        SendError::Kafka(kafka) => kafka,
        SendError::Record { error: kafka, .. } => kafka,
        SendError::Slow(_) | SendError::Unclean => return Failure::Uncertain,
    };
    if kafka.fenced() {
        return Failure::Fenced;
    }
    let missing = matches!(
        kafka.code,
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition
    );
    match missing || kafka.permanent() {
        true => Failure::Fatal(error.to_string()),
        false => Failure::Uncertain,
    }
}
