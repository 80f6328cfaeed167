//! Topics from the outside: made, filled, read as a consumer that only believes committed records.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::oracle::Row;
use crate::process::wait_until;

const LIMIT: Duration = Duration::from_secs(60);
/// Until replicas have caught up after a fault.
const WHOLE_LIMIT: Duration = Duration::from_secs(120);
/// Of one question to the brokers.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A record of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    /// Epoch ms.
    pub timestamp: Option<i64>,
}

impl Record {
    /// The payload as a JSON object.
    pub fn row(&self) -> Result<Row> {
        let payload = self
            .payload
            .as_deref()
            .context("a record without a value")?;
        serde_json::from_slice(payload)
            .with_context(|| format!("no row: {}", String::from_utf8_lossy(payload)))
    }
}

/// Administers and reads a cluster.
pub struct Cluster {
    bootstrap: String,
}

impl Cluster {
    pub fn new(bootstrap: impl Into<String>) -> Cluster {
        Cluster {
            bootstrap: bootstrap.into(),
        }
    }

    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    pub fn create(&self, topic: &str, partitions: usize) -> Result<()> {
        self.create_with(topic, partitions, &[])
    }

    /// Creates a topic with the cluster's default replication, and waits until the brokers know it.
    pub fn create_with(
        &self,
        topic: &str,
        partitions: usize,
        properties: &[(&str, &str)],
    ) -> Result<()> {
        let partitions = i32::try_from(partitions)?;
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
        for (key, value) in properties {
            new = new.set(key, value);
        }
        all_well(block_on(self.admin()?.create_topics([&new], &options()))??)?;
        let known = || (self.partitions(topic).ok()? == partitions as usize).then_some(());
        wait_until(LIMIT, known).with_context(|| format!("topic {topic} does not come up"))
    }

    pub fn delete(&self, topic: &str) -> Result<()> {
        all_well(block_on(
            self.admin()?.delete_topics(&[topic], &options()),
        )??)?;
        wait_until(LIMIT, || {
            self.topics()
                .ok()?
                .iter()
                .all(|name| name != topic)
                .then_some(())
        })
        .with_context(|| format!("topic {topic} does not go away"))
    }

    /// Raises the number of partitions to `count`.
    pub fn enlarge(&self, topic: &str, count: usize) -> Result<()> {
        all_well(block_on(self.admin()?.create_partitions(
            [&NewPartitions::new(topic, count)],
            &options(),
        ))??)
    }

    /// Deletes the records before `offset`, as retention does.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) -> Result<()> {
        let mut before = TopicPartitionList::new();
        before.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        block_on(self.admin()?.delete_records(&before, &options()))??;
        Ok(())
    }

    pub fn topics(&self) -> Result<Vec<String>> {
        let consumer: BaseConsumer = self.config().create()?;
        let metadata = consumer.fetch_metadata(None, ANSWER_LIMIT)?;
        Ok(metadata
            .topics()
            .iter()
            .map(|topic| topic.name().to_string())
            .collect())
    }

    /// Waits until every partition of every topic, the brokers' own too, has a leader and all its replicas in sync: a cluster
    /// that stands the next fault.
    pub fn await_whole(&self) -> Result<()> {
        let consumer: BaseConsumer = self.config().create()?;
        let lagging = || -> Result<Vec<String>> {
            let metadata = consumer.fetch_metadata(None, ANSWER_LIMIT)?;
            let topics = metadata.topics().iter();
            let partitions = topics.flat_map(|topic| {
                let partitions = topic.partitions().iter();
                partitions.map(move |partition| (topic.name(), partition))
            });
            let lagging = partitions.filter(|(_, partition)| {
                partition.leader() < 0 || partition.isr().len() < partition.replicas().len()
            });
            Ok(lagging
                .map(|(topic, partition)| format!("{topic}-{}", partition.id()))
                .collect())
        };
        wait_until(WHOLE_LIMIT, || lagging().ok()?.is_empty().then_some(()))
            .with_context(|| format!("the cluster does not become whole: {:?}", lagging()))
    }

    pub fn partitions(&self, topic: &str) -> Result<usize> {
        let consumer: BaseConsumer = self.config().create()?;
        let metadata = consumer.fetch_metadata(Some(topic), ANSWER_LIMIT)?;
        let found = metadata
            .topics()
            .iter()
            .find(|found| found.name() == topic && found.error().is_none());
        Ok(found.map_or(0, |found| found.partitions().len()))
    }

    /// In large batches, none lost or doubled.
    pub fn writer(&self) -> Result<Writer> {
        let settings = [
            ("linger.ms", "20"),
            ("compression.type", "lz4"),
            ("enable.idempotence", "true"),
        ];
        self.writer_with(&settings)
    }

    /// Records of 2 ms a batch, which cost the broker little and wait for little.
    pub fn prompt_writer(&self) -> Result<Writer> {
        self.writer_with(&[("linger.ms", "2"), ("acks", "1")])
    }

    fn writer_with(&self, settings: &[(&str, &str)]) -> Result<Writer> {
        let mut config = self.config();
        for (key, value) in settings {
            config.set(*key, *value);
        }
        config
            .set("message.max.bytes", "16000000")
            .set("queue.buffering.max.kbytes", "65536");
        Ok(Writer {
            producer: config.create()?,
        })
    }

    /// Reads committed records from the beginning.
    pub fn reader(&self, topic: &str) -> Result<Reader> {
        self.reader_from(topic, Offset::Beginning)
    }

    fn reader_from(&self, topic: &str, from: Offset) -> Result<Reader> {
        let mut config = self.config();
        config
            .set("group.id", "streamjob-tests")
            .set("enable.auto.commit", "false");
        config
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true");
        config
            .set("fetch.queue.backoff.ms", "10")
            .set("fetch.wait.max.ms", "50")
            .set("check.crcs", "true");
        let consumer: BaseConsumer = config.create()?;
        let partitions = self.partitions(topic)?;
        ensure!(partitions > 0, "there is no topic {topic}");
        let mut all = TopicPartitionList::new();
        for partition in 0..i32::try_from(partitions)? {
            all.add_partition_offset(topic, partition, from)?;
        }
        consumer.assign(&all)?;
        Ok(Reader {
            consumer,
            partitions,
            at_end: BTreeSet::new(),
        })
    }

    /// All committed records there are now.
    pub fn read(&self, topic: &str) -> Result<Vec<Record>> {
        self.reader(topic)?.read_to_end()
    }

    /// All committed records there are now, as rows.
    pub fn rows(&self, topic: &str) -> Result<Vec<Row>> {
        self.read(topic)?.iter().map(Record::row).collect()
    }

    /// The journal of a job: its records by slot, oldest first.
    pub fn journal(&self, topic: &str) -> Result<Vec<Vec<Value>>> {
        let mut slots = vec![Vec::new(); self.partitions(topic)?];
        for record in self.read(topic)? {
            let slot = slots
                .get_mut(usize::try_from(record.partition)?)
                .context("a new partition")?;
            slot.push(Value::Object(record.row()?));
        }
        Ok(slots)
    }

    /// The newest record of each partition. Looks at the last few only: a transaction's marker takes an offset too.
    pub fn newest(&self, topic: &str) -> Result<Vec<Option<Value>>> {
        let mut newest = vec![None; self.partitions(topic)?];
        for record in self
            .reader_from(topic, Offset::OffsetTail(20))?
            .read_to_end()?
        {
            *newest
                .get_mut(usize::try_from(record.partition)?)
                .context("a new partition")? = Some(Value::Object(record.row()?));
        }
        Ok(newest)
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("topic.metadata.refresh.interval.ms", "1000")
            // A broker that hangs is given up soon, for the sake of the others.
            .set("socket.timeout.ms", "10000")
            .set("socket.connection.setup.timeout.ms", "5000");
        config
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(self.config().create()?)
    }
}

