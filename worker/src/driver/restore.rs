//! The start of a slot: state from a checkpoint, then the journalled epochs once more, each to its own cut, output
//! suppressed and digests compared. What an external sink has not applied yet comes out of this again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use streamjob_core::chunk::Millis;
use streamjob_core::commit::record::{CheckpointRef, JobFacts, JournalRecord};
use streamjob_core::commit::{Fact, StopReason};
use streamjob_core::engine::{SlotEngine, TaskId, input_name};

use super::inputs::Inputs;
use super::{Driver, DriverError, Pending};

/// Longest wait for rows that a replay needs and that are known to be there.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Restored {
    pub engine: SlotEngine,
    pub inputs: Inputs,
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
    let mut engine = SlotEngine::new(driver.plan.clone(), driver.layout.clone(), &driver.tasks)?;
    for task in &driver.tasks {
        let start = facts.start.get(&input_name(&driver.plan, *task)).copied();
        engine.set_position(*task, start.unwrap_or_default());
    }
    let mut checkpoint = None;
    for candidate in candidates {
        match load(driver, candidate) {
            Ok(loaded) => {
                (engine, checkpoint) = (loaded, Some(candidate.clone()));
                break;
            }
            Err(DriverError::Checkpoint(error)) if error.is_damage() => {
                tracing::warn!(slot = driver.slot, %error, "falling back to the checkpoint before");
            }
            Err(error) => return Err(error),
        }
    }
    let inputs = driver.resolver.open(&engine, facts)?;
    Ok(Restored {
        engine,
        inputs,
        checkpoint,
        replayed: VecDeque::new(),
    })
}

/// The engine's state, as a checkpoint's parts.
pub fn save(engine: &SlotEngine) -> Result<Vec<(String, Bytes)>, DriverError> {
    let parts = engine.save()?.into_iter();
    Ok(parts.map(|(name, bytes)| (name, bytes.into())).collect())
}

fn load(driver: &Driver, from: &CheckpointRef) -> Result<SlotEngine, DriverError> {
    let data = driver.checkpoints.fetch(from)?;
    let parts: BTreeMap<String, Vec<u8>> = data
        .parts
        .into_iter()
        .map(|(name, bytes)| (name, bytes.to_vec()))
        .collect();
    let mut engine = SlotEngine::new(driver.plan.clone(), driver.layout.clone(), &driver.tasks)?;
    engine.load(&parts)?;
    Ok(engine)
}

/// Computes journalled epochs again, unless asked to stop before the last.
pub fn replay(
    driver: &mut Driver,
    state: &mut Restored,
    cuts: Vec<JournalRecord>,
    asked_to_stop: &dyn Fn() -> bool,
) -> Result<(), DriverError> {
    for cut in cuts {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            if asked_to_stop() {
                return Ok(());
            }
            if state.inputs.read_to(&mut state.engine, &cut.positions)? {
                break;
            }
            if std::time::Instant::now() > deadline {
                return Err(DriverError::Stopped(missing_rows(driver, state, &cut)));
            }
            state
                .inputs
                .wait(&driver.committer, Duration::from_millis(20));
        }
        let by_task = |name: &String| {
            driver
                .tasks
                .iter()
                .copied()
                .find(|task| input_name(&driver.plan, *task) == *name)
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
            .filter(|task| !state.engine.ended(*task))
            .collect();
        let closed = state.engine.close(&advances, &ends, false)?;
        let fact = Fact::Replayed {
            epoch: cut.epoch,
            digest: closed.output.digest(),
            outputs: closed.output.rows(),
        };
        if !driver.sinks.is_empty() {
            let output = Arc::new(closed.output);
            state.replayed.push_back(Pending {
                epoch: cut.epoch,
                output,
                sink_timestamp: cut.sink_timestamp,
                positions: closed.positions,
            });
        }
        driver.tell(fact);
    }
    Ok(())
}

fn missing_rows(driver: &Driver, state: &Restored, cut: &JournalRecord) -> StopReason {
    let lacking = driver.tasks.iter().find_map(|task| {
        let name = input_name(&driver.plan, *task);
        let (at, wanted) = (state.engine.position(*task)?, *cut.positions.get(&name)?);
        (at < wanted).then(|| format!("{name} ends at {at}, the journal has read it to {wanted}"))
    });
    StopReason::JournalConflict {
        slot: driver.slot,
        what: lacking.unwrap_or_else(|| "an input is shorter than it was".into()),
    }
}

/// Rows of a replayed epoch that external sinks have not applied before.
pub fn apply_again(
    driver: &mut Driver,
    state: &mut Restored,
    epoch: u64,
    sinks: &[String],
) -> Result<(), DriverError> {
    while let Some(pending) = state
        .replayed
        .pop_front_if(|pending| pending.epoch <= epoch)
    {
        if pending.epoch == epoch {
            driver.apply(&pending, sinks)?;
        }
    }
    Ok(())
}
