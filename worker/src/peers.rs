//! How far every task of the job is, for those that wait for others: idle partitions follow the slowest that is awake.
//! Tasks of this process write here at every epoch; those of other processes come from their [journals].

pub mod journals;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use streamjob_core::chunk::W_START;
use streamjob_core::engine::TaskId;
use streamjob_core::idle::Peer;

#[derive(Debug)]
pub struct Peers {
    tasks: Mutex<BTreeMap<TaskId, Peer>>,
}

impl Peers {
    /// A task that has not reported holds the others back: nothing is known of its events.
    pub fn new(tasks: impl IntoIterator<Item = TaskId>) -> Self {
        let unknown = Peer {
            w: W_START,
            idle: false,
        };
        Peers {
            tasks: Mutex::new(tasks.into_iter().map(|task| (task, unknown)).collect()),
        }
    }

    pub fn set(&self, task: TaskId, peer: Peer) {
        self.tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(task, peer);
    }

    pub fn any_idle(&self, tasks: &[TaskId]) -> bool {
        let known = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks
            .iter()
            .any(|task| known.get(task).is_some_and(|peer| peer.idle))
    }

    /// The other tasks of the stage.
    pub fn others(&self, task: TaskId) -> Vec<Peer> {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks
            .iter()
            .filter(|(other, _)| other.stage == task.stage && **other != task)
            .map(|(_, peer)| *peer)
            .collect()
    }
}
