//! A model of Kafka as far as the protocol leans on it: transaction coordinator (V1 semantics), logs with a
//! last stable offset, and a network that holds requests back.
//!
//! What makes V1 dangerous is here: `EndTxn` names a producer and its epoch, not a transaction. Held back and
//! delivered late, it ends whichever transaction of that producer is open then.

use std::collections::BTreeMap;

use streamjob_core::commit::record::JournalRecord;

use crate::engine::{PARTITIONS, Row};

pub type Request<T> = Result<T, Error>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Another producer of this transactional id was initialised, or the transaction timed out.
    Fenced,
    /// The transaction before is not wound up; to be tried again.
    Concurrent,
    /// Nothing to end, nothing open to write to, or a sequence number that does not follow.
    Invalid,
}

/// A producer as a client knows it. Sequence numbers are the client's, by target.
#[derive(Clone, Debug)]
pub struct Producer {
    pub id: String,
    pub epoch: u32,
    pub sequences: BTreeMap<usize, u32>,
}

/// Partitions by number: output, then the journal.
pub const JOURNAL: usize = PARTITIONS;

#[derive(Clone, Debug)]
pub enum Payload {
    Row(Row),
    Record(Box<JournalRecord>),
}

#[derive(Clone, Debug)]
struct Entry {
    transaction: Option<usize>,
    payload: Payload,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Empty,
    Open { transaction: usize, since: u64 },
    Ending { transaction: usize, commit: bool },
    Ended { commit: bool },
}

#[derive(Clone, Debug)]
struct Coordinator {
    epoch: u32,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Open,
    /// Decided; markers are not written yet.
    Committing,
    Committed,
    Aborted,
}

/// A request that the network holds back.
#[derive(Clone, Debug)]
enum Held {
    Produce {
        producer: Producer,
        target: usize,
        sequence: u32,
        payload: Payload,
    },
    End {
        producer: Producer,
        commit: bool,
    },
}

pub struct Kafka {
    pub now: u64,
    transactional: bool,
    coordinators: BTreeMap<String, Coordinator>,
    outcomes: Vec<Outcome>,
    logs: [Vec<Entry>; PARTITIONS + 1],
    /// Of the journal's log.
    pub start: usize,
    /// Last sequence number by (producer, epoch, target).
    written: BTreeMap<(String, u32, usize), u32>,
    held: Vec<Held>,
}

const TRANSACTION_TIMEOUT: u64 = 120;

impl Kafka {
    pub fn new(transactional: bool) -> Self {
        Kafka {
            now: 0,
            transactional,
            coordinators: BTreeMap::new(),
            outcomes: Vec::new(),
            logs: Default::default(),
            start: 0,
            written: BTreeMap::new(),
            held: Vec::new(),
        }
    }

    // ── Requests ─────────────────────────────────────────────────────────────────────────────────────────────

    pub fn initialise(&mut self, id: &str) -> Request<Producer> {
        let fresh = Coordinator {
            epoch: 0,
            stage: Stage::Empty,
        };
        let coordinator = self.coordinators.entry(id.to_string()).or_insert(fresh);
        match coordinator.stage {
            Stage::Open { transaction, .. } => {
                coordinator.epoch += 1;
                coordinator.stage = Stage::Ending {
                    transaction,
                    commit: false,
                };
                Err(Error::Concurrent)
            }
            Stage::Ending { .. } => Err(Error::Concurrent),
            Stage::Empty | Stage::Ended { .. } => {
                coordinator.epoch += 1;
                coordinator.stage = Stage::Empty;
                let epoch = coordinator.epoch;
                Ok(Producer {
                    id: id.to_string(),
                    epoch,
                    sequences: BTreeMap::new(),
                })
            }
        }
    }

    /// Adds the partition to the transaction (opening it) and writes.
    pub fn produce(
        &mut self,
        producer: &Producer,
        target: usize,
        sequence: u32,
        payload: Payload,
    ) -> Request<()> {
        if self.transactional {
            let now = self.now;
            let coordinator = self.coordinator(producer)?;
            match coordinator.stage {
                Stage::Ending { .. } => return Err(Error::Concurrent),
                Stage::Open { .. } => {}
                Stage::Empty | Stage::Ended { .. } => {
                    let transaction = self.outcomes.len();
                    self.outcomes.push(Outcome::Open);
                    self.coordinator(producer)?.stage = Stage::Open {
                        transaction,
                        since: now,
                    };
                }
            }
        }
        self.append(producer, target, sequence, payload)
    }

    pub fn end(&mut self, producer: &Producer, commit: bool) -> Request<()> {
        let coordinator = self.coordinator(producer)?;
        match coordinator.stage {
            Stage::Open { transaction, .. } => {
                coordinator.stage = Stage::Ending {
                    transaction,
                    commit,
                };
                if commit {
                    self.outcomes[transaction] = Outcome::Committing;
                }
                Ok(())
            }
            Stage::Ending { .. } => Err(Error::Concurrent),
            Stage::Ended { commit: before } if before == commit => Ok(()),
            Stage::Ended { .. } | Stage::Empty => Err(Error::Invalid),
        }
    }

    pub fn hold_produce(
        &mut self,
        producer: &Producer,
        target: usize,
        sequence: u32,
        payload: Payload,
    ) {
        self.held.push(Held::Produce {
            producer: producer.clone(),
            target,
            sequence,
            payload,
        });
    }

