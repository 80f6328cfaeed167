//! Where the commit protocol's records are kept: a partition a slot on Kafka, or one local file for a job without Kafka.

pub mod file;
pub mod kafka;
