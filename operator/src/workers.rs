//! How the workers of a job are, from their pods and their answers, and what follows for the fleet. Pure.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::DynamicObject;
use serde_json::Value;
use streamjob_crds::{Phase, Placement, SlotStatus, StreamJobSpec, WorkerStatus};

use crate::names;
use crate::placement::{Standing, Worker, ordinal};

/// As many failed probes in a row, a second apart, cost a worker its slots.
pub const MOST_FAILURES: u32 = 3;

/// A pod of the job, and what it last said.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub pod: String,
    pub ip: Option<String>,
    /// The cluster has told it to end.
    pub ending: bool,
    /// Its last answer; `None`: it has never answered, or not for too long.
    pub status: Option<WorkerStatus>,
    /// Why it does not run, as the kubelet or the scheduler tells it.
    pub trouble: Option<String>,
}

impl Seen {
    /// Of a pod as it is in the cluster; nobody has asked it yet.
    pub fn of(pod: &DynamicObject) -> Self {
        let status = &pod.data["status"];
        Seen {
            pod: pod.metadata.name.clone().unwrap_or_default(),
            ip: status["podIP"].as_str().map(str::to_owned),
            ending: pod.metadata.deletion_timestamp.is_some(),
            status: None,
            trouble: trouble(status),
        }
    }

    fn answers(&self) -> bool {
        // Without the number of slots it is still on its way up.
        self.status
            .as_ref()
            .is_some_and(|status| status.slot_count.is_some())
    }

    fn slots(&self) -> impl Iterator<Item = &SlotStatus> {
        self.status.iter().flat_map(|status| &status.slots)
    }
}

/// What keeps a pod from running, in its own words.
pub fn trouble(status: &Value) -> Option<String> {
    let container = status["containerStatuses"]
        .as_array()?
        .iter()
        .find(|container| container["name"] == names::CONTAINER)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().trim().to_owned();
    let ended = [
        &container["state"]["terminated"],
        &container["lastState"]["terminated"],
    ]
    .into_iter()
    .find(|ended| ended.is_object());
    let waiting = &container["state"]["waiting"];
    if container["ready"] == true {
        return None;
    }
    if let Some(ended) = ended {
        let code = &ended["exitCode"];
        return Some(format!(
            "it ended with code {code}: {}",
            last_lines(&text(&ended["message"]))
        ));
    }
    match waiting["reason"].as_str() {
        None | Some("ContainerCreating" | "PodInitializing") => None,
        Some(reason) => Some(format!("{reason}: {}", text(&waiting["message"]))),
    }
}

/// The end of a log is where the reason is.
fn last_lines(text: &str) -> String {
    const MOST: usize = 6;
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let error = lines.iter().rposition(|line| line.starts_with("error: "));
    let first = error.unwrap_or(lines.len().saturating_sub(MOST));
    lines[first..].join("\n")
}

/// How many workers the job should have.
pub fn desired(spec: &StreamJobSpec, one_worker: bool, slots: Option<u32>) -> u32 {
    if spec.suspend {
        return 0;
    }
    let least = spec
        .autoscaling
        .as_ref()
        .map_or(1, |scaling| scaling.min_replicas);
    let wanted = spec.replicas.unwrap_or(least);
    let most = match one_worker {
        true => 1,
        // More workers than slots have nothing to do.
        false => slots.unwrap_or(u32::MAX),
    };
    wanted.min(most)
}

/// How many pods the StatefulSet should have: those of higher number stay until they have let go of their slots.
pub fn pods(desired: u32, placement: &Placement, workers: &[Seen]) -> u32 {
    if desired == 0 {
        return 0;
    }
    let busy = workers.iter().filter(|worker| {
        worker.slots().next().is_some() || placement.of(&worker.pod).next().is_some()
    });
    let busy = busy.map(|worker| ordinal(&worker.pod).saturating_add(1));
    busy.max().unwrap_or(0).max(desired)
}

/// The number of slots, as workers know it.
pub fn slots(placement: &Placement, workers: &[Seen]) -> Option<u32> {
    match placement.slots.len() {
        0 => workers
            .iter()
            .find_map(|worker| worker.status.as_ref()?.slot_count),
        known => u32::try_from(known).ok(),
    }
}

/// The workers that may have slots.
pub fn standings(workers: &[Seen], desired: u32) -> Vec<Worker> {
    workers
        .iter()
        .filter(|worker| worker.answers())
        .map(|worker| Worker {
            pod: worker.pod.clone(),
            standing: match (worker.ending, ordinal(&worker.pod) < desired) {
                (true, _) => Standing::Ending,
                (false, true) => Standing::Fit,
                (false, false) => Standing::Leaving,
            },
        })
        .collect()
}

