//! The engine in process against the oracle, over random logs.

mod deduplicate;
mod engine;
mod examples;
mod exchange;
mod join;
mod log;
mod partitioner;
mod pattern;
mod running;
mod seeds;
mod slot;
mod top;
mod union;
