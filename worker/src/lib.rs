//! The worker: runs a job in this process. The shell around the engine of `streamjob-core`; all that touches the world is here.
//!
//! In reading order:

pub mod checkpoint;
pub mod cli;
pub mod commit;
pub mod connect;
pub mod http;
pub mod journal;
pub mod logging;
pub mod metrics;
pub mod names;
pub mod progress;
pub mod secrets;
pub mod signals;
pub mod sink;
pub mod source;
pub mod status;
pub mod topics;
