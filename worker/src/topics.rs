//! Questions to a Kafka cluster, and the few things that are changed there: topics made, journal records trimmed.
//! All calls block, with a deadline; none is on the data path.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_int};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;

use crate::connect::client::{
    Client, Code, Event, KafkaError, PartitionList, Queue, Watch, c_string, text,
};
use crate::connect::{ConnectError, Kafka};

/// A call that is not answered within this has failed.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Between two looks at something that takes the cluster a moment.
const POLL: Duration = Duration::from_millis(20);
/// Replicas of internal topics, where there are as many brokers.
const REPLICAS: usize = 3;
/// InitProducerId 5 came with Kafka 3.8.
const INIT_PRODUCER_ID: (&str, i64) = ("InitProducerId", 5);

#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    #[error("topic `{topic}`: {what} failed: {error}")]
    Call {
        topic: String,
        what: &'static str,
        error: KafkaError,
    },
    #[error("{what} failed: {error}")]
    Cluster {
        what: &'static str,
        error: KafkaError,
    },
}

impl TopicError {
    pub fn kafka(&self) -> &KafkaError {
        match self {
            TopicError::Call { error, .. } | TopicError::Cluster { error, .. } => error,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Another topic of the same name has another id.
    pub id: String,
    pub partitions: u32,
}

/// Which offset of a partition is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Earliest,
    /// The end for readers of committed records: the offset behind the last one they can see.
    Latest,
    /// The end of what is written, transactions that are still open included.
    Written,
    /// The first record of this time (epoch ms) or later; the end if there is none.
    Time(i64),
}

/// A topic to be made.
#[derive(Clone, Debug)]
pub struct NewTopic<'a> {
    pub name: &'a str,
    pub partitions: u32,
    /// `None`: what the brokers say.
    pub replication: Option<u16>,
    pub config: &'a [(&'a str, &'a str)],
}

/// A handle for admin calls.
#[derive(Clone)]
pub struct Admin {
    client: Arc<Client>,
}

impl Admin {
    /// Connects and checks that the brokers answer and are new enough.
    pub fn connect(kafka: &Kafka, timeout: Duration) -> Result<Self, ConnectError> {
        let version = Arc::new(AtomicI64::new(-1));
        // A consumer's handle: without a group, librdkafka 2.12 crashes on the answer of a coordinator that is not ready.
        let client = Client::consumer(&kafka.admin(), &kafka.name, Some(versions(version.clone())))
            .map_err(|error| kafka.settings_error(error))?;
        let admin = Admin {
            client: Arc::new(client),
        };
        admin.brokers_within(timeout).map_err(|error| {
            let cause = admin.client.complaint();
            ConnectError::Unreachable {
                connection: kafka.name.clone(),
                servers: kafka.servers.clone(),
                seconds: timeout.as_secs(),
                cause: cause.unwrap_or_else(|| error.to_string()),
            }
        })?;
        match version.load(Ordering::Relaxed) {
            known if (0..INIT_PRODUCER_ID.1).contains(&known) => Err(ConnectError::TooOld {
                connection: kafka.name.clone(),
                servers: kafka.servers.clone(),
            }),
            _ => Ok(admin),
        }
    }

    /// Calls through a handle that is there for something else too.
    pub fn over(client: Arc<Client>) -> Self {
        Admin { client }
    }

    /// Brokers of the cluster.
    pub fn brokers(&self) -> Result<usize, TopicError> {
        self.brokers_within(TIMEOUT)
    }

    fn brokers_within(&self, timeout: Duration) -> Result<usize, TopicError> {
        let call = |rk, queue| {
            // SAFETY: no options; the handle and queue live through the call.
            unsafe { rd::rd_kafka_DescribeCluster(rk, ptr::null(), queue) }
        };
        let event = self
            .call(timeout, call)
            .map_err(|error| TopicError::Cluster {
                what: "describing the cluster",
                error,
            })?;
        let mut count = 0;
        // SAFETY: the event is a result of this kind, and alive.
        unsafe {
            let result = rd::rd_kafka_event_DescribeCluster_result(event.raw());
            rd::rd_kafka_DescribeCluster_result_nodes(result, &mut count);
        }
        Ok(count)
    }

