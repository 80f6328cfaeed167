//! What is to be done for a job that can run: how many workers, which slot where, how many pods. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use streamjob_crds::{Autoscaling, AutoscalingMode, Placement, ScalingDecision, StreamJobStatus};

use crate::autoscale::{self, Observation, Policy};
use crate::placement;
use crate::validate::Valid;
use crate::workers::{self, Seen};

#[derive(Clone, Debug)]
pub struct Decided {
    pub desired: u32,
    pub pods: u32,
    pub placement: Placement,
    /// A change of the number of workers, or in the mode `Recommend` what it would be.
    pub scaled: Option<ScalingDecision>,
    /// Why it does not get the workers that it would need: reason and message.
    pub limit: Option<(String, String)>,
}

/// Why a job has no workers for the time being.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub reason: &'static str,
    pub message: String,
}

/// The fleet as it is.
pub struct Fleet<'a> {
    pub placed: &'a Placement,
    pub seen: &'a [Seen],
    /// It is there, without pods.
    pub stopped: bool,
    /// It is to have none.
    pub held: bool,
}

/// Decides from the placement that there is and from what the workers say.
pub fn decide(
    valid: &Valid,
    before: &StreamJobStatus,
    fleet: &Fleet,
    memory: &mut autoscale::Memory,
    now: Timestamp,
) -> Decided {
    let spec = &valid.job.spec;
    let seen = fleet.seen;
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let slots = workers::slots(fleet.placed, seen);
    let asked = match fleet.held {
        true => 0,
        false => workers::desired(spec, valid.one_worker, slots),
    };
    let raised = (fleet.stopped && asked > 0).then(|| placement::raised(fleet.placed, seconds));
    let placed = raised.as_ref().unwrap_or(fleet.placed);
    let runs = !placed.slots.is_empty() && asked > 0 && !valid.one_worker;
    let scaling = spec.autoscaling.as_ref().filter(|_| runs);
    let scaled = scaling.map(|scaling| autoscaled(scaling, asked, placed, seen, memory, now));
    let desired = match (&scaled, scaling) {
        (Some(decision), Some(scaling)) if scaling.mode == AutoscalingMode::Auto => {
            decision.workers
        }
        _ => asked,
    };
    let settled = !placed.slots.is_empty() && workers::on_their_way(placed, seen).is_empty();
    let placement = placement::place(
        placed,
        slots.unwrap_or(0),
        &workers::standings(seen, desired),
        settled,
        seconds,
    );
    Decided {
        desired,
        pods: workers::pods(desired, &placement, seen),
        limit: scaled
            .as_ref()
            .filter(|decision| decision.reason.is_limit())
            .map(|decision| (format!("{:?}", decision.reason), decision.message.clone())),
        scaled: scaled.and_then(|decision| news(&decision, asked, desired, before, now)),
        placement,
    }
}

fn autoscaled(
    scaling: &Autoscaling,
    asked: u32,
    placed: &Placement,
    seen: &[Seen],
    memory: &mut autoscale::Memory,
    now: Timestamp,
) -> autoscale::Decision {
    let running = workers::running(placed, seen);
    let slots = u32::try_from(placed.slots.len()).unwrap_or(u32::MAX);
    let policy = Policy {
        least: scaling.min_replicas,
        most: scaling.max_replicas.min(slots),
        target_lag: scaling.target_lag,
        catch_up_within: scaling.catch_up_within.as_millis(),
        stabilization: scaling.scale_down_stabilization.as_millis(),
    };
    let lag = |slot: &&streamjob_crds::SlotStatus| {
        let known = slot.inputs.iter().filter_map(|input| input.lag);
        known.reduce(i64::saturating_add)?.try_into().ok()
    };
    let processed = seen
        .iter()
        .filter_map(|worker| Some(worker.status.as_ref()?.rows_in_per_second as f64));
    let observation = Observation {
        now: now.as_millisecond(),
        workers: asked,
        lags: running.values().filter_map(lag).collect(),
        processed: processed.sum(),
        settled: workers::on_their_way(placed, seen).is_empty() && seen.len() == asked as usize,
    };
    autoscale::decide(&policy, memory, &observation)
}

