//! What is applied is restricted, owned, and changes only when it must.

use std::collections::BTreeMap;

use streamjob_crds::Place;

use super::*;

const REVENUE: &str = include_str!("../../../manifests/samples/kafka-revenue.yaml");

fn revenue() -> Job {
    let document: Value = serde_yaml::from_str(REVENUE).unwrap();
    Job {
        namespace: "shop".into(),
        name: "revenue".into(),
        uid: "0815".into(),
        spec: serde_json::from_value(document["spec"].clone()).unwrap(),
    }
}

fn decisions() -> Decisions {
    let place = Place {
        pod: "revenue-0".into(),
        term: 7,
        from: None,
    };
    Decisions {
        image: Image {
            name: "streamjob:1".into(),
            pull_policy: None,
        },
        pods: 2,
        placement: Placement {
            slots: BTreeMap::from([(0, place)]),
        },
    }
}

fn of_kind<'a>(plan: &'a [Value], kind: &str) -> &'a Value {
    plan.iter().find(|object| object["kind"] == kind).unwrap()
}

#[test]
fn all_belongs_to_the_job() {
    for object in plan(&revenue(), &decisions()) {
        let owner = &object["metadata"]["ownerReferences"][0];
        assert_eq!(owner["uid"], "0815", "{object}");
        assert_eq!(owner["controller"], true);
        assert_eq!(object["metadata"]["labels"][names::JOB_LABEL], "revenue");
        assert_eq!(object["metadata"]["namespace"], "shop");
    }
}

#[test]
fn pods_are_restricted_whatever_the_template_says() {
    let mut job = revenue();
    job.spec.pod_template = Some(json!({"spec": {
        "securityContext": {"runAsNonRoot": false},
        "containers": [{"name": "worker", "securityContext": {"allowPrivilegeEscalation": true}}],
        "nodeSelector": {"disk": "ssd"},
    }}));
    let plan = plan(&job, &decisions());
    let pod = &of_kind(&plan, "StatefulSet")["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        pod["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    let container = &pod["containers"][0]["securityContext"];
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["readOnlyRootFilesystem"], true);
    assert_eq!(container["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(pod["nodeSelector"]["disk"], "ssd");
}

#[test]
fn secrets_are_mounted_by_name_and_never_read() {
    let plan = plan(&revenue(), &decisions());
    let pod = &of_kind(&plan, "StatefulSet")["spec"]["template"]["spec"];
    let mounted: Vec<&str> = pod["containers"][0]["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|mount| {
            mount["mountPath"]
                .as_str()?
                .strip_prefix("/etc/streamjob/secrets/")
        })
        .collect();
    assert_eq!(mounted, ["kafka-ca", "kafka-user", "s3"]);
    let rules = &of_kind(&plan, "Role")["rules"];
    assert_eq!(rules.as_array().unwrap().len(), 1);
    assert_eq!(rules[0]["resources"], json!(["configmaps"]));
    assert_eq!(rules[0]["resourceNames"], json!(["revenue-placement"]));
}

#[test]
fn scaling_starts_no_pod_anew_and_a_changed_step_does() {
    let template = |job: &Job| {
        let plan = plan(job, &decisions());
        of_kind(&plan, "StatefulSet")["spec"]["template"].clone()
    };
    let before = revenue();
    let mut scaled = before.clone();
    scaled.spec.replicas = Some(7);
    assert_eq!(template(&before), template(&scaled));
    let mut changed = before.clone();
    changed.spec.steps[0].having = None;
    assert_ne!(template(&before), template(&changed));
}

#[test]
fn the_worker_reads_the_job_that_the_user_wrote() {
    let plan = plan(&revenue(), &decisions());
    let configs: Vec<&Value> = plan
        .iter()
        .filter(|object| object["kind"] == "ConfigMap")
        .collect();
    let text = configs[0]["data"][names::JOB_KEY].as_str().unwrap();
    let (manifest, _) = streamjob_core::manifest::validate(text).unwrap();
    assert_eq!(manifest.job.spec.steps, revenue().spec.steps);
    let placed = configs[1]["data"][PLACEMENT_KEY].as_str().unwrap();
    assert_eq!(Placement::parse(placed).unwrap(), decisions().placement);
}

#[test]
fn names_fit_the_longest_job() {
    let job = "j".repeat(52);
    for name in [
        placement_name(&job),
        names::job_config(&job),
        names::service(&job),
        names::account(&job),
        names::pod(&job, 1023),
    ] {
        assert!(name.len() <= 63, "{name}");
    }
}
