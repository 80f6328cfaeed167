//! The engine in process against the oracle, over random logs.

mod deduplicate;
mod engine;
mod examples;
mod exchange;
mod log;
mod partitioner;
mod pattern;
mod running;
mod slot;
mod top;