    /// What there is of these topics, by name; absent: it does not exist.
    pub fn describe(&self, topics: &[&str]) -> Result<BTreeMap<String, Topic>, TopicError> {
        let what = "describing topics";
        let fail = |error| TopicError::Cluster { what, error };
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        let names: Vec<CString> = topics
            .iter()
            .map(|topic| c_string(topic))
            .collect::<Result<_, _>>()
            .map_err(fail)?;
        let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        let call = |rk, queue| {
            // SAFETY: the names live through the call, which copies them.
            unsafe {
                let all = rd::rd_kafka_TopicCollection_of_topic_names(
                    pointers.as_mut_ptr(),
                    pointers.len(),
                );
                rd::rd_kafka_DescribeTopics(rk, all, ptr::null(), queue);
                rd::rd_kafka_TopicCollection_destroy(all);
            }
        };
        let event = self.call(TIMEOUT, call).map_err(fail)?;
        let mut found = BTreeMap::new();
        // SAFETY: the event is a result of this kind; what it holds lives as long as it does.
        unsafe {
            let result = rd::rd_kafka_event_DescribeTopics_result(event.raw());
            let mut count = 0;
            let all = rd::rd_kafka_DescribeTopics_result_topics(result, &mut count);
            for index in 0..count {
                let topic = *all.add(index);
                let name = text(rd::rd_kafka_TopicDescription_name(topic));
                let error = rd::rd_kafka_TopicDescription_error(topic);
                let code = match error.is_null() {
                    true => rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
                    false => rd::rd_kafka_error_code(error),
                };
                match Code::from(code) {
                    Code::NoError => {}
                    Code::UnknownTopicOrPartition | Code::UnknownTopic => continue,
                    _ => {
                        return Err(TopicError::Call {
                            topic: name,
                            what: "describing it",
                            error: KafkaError::of(code),
                        });
                    }
                }
                let mut partitions = 0;
                rd::rd_kafka_TopicDescription_partitions(topic, &mut partitions);
                let id = text(rd::rd_kafka_Uuid_base64str(
                    rd::rd_kafka_TopicDescription_topic_id(topic),
                ));
                let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
                found.insert(name, Topic { id, partitions });
            }
        }
        Ok(found)
    }

    /// Offsets of partitions `0..partitions`.
    pub fn offsets(&self, topic: &str, partitions: u32, at: At) -> Result<Vec<i64>, TopicError> {
        let all: Vec<(&str, i32)> = (0..partitions).map(|p| (topic, p as i32)).collect();
        let mut offsets = self.list(&all, at)?;
        if matches!(at, At::Time(_)) && offsets.iter().any(|offset| *offset < 0) {
            let ends = self.list(&all, At::Latest)?;
            for (offset, end) in offsets.iter_mut().zip(ends) {
                if *offset < 0 {
                    *offset = end;
                }
            }
        }
        Ok(offsets)
    }

    /// Offsets of these partitions, in their order; of a time behind the last record: -1. Leaders that have moved, as
    /// those of a topic just made by another process, are waited for.
    pub fn list(&self, partitions: &[(&str, i32)], at: At) -> Result<Vec<i64>, TopicError> {
        let began = Instant::now();
        loop {
            match self.try_list(partitions, at) {
                Err(error) if error.kafka().leader_moved() && began.elapsed() < TIMEOUT => {
                    std::thread::sleep(POLL);
                }
                outcome => return outcome,
            }
        }
    }