/// A decision that changes something, told once.
fn news(
    decision: &autoscale::Decision,
    asked: u32,
    desired: u32,
    before: &StreamJobStatus,
    now: Timestamp,
) -> Option<ScalingDecision> {
    let applied = desired == decision.workers;
    let told = before
        .scaling
        .first()
        .is_some_and(|last| (last.from, last.to) == (asked, decision.workers) && !last.applied);
    (decision.workers != asked && (applied || !told)).then(|| ScalingDecision {
        time: Time(now),
        from: asked,
        to: decision.workers,
        reason: format!("{:?}", decision.reason),
        message: decision.message.clone(),
        applied,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use streamjob_crds::{InputStatus, Phase, SlotStatus, WorkerStatus};

    use super::*;
    use crate::plan::Job;

    fn valid(more: serde_json::Value) -> Valid {
        let mut spec = json!({
            "sources": [{"name": "s", "columns": [], "eventTime": {"column": "t"}}],
            "sinks": [{"name": "o", "from": "s"}],
        });
        for (field, value) in more.as_object().unwrap() {
            spec[field] = value.clone();
        }
        Valid {
            job: Job {
                namespace: "n".into(),
                name: "job".into(),
                uid: "u".into(),
                spec: serde_json::from_value(spec).unwrap(),
            },
            one_worker: false,
            warnings: Vec::new(),
        }
    }

    /// Workers that do what the placement says, with this lag in each slot.
    fn obedient(placement: &Placement, count: u32, lag: i64) -> Vec<Seen> {
        let worker = |ordinal| {
            let pod = format!("job-{ordinal}");
            let slots = placement.of(&pod).map(|(slot, place)| SlotStatus {
                slot,
                term: place.term,
                phase: Phase::Running,
                inputs: vec![InputStatus {
                    lag: Some(lag),
                    ..InputStatus::default()
                }],
                ..SlotStatus::default()
            });
            let status = WorkerStatus {
                slot_count: Some(4),
                rows_in_per_second: 1_000,
                slots: slots.collect(),
                ..WorkerStatus::default()
            };
            Seen {
                pod: pod.clone(),
                ip: None,
                ending: false,
                status: Some(status),
                trouble: None,
            }
        };
        (0..count).map(worker).collect()
    }

    fn fleet<'a>(placed: &'a Placement, seen: &'a [Seen]) -> Fleet<'a> {
        Fleet {
            placed,
            seen,
            stopped: false,
            held: false,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_new_job_gets_pods_then_slots() {
        let (job, before) = (valid(json!({"replicas": 2})), StreamJobStatus::default());
        let mut memory = autoscale::Memory::default();
        let nothing = Placement::default();
        let first = decide(&job, &before, &fleet(&nothing, &[]), &mut memory, at(100));
        assert_eq!((first.pods, first.placement.slots.len()), (2, 0));
        let workers = obedient(&nothing, 2, 0);
        let second = decide(
            &job,
            &before,
            &fleet(&nothing, &workers),
            &mut memory,
            at(101),
        );
        assert_eq!(second.placement.slots.len(), 4);
    }

    #[test]
    fn no_more_pods_than_slots_and_suspended_jobs_keep_theirs() {
        let before = StreamJobStatus::default();
        let mut memory = autoscale::Memory::default();
        let nothing = Placement::default();
        let workers = obedient(&nothing, 2, 0);
        let many = valid(json!({"replicas": 9}));
        let placed = decide(
            &many,
            &before,
            &fleet(&nothing, &workers),
            &mut memory,
            at(100),
        );
        assert_eq!(placed.desired, 4);
        let suspended = valid(json!({"replicas": 2, "suspend": true}));
        let workers = obedient(&placed.placement, 2, 0);
        let now = decide(
            &suspended,
            &before,
            &fleet(&placed.placement, &workers),
            &mut memory,
            at(200),
        );
        assert_eq!((now.pods, now.placement), (0, placed.placement));
    }

    #[test]
    fn lag_scales_up_and_a_recommendation_changes_nothing() {
        for mode in ["Auto", "Recommend"] {
            let job = valid(json!({
                "replicas": 1,
                "autoscaling": {"maxReplicas": 4, "targetLag": 1000, "catchUpWithin": "10s", "mode": mode},
            }));
            let mut before = StreamJobStatus::default();
            let mut memory = autoscale::Memory::default();
            let nothing = Placement::default();
            let workers = obedient(&nothing, 1, 0);
            let placed = decide(
                &job,
                &before,
                &fleet(&nothing, &workers),
                &mut memory,
                at(0),
            )
            .placement;
            let workers = obedient(&placed, 1, 10_000);
            let mut told = Vec::new();
            let mut last = None;
            for second in 1..60 {
                let now = decide(
                    &job,
                    &before,
                    &fleet(&placed, &workers),
                    &mut memory,
                    at(second),
                );
                if let Some(news) = now.scaled.clone() {
                    before.scaling.insert(0, news.clone());
                    told.push(news);
                }
                let stop = now.desired > 1;
                last = Some(now);
                if stop {
                    break;
                }
            }
            let applied = mode == "Auto";
            assert_eq!(last.unwrap().desired, if applied { 4 } else { 1 });
            assert_eq!(told.len(), 1, "{told:?}");
            assert_eq!((told[0].to, told[0].applied), (4, applied));
        }
    }

    #[test]
    fn a_fleet_that_was_stopped_begins_above_whoever_had_its_slots() {
        let before = StreamJobStatus::default();
        let mut memory = autoscale::Memory::default();
        let job = valid(json!({"replicas": 2}));
        let nothing = Placement::default();
        let workers = obedient(&nothing, 2, 0);
        let fleet = fleet(&nothing, &workers);
        let placed = decide(&job, &before, &fleet, &mut memory, at(100)).placement;
        let mut fleet = Fleet {
            placed: &placed,
            seen: &[],
            stopped: true,
            held: true,
        };
        let held = decide(&job, &before, &fleet, &mut memory, at(100));
        assert_eq!((held.pods, &held.placement), (0, &placed));
        for seconds in [100, 300] {
            let taken = placement::above(&placed, seconds);
            assert!(placed.slots.values().all(|place| place.term < taken));
            fleet.held = false;
            let again = decide(&job, &before, &fleet, &mut memory, at(seconds as i64));
            assert_eq!(again.pods, 2);
            for (slot, place) in &again.placement.slots {
                assert!(place.term > taken);
                assert_eq!(place.pod, placed.slots[slot].pod);
            }
        }
    }
}
