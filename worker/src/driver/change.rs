//! The state of a slot whose job may have been changed since: it is of the version that made it until the journal's epochs of
//! that version are replayed, and goes over to the version that runs then.
//!
//! ```text
//!  checkpoint ──► of before ──replay──► of before ──adopt──► of now ──replay──► of now ──► run
//!                     └───── nothing to replay ─────adopt──────▲
//! ```

use std::collections::BTreeMap;
use std::mem;

use streamjob_core::commit::StopReason;
use streamjob_core::commit::record::JobFacts;
use streamjob_core::engine::{SlotEngine, input_name};
use streamjob_core::output::{EpochOutput, Target};
use streamjob_core::plan::plan_hash;

use super::inputs::Inputs;
use super::{Driver, DriverError};
use crate::checkpoint::CheckpointData;
use crate::cli::job::Job;
use crate::version::{Version, discards, judge};

type Parts = BTreeMap<String, Vec<u8>>;

/// A slot's state and the version of the job that it is of.
pub struct State {
    at: At,
    facts: JobFacts,
    /// Whether it has gone over from another version.
    pub changed: bool,
}

enum At {
    Loaded(Box<Loaded>),
    /// Of a version of before, as the checkpoint has it.
    Stored {
        job: Box<Job>,
        hash: String,
        parts: Parts,
    },
}

/// What a slot computes with.
pub struct Loaded {
    pub version: Version,
    pub engine: SlotEngine,
    pub inputs: Inputs,
}

impl State {
    /// No row read yet.
    pub fn beginning(driver: &Driver, facts: &JobFacts) -> Result<Self, DriverError> {
        let mut engine = driver.version.engine()?;
        begin(&mut engine, &driver.version, facts);
        Ok(State {
            at: At::Loaded(Loaded::open(driver.version.clone(), engine, facts)?),
            facts: facts.clone(),
            changed: false,
        })
    }

    /// A checkpoint's. A change that it must not be used for is refused.
    pub fn of(
        driver: &Driver,
        data: CheckpointData,
        facts: &JobFacts,
    ) -> Result<Self, DriverError> {
        let parts = data.parts.into_iter();
        let parts: Parts = parts.map(|(name, bytes)| (name, bytes.to_vec())).collect();
        let version = &driver.version;
        let before = match data.plan == version.text {
            true => None,
            false => Some(driver.earlier.job(&data.plan).map_err(|problems| {
                driver.unknown(format!(
                    "its checkpoint is of a job that this version of Streamjob cannot read: {problems}"
                ))
            })?),
        };
        let hash = before.as_ref().map(|job| plan_hash(&job.plan));
        let at = match (before, hash) {
            (Some(job), Some(hash)) if hash != version.hash => {
                let slot = driver.slot;
                let told = judge(&job.plan, &version.plan).map_err(|changes| {
                    DriverError::Stopped(StopReason::PlanIncompatible { slot, changes })
                })?;
                tracing::info!(slot, "the job was changed: {told}");
                let job = Box::new(job);
                At::Stored { job, hash, parts }
            }
            _ => {
                let mut engine = version.engine()?;
                engine.load(&parts)?;
                At::Loaded(Loaded::open(version.clone(), engine, facts)?)
            }
        };
        Ok(State {
            at,
            facts: facts.clone(),
            changed: false,
        })
    }

    /// Brings it to the version of this plan hash: the one that it is of, or the one that runs.
    pub fn at(&mut self, driver: &Driver, hash: &str) -> Result<&mut Loaded, DriverError> {
        let now = &driver.version;
        let parts = match &mut self.at {
            At::Loaded(loaded) if loaded.version.hash == hash => None,
            At::Loaded(loaded) if loaded.version.hash != now.hash && hash == now.hash => {
                Some(loaded.engine.save()?.into_iter().collect())
            }
            At::Stored {
                hash: of, parts, ..
            } if hash == now.hash && *of != hash => Some(mem::take(parts)),
            At::Stored {
                job,
                hash: of,
                parts,
            } if *of == hash => {
                let version = driver.earlier.version(job, driver.slot);
                let version = version.map_err(DriverError::Earlier)?;
                let mut engine = version.engine()?;
                engine.load(parts)?;
                self.at = At::Loaded(Loaded::open(version, engine, &self.facts)?);
                None
            }
            _ => {
                return Err(driver.unknown(
                    "it was changed before too, and made no checkpoint in between".to_owned(),
                ));
            }
        };
        if let Some(parts) = parts {
            self.go_over(driver, &parts)?;
        }
        match &mut self.at {
            At::Loaded(loaded) => Ok(loaded),
            At::Stored { .. } => Err(driver.unknown("its state is not loaded".to_owned())),
        }
    }

    /// It is of the version that runs.
    pub fn into_loaded(mut self, driver: &Driver) -> Result<(Loaded, bool), DriverError> {
        self.at(driver, &driver.version.hash)?;
        match self.at {
            At::Loaded(loaded) => Ok((*loaded, self.changed)),
            At::Stored { .. } => Err(driver.unknown("its state is not loaded".to_owned())),
        }
    }

    fn go_over(&mut self, driver: &Driver, parts: &Parts) -> Result<(), DriverError> {
        let version = driver.version.clone();
        let mut engine = version.engine()?;
        begin(&mut engine, &version, &self.facts);
        engine.adopt(parts, discards(&driver.version.plan))?;
        self.at = At::Loaded(Loaded::open(version, engine, &self.facts)?);
        self.changed = true;
        Ok(())
    }
}

impl Loaded {
    fn open(
        version: Version,
        engine: SlotEngine,
        facts: &JobFacts,
    ) -> Result<Box<Self>, DriverError> {
        let inputs = version.resolver.open(&engine, facts)?;
        Ok(Box::new(Loaded {
            version,
            engine,
            inputs,
        }))
    }

    /// An epoch's output, with the sinks as `now` numbers them. Those that it has no more want nothing.
    pub fn for_sinks_of(&self, now: &Version, mut output: EpochOutput) -> EpochOutput {
        if self.version.hash != now.hash {
            let (before, now) = (&self.version.plan.sinks, &now.plan.sinks);
            output.targets.retain_mut(|part| match &mut part.target {
                Target::Sink(sink) => {
                    let of = now.iter().position(|now| now.name == before[*sink].name);
                    *sink = of.unwrap_or_default();
                    of.is_some()
                }
                Target::Exchange(_) => true,
            });
        }
        output
    }
}

/// Every input at its first position.
fn begin(engine: &mut SlotEngine, version: &Version, facts: &JobFacts) {
    for task in &version.tasks {
        let start = facts.start.get(&input_name(&version.plan, *task)).copied();
        engine.set_position(*task, start.unwrap_or_default());
    }
}

impl Driver {
    fn unknown(&self, what: String) -> DriverError {
        DriverError::Stopped(StopReason::PlanUnknown {
            slot: self.slot,
            what,
        })
    }
}
