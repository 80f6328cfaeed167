//! Real servers: Kafka, S3 and a Kubernetes, installed when missing, each on free ports with its data in a scratch folder.

pub mod certificates;
pub mod install;
pub mod kafka;
pub mod kubernetes;
pub mod ports;
pub mod s3;

pub use kafka::{Kafka, KafkaOptions};
pub use kubernetes::Kubernetes;
pub use s3::S3;
