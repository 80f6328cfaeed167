//! The `kafka` source: one consumer a process and connection, assigned by hand, with a queue for each partition.
//!
//! Records are taken off the partition's own queue in batches and handed on where librdkafka has them; a queue that nobody
//! takes from fills up and pauses its fetching. Partitions come and go without disturbing others, and no group is joined.
//!
//! **Gaps.** Aborted records and transaction markers have offsets but are no rows. So a position may lie behind the last
//! row by more than one: what lies between is known to hold no row, either because the server said "end of partition" or
//! because a later row came.
//!
//! **A topic of the same name is not the same topic.** librdkafka fetches by topic id; after a re-creation it learns the
//! new id and goes on reading there at the old offset. It says so in its log before it does, and on that line the inputs
//! of the topic stop: they look after every batch they take, so no record of the new topic gets through.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crossbeam_channel::Sender;
use rdkafka::bindings as rd;
use streamjob_core::chunk::Millis;
use streamjob_core::commit::record::TopicFacts;

use super::{Budget, Input, Row, SourceError};
use crate::connect::client::{Client, Code, KafkaError, PartitionList, Queue, Watch, text};
use crate::connect::{ConnectError, Kafka};
use crate::ticker::Ticker;
use crate::topics::{Admin, At, Topic};

/// Records taken off a queue at once.
const BATCH: usize = 1024;
/// How often ends are looked up (for lag) and offsets are committed (for lag tools).
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// Rounds of housekeeping between looks at the topics themselves.
const LOOK_AT_TOPICS: u32 = 5;
/// Looks that a topic may be missing from: a broker that has just started may not know it yet.
const MISSES: u32 = 2;

#[derive(Clone, Debug, thiserror::Error)]
pub enum KafkaSourceError {
    #[error(
        "topic `{topic}` was re-created under the running job (its id was {was}, now it is {now}): offsets of the old topic mean nothing in the new one; `--fresh` forgets progress and state and reads the new topic from startFrom; windows that were open are lost"
    )]
    Recreated {
        topic: String,
        was: String,
        now: String,
    },
    #[error(
        "topic `{topic}` is gone: restore it if you can, or point the job at another topic and start it anew with --fresh"
    )]
    Deleted { topic: String },
    #[error(
        "topic `{topic}` had {was} partitions, now it has {now}: keys have moved between partitions, so results would be wrong; start a new job, or this one anew with --fresh"
    )]
    Enlarged { topic: String, was: u32, now: u32 },
    #[error(
        "topic `{topic}` partition {partition}: position {position} is past retention, the log begins at {earliest}: {lost} records were deleted before the job read them; `--fresh` with `startFrom: Earliest` goes on with what is left, without the state, and puts rows out a second time. Raise the topic's retention to more than the longest outage"
    )]
    PastRetention {
        topic: String,
        partition: i32,
        position: i64,
        earliest: i64,
        lost: i64,
    },
    #[error(
        "topic `{topic}` partition {partition}: position {position} is behind the end of the log at {latest}: the brokers have lost records that this job has processed (unclean leader election?); --fresh starts the job anew"
    )]
    Truncated {
        topic: String,
        partition: i32,
        position: i64,
        latest: i64,
    },
    #[error("topic `{topic}` partition {partition}, at position {position}: {error}")]
    Read {
        topic: String,
        partition: i32,
        position: i64,
        error: KafkaError,
    },
}

/// The consumer of a connection. Inputs keep it alive.
pub struct KafkaReader {
    shared: Arc<Shared>,
    housekeeper: Option<Ticker>,
}

/// What to read, from where to where.
#[derive(Clone, Debug)]
pub struct Span<'a> {
    /// What the topic must be.
    pub topic: &'a TopicFacts,
    pub partition: u32,
    pub position: i64,
    /// The position at which a bounded input ends.
    pub end: Option<i64>,
}

