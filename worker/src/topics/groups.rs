//! The job's consumer group: whether it has offsets, and its deletion.

use std::ptr;
use std::time::Instant;

use rdkafka::bindings as rd;

use super::{Admin, POLL, TIMEOUT, TopicError, elements};
use crate::connect::client::{Code, KafkaError, c_string};

impl Admin {
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
}
