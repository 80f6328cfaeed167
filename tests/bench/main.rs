//! `make bench`: what a job costs and how fast it is, on real servers, as a table. Nothing here is asserted.
//!
//! `make bench BENCH=throughput` (or `pattern`, `latency`, `flat`) runs a part.

mod latency;
mod throughput;

use anyhow::Result;

fn main() -> Result<()> {
    // Cargo adds its own `--bench`.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let runs = |part: &str| wanted.is_empty() || wanted.iter().any(|word| word == part);
    if runs("throughput") {
        throughput::print_one()?;
    }
    if runs("pattern") {
        throughput::print_pattern()?;
    }
    if runs("latency") {
        latency::print()?;
    }
    if runs("flat") {
        throughput::print_flat()?;
    }
    Ok(())
}
