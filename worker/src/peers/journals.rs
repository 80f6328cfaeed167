//! How far the slots of other processes are: their last journal records, read once a second while a task here is idle.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use streamjob_core::commit::record::JournalRecord;
use streamjob_core::engine::TaskId;
use streamjob_core::idle::Peer;

use super::Peers;
use crate::journal::kafka::{JournalError, KafkaJournal};
use crate::ticker::Ticker;

/// Time between two readings.
const LOOK: Duration = Duration::from_secs(1);

struct Follower {
    peers: Arc<Peers>,
    journal: Arc<KafkaJournal>,
    here: Vec<TaskId>,
    elsewhere: Vec<u32>,
    /// Tasks by their names in the records.
    names: BTreeMap<String, TaskId>,
}

/// Follows the slots `elsewhere` for the tasks `here`, until the ticker is dropped. `names` are the tasks' in the records.
pub fn follow(
    peers: Arc<Peers>,
    journal: Arc<KafkaJournal>,
    here: Vec<TaskId>,
    elsewhere: Vec<u32>,
    names: BTreeMap<String, TaskId>,
) -> io::Result<Ticker> {
    let follower = Follower {
        peers,
        journal,
        here,
        elsewhere,
        names,
    };
    let mut unreadable = false;
    Ticker::start("peers", LOOK, move || {
        if !follower.peers.any_idle(&follower.here) {
            return;
        }
        // What was known before still holds: watermarks only grow.
        let outcome = follower.look();
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
    fn look(&self) -> Result<(), JournalError> {
        for slot in &self.elsewhere {
            if let Some(record) = self.journal.last(*slot)? {
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
