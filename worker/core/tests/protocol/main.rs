//! The commit protocol against a model of the world: Kafka's transaction coordinator, S3, an external sink, workers
//! that crash, pause and come back. Seeded and single-threaded: a failing seed fails again.
//!
//! After every run: `read_committed` output is the reference's, row for row; the journal's epochs are contiguous; no
//! record named a checkpoint that could not be restored; the external sink was never ahead of the journal and ends
//! right; and when faults stop, the job finishes. That the simulation can find something is shown by planted bugs.

mod bug;
mod engine;
mod kafka;
mod storage;
mod worker;
mod world;

use bug::Bug;
use streamjob_crds::Guarantee;
use world::{Report, simulate};

const SEEDS: u64 = 20_000;

fn run(seeds: u64, guarantee: Guarantee) -> Report {
    let mut total = Report::default();
    for seed in 0..seeds {
        match simulate(seed, guarantee, None) {
            Ok(report) => total.add(&report),
            Err(what) => panic!("seed {seed}: {what}"),
        }
    }
    total
}

#[test]
fn exactly_once_loses_doubles_and_tears_nothing() {
    let report = run(SEEDS, Guarantee::ExactlyOnce);
    println!("{report:?}");
    report.assert_not_vacuous(SEEDS);
}

#[test]
fn at_least_once_loses_nothing_and_ends() {
    run(SEEDS / 4, Guarantee::AtLeastOnce);
}

#[test]
fn every_planted_bug_is_found() {
    for bug in Bug::ALL {
        let found = (0..SEEDS).find_map(|seed| {
            simulate(seed, Guarantee::ExactlyOnce, Some(bug))
                .err()
                .map(|what| (seed, what))
        });
        let (seed, what) =
            found.unwrap_or_else(|| panic!("{bug:?} was not found in {SEEDS} seeds"));
        println!("{bug:?}: seed {seed}: {what:.150}");
    }
}
