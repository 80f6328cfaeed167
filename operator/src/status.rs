//! The status of a job, from what was decided and what its workers say. Pure: the clock is an argument, and a condition
//! that stays keeps its time.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::events::EventType;
use streamjob_crds::{
    Duration, Phase, Placement, SLOT_FAILED, ScalingDecision, SlotPlace, StepChange,
    StreamJobStatus, WorkerStatus,
};

use crate::decide::Hold;
use crate::names;
use crate::workers::{self, Seen};

/// The condition of a job whose change is not carried out.
const BLOCKED: &str = "UpgradeBlocked";
/// The condition of a job that begins with a snapshot's state.
pub const RESTORED: &str = "Restored";
/// Why a job that is changed has no workers for a moment.
pub const UPGRADING: &str = "Upgrading";
/// Decisions of the autoscaler that are kept.
const HISTORY: usize = 10;

/// What the status of a good job is made from.
pub struct Facts<'a> {
    pub job: &'a str,
    pub generation: Option<i64>,
    pub suspend: bool,
    pub desired: u32,
    pub placement: &'a Placement,
    pub workers: &'a [Seen],
    /// What there is to say about the job's validity.
    pub warnings: String,
    /// A decision of the autoscaler that was taken now.
    pub scaled: Option<ScalingDecision>,
    /// Why it does not get the workers that it would need.
    pub limit: Option<(String, String)>,
    /// Why it goes on as it was, and not as it is written now.
    pub blocked: Option<String>,
    /// What a change does to the state of each step.
    pub steps: Vec<StepChange>,
    /// Why it has no workers for the time being.
    pub hold: Option<Hold>,
    /// Of a job that begins with a snapshot's state: whether it has it.
    pub restored: Option<Told>,
    pub now: Timestamp,
}

/// A condition without what only the clock and the last status know.
#[derive(Clone, Debug)]
pub struct Told {
    pub kind: String,
    pub holds: bool,
    pub reason: String,
    pub message: String,
}

