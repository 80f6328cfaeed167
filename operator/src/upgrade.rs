//! Whether a changed job can go on from the state that it has, and how. Pure.
//!
//! Workers keep the state of steps that are as they were. They must not run beside workers that know the job of before: so a
//! change of what is computed waits until all have ended. A change that some state does not allow is not carried out: the job goes
//! on as it was, and a condition tells. What only the operator looks at (`replicas`, `suspend`, `autoscaling`, `resources`,
//! `podTemplate`) changes all the same.

use serde_json::{Value, json};
use streamjob_core::manifest;
use streamjob_core::plan::{Change, Fate, blocking, changes, plan_hash};
use streamjob_crds::{OnIncompatibleState, StepChange, StepState, StreamJobSpec};

use crate::plan::{Job, OPERATORS_OWN, job_text};

/// What is to run.
#[derive(Clone, Debug)]
pub enum Judged {
    /// What the user wrote, as soon as it may be.
    Free(Job),
    /// What the user wrote, once no worker runs what was before.
    After(Box<Passage>),
    /// What was before, with what the user may change at any time.
    Blocked(Job, Blocked),
}

/// From one version of a job to the next.
#[derive(Clone, Debug)]
pub struct Passage {
    pub before: Job,
    pub after: Job,
    pub steps: Vec<StepChange>,
}

/// Why a change is not carried out.
#[derive(Clone, Debug)]
pub struct Blocked {
    pub why: String,
    pub steps: Vec<StepChange>,
}

/// `running`: the job as its workers read it now; `None` while they have made no state.
pub fn judge(job: &Job, running: Option<&str>) -> Judged {
    let wanted = job_text(job);
    let Some(running) = running.filter(|running| **running != wanted) else {
        return Judged::Free(job.clone());
    };
    let (Ok((_, before)), Ok((_, after))) =
        (manifest::validate(running), manifest::validate(&wanted))
    else {
        // Of another version of the operator. Workers have the last word.
        return Judged::Free(job.clone());
    };
    if plan_hash(&before) == plan_hash(&after) {
        return Judged::Free(job.clone());
    }
    let Some(spec) = as_it_runs(&json!(job.spec), running) else {
        return Judged::Free(job.clone());
    };
    let as_it_was = Job {
        spec,
        ..job.clone()
    };
    let changes = changes(&before, &after);
    let discard = job.spec.upgrade.on_incompatible_state == OnIncompatibleState::Discard;
    let in_the_way: Vec<&Change> = blocking(&changes, discard).collect();
    let steps = changes.iter().map(told).collect();
    match in_the_way.is_empty() {
        true => Judged::After(Box::new(Passage {
            before: as_it_was,
            after: job.clone(),
            steps,
        })),
        false => {
            let why = why(&in_the_way, discard);
            Judged::Blocked(as_it_was, Blocked { why, steps })
        }
    }
}

/// The job as its workers read it, with what only the operator looks at as it is in `now`, a spec.
pub fn as_it_runs(now: &Value, running: &str) -> Option<StreamJobSpec> {
    let mut document: Value = serde_json::from_str(running).ok()?;
    let spec = document["spec"].as_object_mut()?;
    for field in OPERATORS_OWN {
        if let Some(value) = now.get(field) {
            spec.insert(field.to_owned(), value.clone());
        }
    }
    serde_json::from_value(document["spec"].take()).ok()
}

fn told(change: &Change) -> StepChange {
    let (state, reason) = match change.fate {
        Fate::Kept => (StepState::Kept, None),
        Fate::New => (StepState::New, None),
        Fate::Dropped => (StepState::Dropped, None),
        Fate::Incompatible { why, .. } => (StepState::Incompatible, Some(why.to_owned())),
    };
    StepChange {
        name: change.name.clone(),
        state,
        reason,
    }
}

/// What is in the way, and what a user may do.
fn why(in_the_way: &[&Change], discard: bool) -> String {
    let named: Vec<String> = in_the_way.iter().map(ToString::to_string).collect();
    let discardable = |change: &&Change| {
        matches!(
            change.fate,
            Fate::Incompatible {
                discardable: true,
                ..
            }
        )
    };
    let way_out = match !discard && in_the_way.iter().all(discardable) {
        true => {
            "give what is new another name, or say `upgrade: {onIncompatibleState: Discard}` to begin it anew without its state"
        }
        false => "give what is new another name, or run it as another job",
    };
    format!(
        "the change is not carried out, the job goes on as it was. In the way: {}. Set it back, {way_out}",
        named.join(", ")
    )
}

#[cfg(test)]
mod tests;
