//! Offsets of partitions, and the deletion of records before one.

use std::collections::BTreeMap;
use std::ptr;
use std::time::Instant;

use rdkafka::bindings as rd;

use super::{Admin, At, POLL, TIMEOUT, TopicError, check_list};
use crate::connect::client::{Code, KafkaError, PartitionList, text};

impl Admin {
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
}
