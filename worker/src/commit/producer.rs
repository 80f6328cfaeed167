//! A slot's producer: sends an epoch's bytes where they lie, waits for their acknowledgement without polling in blocks, and
//! commits. It is disposable: after anything but a clean commit it is dropped, and a new one is initialised.
//!
//! **Clean.** librdkafka speaks transactions V1 and retries an `EndTxn` by itself. A retried one may arrive twice, and the
//! second may commit the *next* transaction, while the application sees plain success. Its debug log tells: a commit is
//! clean only if no line said `EndTxn returned` anything but `NO_ERROR`.
//!
//! **The pause between transactions.** The coordinator answers `EndTxn` before it has written the markers. A partition that
//! is added meanwhile is refused (`CONCURRENT_TRANSACTIONS`), and librdkafka tries again after 20 ms, whatever the settings.
//! Waiting a little before the first record of a transaction avoids that; how long is learned from the refusals.

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use streamjob_core::output::{EpochOutput, TargetOutput};

use crate::connect::client::{Client, Code, KafkaError, Queue, Settings, Watch, c_string, millis};

/// Messages handed to librdkafka at once.
const BATCH: usize = 1024;
/// Longest nap while librdkafka's buffer is full or acknowledgements are awaited; both end sooner by an event.
const NAP: Duration = Duration::from_millis(100);

/// What sending failed with.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SendError {
    /// Producer, transaction or connection.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// A record was refused or not acknowledged.
    #[error("topic `{topic}` partition {partition}: {error}")]
    Record {
        topic: String,
        partition: i32,
        error: KafkaError,
    },
    #[error("not all records were acknowledged within {0:?}")]
    Slow(Duration),
    /// Whether the transaction was committed by this `EndTxn` or by a duplicate of it, or will be, nobody knows.
    #[error("the transaction's end was retried")]
    Unclean,
}

/// A topic that records go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicIndex(usize);

pub struct Producer {
    // In this order: what hangs on the client goes before it, and what it may still read goes after it.
    queue: Queue,
    topics: Vec<NativeTopic>,
    client: Client,
    held: Vec<Arc<EpochOutput>>,
    log: Arc<LogWatch>,
    /// Messages not reported on yet.
    unreported: usize,
    failure: Option<SendError>,
    /// Offsets of acknowledged records of a topic that is followed.
    followed: Option<(TopicIndex, Option<i64>)>,
    gap: Gap,
}

impl Producer {
    /// `topics` must exist.
    pub fn new(
        settings: &Settings,
        role: &str,
        topics: &[&str],
        timeout: Duration,
    ) -> Result<Self, SendError> {
        let log = Arc::new(LogWatch::default());
        let client = Client::producer(settings, role, Some(log.clone().watch()))?;
        let mut producer = Producer {
            queue: Queue::main(&client),
            topics: Vec::new(),
            client,
            held: Vec::new(),
            log,
            unreported: 0,
            failure: None,
            followed: None,
            gap: Gap::default(),
        };
        for topic in topics {
            let topic = NativeTopic::new(&producer.client, topic, timeout)?;
            producer.topics.push(topic);
        }
        Ok(producer)
    }

    pub fn topic(&self, name: &str) -> Option<TopicIndex> {
        self.topics
            .iter()
            .position(|topic| topic.name == name)
            .map(TopicIndex)
    }

    /// Remembers the offset of the last record acknowledged on this topic.
    pub fn follow(&mut self, topic: TopicIndex) {
        self.followed = Some((topic, None));
    }

    pub fn followed_offset(&self) -> Option<i64> {
        self.followed.and_then(|(_, offset)| offset)
    }

    /// Fences the transactional id's other producers, and completes or aborts what they left open.
    pub fn init_transactions(&mut self, timeout: Duration) -> Result<(), SendError> {
        // SAFETY: the client is alive.
        let result = unsafe {
            KafkaError::check(rd::rd_kafka_init_transactions(
                self.client.raw(),
                millis(timeout),
            ))
        };
        Ok(result?)
    }

    pub fn begin(&mut self) -> Result<(), SendError> {
        self.gap.wait();
        self.log.reset();
        // SAFETY: the client is alive.
        let result =
            unsafe { KafkaError::check(rd::rd_kafka_begin_transaction(self.client.raw())) };
        Ok(result?)
    }

    /// Queues the rows of `output`'s targets; `topic_of` says where each goes. The bytes are not copied: `output` is held
    /// until all are acknowledged.
    pub fn send_output(
        &mut self,
        output: &Arc<EpochOutput>,
        mut topic_of: impl FnMut(&TargetOutput) -> Option<TopicIndex>,
        deadline: Instant,
    ) -> Result<(), SendError> {
        self.held.push(output.clone());
        for target in output.targets.iter().chain(&output.punctuation) {
            if let Some(topic) = topic_of(target) {
                self.send_rows(topic, target, deadline)?;
            }
        }
        Ok(())
    }

