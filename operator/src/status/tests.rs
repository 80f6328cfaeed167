//! A user reads in the status what is going on, and why not.

use streamjob_crds::{Place, SlotStatus, StepChange, StepState, WorkerCondition};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn placement() -> Placement {
    let place = |pod: &str| Place {
        pod: pod.to_owned(),
        term: 5,
        from: None,
    };
    Placement {
        slots: BTreeMap::from([(0, place("job-0")), (1, place("job-1"))]),
    }
}

fn worker(ordinal: u32, phase: Phase) -> Seen {
    Seen {
        pod: format!("job-{ordinal}"),
        ip: None,
        ending: false,
        status: Some(WorkerStatus {
            slot_count: Some(2),
            lag: Some(10),
            rows_in_per_second: 100,
            checkpoint_age_ms: Some(2_600),
            slots: vec![SlotStatus {
                slot: ordinal,
                term: 5,
                phase,
                pause_ms: Some(340),
                ..SlotStatus::default()
            }],
            ..WorkerStatus::default()
        }),
        trouble: None,
    }
}

fn facts<'a>(placement: &'a Placement, workers: &'a [Seen], second: i64) -> Facts<'a> {
    Facts {
        job: "job",
        generation: Some(3),
        suspend: false,
        desired: 2,
        placement,
        workers,
        warnings: String::new(),
        scaled: None,
        limit: None,
        blocked: None,
        steps: Vec::new(),
        hold: None,
        restored: None,
        now: at(second),
    }
}

fn condition<'a>(status: &'a StreamJobStatus, kind: &str) -> &'a Condition {
    let mut all = status.conditions.iter();
    all.find(|condition| condition.type_ == kind)
        .unwrap_or_else(|| panic!("no {kind} in {:?}", status.conditions))
}

#[test]
fn a_running_job_says_where_and_how_fast() {
    let placement = placement();
    let workers = [worker(0, Phase::Running), worker(1, Phase::Running)];
    let before = StreamJobStatus::default();
    let now = status(&before, &facts(&placement, &workers, 100));
    assert_eq!(condition(&now, "Ready").message, "2 slots run on 2 workers");
    assert_eq!((now.lag, now.rate, now.replicas), (Some(20), Some(200), 2));
    assert_eq!(now.checkpoint_age, Some(Duration::from_secs(3)));
    assert_eq!(now.slots[1].pod, "job-1");
    assert_eq!(now.slots[1].pause, Some(Duration::from_millis(340)));
    // A second later nothing has changed, so there is nothing to write.
    assert_eq!(status(&now, &facts(&placement, &workers, 101)), now);
}

#[test]
fn a_condition_keeps_its_time_until_it_changes() {
    let placement = placement();
    let good = [worker(0, Phase::Running), worker(1, Phase::Running)];
    let one = status(&StreamJobStatus::default(), &facts(&placement, &good, 100));
    let moving = [worker(0, Phase::Running), worker(1, Phase::Restoring)];
    let two = status(&one, &facts(&placement, &moving, 200));
    let ready = condition(&two, "Ready");
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", "Placing")
    );
    assert_eq!(ready.message, "on their way: slots 1");
    assert_eq!(ready.last_transition_time, Time(at(200)));
    assert_eq!(condition(&two, "Valid").last_transition_time, Time(at(100)));
    assert!(!only_figures_differ(&one, &two));
}

#[test]
fn the_reason_of_a_failing_worker_is_the_jobs() {
    let placement = placement();
    let mut failing = worker(1, Phase::Running);
    failing.status = None;
    failing.trouble = Some("it ended with code 75: error: no broker answers".into());
    let workers = [worker(0, Phase::Running), failing];
    let now = status(
        &StreamJobStatus::default(),
        &facts(&placement, &workers, 100),
    );
    let ready = condition(&now, "Ready");
    assert_eq!(ready.reason, "WorkerFails");
    assert_eq!(
        ready.message,
        "job-1: it ended with code 75: error: no broker answers"
    );
    assert_eq!(now.lag, Some(10), "of those that answer");
}

