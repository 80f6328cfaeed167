//! Real servers on loopback: Kafka and S3, installed when missing, each on free ports with its data in a scratch folder.

pub mod certificates;
pub mod install;
pub mod kafka;
pub mod ports;
pub mod s3;

pub use kafka::{Kafka, KafkaOptions};
pub use s3::S3;