impl Told {
    pub fn new(kind: &str, holds: bool, reason: &str, message: impl Into<String>) -> Self {
        Told {
            kind: kind.to_owned(),
            holds,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

/// The status of a job that runs, or is to.
pub fn status(before: &StreamJobStatus, facts: &Facts) -> StreamJobStatus {
    let answers: Vec<&WorkerStatus> = facts
        .workers
        .iter()
        .filter_map(|worker| worker.status.as_ref())
        .collect();
    let seconds = |millis: i64| Duration::from_secs((millis + 500) / 1000);
    let mut told = vec![
        Told::new("Valid", true, "Planned", facts.warnings.clone()),
        ready(facts),
    ];
    told.extend(facts.restored.clone());
    told.extend(passing(facts, &answers));
    let mut scaling: Vec<ScalingDecision> = facts.scaled.iter().cloned().collect();
    scaling.extend(before.scaling.iter().cloned());
    scaling.truncate(HISTORY);
    StreamJobStatus {
        observed_generation: facts.generation,
        conditions: conditions(&before.conditions, told, facts.generation, facts.now),
        replicas: count(facts.workers.len()),
        desired: facts.desired.try_into().unwrap_or(i32::MAX),
        selector: Some(names::selector_text(facts.job)),
        lag: sum(answers.iter().map(|worker| worker.lag)),
        rate: sum(answers
            .iter()
            .map(|worker| i64::try_from(worker.rows_in_per_second).ok())),
        watermark_delay: answers
            .iter()
            .filter_map(|worker| worker.watermark_delay_ms)
            .max()
            .map(|delay| seconds(delay.max(0))),
        checkpoint_age: answers
            .iter()
            .filter_map(|worker| worker.checkpoint_age_ms)
            .max()
            .map(seconds),
        slots: slots(before, facts),
        steps: facts.steps.clone(),
        scaling,
    }
}

/// The status of a job that cannot run as it is written. What runs goes on as it was.
pub fn invalid(
    before: &StreamJobStatus,
    generation: Option<i64>,
    problems: &str,
    now: Timestamp,
) -> StreamJobStatus {
    let told = vec![
        Told::new("Valid", false, "Invalid", problems),
        Told::new(
            "Ready",
            false,
            "Invalid",
            "the job cannot run as it is written: see the condition Valid",
        ),
    ];
    StreamJobStatus {
        observed_generation: generation,
        conditions: conditions(&before.conditions, told, generation, now),
        ..before.clone()
    }
}

/// The status of a job whose objects could not be applied.
pub fn blocked(
    before: &StreamJobStatus,
    generation: Option<i64>,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> StreamJobStatus {
    let told = vec![
        Told::new("Valid", true, "Planned", ""),
        Told::new("Ready", false, reason, message),
    ];
    StreamJobStatus {
        observed_generation: generation,
        conditions: conditions(&before.conditions, told, generation, now),
        ..before.clone()
    }
}

/// The status of a job that is being deleted.
pub fn ending(
    before: &StreamJobStatus,
    generation: Option<i64>,
    message: &str,
    now: Timestamp,
) -> StreamJobStatus {
    let told = vec![Told::new("Ready", false, "Deleting", message)];
    StreamJobStatus {
        observed_generation: generation,
        conditions: conditions(&before.conditions, told, generation, now),
        ..before.clone()
    }
}

fn ready(facts: &Facts) -> Told {
    let no = |reason, message: String| Told::new("Ready", false, reason, message);
    if let Some(hold) = &facts.hold {
        return no(hold.reason, hold.message.clone());
    }
    if facts.suspend {
        return no(
            "Suspended",
            "`suspend` is set: the job keeps its place and its state".into(),
        );
    }
    if facts.desired == 0 {
        return no(
            "ScaledToZero",
            "the job has no workers: `replicas` is 0".into(),
        );
    }
    let away = workers::on_their_way(facts.placement, facts.workers);
    if !facts.placement.slots.is_empty() && away.is_empty() {
        let (slots, pods) = (facts.placement.slots.len(), hosts(facts.placement));
        let message = format!("{slots} slots run on {pods} workers");
        return Told::new("Ready", true, "Running", message);
    }
    let troubles: Vec<String> = facts
        .workers
        .iter()
        .filter_map(|worker| Some(format!("{}: {}", worker.pod, worker.trouble.as_ref()?)))
        .collect();
    if !troubles.is_empty() {
        return no("WorkerFails", troubles.join("\n"));
    }
    let failed: Vec<&str> = facts
        .workers
        .iter()
        .flat_map(|worker| worker.status.iter().flat_map(|status| &status.slots))
        .flat_map(|slot| &slot.conditions)
        .filter(|condition| condition.kind == SLOT_FAILED)
        .map(|condition| condition.message.as_str())
        .collect();
    if !failed.is_empty() {
        return no(SLOT_FAILED, failed.join("\n"));
    }
    match facts.placement.slots.is_empty() {
        true => no("Starting", "waiting for the first worker".into()),
        false => no("Placing", format!("on their way: slots {}", list(&away))),
    }
}

/// Conditions that are only there while they are true.
fn passing(facts: &Facts, answers: &[&WorkerStatus]) -> Vec<Told> {
    let mut told = Vec::new();
    if facts.suspend {
        told.push(Told::new("Suspended", true, "Asked", "`suspend` is set"));
    }
    let running = workers::running(facts.placement, facts.workers);
    let slots = facts.placement.slots.len();
    let done = |slots: &BTreeMap<_, &streamjob_crds::SlotStatus>| {
        slots.values().all(|slot| slot.phase == Phase::Done)
    };
    if slots > 0 && running.len() == slots && done(&running) {
        told.push(Told::new(
            "Complete",
            true,
            "InputEnded",
            "all input is read, all rows are out",
        ));
    }
    if let Some(blocked) = &facts.blocked {
        told.push(Told::new(
            BLOCKED,
            true,
            "IncompatibleState",
            blocked.as_str(),
        ));
    }
    if let Some((reason, message)) = &facts.limit {
        told.push(Told::new("ScalingLimited", true, reason, message.clone()));
    }
    // What several workers say alike is said once.
    let mut kinds = BTreeSet::new();
    for condition in answers.iter().flat_map(|worker| &worker.conditions) {
        // The readiness tells of failed slots.
        if condition.kind != SLOT_FAILED && kinds.insert(&condition.kind) {
            let (kind, reason) = (&condition.kind, &condition.reason);
            told.push(Told::new(kind, true, reason, condition.message.clone()));
        }
    }
    told
}

fn slots(before: &StreamJobStatus, facts: &Facts) -> Vec<SlotPlace> {
    let running = workers::running(facts.placement, facts.workers);
    let pause_before = |slot: u32, term: u64| {
        let known = before.slots.iter().find(|place| place.slot == slot)?;
        known.pause.filter(|_| known.term == term)
    };
    let places = facts.placement.slots.iter();
    places
        .map(|(slot, place)| {
            let now = running.get(slot);
            let pause = now.and_then(|slot| slot.pause_ms);
            let pause = pause.map(|millis| Duration::from_millis(millis as i64));
            SlotPlace {
                slot: *slot,
                pod: place.pod.clone(),
                term: place.term,
                phase: now.map(|slot| slot.phase),
                pause: pause.or_else(|| pause_before(*slot, place.term)),
            }
        })
        .collect()
}

/// A condition that stays keeps its time.
pub fn conditions(
    before: &[Condition],
    told: Vec<Told>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let same = |told: &Told, status: &str| {
        let mut known = before.iter();
        known
            .find(|known| known.type_ == told.kind && known.status == status)
            .map(|known| known.last_transition_time.clone())
    };
    told.into_iter()
        .map(|told| {
            let status = if told.holds { "True" } else { "False" };
            Condition {
                last_transition_time: same(&told, status).unwrap_or(Time(now)),
                observed_generation: generation,
                type_: told.kind,
                status: status.to_owned(),
                reason: told.reason,
                message: told.message,
            }
        })
        .collect()
}

/// What is told in an event when it comes about, not only in the conditions.
pub fn news(
    before: &StreamJobStatus,
    now: &StreamJobStatus,
) -> Vec<(EventType, &'static str, String)> {
    let told = |status: &StreamJobStatus, kind: &str, value: &str| {
        let mut conditions = status.conditions.iter();
        let found = conditions.find(|told| told.type_ == kind && told.status == value);
        found.map(|told| told.message.clone())
    };
    let new = |kind, value| told(now, kind, value).filter(|_| told(before, kind, value).is_none());
    let blocked = new(BLOCKED, "True").map(|why| (EventType::Warning, "UpgradeBlocked", why));
    let restored = new(RESTORED, "True").map(|what| (EventType::Normal, "Restored", what));
    let waits = new(RESTORED, "False").map(|what| (EventType::Normal, "Restoring", what));
    let held = |status: &StreamJobStatus| {
        let mut conditions = status.conditions.iter();
        let found = conditions.find(|told| told.type_ == "Ready" && told.reason == UPGRADING);
        found.map(|told| told.message.clone())
    };
    let upgrading = held(now).filter(|_| held(before).is_none());
    let upgrading = upgrading.map(|what| (EventType::Normal, UPGRADING, what));
    let all = [blocked, restored, waits, upgrading];
    all.into_iter().flatten().collect()
}

/// Whether nothing but figures that always move differs: those are written now and then only.
pub fn only_figures_differ(before: &StreamJobStatus, now: &StreamJobStatus) -> bool {
    let figures = StreamJobStatus {
        lag: before.lag,
        rate: before.rate,
        watermark_delay: before.watermark_delay,
        checkpoint_age: before.checkpoint_age,
        ..now.clone()
    };
    figures == *before
}

fn hosts(placement: &Placement) -> usize {
    let pods: BTreeSet<&str> = placement
        .slots
        .values()
        .map(|place| place.pod.as_str())
        .collect();
    pods.len()
}

fn list(slots: &BTreeSet<u32>) -> String {
    let all: Vec<String> = slots.iter().map(u32::to_string).collect();
    all.join(", ")
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Of those that are known; `None` where none is.
fn sum(values: impl Iterator<Item = Option<i64>>) -> Option<i64> {
    values.flatten().reduce(i64::saturating_add)
}

#[cfg(test)]
mod tests;
