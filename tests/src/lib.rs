//! The harness: real servers, workers as processes, workloads, an oracle, and faults.
//!
//! In reading order:

pub mod compare;
pub mod failure;
pub mod machine;
pub mod oracle;
pub mod process;
pub mod proxy;
pub mod scratch;
pub mod servers;
pub mod topic;
pub mod worker;
pub mod workload;
