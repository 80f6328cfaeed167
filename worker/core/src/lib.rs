//! The engine of Streamjob: what a job computes and what a commit means, as pure functions.
//!
//! No clock, socket, thread or randomness here: time and bytes come in as arguments, effects go out as values.

pub mod aggregate;
pub mod chunk;
pub mod commit;
pub mod decode;
pub mod dedup;
pub mod encode;
pub mod engine;
pub mod exchange;
pub mod expr;
pub mod generate;
pub mod idle;
pub mod key;
pub mod manifest;
pub mod output;
pub mod pattern;
pub mod plan;
pub mod problem;
pub mod stateful;
pub mod stateless;
pub mod topn;
pub mod watermark;
pub mod window;