struct Shared {
    client: Arc<Client>,
    log: Arc<LogWatch>,
    /// Ends of partitions as last looked up, for all inputs that are alive.
    ends: Mutex<BTreeMap<(String, i32), Weak<AtomicI64>>>,
    /// Positions to commit as a courtesy.
    committed: Mutex<BTreeMap<(String, i32), i64>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl KafkaReader {
    /// `group` names the courtesy commits; `partitions` is how many the process reads, of all connections.
    pub fn new(kafka: &Kafka, group: &str, partitions: usize) -> Result<Self, ConnectError> {
        let log = Arc::new(LogWatch::default());
        let settings = kafka.consumer(group, partitions);
        let client = Client::consumer(&settings, &kafka.name, Some(log.clone().watch()))
            .map_err(|error| kafka.settings_error(error))?;
        let shared = Arc::new(Shared {
            client: Arc::new(client),
            log,
            ends: Mutex::default(),
            committed: Mutex::default(),
        });
        let keeper = shared.clone();
        let mut round = 0;
        let name = format!("kafka-{}", kafka.name);
        let housekeeper = Ticker::start(name, HOUSEKEEPING, move || {
            round += 1;
            keeper.keep_house(round);
        })
        .map_err(|error| {
            kafka.settings_error(KafkaError::new(
                Code::CriticalSystemResource,
                error.to_string(),
            ))
        })?;
        Ok(KafkaReader {
            shared,
            housekeeper: Some(housekeeper),
        })
    }

    /// Starts reading a partition. `wake` (of capacity 1) is signalled when records have come where there were none.
    pub fn input(&self, span: &Span<'_>, wake: Sender<()>) -> Result<KafkaInput, SourceError> {
        let topic = span.topic.topic.clone();
        let partition = i32::try_from(span.partition).unwrap_or(i32::MAX);
        let fail = |error| KafkaSourceError::Read {
            topic: topic.clone(),
            partition,
            position: span.position,
            error,
        };
        self.shared.log.expect(span.topic)?;
        let queue = Queue::partition(&self.shared.client, &topic, partition).map_err(fail)?;
        let wake = Box::new(wake);
        // SAFETY: the input holds `wake` and silences the queue before it lets go of it.
        unsafe { queue.notify(on_records, ptr::from_ref(&*wake).cast_mut().cast()) };
        let end_offset = Arc::new(AtomicI64::new(-1));
        let input = KafkaInput {
            shared: self.shared.clone(),
            queue,
            _wake: wake,
            topic: topic.clone(),
            partition,
            position: span.position,
            end: span.end,
            seen_end: None,
            messages: vec![ptr::null_mut(); BATCH].into_boxed_slice(),
            next: 0,
            filled: 0,
            end_offset: end_offset.clone(),
        };
        let mut list = PartitionList::new();
        list.add(&topic, partition, span.position).map_err(fail)?;
        // SAFETY: the list lives through the call, which copies it.
        unsafe {
            KafkaError::check(rd::rd_kafka_incremental_assign(
                self.shared.client.raw(),
                list.raw(),
            ))
        }
        .map_err(fail)?;
        locked(&self.shared.ends).insert((topic, partition), Arc::downgrade(&end_offset));
        Ok(input)
    }

    /// Notes a position that is committed in the journal: it is committed to the consumer group within a second, for the
    /// eyes of lag tools only.
    pub fn committed(&self, topic: &str, partition: u32, position: i64) {
        let partition = i32::try_from(partition).unwrap_or(i32::MAX);
        locked(&self.shared.committed).insert((topic.to_owned(), partition), position);
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        // Commits nothing behind our back from here on.
        self.housekeeper = None;
        self.shared.commit_offsets();
    }
}

impl Shared {
    fn keep_house(&self, round: u32) {
        let found = self.look_up_ends();
        if !found || round.is_multiple_of(LOOK_AT_TOPICS) {
            self.look_at_topics();
        }
        self.commit_offsets();
    }

    /// librdkafka tells of a topic made again at once, but of one deleted or enlarged late or never.
    fn look_at_topics(&self) {
        let expected = self.log.expected();
        let names: Vec<&str> = expected.iter().map(String::as_str).collect();
        match Admin::over(self.client.clone()).describe(&names) {
            Ok(found) => self.log.compare(&found),
            Err(error) => tracing::debug!("{error}"),
        }
    }