    pub fn hold_end(&mut self, producer: &Producer, commit: bool) {
        self.held.push(Held::End {
            producer: producer.clone(),
            commit,
        });
    }

    fn coordinator(&mut self, producer: &Producer) -> Request<&mut Coordinator> {
        match self.coordinators.get_mut(&producer.id) {
            Some(coordinator) if coordinator.epoch == producer.epoch => Ok(coordinator),
            _ => Err(Error::Fenced),
        }
    }

    /// The partition's leader: only within an open transaction, each sequence number once and in order.
    fn append(
        &mut self,
        producer: &Producer,
        target: usize,
        sequence: u32,
        payload: Payload,
    ) -> Request<()> {
        let transaction = match self.transactional {
            false => None,
            true => match self.coordinator(producer)?.stage {
                Stage::Open { transaction, .. } => Some(transaction),
                _ => return Err(Error::Invalid),
            },
        };
        let key = (producer.id.clone(), producer.epoch, target);
        let written = self.written.entry(key).or_default();
        if sequence <= *written {
            return Ok(());
        }
        if sequence != *written + 1 {
            return Err(Error::Invalid);
        }
        *written = sequence;
        self.logs[target].push(Entry {
            transaction,
            payload,
        });
        Ok(())
    }

    // ── Time ─────────────────────────────────────────────────────────────────────────────────────────────────

    /// One step of the broker's own: markers are written, time runs out, a held request arrives.
    pub fn tick(&mut self, rng: &mut fastrand::Rng) {
        self.now += 1;
        for coordinator in self.coordinators.values_mut() {
            match coordinator.stage {
                Stage::Ending {
                    transaction,
                    commit,
                } if rng.u8(..4) > 0 => {
                    let outcome = if commit {
                        Outcome::Committed
                    } else {
                        Outcome::Aborted
                    };
                    self.outcomes[transaction] = outcome;
                    coordinator.stage = Stage::Ended { commit };
                }
                Stage::Open { transaction, since } if since + TRANSACTION_TIMEOUT < self.now => {
                    coordinator.epoch += 1;
                    coordinator.stage = Stage::Ending {
                        transaction,
                        commit: false,
                    };
                }
                _ => {}
            }
        }
        if !self.held.is_empty() && rng.u8(..6) == 0 {
            let index = rng.usize(..self.held.len());
            // Nobody waits for the answer.
            let _ = match self.held.swap_remove(index) {
                Held::Produce {
                    producer,
                    target,
                    sequence,
                    payload,
                } => self.append(&producer, target, sequence, payload),
                Held::End { producer, commit } => self.end(&producer, commit),
            };
        }
    }

    pub fn is_settled(&self) -> bool {
        let open = |stage: Stage| matches!(stage, Stage::Open { .. } | Stage::Ending { .. });
        self.held.is_empty() && !self.coordinators.values().any(|c| open(c.stage))
    }

    // ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────

    /// What `read_committed` consumers see: committed entries before the first undecided one.
    fn committed(&self, target: usize, from: usize) -> impl Iterator<Item = (usize, &Payload)> {
        self.decided(target, from)
            .take_while(|(_, outcome, _)| *outcome == Outcome::Committed)
            .map(|(offset, _, payload)| (offset, payload))
    }

    /// The same, and entries that will be seen for certain.
    fn decided(
        &self,
        target: usize,
        from: usize,
    ) -> impl Iterator<Item = (usize, Outcome, &Payload)> {
        let outcome = |entry: &Entry| match entry.transaction {
            None => Outcome::Committed,
            Some(transaction) => self.outcomes[transaction],
        };
        let entries = self.logs[target].iter().enumerate().skip(from);
        entries
            .map(move |(offset, entry)| (offset, outcome(entry), &entry.payload))
            .take_while(|(_, outcome, _)| *outcome != Outcome::Open)
            .filter(|(_, outcome, _)| *outcome != Outcome::Aborted)
    }

    pub fn rows(&self, target: usize) -> Vec<Row> {
        let row = |payload: &Payload| match payload {
            Payload::Row(row) => Some(*row),
            Payload::Record(_) => None,
        };
        self.committed(target, 0)
            .filter_map(|(_, payload)| row(payload))
            .collect()
    }

    pub fn records(&self, from: usize) -> impl Iterator<Item = (usize, &JournalRecord)> {
        self.committed(JOURNAL, from)
            .filter_map(|(offset, payload)| match payload {
                Payload::Record(record) => Some((offset, &**record)),
                Payload::Row(_) => None,
            })
    }

    /// Records that are committed, seen or not, by offset.
    pub fn decided_records(&self, from: usize) -> impl Iterator<Item = (usize, &JournalRecord)> {
        self.decided(JOURNAL, from)
            .filter_map(|(offset, _, payload)| match payload {
                Payload::Record(record) => Some((offset, &**record)),
                Payload::Row(_) => None,
            })
    }

    /// Drops records before the first of a later epoch.
    pub fn trim(&mut self, through: u64) {
        let first = self
            .records(self.start)
            .find(|(_, record)| record.epoch > through);
        if let Some((offset, _)) = first {
            self.start = offset;
        }
    }
}