    fn send_rows(
        &mut self,
        topic: TopicIndex,
        target: &TargetOutput,
        deadline: Instant,
    ) -> Result<(), SendError> {
        let mut batch = Vec::with_capacity(BATCH.min(target.rows.len()));
        for rows in target.rows.chunks(BATCH) {
            batch.clear();
            batch.extend(rows.iter().map(|row| {
                let partition = i32::try_from(row.partition).unwrap_or(i32::MAX);
                message(partition, target.key(row), target.value(row))
            }));
            self.send_batch(topic, &mut batch, 0, deadline)?;
        }
        Ok(())
    }

    /// Queues one record, copied.
    pub fn send(
        &mut self,
        topic: TopicIndex,
        partition: i32,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        deadline: Instant,
    ) -> Result<(), SendError> {
        let mut batch = [message(partition, key, value)];
        self.send_batch(topic, &mut batch, rd::RD_KAFKA_MSG_F_COPY, deadline)
    }

    /// Queues all messages, waiting while librdkafka's buffer is full.
    fn send_batch(
        &mut self,
        topic: TopicIndex,
        mut batch: &mut [rd::rd_kafka_message_t],
        flags: i32,
        deadline: Instant,
    ) -> Result<(), SendError> {
        let raw = self.topics[topic.0].raw.as_ptr();
        while !batch.is_empty() {
            // SAFETY: the array is as long as it says; the bytes it points to are copied or held until reported on.
            let queued = unsafe {
                rd::rd_kafka_produce_batch(
                    raw,
                    -1,
                    flags | rd::RD_KAFKA_MSG_F_PARTITION,
                    batch.as_mut_ptr(),
                    i32::try_from(batch.len()).unwrap_or(i32::MAX),
                )
            };
            self.unreported += usize::try_from(queued).unwrap_or(0);
            let none = rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            let Some(refused) = batch.iter().position(|message| message.err != none) else {
                return Ok(());
            };
            let error = KafkaError::of(batch[refused].err);
            // A full buffer refuses the rest of a batch; anything else is about one record.
            if error.code != Code::QueueFull {
                return Err(SendError::Record {
                    topic: self.topics[topic.0].name.clone(),
                    partition: batch[refused].partition,
                    error,
                });
            }
            batch = &mut batch[refused..];
            self.take_reports(deadline)?;
        }
        Ok(())
    }

    /// Waits until everything that was queued is acknowledged.
    pub fn drain(&mut self, deadline: Instant) -> Result<(), SendError> {
        while self.unreported > 0 {
            self.take_reports(deadline)?;
        }
        self.held.clear();
        Ok(())
    }

    /// Waits for delivery reports, briefly, and takes those that are there.
    fn take_reports(&mut self, deadline: Instant) -> Result<(), SendError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let event = self.queue.event(left.min(NAP));
        match event {
            Some(event) if event.kind() == rd::RD_KAFKA_EVENT_DR => self.take_event(event.raw()),
            Some(_) => {}
            None if left.is_zero() => return Err(SendError::Slow(NAP)),
            None => {}
        }
        // What made the producer useless says more than the records that were lost with it.
        match self
            .client
            .fatal()
            .map(SendError::from)
            .or_else(|| self.failure.clone())
        {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn take_event(&mut self, event: *mut rd::rd_kafka_event_t) {
        loop {
            // SAFETY: the event is alive, and with it its messages.
            let Some(report) = (unsafe { rd::rd_kafka_event_message_next(event).as_ref() }) else {
                return;
            };
            self.unreported = self.unreported.saturating_sub(1);
            if report.err != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                let topic = self
                    .topics
                    .iter()
                    .find(|topic| topic.raw.as_ptr() == report.rkt);
                self.failure.get_or_insert_with(|| SendError::Record {
                    topic: topic.map(|topic| topic.name.clone()).unwrap_or_default(),
                    partition: report.partition,
                    error: KafkaError::of(report.err),
                });
            } else if let Some((topic, offset)) = &mut self.followed
                && self.topics[topic.0].raw.as_ptr() == report.rkt
            {
                *offset = Some(report.offset);
            }
        }
    }

    /// Ends the transaction. Only `Ok` means that it is committed, and that nothing of it is still under way.
    pub fn commit(&mut self, deadline: Instant) -> Result<(), SendError> {
        self.drain(deadline)?;
        let left = deadline.saturating_duration_since(Instant::now());
        // SAFETY: the client is alive.
        unsafe {
            KafkaError::check(rd::rd_kafka_commit_transaction(
                self.client.raw(),
                millis(left),
            ))
        }?;
        self.gap.committed(self.log.refused.load(Ordering::Acquire));
        match self.log.unclean.load(Ordering::Acquire) {
            true => Err(SendError::Unclean),
            false => Ok(()),
        }
    }
}