    /// The same, in one try.
    pub fn try_list(&self, partitions: &[(&str, i32)], at: At) -> Result<Vec<i64>, TopicError> {
        let fail = |error| TopicError::Call {
            topic: partitions.first().map_or("", |(topic, _)| topic).to_owned(),
            what: "looking up offsets",
            error,
        };
        let spec = match at {
            At::Earliest => -2,
            At::Latest | At::Written => -1,
            At::Time(time) => time.max(0),
        };
        let seeing = match at {
            At::Written => rd::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED,
            _ => rd::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
        };
        let mut wanted = PartitionList::new();
        for (topic, partition) in partitions {
            wanted.add(topic, *partition, spec).map_err(fail)?;
        }
        let call = |rk, queue| {
            // SAFETY: the list and the options live through the call, which copies them.
            unsafe {
                let options = rd::rd_kafka_AdminOptions_new(
                    rk,
                    rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS,
                );
                // It can only fail for calls without an isolation level.
                let error = rd::rd_kafka_AdminOptions_set_isolation_level(options, seeing);
                debug_assert!(error.is_null());
                rd::rd_kafka_ListOffsets(rk, wanted.raw(), options, queue);
                rd::rd_kafka_AdminOptions_destroy(options);
            }
        };
        let event = self.call(TIMEOUT, call).map_err(fail)?;
        let mut found = BTreeMap::new();
        // SAFETY: the event is a result of this kind; what it holds lives as long as it does.
        unsafe {
            let result = rd::rd_kafka_event_ListOffsets_result(event.raw());
            let mut count = 0;
            let infos = rd::rd_kafka_ListOffsets_result_infos(result, &mut count);
            for index in 0..count {
                let entry = &*rd::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(index));
                if entry.err != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                    return Err(fail(KafkaError::of(entry.err)));
                }
                found.insert((text(entry.topic), entry.partition), entry.offset);
            }
        }
        partitions
            .iter()
            .map(|(topic, partition)| {
                let missing =
                    || KafkaError::new(Code::OperationTimedOut, "no answer for a partition");
                let offset = found.get(&((*topic).to_owned(), *partition)).copied();
                // A request that got no answer may come back as it went, with neither offset nor error. Only a time may lie
                // behind the last record.
                let told = |offset: &i64| *offset >= 0 || matches!(at, At::Time(_));
                offset.filter(told).ok_or_else(missing).map_err(fail)
            })
            .collect()
    }

    /// Makes a topic. `false`: there is one of that name already. Returns when its partitions can be used.
    pub fn create(&self, new: &NewTopic<'_>) -> Result<bool, TopicError> {
        let fail = |error| TopicError::Call {
            topic: new.name.to_owned(),
            what: "creating it",
            error,
        };
        let topic = NativeNewTopic::new(new).map_err(fail)?;
        let call = |rk, queue| {
            let mut topics = [topic.0];
            // SAFETY: the topic lives through the call, which copies it.
            unsafe { rd::rd_kafka_CreateTopics(rk, topics.as_mut_ptr(), 1, ptr::null(), queue) }
        };
        let event = self.call(TIMEOUT, call).map_err(fail)?;
        // SAFETY: the event is a result of this kind, and alive.
        let (code, message) = unsafe {
            let result = rd::rd_kafka_event_CreateTopics_result(event.raw());
            let mut count = 0;
            let all = rd::rd_kafka_CreateTopics_result_topics(result, &mut count);
            match count {
                0 => (
                    rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__FAIL,
                    String::new(),
                ),
                _ => (
                    rd::rd_kafka_topic_result_error(*all),
                    text(rd::rd_kafka_topic_result_error_string(*all)),
                ),
            }
        };
        let created = match Code::from(code) {
            Code::NoError => true,
            Code::TopicAlreadyExists => false,
            code => return Err(fail(KafkaError::new(code, message))),
        };
        self.wait_until_usable(new).map(|()| created)
    }

    /// A topic has leaders a little after it was made.
    fn wait_until_usable(&self, new: &NewTopic<'_>) -> Result<(), TopicError> {
        let began = Instant::now();
        loop {
            let described = self.describe(&[new.name])?;
            let partitions = described.get(new.name).map_or(0, |topic| topic.partitions);
            let usable = match partitions {
                0 => Err(KafkaError::new(
                    Code::UnknownTopicOrPartition,
                    "it is not there yet",
                )),
                partitions => self
                    .offsets(new.name, partitions, At::Latest)
                    .map(|_| ())
                    .map_err(|error| error.kafka().clone()),
            };
            match usable {
                Ok(()) => return Ok(()),
                Err(_) if began.elapsed() < TIMEOUT => {
                    std::thread::sleep(POLL);
                }
                Err(error) => {
                    return Err(TopicError::Call {
                        topic: new.name.to_owned(),
                        what: "waiting for its partitions",
                        error,
                    });
                }
            }
        }
    }

    /// Makes an internal topic: kept without limit of time, replicated as far as there are brokers.
    pub fn create_internal(&self, name: &str, partitions: u32) -> Result<bool, TopicError> {
        let replicas = self.brokers()?.clamp(1, REPLICAS);
        self.create(&NewTopic {
            name,
            partitions,
            replication: u16::try_from(replicas).ok(),
            config: &[
                ("cleanup.policy", "delete"),
                ("retention.ms", "-1"),
                ("retention.bytes", "-1"),
                ("max.message.bytes", "16777216"),
                (
                    "min.insync.replicas",
                    if replicas >= REPLICAS { "2" } else { "1" },
                ),
            ],
        })
    }

    /// A topic's settings, defaults included.
    pub fn config(&self, topic: &str) -> Result<BTreeMap<String, String>, TopicError> {
        let fail = |error| TopicError::Call {
            topic: topic.to_owned(),
            what: "reading its settings",
            error,
        };
        let name = c_string(topic).map_err(fail)?;
        let call = |rk, queue| {
            // SAFETY: the resource lives through the call, which copies it.
            unsafe {
                let kind = rd::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
                let resource = rd::rd_kafka_ConfigResource_new(kind, name.as_ptr());
                let mut resources = [resource];
                rd::rd_kafka_DescribeConfigs(rk, resources.as_mut_ptr(), 1, ptr::null(), queue);
                rd::rd_kafka_ConfigResource_destroy(resource);
            }
        };
        let event = self.call(TIMEOUT, call).map_err(fail)?;
        let mut settings = BTreeMap::new();
        // SAFETY: the event is a result of this kind; what it holds lives as long as it does.
        unsafe {
            let result = rd::rd_kafka_event_DescribeConfigs_result(event.raw());
            let mut count = 0;
            let resources = rd::rd_kafka_DescribeConfigs_result_resources(result, &mut count);
            for index in 0..count {
                let resource = *resources.add(index);
                let code = rd::rd_kafka_ConfigResource_error(resource);
                if code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                    return Err(fail(KafkaError::of(code)));
                }
                let mut entries = 0;
                let all = rd::rd_kafka_ConfigResource_configs(resource, &mut entries);
                for entry in 0..entries {
                    let entry = *all.add(entry);
                    settings.insert(
                        text(rd::rd_kafka_ConfigEntry_name(entry)),
                        text(rd::rd_kafka_ConfigEntry_value(entry)),
                    );
                }
            }
        }
        Ok(settings)
    }

    /// Whether the topic is compacted: then its log is not what was written, and nothing can be derived from it again.
    pub fn compacted(&self, topic: &str) -> Result<bool, TopicError> {
        let settings = self.config(topic)?;
        Ok(settings
            .get("cleanup.policy")
            .is_some_and(|policy| policy.split(',').any(|word| word.trim() == "compact")))
    }

    /// Deletes the records before an offset, by partition.
    pub fn delete_records(&self, topic: &str, before: &[(i32, i64)]) -> Result<(), TopicError> {
        let fail = |error| TopicError::Call {
            topic: topic.to_owned(),
            what: "deleting old records",
            error,
        };
        let mut offsets = PartitionList::new();
        for (partition, offset) in before {
            offsets.add(topic, *partition, *offset).map_err(fail)?;
        }
        let call = |rk, queue| {
            // SAFETY: the list lives through the call, which copies it.
            unsafe {
                let delete = rd::rd_kafka_DeleteRecords_new(offsets.raw());
                let mut deletes = [delete];
                rd::rd_kafka_DeleteRecords(rk, deletes.as_mut_ptr(), 1, ptr::null(), queue);
                rd::rd_kafka_DeleteRecords_destroy(delete);
            }
        };
        let event = self.call(TIMEOUT, call).map_err(fail)?;
        // SAFETY: the event is a result of this kind; the list lives as long as it does.
        unsafe {
            let result = rd::rd_kafka_event_DeleteRecords_result(event.raw());
            check_list(rd::rd_kafka_DeleteRecords_result_offsets(result)).map_err(fail)
        }
    }

    /// Deletes topics; one that does not exist is no error.
    pub fn delete(&self, topics: &[&str]) -> Result<(), TopicError> {
        for topic in topics {
            let fail = |error| TopicError::Call {
                topic: (*topic).to_owned(),
                what: "deleting it",
                error,
            };
            let name = c_string(topic).map_err(fail)?;
            let call = |rk, queue| {
                // SAFETY: the topic lives through the call, which copies it.
                unsafe {
                    let delete = rd::rd_kafka_DeleteTopic_new(name.as_ptr());
                    let mut deletes = [delete];
                    rd::rd_kafka_DeleteTopics(rk, deletes.as_mut_ptr(), 1, ptr::null(), queue);
                    rd::rd_kafka_DeleteTopic_destroy(delete);
                }
            };
            let event = self.call(TIMEOUT, call).map_err(fail)?;
            // SAFETY: the event is a result of this kind; what it holds lives as long as it does.
            let code = unsafe {
                let result = rd::rd_kafka_event_DeleteTopics_result(event.raw());
                let mut count = 0;
                let all = rd::rd_kafka_DeleteTopics_result_topics(result, &mut count);
                match count {
                    0 => rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__FAIL,
                    _ => rd::rd_kafka_topic_result_error(*all),
                }
            };
            match Code::from(code) {
                Code::NoError | Code::UnknownTopicOrPartition => {}
                _ => return Err(fail(KafkaError::of(code))),
            }
        }
        Ok(())
    }

    /// Deletes a consumer group; one that is not there is fine.
    pub fn delete_group(&self, group: &str) -> Result<(), TopicError> {
        let fail = |error| TopicError::Call {
            what: "delete the consumer group",
            topic: group.to_owned(),
            error,
        };
        let name = c_string(group).map_err(fail)?;
        let call = |rk, queue| {
            // SAFETY: the name lives through the call, which copies it.
            unsafe {
                let delete = rd::rd_kafka_DeleteGroup_new(name.as_ptr());
                let mut deletes = [delete];
                rd::rd_kafka_DeleteGroups(rk, deletes.as_mut_ptr(), 1, ptr::null(), queue);
                rd::rd_kafka_DeleteGroup_destroy(delete);
            }
        };
        let event = self.call(TIMEOUT, call).map_err(fail)?;
        // SAFETY: the event is a result of this kind; what it holds lives as long as it does.
        let found = unsafe {
            let result = rd::rd_kafka_event_DeleteGroups_result(event.raw());
            let mut count = 0;
            let all = rd::rd_kafka_DeleteGroups_result_groups(result, &mut count);
            match count {
                0 => Ok(()),
                _ => {
                    let error = rd::rd_kafka_group_result_error(*all);
                    if error.is_null() {
                        Ok(())
                    } else {
                        Err(rd::rd_kafka_error_code(error))
                    }
                }
            }
        };
        match found {
            Ok(()) => Ok(()),
            Err(code) => match Code::from(code) {
                Code::NoError | Code::GroupIdNotFound => Ok(()),
                _ => Err(fail(KafkaError::of(code))),
            },
        }
    }

    /// Whether a consumer group has committed offsets. A new cluster's coordinator takes a while to answer.
    pub fn group_has_offsets(&self, group: &str) -> Result<bool, TopicError> {
        let began = Instant::now();
        loop {
            match self.ask_group(group) {
                Err(error) if error.unreachable() && began.elapsed() < TIMEOUT => {
                    std::thread::sleep(POLL);
                }
                Err(error) => {
                    return Err(TopicError::Cluster {
                        what: "reading the consumer group's offsets",
                        error,
                    });
                }
                Ok(found) => return Ok(found),
            }
        }
    }

    fn ask_group(&self, group: &str) -> Result<bool, KafkaError> {
        let name = c_string(group)?;
        let call = |rk, queue| {
            // SAFETY: the request lives through the call, which copies it; no list means all partitions.
            unsafe {
                let ask = rd::rd_kafka_ListConsumerGroupOffsets_new(name.as_ptr(), ptr::null());
                let mut asks = [ask];
                rd::rd_kafka_ListConsumerGroupOffsets(rk, asks.as_mut_ptr(), 1, ptr::null(), queue);
                rd::rd_kafka_ListConsumerGroupOffsets_destroy(ask);
            }
        };
        let event = self.call(TIMEOUT, call)?;
        // SAFETY: the event is a result of this kind; what it holds lives as long as it does.
        unsafe {
            let result = rd::rd_kafka_event_ListConsumerGroupOffsets_result(event.raw());
            let mut count = 0;
            let groups = rd::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &mut count);
            for index in 0..count {
                let group = *groups.add(index);
                let error = rd::rd_kafka_group_result_error(group);
                if !error.is_null() {
                    return Err(KafkaError::of(rd::rd_kafka_error_code(error)));
                }
                let list = rd::rd_kafka_group_result_partitions(group);
                if !list.is_null() {
                    let entries = elements(list);
                    return Ok(entries.iter().any(|entry| entry.offset >= 0));
                }
            }
        }
        Ok(false)
    }

    /// Submits a call and waits for its result, which is checked.
    fn call(
        &self,
        timeout: Duration,
        submit: impl FnOnce(*mut rd::rd_kafka_t, *mut rd::rd_kafka_queue_t),
    ) -> Result<Event, KafkaError> {
        let queue = Queue::new(&self.client);
        submit(self.client.raw(), queue.raw());
        let silent = || {
            let mut error = KafkaError::new(Code::OperationTimedOut, "no answer");
            if let Some(complaint) = self.client.complaint() {
                error.message = format!("no answer: {complaint}");
            }
            error
        };
        let event = queue.event(timeout).ok_or_else(silent)?;
        event.check()?;
        Ok(event)
    }
}

