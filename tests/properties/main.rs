//! The engine in process against the oracle, over random logs.

mod engine;
mod exchange;
mod partitioner;
mod slot;
