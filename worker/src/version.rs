//! A version of the job, as a slot computes it. There is the one that runs; and, where the job was changed, the one of before,
//! under which its last epochs are computed again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use streamjob_core::engine::{EngineError, Layout, SlotEngine, TaskId};
use streamjob_core::plan::{Change, JobPlan, blocking, changes, plan_hash};
use streamjob_crds::OnIncompatibleState;

use crate::cli::Failure;
use crate::cli::exit::Problems;
use crate::cli::job::Job;
use crate::resolve::Resolver;
use crate::secrets::Secrets;
use crate::setup::{Kafkas, Names, Setup};

/// A job's plan, laid out on what there is.
#[derive(Clone)]
pub struct Version {
    pub plan: Arc<JobPlan>,
    /// Of the plan.
    pub hash: String,
    /// The job file, as checkpoints carry it.
    pub text: String,
    pub layout: Arc<Layout>,
    /// Those of the slot.
    pub tasks: Vec<TaskId>,
    pub resolver: Arc<Resolver>,
}

impl Version {
    pub fn new(job: &Job, setup: &Setup, slot: u32) -> Self {
        Version {
            plan: job.plan.clone(),
            hash: plan_hash(&job.plan),
            text: job.text.clone(),
            layout: setup.layout.clone(),
            tasks: setup.tasks(slot),
            resolver: setup.resolver.clone(),
        }
    }

    /// Without state.
    pub fn engine(&self) -> Result<SlotEngine, EngineError> {
        SlotEngine::new(self.plan.clone(), self.layout.clone(), &self.tasks)
    }
}

/// Versions of before, shared by the slots of the process.
pub struct Earlier {
    /// As it is now.
    job: Job,
    names: Names,
    secrets: Secrets,
    state_dir: PathBuf,
    laid_out: Mutex<BTreeMap<String, Arc<Setup>>>,
}

impl Earlier {
    pub fn new(job: &Job, names: &Names, secrets: Secrets, state_dir: PathBuf) -> Self {
        Earlier {
            job: job.clone(),
            names: names.clone(),
            secrets,
            state_dir,
            laid_out: Mutex::default(),
        }
    }

    /// The job of before, dialling its clusters as the job does now.
    pub fn job(&self, text: &str) -> Result<Job, Problems> {
        let mut job = Job::parse(text, self.job.folder.clone(), "the job as it was")?;
        let mut plan = JobPlan::clone(&job.plan);
        for connection in &mut plan.spec.connections {
            let now = &self.job.plan.spec.connections;
            if let Some(now) = now.iter().find(|now| now.name == connection.name) {
                *connection = now.clone();
            }
        }
        job.plan = Arc::new(plan);
        Ok(job)
    }

    /// Lays it out, the first time anew.
    pub fn version(&self, job: &Job, slot: u32) -> Result<Version, Failure> {
        let mut laid_out = self.laid_out.lock().unwrap_or_else(PoisonError::into_inner);
        let setup = match laid_out.get(&job.text) {
            Some(setup) => setup.clone(),
            None => {
                let kafkas = Kafkas::connect(job, &self.secrets, &self.names)?;
                let setup = Setup::resolve(job, &self.names, &kafkas, &self.state_dir)?;
                let setup = Arc::new(setup);
                laid_out.insert(job.text.clone(), setup.clone());
                setup
            }
        };
        Ok(Version::new(job, &setup, slot))
    }
}

/// Whether steps whose settings changed may begin without their state.
pub fn discards(plan: &JobPlan) -> bool {
    plan.spec.upgrade.on_incompatible_state == OnIncompatibleState::Discard
}

/// What becomes of each source and step, or (`Err`) what must not become of some.
pub fn judge(before: &JobPlan, now: &JobPlan) -> Result<String, String> {
    let changes = changes(before, now);
    let mut blocking = blocking(&changes, discards(now)).peekable();
    match blocking.peek() {
        None => Ok(told(changes.iter())),
        Some(_) => Err(told(blocking)),
    }
}

fn told<'a>(changes: impl Iterator<Item = &'a Change>) -> String {
    let told: Vec<String> = changes.map(Change::to_string).collect();
    told.join(", ")
}
