//! Whether a changed job can go on from the state that it has. Pure.
//!
//! Workers refuse state that another plan has made. So a change of what a job computes must not reach them while there is
//! such state: the job goes on as it was, and a condition tells. What only the operator looks at (`replicas`, `suspend`,
//! `autoscaling`, `resources`, `podTemplate`) changes all the same.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use streamjob_core::manifest;
use streamjob_core::plan::{JobPlan, plan_hash};
use streamjob_crds::{OnIncompatibleState, StepChange, StepState, StreamJobSpec};

use crate::plan::{Job, OPERATORS_OWN, job_text};

/// What is to run, and if that is not what the user wrote, why.
#[derive(Clone, Debug)]
pub struct Judged {
    pub job: Job,
    pub blocked: Option<Blocked>,
}

/// Why a change is not carried out.
#[derive(Clone, Debug)]
pub struct Blocked {
    pub why: String,
    pub steps: Vec<StepChange>,
}

/// `running`: the job as its workers read it now; `None` while they have made no state.
pub fn judge(job: &Job, running: Option<&str>) -> Judged {
    let free = |job: &Job| Judged {
        job: job.clone(),
        blocked: None,
    };
    let wanted = job_text(job);
    let Some(running) = running.filter(|running| **running != wanted) else {
        return free(job);
    };
    let (Ok((_, before)), Ok((_, after))) =
        (manifest::validate(running), manifest::validate(&wanted))
    else {
        // Of another version of the operator. Workers have the last word.
        return free(job);
    };
    if plan_hash(&before) == plan_hash(&after) {
        return free(job);
    }
    match as_it_runs(&json!(job.spec), running) {
        Some(spec) => Judged {
            blocked: Some(told(changes(&before, &after), &spec)),
            job: Job {
                spec,
                ..job.clone()
            },
        },
        None => free(job),
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

/// What becomes of each step's state.
fn changes(before: &JobPlan, after: &JobPlan) -> Vec<StepChange> {
    let (before, after) = (states(before), states(after));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let state = |name: &String| match (before.get(name), after.get(name)) {
        (Some(before), Some(after)) if before == after => StepState::Kept,
        (Some(_), Some(_)) => StepState::Incompatible,
        (Some(_), None) => StepState::Dropped,
        (None, _) => StepState::New,
    };
    let change = |name: &String| StepChange {
        name: name.clone(),
        state: state(name),
    };
    names.into_iter().map(change).collect()
}

/// The same in words, and what a user may do.
fn told(steps: Vec<StepChange>, spec: &StreamJobSpec) -> Blocked {
    let fates = steps
        .iter()
        .map(|step| format!("`{}` {:?}", step.name, step.state));
    let fates: Vec<String> = fates.collect();
    let discard = match spec.upgrade.on_incompatible_state {
        OnIncompatibleState::Block => "",
        OnIncompatibleState::Discard => {
            ". This version discards no state: `upgrade.onIncompatibleState` is as good as `Block`"
        }
    };
    let why = format!(
        "the change is not carried out, the job goes on as it was: it computes something else than the job whose state there is \
         (state of steps: {}). Set it back, or run it as a new job under another name{discard}",
        fates.join(", ")
    );
    Blocked { why, steps }
}

/// What the state of each step depends on. A step may have a part before a re-keying and one behind it.
fn states(plan: &JobPlan) -> BTreeMap<String, Vec<u64>> {
    let mut states: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for node in plan.stages.iter().flat_map(|stage| &stage.nodes) {
        let of_step = states.entry(node.name.clone()).or_default();
        of_step.push(node.state_hash);
    }
    states
}

#[cfg(test)]
mod tests {
    use super::*;

    const REVENUE: &str = include_str!("../../manifests/samples/cluster-revenue.yaml");

    fn job(change: impl Fn(&mut Value)) -> Job {
        let mut document: Value = serde_yaml::from_str(REVENUE).unwrap();
        change(&mut document["spec"]);
        Job {
            namespace: "shop".into(),
            name: "revenue".into(),
            uid: "1".into(),
            spec: serde_json::from_value(document["spec"].take()).unwrap(),
        }
    }

    fn judged(change: impl Fn(&mut Value)) -> Judged {
        judge(&job(change), Some(&job_text(&job(|_| {}))))
    }

    #[test]
    fn what_does_not_change_the_rows_is_free() {
        let scaled = judged(|spec| {
            spec["replicas"] = 3.into();
            spec["checkpoint"]["interval"] = "5s".into();
            spec["connections"][0]["kafka"]["bootstrapServers"] = json!(["other:9092"]);
        });
        assert!(scaled.blocked.is_none());
        assert_eq!(scaled.job.spec.replicas, Some(3));
        assert_eq!(scaled.job.spec.checkpoint.interval.as_millis(), 5_000);
    }

    #[test]
    fn a_changed_window_is_blocked_and_the_job_can_still_be_scaled() {
        let changed = judged(|spec| {
            spec["replicas"] = 3.into();
            spec["suspend"] = true.into();
            spec["steps"][0]["window"] = json!({"tumbling": {"size": "2m"}});
        });
        let told = changed.blocked.unwrap().why;
        assert!(told.contains("`revenue` Incompatible"), "{told}");
        assert_eq!(changed.job.spec.replicas, Some(3));
        assert!(changed.job.spec.suspend);
        assert_eq!(changed.job.spec.steps, job(|_| {}).spec.steps);
        assert_eq!(job_text(&changed.job), job_text(&job(|_| {})));
    }

    #[test]
    fn steps_that_come_and_go_are_named() {
        let changed = judged(|spec| {
            let other = spec["steps"][0].clone();
            spec["steps"] = json!([other]);
            spec["steps"][0]["name"] = "takings".into();
            spec["sinks"][0]["from"] = "takings".into();
        });
        let told = changed.blocked.unwrap();
        let change = |name: &str, state| StepChange {
            name: name.to_owned(),
            state,
        };
        assert_eq!(
            told.steps,
            [
                change("revenue", StepState::Dropped),
                change("takings", StepState::New)
            ]
        );
        assert!(
            told.why.contains("`revenue` Dropped, `takings` New"),
            "{}",
            told.why
        );
    }

    #[test]
    fn discarding_is_not_promised() {
        let changed = judged(|spec| {
            spec["upgrade"] = json!({"onIncompatibleState": "Discard"});
            spec["steps"][0]["window"] = json!({"tumbling": {"size": "2m"}});
        });
        let told = changed.blocked.unwrap().why;
        assert!(told.contains("discards no state"), "{told}");
    }

    #[test]
    fn without_state_everything_is_free() {
        let change =
            |spec: &mut Value| spec["steps"][0]["window"] = json!({"tumbling": {"size": "2m"}});
        assert_eq!(judge(&job(change), None).blocked, None);
        // What another version wrote is left to the workers.
        assert_eq!(judge(&job(change), Some("{}")).blocked, None);
    }
}
