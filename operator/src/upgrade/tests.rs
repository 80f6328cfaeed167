//! What may change, when, and what is said of it.

use super::*;

const REVENUE: &str = include_str!("../../../manifests/samples/cluster-revenue.yaml");

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

fn longer(spec: &mut Value) {
    spec["steps"][0]["window"] = json!({"tumbling": {"size": "2m"}});
}

#[test]
fn what_does_not_change_the_rows_is_free() {
    let scaled = judged(|spec| {
        spec["replicas"] = 3.into();
        spec["checkpoint"]["interval"] = "5s".into();
        spec["connections"][0]["kafka"]["bootstrapServers"] = json!(["other:9092"]);
    });
    let Judged::Free(job) = scaled else {
        panic!("{scaled:?}");
    };
    assert_eq!(job.spec.replicas, Some(3));
    assert_eq!(job.spec.checkpoint.interval.as_millis(), 5_000);
}

#[test]
fn a_changed_window_is_blocked_and_the_job_can_still_be_scaled() {
    let changed = judged(|spec| {
        spec["replicas"] = 3.into();
        spec["suspend"] = true.into();
        longer(spec);
    });
    let Judged::Blocked(goes_on, blocked) = changed else {
        panic!("{changed:?}");
    };
    assert!(
        blocked.why.contains("`revenue` Incompatible (its window"),
        "{}",
        blocked.why
    );
    assert!(blocked.why.contains("Discard"), "{}", blocked.why);
    let step = blocked.steps.iter().find(|step| step.name == "revenue");
    assert_eq!(step.unwrap().state, StepState::Incompatible);
    assert!(step.unwrap().reason.is_some());
    assert_eq!(goes_on.spec.replicas, Some(3));
    assert!(goes_on.spec.suspend);
    assert_eq!(job_text(&goes_on), job_text(&job(|_| {})));
}

#[test]
fn steps_may_come_and_go_once_all_workers_have_ended() {
    let renamed = |spec: &mut Value| {
        spec["replicas"] = 3.into();
        spec["steps"][0]["name"] = "takings".into();
        spec["sinks"][0]["from"] = "takings".into();
    };
    let changed = judged(renamed);
    let Judged::After(passage) = changed else {
        panic!("{changed:?}");
    };
    let told: Vec<(&str, StepState)> = passage
        .steps
        .iter()
        .map(|step| (&*step.name, step.state))
        .collect();
    assert_eq!(
        told,
        [
            ("orders", StepState::Kept),
            ("revenue", StepState::Dropped),
            ("takings", StepState::New)
        ]
    );
    assert_eq!(job_text(&passage.before), job_text(&job(|_| {})));
    assert_eq!(passage.before.spec.replicas, Some(3));
    assert_eq!(job_text(&passage.after), job_text(&job(renamed)));
}

#[test]
fn state_is_discarded_where_the_user_says_so() {
    let changed = judged(|spec| {
        spec["upgrade"] = json!({"onIncompatibleState": "Discard"});
        longer(spec);
    });
    assert!(matches!(changed, Judged::After(_)), "{changed:?}");
}

#[test]
fn without_state_everything_is_free() {
    let free = |running| matches!(judge(&job(longer), running), Judged::Free(_));
    assert!(free(None));
    // What another version wrote is left to the workers.
    assert!(free(Some("{}")));
}