/// Every topic must have gone well.
fn all_well(results: Vec<std::result::Result<String, (String, RDKafkaErrorCode)>>) -> Result<()> {
    results.into_iter().try_for_each(|result| match result {
        Ok(_) => Ok(()),
        Err((topic, code)) => bail!("{topic}: {code}"),
    })
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)))
}

fn block_on<F: Future>(future: F) -> Result<F::Output> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(future))
}

/// Produces to partitions of its caller's choice.
pub struct Writer {
    producer: BaseProducer,
}

impl Writer {
    pub fn send(
        &self,
        topic: &str,
        partition: i32,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
    ) -> Result<()> {
        self.send_at(topic, partition, key, payload, None)
    }

    /// With a timestamp (epoch ms) of its caller's choice.
    pub fn send_at(
        &self,
        topic: &str,
        partition: i32,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        timestamp: Option<i64>,
    ) -> Result<()> {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition);
        record.key = key;
        record.payload = payload;
        record.timestamp = timestamp;
        let start = Instant::now();
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                    if start.elapsed() < LIMIT =>
                {
                    record = back;
                    self.producer.poll(Duration::from_millis(5));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }

    /// Waits until the brokers have everything.
    pub fn flush(&self) -> Result<()> {
        Ok(self.producer.flush(LIMIT)?)
    }

    /// Lets delivery reports be handled.
    pub fn poll(&self) {
        self.producer.poll(Duration::ZERO);
    }
}

/// Reads a topic's committed records from the beginning.
pub struct Reader {
    consumer: BaseConsumer,
    partitions: usize,
    at_end: BTreeSet<i32>,
}

impl Reader {
    /// The next record, or nothing within the time.
    pub fn next(&mut self, limit: Duration) -> Result<Option<Record>> {
        match self.consumer.poll(limit) {
            None => Ok(None),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                self.at_end.insert(partition);
                Ok(None)
            }
            // Brokers may be down for a while in a test.
            Some(Err(KafkaError::MessageConsumption(code))) if is_passing(code) => Ok(None),
            Some(Err(error)) => Err(error.into()),
            Some(Ok(message)) => Ok(Some(Record {
                partition: message.partition(),
                offset: message.offset(),
                key: message.key().map(<[u8]>::to_vec),
                payload: message.payload().map(<[u8]>::to_vec),
                timestamp: message.timestamp().to_millis(),
            })),
        }
    }

    /// What is committed now, up to the first transaction that is still open.
    pub fn read_to_end(&mut self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        let mut last = Instant::now();
        while self.at_end.len() < self.partitions {
            match self.next(Duration::from_millis(100))? {
                Some(record) => {
                    last = Instant::now();
                    records.push(record);
                }
                None if last.elapsed() > LIMIT => {
                    bail!("the end does not come; {} records so far", records.len())
                }
                None => {}
            }
        }
        self.at_end.clear();
        Ok(records)
    }
}

fn is_passing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut, Resolve};
    matches!(
        code,
        AllBrokersDown | BrokerTransportFailure | OperationTimedOut | Resolve
    )
}
