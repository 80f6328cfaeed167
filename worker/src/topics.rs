//! Questions to a Kafka cluster, and the few things that are changed there: topics made, journal records trimmed.
//! All calls block, with a deadline; none is on the data path.

mod groups;
mod making;
mod offsets;

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rdkafka::bindings as rd;

use crate::connect::client::{
    Client, Code, Event, KafkaError, Queue, Watch, c_string, millis, text,
};
use crate::connect::{ConnectError, Kafka};

/// A call that is not answered within this has failed.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Between two looks at something that takes the cluster a moment.
const POLL: Duration = Duration::from_millis(20);
/// For a look at who is there, after a call that was not answered.
const LOOK: Duration = Duration::from_secs(5);
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

    /// The names of all topics that we may see.
    pub fn topics(&self) -> Result<Vec<String>, TopicError> {
        let mut metadata: *const rd::rd_kafka_metadata = ptr::null();
        // SAFETY: the client is alive; what is answered is read before it is destroyed.
        unsafe {
            let code = rd::rd_kafka_metadata(
                self.client.raw(),
                1,
                ptr::null_mut(),
                &mut metadata,
                millis(TIMEOUT),
            );
            if code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(TopicError::Cluster {
                    what: "listing topics",
                    error: KafkaError::of(code),
                });
            }
            let count = usize::try_from((*metadata).topic_cnt).unwrap_or(0);
            let topics = match count {
                0 => &[],
                _ => std::slice::from_raw_parts((*metadata).topics, count),
            };
            let names = topics.iter().map(|topic| text(topic.topic)).collect();
            rd::rd_kafka_metadata_destroy(metadata);
            Ok(names)
        }
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
        let outcome = queue.event(timeout).ok_or_else(silent).and_then(|event| {
            event.check()?;
            Ok(event)
        });
        if outcome.as_ref().is_err_and(KafkaError::unreachable) {
            self.look_around();
        }
        outcome
    }

    /// Learns from any broker that answers who is the controller. librdkafka goes on asking the one it knows, though that one
    /// hangs, until metadata come; and a handle without topics of its own never asks for any.
    fn look_around(&self) {
        let mut metadata: *const rd::rd_kafka_metadata = ptr::null();
        // SAFETY: the client is alive; the result is destroyed.
        let code = unsafe {
            let code = rd::rd_kafka_metadata(
                self.client.raw(),
                0,
                ptr::null_mut(),
                &mut metadata,
                millis(LOOK),
            );
            if !metadata.is_null() {
                rd::rd_kafka_metadata_destroy(metadata);
            }
            code
        };
        if code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            tracing::debug!("no broker answers: {}", KafkaError::of(code));
        }
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
