//! How far the slots of other processes are: their last journal records, read once a second while a task here is idle.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use streamjob_core::commit::record::JournalRecord;
use streamjob_core::engine::{Layout, TaskId};
use streamjob_core::idle::Peer;

use super::Peers;
use crate::journal::kafka::{JournalError, KafkaJournal};
use crate::ticker::Ticker;

/// Time between two readings.
const LOOK: Duration = Duration::from_secs(1);

/// The slots that this process has now.
#[derive(Debug, Default)]
pub struct Hosted(Mutex<BTreeSet<u32>>);

impl Hosted {
    pub fn add(&self, slot: u32) {
        self.slots().insert(slot);
    }

    pub fn remove(&self, slot: u32) {
        self.slots().remove(&slot);
    }

    pub fn count(&self) -> u32 {
        self.slots().len() as u32
    }

    fn slots(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Follower {
    peers: Arc<Peers>,
    journal: Arc<KafkaJournal>,
    hosted: Arc<Hosted>,
    layout: Arc<Layout>,
    /// Tasks by their names in the records.
    names: BTreeMap<String, TaskId>,
}

/// Follows the slots that are not `hosted` here, until the ticker is dropped. `names` are the tasks' in the records.
pub fn follow(
    peers: Arc<Peers>,
    journal: Arc<KafkaJournal>,
    hosted: Arc<Hosted>,
    layout: Arc<Layout>,
    names: BTreeMap<String, TaskId>,
) -> io::Result<Ticker> {
    let follower = Follower {
        peers,
        journal,
        hosted,
        layout,
        names,
    };
    let mut unreadable = false;
    Ticker::start("peers", LOOK, move || {
        let hosted = follower.hosted.slots().clone();
        let here: Vec<TaskId> = hosted
            .iter()
            .flat_map(|slot| follower.layout.tasks_of(*slot))
            .collect();
        if !follower.peers.any_idle(&here) {
            return;
        }
        // What was known before still holds: watermarks only grow.
        let outcome = follower.look(&hosted);
        if let Err(error) = &outcome
            && !unreadable
        {
            tracing::warn!(
                "cannot see how far other workers are, so idle partitions here wait: {error}"
            );
        }
        unreadable = outcome.is_err();
    })
}

impl Follower {
    fn look(&self, hosted: &BTreeSet<u32>) -> Result<(), JournalError> {
        let elsewhere = (0..self.layout.slots).filter(|slot| !hosted.contains(slot));
        for slot in elsewhere {
            if let Some(record) = self.journal.last(slot)? {
                self.take(&record);
            }
        }
        Ok(())
    }

    fn take(&self, record: &JournalRecord) {
        for (name, w) in &record.watermarks {
            if let Some(task) = self.names.get(name) {
                let idle = record.idle.contains(name);
                self.peers.set(*task, Peer { w: *w, idle });
            }
        }
    }
}
