//! A slot's inputs: read in turn, watched for idleness and for their end.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use streamjob_core::chunk::Millis;
use streamjob_core::engine::{EngineError, Event, SlotEngine, TaskId};
use streamjob_core::idle::{IdleClock, Peer};

use super::DriverError;
use crate::commit::Committer;
use crate::peers::Peers;
use crate::source::{Budget, Input};

/// Bytes per round and input: large events must not make large epochs.
const ROUND_BYTES: usize = 8 << 20;

/// One input of the slot, ready to be read.
pub struct SlotInput {
    pub task: TaskId,
    pub name: String,
    pub input: Box<dyn Input>,
    /// `None` behind an exchange: there the producers' watermarks tell.
    pub idle_after: Option<Millis>,
}

pub struct Inputs {
    inputs: Vec<Watched>,
    /// Signalled when an input may have rows.
    wake: crossbeam_channel::Receiver<()>,
}

struct Watched {
    task: TaskId,
    handle: usize,
    name: String,
    input: Box<dyn Input>,
    clock: Option<IdleClock>,
    fresh_rows: bool,
    idle: bool,
}

/// What a round of reading brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    pub rows: usize,
    /// There was more than the round took.
    pub backlog: bool,
}

impl Inputs {
    pub fn new(
        engine: &SlotEngine,
        inputs: Vec<SlotInput>,
        wake: crossbeam_channel::Receiver<()>,
    ) -> Result<Self, EngineError> {
        let watched = |input: SlotInput| {
            Ok(Watched {
                handle: engine
                    .handle(input.task)
                    .ok_or(EngineError::NoTask(input.task))?,
                task: input.task,
                name: input.name,
                input: input.input,
                clock: input.idle_after.map(IdleClock::new),
                fresh_rows: false,
                idle: false,
            })
        };
        Ok(Inputs {
            inputs: inputs
                .into_iter()
                .map(watched)
                .collect::<Result<_, EngineError>>()?,
            wake,
        })
    }

    /// Gives the engine what is there, at most `most` rows in all, a fair share an input.
    pub fn read(&mut self, engine: &mut SlotEngine, most: usize) -> Result<Read, DriverError> {
        let mut read = Read::default();
        if most == 0 {
            return Ok(read);
        }
        let share = most.div_ceil(self.inputs.len().max(1)).max(1);
        let now = now_ms();
        for watched in &mut self.inputs {
            let budget = Budget::new(share, ROUND_BYTES);
            let rows = watched.poll(engine, now, budget)?;
            read.rows += rows;
            read.backlog |= rows >= share;
        }
        Ok(read)
    }

    /// Reads one input up to a journalled cut, as far as rows are there. Whether it has arrived.
    pub fn read_to(
        &mut self,
        engine: &mut SlotEngine,
        cuts: &BTreeMap<String, i64>,
    ) -> Result<bool, DriverError> {
        let mut arrived = true;
        for watched in &mut self.inputs {
            let Some(cut) = cuts.get(&watched.name) else {
                continue;
            };
            let at = engine.position(watched.task).unwrap_or_default();
            if at < *cut {
                watched.poll(
                    engine,
                    now_ms(),
                    Budget::new(usize::MAX, ROUND_BYTES).until(*cut),
                )?;
                arrived &= engine.position(watched.task).unwrap_or_default() >= *cut;
            }
        }
        Ok(arrived)
    }

    /// Waits until there may be rows, the committer has something to say, or the time is up.
    pub fn wait(&self, committer: &Committer, most: Duration) {
        let mut select = crossbeam_channel::Select::new();
        select.recv(&self.wake);
        select.recv(committer.decisions());
        // A wake-up is a hint: taking it off is enough, the next round looks at the inputs.
        if select.ready_timeout(most).is_ok() {
            while self.wake.try_recv().is_ok() {}
        }
    }

    /// Inputs that have given all their rows while their task does not know yet.
    pub fn newly_ended<'a>(&'a self, engine: &'a SlotEngine) -> impl Iterator<Item = TaskId> + 'a {
        self.inputs
            .iter()
            .filter(|watched| watched.input.ended() && !engine.ended(watched.task))
            .map(|watched| watched.task)
    }

    /// Watermarks that may move without rows.
    pub fn idle_advances(
        &mut self,
        engine: &SlotEngine,
        peers: &Peers,
    ) -> BTreeMap<TaskId, Millis> {
        let now = now_ms();
        let mut advances = BTreeMap::new();
        for watched in &mut self.inputs {
            let Some(clock) = &mut watched.clock else {
                continue;
            };
            clock.observe(
                now,
                watched.input.caught_up() && !watched.input.ended(),
                std::mem::take(&mut watched.fresh_rows),
            );
            watched.idle = clock.idle(now);
            if watched.idle {
                let own = engine.watermark(watched.task).unwrap_or(Millis::MIN);
                if let Some(w) = clock.advance(now, own, &peers.others(watched.task)) {
                    advances.insert(watched.task, w);
                }
            }
        }
        advances
    }

    pub fn idle_tasks(&self) -> Vec<TaskId> {
        self.inputs
            .iter()
            .filter(|watched| watched.idle)
            .map(|watched| watched.task)
            .collect()
    }

    /// Tells the others how far each task is, at the end of an epoch.
    pub fn closed(&self, engine: &SlotEngine, peers: &Peers) {
        for watched in &self.inputs {
            if let Some(w) = engine.watermark(watched.task) {
                peers.set(
                    watched.task,
                    Peer {
                        w,
                        idle: watched.idle,
                    },
                );
            }
        }
    }

    pub fn each(&self) -> impl Iterator<Item = Progress<'_>> + '_ {
        self.inputs.iter().map(|watched| Progress {
            task: watched.task,
            name: &watched.name,
            lag: watched.input.lag(),
            idle: watched.idle,
        })
    }
}

/// How far an input is.
pub struct Progress<'a> {
    pub task: TaskId,
    pub name: &'a str,
    /// Distance to the end; `None` while unknown.
    pub lag: Option<i64>,
    pub idle: bool,
}

impl Watched {
    fn poll(
        &mut self,
        engine: &mut SlotEngine,
        now: Millis,
        budget: Budget,
    ) -> Result<usize, DriverError> {
        let (handle, mut failed) = (self.handle, None);
        let rows = self.input.poll(now, budget, &mut |row| {
            if failed.is_none() {
                let event = Event {
                    payload: row.payload,
                    offset: row.position,
                    next: row.next,
                    timestamp: row.timestamp,
                };
                failed = engine.event(handle, event).err();
            }
        })?;
        self.fresh_rows |= rows > 0;
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(rows),
        }
    }
}

pub fn now_ms() -> Millis {
    now_us() / 1000
}

/// Wall clock in microseconds since the epoch.
pub fn now_us() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
