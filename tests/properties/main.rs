//! The engine in process against the oracle, over random logs.

mod engine;
mod examples;
mod exchange;
mod partitioner;
mod pattern;
mod slot;
