//! The contracts of Streamjob: what a user writes (`StreamJobSpec`) and what the cluster reports back; what operator and
//! workers tell each other (`Placement`, `WorkerStatus`).
//!
//! One spec type from the user's YAML to the worker. The doc comments here are the reference of the job file:
//! `kubectl explain` and `docs/job-file.md` print them.

pub mod connection;
pub mod crd;
pub mod duration;
pub mod job;
pub mod pattern;
pub mod placement;
pub mod report;
pub mod rules;
pub mod sink;
pub mod snapshot;
pub mod source;
pub mod status;
pub mod step;

pub use connection::*;
pub use crd::{stream_job_crd, stream_snapshot_crd};
pub use duration::Duration;
pub use job::*;
pub use pattern::*;
pub use placement::*;
pub use report::*;
pub use sink::*;
pub use snapshot::*;
pub use source::*;
pub use status::*;
pub use step::*;
