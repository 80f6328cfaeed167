//! What the webhook answers.

use serde_json::{Value, json};

use super::*;

const REVENUE: &str = include_str!("../../../manifests/samples/cluster-revenue.yaml");

fn job(change: impl Fn(&mut Value)) -> Value {
    let mut job: Value = serde_yaml::from_str(REVENUE).unwrap();
    job["metadata"]["namespace"] = "shop".into();
    change(&mut job);
    job
}

fn wrong(job: &mut Value) {
    job["spec"]["steps"][0]["aggregate"][1] = "sum(amout) AS revenue".into();
}

/// Asks as a cluster does.
fn asked(operation: &str, object: Value, old: Value) -> Value {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "7",
            "kind": {"group": "streamjob.dev", "version": "v1alpha1", "kind": "StreamJob"},
            "resource": {"group": "streamjob.dev", "version": "v1alpha1", "resource": "streamjobs"},
            "operation": operation,
            "userInfo": {"username": "ann"},
            "object": object,
            "oldObject": old,
        },
    });
    let review: AdmissionReview<DynamicObject> = serde_json::from_value(review).unwrap();
    let answer = answer(&review.try_into().unwrap());
    serde_json::to_value(answer.into_review()).unwrap()
}

#[test]
fn a_wrong_job_is_refused_with_its_field() {
    let good = asked("CREATE", job(|_| {}), Value::Null);
    assert_eq!(good["response"]["allowed"], true, "{good}");
    assert_eq!(good["response"]["uid"], "7");
    let bad = asked("CREATE", job(wrong), Value::Null);
    assert_eq!(bad["response"]["allowed"], false);
    let told = bad["response"]["status"]["message"].as_str().unwrap();
    assert!(told.starts_with("spec.steps[0].aggregate[1]: "), "{told}");
}

#[test]
fn one_that_is_wrong_already_can_be_labelled_and_deleted() {
    let labelled = |job: &mut Value| {
        wrong(job);
        job["metadata"]["labels"] = json!({"team": "shop"});
    };
    let answer = asked("UPDATE", job(labelled), job(wrong));
    assert_eq!(answer["response"]["allowed"], true, "{answer}");
    let worse = |job: &mut Value| {
        wrong(job);
        job["spec"]["steps"][0]["from"] = "nothing".into();
    };
    let answer = asked("UPDATE", job(worse), job(wrong));
    assert_eq!(answer["response"]["allowed"], false, "{answer}");
    let answer = asked("DELETE", Value::Null, job(wrong));
    assert_eq!(answer["response"]["allowed"], true, "{answer}");
}

#[test]
fn a_name_may_be_generated() {
    let unnamed = |job: &mut Value| {
        job["metadata"] = json!({"generateName": "revenue-", "namespace": "shop"});
    };
    let answer = asked("CREATE", job(unnamed), Value::Null);
    assert_eq!(answer["response"]["allowed"], true, "{answer}");
}

#[test]
fn a_change_of_the_rows_is_taken_with_a_warning() {
    let longer = |job: &mut Value| {
        job["spec"]["steps"][0]["window"] = json!({"tumbling": {"size": "2m"}});
    };
    let answer = asked("UPDATE", job(longer), job(|_| {}));
    assert_eq!(answer["response"]["allowed"], true, "{answer}");
    let warnings = answer["response"]["warnings"].to_string();
    assert!(warnings.contains("UpgradeBlocked"), "{warnings}");
    let more = |job: &mut Value| job["spec"]["replicas"] = 3.into();
    let answer = asked("UPDATE", job(more), job(|_| {}));
    assert_eq!(answer["response"]["warnings"], Value::Null, "{answer}");
}
