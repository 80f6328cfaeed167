//! The start of a slot: state from a checkpoint, then the journalled epochs once more, each to its own cut, output
//! suppressed and digests compared. What an external sink has not applied yet comes out of this again.
//!
//! Where the job was changed, the epochs of before are computed as the job was then (`change`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use streamjob_core::chunk::Millis;
use streamjob_core::commit::record::{CheckpointRef, JobFacts, JournalRecord};
use streamjob_core::commit::{Fact, StopReason};
use streamjob_core::engine::{SlotEngine, TaskId, input_name};

use super::change::State;
use super::{Driver, DriverError, Pending};
use crate::version::Version;

/// Longest wait for rows that a replay needs and that are known to be there.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Restored {
    pub state: State,
    pub checkpoint: Option<CheckpointRef>,
    /// Outputs of replayed epochs, for external sinks that lack them.
    replayed: VecDeque<Pending>,
}

/// Loads the newest checkpoint that is whole; none at all: the beginning.
pub fn restore(
    driver: &Driver,
    candidates: &[CheckpointRef],
    facts: &JobFacts,
) -> Result<Restored, DriverError> {
    let mut restored = None;
    for candidate in candidates {
        match driver.checkpoints.fetch(candidate) {
            Ok(data) => {
                restored = Some((State::of(driver, data, facts)?, Some(candidate.clone())));
                break;
            }
            Err(error) if error.is_damage() => {
                tracing::warn!(slot = driver.slot, %error, "falling back to the checkpoint before");
            }
            Err(error) => return Err(error.into()),
        }
    }
    let (state, checkpoint) = match restored {
        Some(restored) => restored,
        None => (State::beginning(driver, facts)?, None),
    };
    Ok(Restored {
        state,
        checkpoint,
        replayed: VecDeque::new(),
    })
}

/// The engine's state, as a checkpoint's parts.
pub fn save(engine: &SlotEngine) -> Result<Vec<(String, Bytes)>, DriverError> {
    let parts = engine.save()?.into_iter();
    Ok(parts.map(|(name, bytes)| (name, bytes.into())).collect())
}

/// Computes journalled epochs again, unless asked to stop before the last.
pub fn replay(
    driver: &mut Driver,
    restored: &mut Restored,
    cuts: Vec<JournalRecord>,
    asked_to_stop: &dyn Fn() -> bool,
) -> Result<(), DriverError> {
    for cut in cuts {
        let at = restored.state.at(driver, &cut.plan_hash)?;
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            if asked_to_stop() {
                return Ok(());
            }
            if at.inputs.read_to(&mut at.engine, &cut.positions)? {
                break;
            }
            if std::time::Instant::now() > deadline {
                let lacking = missing_rows(&at.version, &at.engine, driver.slot, &cut);
                return Err(DriverError::Stopped(lacking));
            }
            at.inputs.wait(&driver.committer, Duration::from_millis(20));
        }
        let by_task = |name: &String| {
            let mut tasks = at.version.tasks.iter().copied();
            tasks.find(|task| input_name(&at.version.plan, *task) == *name)
        };
        let advances: BTreeMap<TaskId, Millis> = cut
            .idle_advances
            .iter()
            .filter_map(|(name, w)| Some((by_task(name)?, *w)))
            .collect();
        let ends: Vec<TaskId> = cut
            .ended
            .iter()
            .filter_map(by_task)
            .filter(|task| !at.engine.ended(*task))
            .collect();
        let closed = at.engine.close(&advances, &ends, false)?;
        let fact = Fact::Replayed {
            epoch: cut.epoch,
            digest: closed.output.digest(),
            outputs: closed.output.rows(),
        };
        if !driver.sinks.is_empty() {
            let output = at.for_sinks_of(&driver.version, closed.output);
            restored.replayed.push_back(Pending {
                epoch: cut.epoch,
                output: Arc::new(output),
                sink_timestamp: cut.sink_timestamp,
                positions: closed.positions,
            });
        }
        driver.tell(fact);
    }
    Ok(())
}

fn missing_rows(
    version: &Version,
    engine: &SlotEngine,
    slot: u32,
    cut: &JournalRecord,
) -> StopReason {
    let lacking = version.tasks.iter().find_map(|task| {
        let name = input_name(&version.plan, *task);
        let (at, wanted) = (engine.position(*task)?, *cut.positions.get(&name)?);
        (at < wanted).then(|| format!("{name} ends at {at}, the journal has read it to {wanted}"))
    });
    StopReason::JournalConflict {
        slot,
        what: lacking.unwrap_or_else(|| "an input is shorter than it was".into()),
    }
}

/// Rows of a replayed epoch that external sinks have not applied before.
pub fn apply_again(
    driver: &mut Driver,
    restored: &mut Restored,
    epoch: u64,
    sinks: &[String],
) -> Result<(), DriverError> {
    while let Some(pending) = restored
        .replayed
        .pop_front_if(|pending| pending.epoch <= epoch)
    {
        if pending.epoch == epoch {
            driver.apply(&pending, sinks)?;
        }
    }
    Ok(())
}