#[test]
fn a_slot_that_fails_says_why() {
    let placement = placement();
    let mut failing = worker(1, Phase::Claiming);
    let told = WorkerCondition {
        kind: SLOT_FAILED.into(),
        reason: "TriedAgain".into(),
        message: "slot 1: the journal is gone".into(),
    };
    failing.status.as_mut().unwrap().slots[0].conditions = vec![told];
    let workers = [worker(0, Phase::Running), failing];
    let now = status(
        &StreamJobStatus::default(),
        &facts(&placement, &workers, 100),
    );
    let ready = condition(&now, "Ready");
    assert_eq!(
        (ready.reason.as_str(), ready.message.as_str()),
        (SLOT_FAILED, "slot 1: the journal is gone")
    );
}

#[test]
fn passing_conditions_come_and_go() {
    let placement = placement();
    let mut stale = worker(0, Phase::Done);
    stale.status.as_mut().unwrap().conditions = vec![WorkerCondition {
        kind: "CheckpointStale".into(),
        reason: "NoRecentCheckpoint".into(),
        message: "no checkpoint for 40 s".into(),
    }];
    let workers = [stale, worker(1, Phase::Done)];
    let mut all = facts(&placement, &workers, 100);
    all.suspend = true;
    all.limit = Some(("Skew".into(), "one slot".into()));
    let now = status(&StreamJobStatus::default(), &all);
    for kind in ["CheckpointStale", "Complete", "Suspended", "ScalingLimited"] {
        assert_eq!(condition(&now, kind).status, "True");
    }
    let good = [worker(0, Phase::Running), worker(1, Phase::Running)];
    let later = status(&now, &facts(&placement, &good, 200));
    let kinds: Vec<_> = later.conditions.iter().map(|one| &one.type_).collect();
    assert_eq!(kinds, ["Valid", "Ready"]);
}

#[test]
fn figures_alone_are_no_reason_to_write() {
    let placement = placement();
    let workers = [worker(0, Phase::Running), worker(1, Phase::Running)];
    let one = status(
        &StreamJobStatus::default(),
        &facts(&placement, &workers, 100),
    );
    let mut busier = workers.clone();
    busier[0].status.as_mut().unwrap().lag = Some(99);
    let two = status(&one, &facts(&placement, &busier, 101));
    assert_ne!(one, two);
    assert!(only_figures_differ(&one, &two));
}

#[test]
fn an_invalid_job_keeps_what_it_had() {
    let placement = placement();
    let workers = [worker(0, Phase::Running), worker(1, Phase::Running)];
    let one = status(
        &StreamJobStatus::default(),
        &facts(&placement, &workers, 100),
    );
    let two = invalid(&one, Some(4), "spec.steps[0].where: no", at(200));
    assert_eq!(two.slots, one.slots);
    assert_eq!(condition(&two, "Valid").message, "spec.steps[0].where: no");
    assert_eq!(condition(&two, "Valid").observed_generation, Some(4));
}

#[test]
fn history_is_kept_short() {
    let placement = placement();
    let mut now = StreamJobStatus::default();
    for second in 0..30 {
        let mut facts = facts(&placement, &[], second);
        facts.scaled = Some(ScalingDecision {
            time: Time(at(second)),
            from: 1,
            to: 2,
            reason: "Lagging".into(),
            message: String::new(),
            applied: true,
        });
        now = status(&now, &facts);
    }
    assert_eq!(now.scaling.len(), HISTORY);
    assert_eq!(now.scaling[0].time, Time(at(29)));
}

#[test]
fn a_change_that_is_not_carried_out_is_told() {
    let placement = placement();
    let good = [worker(0, Phase::Running), worker(1, Phase::Running)];
    let mut blocked = facts(&placement, &good, 100);
    let steps = vec![StepChange {
        name: "a".into(),
        state: StepState::Incompatible,
        reason: Some("another window".into()),
    }];
    blocked.blocked = Some("step `a` Incompatible".into());
    blocked.steps = steps.clone();
    let now = status(&StreamJobStatus::default(), &blocked);
    let told = news(&StreamJobStatus::default(), &now);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1, "UpgradeBlocked");
    assert!(news(&now, &now).is_empty());
    assert_eq!(condition(&now, "UpgradeBlocked").status, "True");
    assert_eq!(
        condition(&now, "UpgradeBlocked").message,
        "step `a` Incompatible"
    );
    assert_eq!(now.steps, steps);
    assert_eq!(condition(&now, "Ready").status, "True");
    let again = status(&now, &facts(&placement, &good, 101));
    assert!(news(&now, &again).is_empty() && again.steps.is_empty());
}
