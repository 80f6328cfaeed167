//! Topics made and deleted.

use std::ffi::{c_char, c_int};
use std::ptr;
use std::time::Instant;

use rdkafka::bindings as rd;

use super::{Admin, At, NewTopic, POLL, TIMEOUT, TopicError};
use crate::connect::client::{Code, KafkaError, c_string, text};

/// Replicas of internal topics, where there are as many brokers.
const REPLICAS: usize = 3;

impl Admin {
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