    /// `false`: the cluster does not know them all.
    fn look_up_ends(&self) -> bool {
        let mut ends = locked(&self.ends);
        ends.retain(|_, end| end.strong_count() > 0);
        let wanted: Vec<((String, i32), Weak<AtomicI64>)> = ends
            .iter()
            .map(|(key, end)| (key.clone(), end.clone()))
            .collect();
        drop(ends);
        let partitions: Vec<(&str, i32)> = wanted
            .iter()
            .map(|((topic, partition), _)| (topic.as_str(), *partition))
            .collect();
        if partitions.is_empty() {
            return true;
        }
        match Admin::over(self.client.clone()).try_list(&partitions, At::Latest) {
            Ok(found) => {
                for ((_, end), offset) in wanted.iter().zip(found) {
                    if let Some(end) = end.upgrade() {
                        end.store(offset, Ordering::Relaxed);
                    }
                }
            }
            // The lag stands still until it works again.
            Err(error) => {
                tracing::debug!("{error}");
                return false;
            }
        }
        true
    }

    fn commit_offsets(&self) {
        let positions = std::mem::take(&mut *locked(&self.committed));
        if positions.is_empty() {
            return;
        }
        let mut list = PartitionList::new();
        for ((topic, partition), position) in &positions {
            if let Err(error) = list.add(topic, *partition, *position) {
                tracing::debug!("courtesy commit: {error}");
            }
        }
        // SAFETY: the list lives through the call, which copies it.
        let code = unsafe { rd::rd_kafka_commit(self.client.raw(), list.raw(), 1) };
        if code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            tracing::debug!("courtesy commit: {}", KafkaError::of(code));
        }
    }
}

/// One partition, read in order.
pub struct KafkaInput {
    shared: Arc<Shared>,
    queue: Queue,
    /// The queue's callback points to it.
    _wake: Box<Sender<()>>,
    topic: String,
    partition: i32,
    position: i64,
    end: Option<i64>,
    /// Where the server last said that the partition ends.
    seen_end: Option<i64>,
    /// `messages[next..filled]` were taken off the queue and not yet handed over.
    messages: Box<[*mut rd::rd_kafka_message_t]>,
    next: usize,
    filled: usize,
    /// The partition's end, looked up once a second; -1 while unknown.
    end_offset: Arc<AtomicI64>,
}

// SAFETY: the messages are owned by the input, and librdkafka's messages may be used and destroyed on any thread.
unsafe impl Send for KafkaInput {}

impl fmt::Debug for KafkaInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} [{}] at {}",
            self.topic, self.partition, self.position
        )
    }
}

impl Input for KafkaInput {
    fn poll(
        &mut self,
        _now: Millis,
        mut budget: Budget,
        row: &mut dyn FnMut(Row<'_>),
    ) -> Result<usize, SourceError> {
        let until = self.end.map_or(budget.until, |end| end.min(budget.until));
        let mut rows = 0;
        while !budget.used_up() && self.position < until {
            if self.next == self.filled && !self.take_batch()? {
                break;
            }
            // SAFETY: messages in this range are alive and owned by us.
            let message = unsafe { &*self.messages[self.next] };
            if message.err != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                self.other_event(message, until)?;
                self.done_with_next();
                continue;
            }
            self.seen_end = None;
            if message.offset >= until {
                self.position = until;
                break;
            }
            // After an assignment librdkafka may fetch a whole batch of the log, from before the position.
            if message.offset >= self.position {
                let handed = borrow(message);
                budget.spend(handed.payload.map_or(0, <[u8]>::len));
                self.position = handed.next;
                row(handed);
                rows += 1;
            }
            self.done_with_next();
        }
        Ok(rows)
    }

    fn position(&self) -> i64 {
        self.position
    }

    fn caught_up(&self) -> bool {
        self.next == self.filled && self.seen_end == Some(self.position)
    }

    fn ended(&self) -> bool {
        self.end.is_some_and(|end| self.position >= end)
    }

    fn lag(&self) -> Option<i64> {
        if self.caught_up() {
            return Some(0);
        }
        let latest = self.end_offset.load(Ordering::Relaxed);
        let end = self.end.map_or(latest, |end| end.min(latest));
        (latest >= 0).then(|| end.saturating_sub(self.position).max(0))
    }
}

