//! Workloads from a seed: click events as the benchmarks use them, and small nasty logs for property tests.

pub mod clicks;
pub mod murmur2;
pub mod nasty;
pub mod patterns;

pub use clicks::{Amounts, Click, Clicks};