/// Notes the version of InitProducerId that a broker announces.
fn versions(newest: Arc<AtomicI64>) -> Watch {
    Box::new(move |_, line| {
        // `…: ApiKey InitProducerId (22) Versions 0..5`
        let Some((_, rest)) = line.split_once(INIT_PRODUCER_ID.0) else {
            return;
        };
        let most = rest
            .rsplit("..")
            .next()
            .and_then(|digits| digits.trim().parse().ok());
        if let Some(most) = most {
            newest.store(most, Ordering::Relaxed);
        }
    })
}

struct NativeNewTopic(*mut rd::rd_kafka_NewTopic_t);

impl NativeNewTopic {
    fn new(new: &NewTopic<'_>) -> Result<Self, KafkaError> {
        let name = c_string(new.name)?;
        let partitions = c_int::try_from(new.partitions).unwrap_or(c_int::MAX);
        let replication = new.replication.map_or(-1, c_int::from);
        let mut message = [0 as c_char; 256];
        // SAFETY: the name lives through the call, which copies it; the buffer is as long as it says.
        let topic = unsafe {
            rd::rd_kafka_NewTopic_new(
                name.as_ptr(),
                partitions,
                replication,
                message.as_mut_ptr(),
                message.len(),
            )
        };
        if topic.is_null() {
            // SAFETY: librdkafka terminates what it writes.
            let message = unsafe { text(message.as_ptr()) };
            return Err(KafkaError::new(Code::InvalidArgument, message));
        }
        let topic = NativeNewTopic(topic);
        for (key, value) in new.config {
            let (key, value) = (c_string(key)?, c_string(value)?);
            // SAFETY: both live through the call, which copies them.
            let code =
                unsafe { rd::rd_kafka_NewTopic_set_config(topic.0, key.as_ptr(), value.as_ptr()) };
            if code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(KafkaError::of(code));
            }
        }
        Ok(topic)
    }
}

impl Drop for NativeNewTopic {
    fn drop(&mut self) {
        // SAFETY: the last use of it.
        unsafe { rd::rd_kafka_NewTopic_destroy(self.0) }
    }
}

/// # Safety
/// `list` is alive, and stays so as long as the slice is used.
pub(crate) unsafe fn elements<'a>(
    list: *const rd::rd_kafka_topic_partition_list_t,
) -> &'a [rd::rd_kafka_topic_partition_t] {
    unsafe {
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        match (*list).elems.is_null() || count == 0 {
            true => &[],
            false => std::slice::from_raw_parts((*list).elems, count),
        }
    }
}

/// # Safety
/// `list` is alive.
pub(crate) unsafe fn check_list(
    list: *const rd::rd_kafka_topic_partition_list_t,
) -> Result<(), KafkaError> {
    let none = rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
    match unsafe { elements(list) }
        .iter()
        .find(|entry| entry.err != none)
    {
        Some(entry) => Err(KafkaError::of(entry.err)),
        None => Ok(()),
    }
}
