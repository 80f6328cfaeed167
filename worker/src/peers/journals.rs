//! How far the slots of other processes are: their last journal records, read once a second while a task here is idle.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use streamjob_core::commit::record::JournalRecord;
use streamjob_core::engine::TaskId;
use streamjob_core::idle::Peer;

use super::Peers;
use crate::journal::kafka::KafkaJournal;

/// Time between two readings.
const LOOK: Duration = Duration::from_secs(1);

/// Follows them until it is dropped.
pub struct Journals {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Follower {
    peers: Arc<Peers>,
    journal: Arc<KafkaJournal>,
    here: Vec<TaskId>,
    elsewhere: Vec<u32>,
    /// Tasks by their names in the records.
    names: BTreeMap<String, TaskId>,
}

impl Journals {
    pub fn follow(
        peers: Arc<Peers>,
        journal: Arc<KafkaJournal>,
        here: Vec<TaskId>,
        elsewhere: Vec<u32>,
        names: BTreeMap<String, TaskId>,
    ) -> io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let follower = Follower {
            peers,
            journal,
            here,
            elsewhere,
            names,
        };
        let thread = std::thread::Builder::new()
            .name("peers".to_owned())
            .spawn(move || follower.run(&stopped))?;
        Ok(Journals {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Journals {
    fn drop(&mut self) {
        self.stop = None;
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the thread that follows other workers' slots panicked");
        }
    }
}

impl Follower {
    fn run(&self, stopped: &Receiver<()>) {
        let mut unreadable = false;
        while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            if !self.peers.any_idle(&self.here) {
                continue;
            }
            // What was known before still holds: watermarks only grow.
            let outcome = self.look();
            if let Err(error) = &outcome
                && !unreadable
            {
                tracing::warn!(
                    "cannot see how far other workers are, so idle partitions here wait: {error}"
                );
            }
            unreadable = outcome.is_err();
        }
    }

    fn look(&self) -> Result<(), crate::journal::kafka::JournalError> {
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