fn message(partition: i32, key: Option<&[u8]>, value: Option<&[u8]>) -> rd::rd_kafka_message_t {
    // Not null, even if empty: null is a tombstone.
    let start = |bytes: Option<&[u8]>| {
        bytes.map_or(ptr::null_mut(), |bytes| {
            bytes.as_ptr().cast_mut().cast::<c_void>()
        })
    };
    rd::rd_kafka_message_t {
        err: rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
        rkt: ptr::null_mut(),
        partition,
        payload: start(value),
        len: value.map_or(0, <[u8]>::len),
        key: start(key),
        key_len: key.map_or(0, <[u8]>::len),
        offset: 0,
        _private: ptr::null_mut(),
    }
}

/// A topic of a producer, whose partitions are known.
struct NativeTopic {
    name: String,
    raw: NonNull<rd::rd_kafka_topic_t>,
}

// SAFETY: librdkafka's topics may be used from any thread.
unsafe impl Send for NativeTopic {}

impl NativeTopic {
    fn new(client: &Client, name: &str, timeout: Duration) -> Result<Self, SendError> {
        let c_name = c_string(name)?;
        // SAFETY: the name lives through the call, which copies it; null is checked.
        let raw = unsafe { rd::rd_kafka_topic_new(client.raw(), c_name.as_ptr(), ptr::null_mut()) };
        let raw = NonNull::new(raw).ok_or_else(|| {
            KafkaError::new(Code::InvalidArgument, format!("`{name}` is no topic name"))
        })?;
        let topic = NativeTopic {
            name: name.to_owned(),
            raw,
        };
        topic.learn_partitions(client, timeout)?;
        Ok(topic)
    }

    /// Records can only be queued for partitions that librdkafka knows of.
    fn learn_partitions(&self, client: &Client, timeout: Duration) -> Result<(), SendError> {
        let mut metadata: *const rd::rd_kafka_metadata = ptr::null();
        // SAFETY: the handles are alive; the result is destroyed below.
        let code = unsafe {
            rd::rd_kafka_metadata(
                client.raw(),
                0,
                self.raw.as_ptr(),
                &mut metadata,
                millis(timeout),
            )
        };
        let mut error = Code::from(code);
        let mut cause = code;
        if !metadata.is_null() {
            // SAFETY: the result holds as many topics as it says.
            unsafe {
                if (*metadata).topic_cnt > 0 {
                    cause = (*(*metadata).topics).err;
                    error = cause.into();
                }
                rd::rd_kafka_metadata_destroy(metadata);
            }
        }
        match error {
            Code::NoError => Ok(()),
            _ => Err(SendError::Record {
                topic: self.name.clone(),
                partition: -1,
                error: KafkaError::of(cause),
            }),
        }
    }
}

impl Drop for NativeTopic {
    fn drop(&mut self) {
        // SAFETY: the last use of this reference.
        unsafe { rd::rd_kafka_topic_destroy(self.raw.as_ptr()) }
    }
}

/// What librdkafka's log says about the transaction under way.
#[derive(Default)]
struct LogWatch {
    /// An `EndTxn` was answered with an error, or not at all. Never reset: the producer is done for.
    unclean: AtomicBool,
    /// A partition could not be added yet.
    refused: AtomicBool,
}

impl LogWatch {
    fn reset(&self) {
        self.refused.store(false, Ordering::Release);
    }

    fn watch(self: Arc<Self>) -> Watch {
        Box::new(move |facility, line| match facility {
            "ENDTXN" => {
                if let Some((_, outcome)) = line.split_once("EndTxn returned ")
                    && !outcome.starts_with("NO_ERROR ")
                {
                    self.unclean.store(true, Ordering::Release);
                }
            }
            "ADDPARTS" if line.contains("another concurrent operation") => {
                self.refused.store(true, Ordering::Release);
            }
            _ => {}
        })
    }
}

/// How long to leave the coordinator alone after a commit.
#[derive(Debug)]
struct Gap {
    length: Duration,
    committed: Option<Instant>,
    /// Whether this transaction began no later than the gap allows, so that its outcome says something about it.
    tight: bool,
}

impl Default for Gap {
    fn default() -> Self {
        Gap {
            length: Gap::LEAST,
            committed: None,
            tight: false,
        }
    }
}

impl Gap {
    const LEAST: Duration = Duration::from_millis(1);
    /// Beyond this, librdkafka's own 20 ms cost no more.
    const MOST: Duration = Duration::from_millis(12);

    fn wait(&mut self) {
        let left = self.committed.map_or(Duration::ZERO, |at| {
            self.length.saturating_sub(at.elapsed())
        });
        self.tight = !left.is_zero();
        if self.tight {
            std::thread::sleep(left);
        }
    }

    /// Longer by half after a refusal, shorter by a fiftieth after every success.
    fn committed(&mut self, refused: bool) {
        self.committed = Some(Instant::now());
        if refused {
            self.length = (self.length * 3 / 2).min(Gap::MOST);
        } else if self.tight {
            self.length = (self.length * 49 / 50).max(Gap::LEAST);
        }
    }
}

#[cfg(test)]
mod tests;