/// The slots as the workers that have them report them: with the term of their placement.
pub fn running<'a>(placement: &Placement, workers: &'a [Seen]) -> BTreeMap<u32, &'a SlotStatus> {
    let mut found = BTreeMap::new();
    for worker in workers {
        for slot in worker.slots() {
            let place = placement.slots.get(&slot.slot);
            if place.is_some_and(|place| place.pod == worker.pod && place.term == slot.term) {
                found.insert(slot.slot, slot);
            }
        }
    }
    found
}

/// Slots that do not run where they should.
pub fn on_their_way(placement: &Placement, workers: &[Seen]) -> BTreeSet<u32> {
    let running = running(placement, workers);
    let there = |slot: &u32| {
        let phase = running.get(slot).map(|slot| slot.phase);
        matches!(phase, Some(Phase::Running | Phase::Done))
    };
    let slots = placement.slots.keys().copied();
    slots.filter(|slot| !there(slot)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use streamjob_crds::Place;

    use super::*;

    fn worker(ordinal: u32, slots: &[(u32, u64, Phase)]) -> Seen {
        let slots = slots.iter().map(|(slot, term, phase)| SlotStatus {
            slot: *slot,
            term: *term,
            phase: *phase,
            ..SlotStatus::default()
        });
        Seen {
            pod: format!("job-{ordinal}"),
            ip: None,
            ending: false,
            status: Some(WorkerStatus {
                slot_count: Some(2),
                slots: slots.collect(),
                ..WorkerStatus::default()
            }),
            trouble: None,
        }
    }

    fn placement(places: &[(u32, &str, u64)]) -> Placement {
        let place = |(slot, pod, term): &(u32, &str, u64)| {
            let place = Place {
                pod: (*pod).to_owned(),
                term: *term,
                from: None,
            };
            (*slot, place)
        };
        Placement {
            slots: places.iter().map(place).collect(),
        }
    }

    #[test]
    fn pods_stay_until_they_have_let_go() {
        let placement = placement(&[(0, "job-0", 1), (1, "job-0", 2)]);
        let busy = worker(1, &[(1, 1, Phase::Draining)]);
        let workers = [worker(0, &[(0, 1, Phase::Running)]), busy];
        assert_eq!(pods(1, &placement, &workers), 2);
        assert_eq!(pods(1, &placement, &[worker(0, &[]), worker(1, &[])]), 1);
        assert_eq!(pods(0, &placement, &workers), 0, "suspended");
        assert_eq!(on_their_way(&placement, &workers), BTreeSet::from([1]));
    }

    #[test]
    fn a_worker_on_its_way_up_gets_no_slots() {
        let mut starting = worker(0, &[]);
        starting.status.as_mut().unwrap().slot_count = None;
        let mut ending = worker(1, &[]);
        ending.ending = true;
        let workers = [starting, ending, worker(2, &[]), worker(3, &[])];
        let standings: Vec<_> = standings(&workers, 3)
            .into_iter()
            .map(|worker| (worker.pod, worker.standing))
            .collect();
        assert_eq!(
            standings,
            [
                ("job-1".to_owned(), Standing::Ending),
                ("job-2".to_owned(), Standing::Fit),
                ("job-3".to_owned(), Standing::Leaving),
            ]
        );
    }

    #[test]
    fn the_last_words_of_a_worker_are_its_trouble() {
        let log =
            "INFO starting\nWARN this\nerror: sink `out`: topic `x` does not exist\n  because so";
        let status = json!({"containerStatuses": [{
            "name": "worker",
            "ready": false,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
            "lastState": {"terminated": {"exitCode": 70, "message": log}},
        }]});
        let told = trouble(&status).unwrap();
        assert_eq!(
            told,
            "it ended with code 70: error: sink `out`: topic `x` does not exist\n  because so"
        );
        let pulling = json!({"containerStatuses": [{
            "name": "worker", "ready": false,
            "state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}},
        }]});
        assert_eq!(trouble(&pulling).unwrap(), "ErrImagePull: no such image");
        let creating = json!({"containerStatuses": [{
            "name": "worker", "ready": false, "state": {"waiting": {"reason": "ContainerCreating"}},
        }]});
        assert_eq!(trouble(&creating), None);
    }
}