impl KafkaInput {
    /// Takes what the queue has, up to a batch. The topic is looked at afterwards: when it has been replaced, nothing that
    /// was fetched since is handed over.
    fn take_batch(&mut self) -> Result<bool, SourceError> {
        // SAFETY: the array is as long as it says, and everything that was in it has been destroyed.
        let count = unsafe {
            rd::rd_kafka_consume_batch_queue(
                self.queue.raw(),
                0,
                self.messages.as_mut_ptr(),
                self.messages.len(),
            )
        };
        self.next = 0;
        self.filled = usize::try_from(count).unwrap_or(0);
        self.shared.log.check(&self.topic)?;
        Ok(self.filled > 0)
    }

    fn done_with_next(&mut self) {
        // SAFETY: it is alive, and its place in the array is never looked at again.
        unsafe { rd::rd_kafka_message_destroy(self.messages[self.next]) };
        self.next += 1;
    }

    /// The end of the partition, or an error.
    fn other_event(
        &mut self,
        message: &rd::rd_kafka_message_t,
        until: i64,
    ) -> Result<(), SourceError> {
        let code = Code::from(message.err);
        // SAFETY: the string lives as long as the message.
        let text = unsafe { text(rd::rd_kafka_message_errstr(message)) };
        let error = KafkaError::new(code, text);
        match code {
            Code::PartitionEOF => {
                self.position = self.position.max(message.offset.min(until));
                self.seen_end = Some(message.offset);
                Ok(())
            }
            Code::AutoOffsetReset | Code::OffsetOutOfRange => Err(self.out_of_range(error).into()),
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                // Deleted, or made again since: only the cluster knows.
                self.shared.look_at_topics();
                self.shared.log.check(&self.topic)?;
                let topic = self.topic.clone();
                Err(KafkaSourceError::Deleted { topic }.into())
            }
            _ if error.unreachable() => {
                tracing::debug!(topic = self.topic, partition = self.partition, "{error}");
                Ok(())
            }
            _ => Err(self.cannot_read(error).into()),
        }
    }

    fn cannot_read(&self, error: KafkaError) -> KafkaSourceError {
        KafkaSourceError::Read {
            topic: self.topic.clone(),
            partition: self.partition,
            position: self.position,
            error,
        }
    }

    /// Finds out which of the log's ends the position lies behind.
    fn out_of_range(&self, error: KafkaError) -> KafkaSourceError {
        let (topic, partition, position) = (self.topic.clone(), self.partition, self.position);
        let admin = Admin::over(self.shared.client.clone());
        let here = [(topic.as_str(), partition)];
        let earliest = admin
            .try_list(&here, At::Earliest)
            .ok()
            .and_then(|found| found.first().copied());
        let latest = admin
            .try_list(&here, At::Latest)
            .ok()
            .and_then(|found| found.first().copied());
        match (earliest, latest) {
            (Some(earliest), _) if position < earliest => KafkaSourceError::PastRetention {
                topic,
                partition,
                position,
                earliest,
                lost: earliest.saturating_sub(position),
            },
            (_, Some(latest)) if position > latest => KafkaSourceError::Truncated {
                topic,
                partition,
                position,
                latest,
            },
            _ => self.cannot_read(error),
        }
    }
}

impl Drop for KafkaInput {
    fn drop(&mut self) {
        self.queue.silence();
        while self.next < self.filled {
            self.done_with_next();
        }
        let mut list = PartitionList::new();
        let unassigned = list.add(&self.topic, self.partition, -1).and_then(|()| {
            // SAFETY: the list lives through the call, which copies it.
            unsafe {
                KafkaError::check(rd::rd_kafka_incremental_unassign(
                    self.shared.client.raw(),
                    list.raw(),
                ))
            }
        });
        if let Err(error) = unassigned {
            tracing::debug!(topic = self.topic, partition = self.partition, "{error}");
        }
    }
}

unsafe extern "C" fn on_records(_: *mut rd::rd_kafka_t, wake: *mut c_void) {
    // SAFETY: points to the sender that the input holds until it has silenced the queue.
    let wake = unsafe { &*wake.cast::<Sender<()>>() };
    // Full: it is signalled already. Disconnected: nobody waits any more.
    let _ = wake.try_send(());
}

fn borrow(message: &rd::rd_kafka_message_t) -> Row<'_> {
    let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    // SAFETY: payload and length belong together and live as long as the message.
    unsafe {
        let timestamp = rd::rd_kafka_message_timestamp(message, &mut kind);
        let payload = message.payload.cast::<u8>();
        Row {
            position: message.offset,
            next: message.offset.saturating_add(1),
            timestamp: (timestamp >= 0).then_some(timestamp),
            payload: (!payload.is_null()).then(|| std::slice::from_raw_parts(payload, message.len)),
        }
    }
}

