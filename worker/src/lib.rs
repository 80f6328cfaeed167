//! The worker: runs a job in this process. The shell around the engine of `streamjob-core`; all that touches the world is here.

pub mod checkpoint;
pub mod cli;
pub mod commit;
pub mod connect;
pub mod driver;
pub mod http;
pub mod journal;
pub mod logging;
pub mod metrics;
pub mod names;
pub mod peers;
pub mod progress;
pub mod report;
pub mod resolve;
pub mod run;
pub mod secrets;
pub mod setup;
pub mod signals;
pub mod sink;
pub mod source;
pub mod status;
pub mod ticker;
pub mod topics;
