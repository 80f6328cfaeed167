//! Every epoch that a job commits, as a reader of its journal sees it: how long did each slot stand still?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::Value;
use streamjob_tests::process::{lock, wait_until};
use streamjob_tests::topic::{Cluster, Reader};

const PATIENCE: Duration = Duration::from_secs(60);

/// A moment, in microseconds since 1970: epochs carry theirs.
pub type Micros = i64;

pub fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as Micros)
}

#[derive(Clone, Debug)]
struct Commit {
    at: Micros,
    term: u64,
    incarnation: String,
}

/// How a slot went through a stretch of time.
#[derive(Clone, Copy, Debug)]
pub struct Passage {
    /// Whether it has moved.
    pub moved: bool,
    /// Between two of its commits.
    pub longest_gap: Duration,
}

/// Follows a journal on a thread of its own, until it is dropped.
pub struct Commits {
    slots: Arc<Mutex<BTreeMap<usize, Vec<Commit>>>>,
    stop: Arc<AtomicBool>,
}

impl Commits {
    /// `topic` may come into being only now.
    pub fn follow(cluster: &Cluster, topic: &str) -> Result<Commits> {
        let reader = wait_until(PATIENCE, || cluster.reader(topic).ok());
        let reader = reader.with_context(|| format!("there is no journal {topic}"))?;
        let commits = Commits {
            slots: Arc::default(),
            stop: Arc::default(),
        };
        let (slots, stop) = (commits.slots.clone(), commits.stop.clone());
        thread::spawn(move || {
            if let Err(error) = follow(reader, &slots, &stop) {
                eprintln!("the journal cannot be followed any more: {error:#}");
            }
        });
        Ok(commits)
    }

    /// The slots' passages from then until now.
    pub fn since(&self, from: Micros) -> Vec<Passage> {
        let (slots, until) = (lock(&self.slots), now());
        let passages = slots.values().map(|commits| {
            // The last one before it opens the first gap.
            let first = commits.partition_point(|commit| commit.at < from);
            let seen = &commits[first.saturating_sub(1)..];
            let terms: BTreeSet<u64> = seen.iter().map(|commit| commit.term).collect();
            let times = seen.iter().map(|commit| commit.at);
            let ends = times.clone().skip(1).chain([until]);
            let gap = times.zip(ends).map(|(before, after)| after - before.max(0));
            Passage {
                moved: terms.len() > 1,
                longest_gap: micros(gap.max().unwrap_or(0)),
            }
        });
        passages.collect()
    }

    /// Who commits each slot now: incarnations of workers.
    pub fn owners(&self) -> BTreeMap<usize, String> {
        let slots = lock(&self.slots);
        let last = |commits: &Vec<Commit>| commits.last().map(|last| last.incarnation.clone());
        slots
            .iter()
            .filter_map(|(slot, commits)| Some((*slot, last(commits)?)))
            .collect()
    }

    /// How long after `from` each of these slots has committed again, by another process than before.
    pub fn taken_over(
        &self,
        from: Micros,
        before: &BTreeMap<usize, String>,
    ) -> Option<BTreeMap<usize, Duration>> {
        let slots = lock(&self.slots);
        let again = |(slot, owner): (&usize, &String)| {
            let commits = slots.get(slot)?.iter();
            let mut new = commits.filter(|commit| commit.at > from && commit.incarnation != *owner);
            Some((*slot, micros(new.next()?.at - from)))
        };
        before.iter().map(again).collect()
    }
}

impl Drop for Commits {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn micros(value: Micros) -> Duration {
    Duration::from_micros(value.max(0).unsigned_abs())
}

fn follow(
    mut reader: Reader,
    slots: &Mutex<BTreeMap<usize, Vec<Commit>>>,
    stop: &AtomicBool,
) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let Some(record) = reader.next(Duration::from_millis(100))? else {
            continue;
        };
        let row = Value::Object(record.row()?);
        if row["kind"] == "Epoch" {
            let commit = Commit {
                at: row["sinkTimestamp"].as_i64().context("no sinkTimestamp")?,
                term: row["term"].as_u64().context("no term")?,
                incarnation: row["incarnation"].as_str().unwrap_or_default().to_owned(),
            };
            let slot = usize::try_from(record.partition)?;
            lock(slots).entry(slot).or_default().push(commit);
        }
    }
    Ok(())
}
