//! The stories: real Kafka, real S3, workers as processes, faults. What is put out is compared with the oracle, row
//! for row, as a `read_committed` consumer sees it.
//!
//! The short forms are part of `make test`; `STREAMJOB_CHAOS=1` (`make chaos`) tells the long ones.

mod support;

mod bad_input;
mod broker_restart;
mod checkpoints;
mod endtxn;
mod exactly_once;
mod local;
mod manifests;
mod s3_outage;
mod same_rows;
mod servers;
mod snapshots;
mod steps;
mod tls_sasl;
mod two_processes;
mod upgrades;
mod zombies;