/// What librdkafka's log says about topics.
#[derive(Default)]
struct LogWatch {
    topics: Mutex<BTreeMap<String, Watched>>,
    /// Whether any of them is not what it was; so that the usual case costs no lock.
    alarm: AtomicBool,
}

struct Watched {
    expected: TopicFacts,
    /// Looks in a row that did not find it.
    missed: u32,
    trouble: Option<KafkaSourceError>,
}

impl LogWatch {
    fn expect(&self, facts: &TopicFacts) -> Result<(), KafkaSourceError> {
        let mut topics = locked(&self.topics);
        let watched = topics
            .entry(facts.topic.clone())
            .or_insert_with(|| Watched {
                expected: facts.clone(),
                missed: 0,
                trouble: None,
            });
        watched.trouble.clone().map_or(Ok(()), Err)
    }

    fn check(&self, topic: &str) -> Result<(), KafkaSourceError> {
        if !self.alarm.load(Ordering::Acquire) {
            return Ok(());
        }
        let topics = locked(&self.topics);
        let trouble = topics
            .get(topic)
            .and_then(|watched| watched.trouble.clone());
        trouble.map_or(Ok(()), Err)
    }

    fn expected(&self) -> Vec<String> {
        locked(&self.topics).keys().cloned().collect()
    }

    /// Takes note of the topics as the cluster describes them.
    fn compare(&self, found: &BTreeMap<String, Topic>) {
        for name in self.expected() {
            self.note(&name, |watched| match found.get(&name) {
                None => {
                    watched.missed += 1;
                    (watched.missed >= MISSES).then(|| KafkaSourceError::Deleted {
                        topic: name.clone(),
                    })
                }
                Some(topic) => {
                    watched.missed = 0;
                    let expected = &watched.expected;
                    recreated(expected, &topic.id).or_else(|| enlarged(expected, topic.partitions))
                }
            });
        }
    }

    fn watch(self: Arc<Self>) -> Watch {
        Box::new(move |facility, line| match facility {
            "METADATA" => self.note_id(line),
            "PARTCNT" => self.note_partitions(line),
            _ => {}
        })
    }

    /// `… Topic NAME changed id from ID to ID`
    fn note_id(&self, line: &str) {
        let Some((left, ids)) = line.split_once(" changed id from ") else {
            return;
        };
        let (Some((_, topic)), Some((_, now))) = (left.rsplit_once(' '), ids.split_once(" to "))
        else {
            return;
        };
        self.note(topic, |watched| recreated(&watched.expected, now));
    }

    /// `… Topic NAME partition count changed from N to N`
    fn note_partitions(&self, line: &str) {
        let Some((left, counts)) = line.split_once(" partition count changed from ") else {
            return;
        };
        let (Some((_, topic)), Some((_, now))) = (left.rsplit_once(' '), counts.split_once(" to "))
        else {
            return;
        };
        let Ok(now) = now.trim().parse::<u32>() else {
            return;
        };
        self.note(topic, |watched| enlarged(&watched.expected, now));
    }

    fn note(&self, topic: &str, judge: impl FnOnce(&mut Watched) -> Option<KafkaSourceError>) {
        let mut topics = locked(&self.topics);
        let Some(watched) = topics.get_mut(topic) else {
            return;
        };
        if let Some(trouble) = judge(watched) {
            watched.trouble.get_or_insert(trouble);
            self.alarm.store(true, Ordering::Release);
        }
    }
}

fn recreated(expected: &TopicFacts, now: &str) -> Option<KafkaSourceError> {
    (expected.id != now).then(|| KafkaSourceError::Recreated {
        topic: expected.topic.clone(),
        was: expected.id.clone(),
        now: now.to_owned(),
    })
}

/// Fewer partitions than before means deleted, which is told otherwise.
fn enlarged(expected: &TopicFacts, now: u32) -> Option<KafkaSourceError> {
    (now > expected.partitions).then(|| KafkaSourceError::Enlarged {
        topic: expected.topic.clone(),
        was: expected.partitions,
        now,
    })
}

#[cfg(test)]
mod tests;
