//! Snapshots: each is taken once, by a task, while the job's workers are stopped. The job's own reconciliation stops them as long as
//! [`turn`] names a snapshot; here it is seen that they have ended, the task is made, and what becomes of it is told.

pub mod deletion;

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::runtime::reflector::ObjectRef;
use serde_json::{Value, json};
use streamjob_core::manifest;
use streamjob_core::plan::JournalPlan;
use streamjob_crds::{StreamJobSpec, StreamSnapshotStatus};

use crate::cluster::{self, Cluster, SNAPSHOT};
use crate::controller::{Error, Operator};
use crate::events::publish;
use crate::plan::{Job, owned_by, whole_text};
use crate::status::{Told, conditions};
use crate::task::{Owner, Progress, Task};
use crate::upgrade::as_it_runs;
use crate::{apply, finalizer, names, observe, placement, probe};

pub const READY: &str = "Ready";
pub const FAILED: &str = "Failed";
/// How long it may take.
const SECONDS: u64 = 900;
/// Before one that waits for its job is looked at again.
const OFTEN: std::time::Duration = probe::EVERY;

pub async fn reconcile(
    object: Arc<DynamicObject>,
    operator: Arc<Operator>,
) -> Result<Action, Error> {
    let _timer = operator.metrics.reconciled();
    let now = Timestamp::now();
    if object.metadata.deletion_timestamp.is_some() {
        return deletion::go_on(&object, &operator, now).await; // I/O
    }
    finalizer::keep(&operator.cluster, SNAPSHOT, &object)
        .await
        .map_err(Error::finalizer)?; // I/O
    let before = status_of(&object);
    if is_over(&before) {
        return Ok(Action::await_change());
    }
    let mut stage = look(&operator, &object, &before, now);
    if let Stage::Begins(beginning) = &stage {
        match begin(&operator, &object, beginning).await {
            // The job must not wait for what will not come.
            Err(error) if error.is_final() => {
                stage = Stage::Failed("NotTaken", error.to_string());
            }
            begun => begun?,
        }
    }
    let status = status(&object, &before, &stage, now); // pure
    report(&operator, &object, &before, &status).await?; // I/O
    let told = match &stage {
        Stage::Taken => Some((EventType::Normal, "Taken", status.location.clone())),
        Stage::Failed(_, why) => Some((EventType::Warning, "Failed", Some(why.clone()))),
        _ => None,
    };
    if let Some((kind, reason, note)) = told {
        publish(
            &operator.events,
            SNAPSHOT,
            &object,
            kind,
            reason,
            note.unwrap_or_default(),
        )
        .await; // I/O
    }
    Ok(match is_over(&status) {
        true => Action::await_change(),
        false => Action::requeue(OFTEN),
    })
}

/// How far a snapshot is.
enum Stage {
    /// For what: reason and message.
    Waits(&'static str, String),
    Begins(Box<Beginning>),
    Stores(String),
    Taken,
    /// For good: reason and message.
    Failed(&'static str, String),
}

/// All that taking it needs.
struct Beginning {
    job: Job,
    task: Task,
    config: Value,
    location: String,
}

fn look(
    operator: &Operator,
    object: &DynamicObject,
    before: &StreamSnapshotStatus,
    now: Timestamp,
) -> Stage {
    let cluster = &operator.cluster;
    let owner = owner(object);
    match crate::task::progress(cluster, &owner, &names::take_task(&owner.name)) {
        // Without a place it was another one's.
        Progress::Done if before.location.is_some() => return Stage::Taken,
        Progress::Failed(why) => {
            let hint = "the job goes on as before; to try again, make another StreamSnapshot";
            return Stage::Failed("NotTaken", format!("{why}\n{hint}"));
        }
        Progress::Runs(trouble) => {
            let told = trouble.map_or_else(
                || "the state is stored; the job's workers wait for it".to_owned(),
                |trouble| format!("it is tried again: {trouble}"),
            );
            return Stage::Stores(told);
        }
        Progress::Done | Progress::NotBegun => {}
    }
    match beginning(operator, object, now) {
        Ok(beginning) => Stage::Begins(Box::new(beginning)),
        Err(stage) => stage,
    }
}

/// What stands in the way is another stage.
fn beginning(
    operator: &Operator,
    object: &DynamicObject,
    now: Timestamp,
) -> Result<Beginning, Stage> {
    let cluster = &operator.cluster;
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let job_name = job_of(object);
    let waits = |reason, message: String| Err(Stage::Waits(reason, message));
    let key = ObjectRef::new_with(&job_name, cluster::jobs()).within(&namespace);
    let job = operator.jobs.get(&key);
    let Some(job) = job.filter(|job| job.metadata.deletion_timestamp.is_none()) else {
        let told = format!("there is no StreamJob `{job_name}` in the namespace {namespace}");
        return waits("JobNotFound", told);
    };
    let running = observe::running(cluster, &namespace, &job_name);
    let placed = observe::placed(cluster, &namespace, &job_name).unwrap_or_default();
    let Some(running) = running.filter(|_| !placed.slots.is_empty()) else {
        let told = "the job has not run yet: there is no state to keep";
        return waits("NothingToKeep", told.to_owned());
    };
    let kafka =
        manifest::validate(&running).is_ok_and(|(_, plan)| plan.journal != JournalPlan::File);
    let spec = as_it_runs(&job.data["spec"], &running).filter(|_| kafka);
    let Some(spec) = spec else {
        let told = "the job has no Kafka: its journal and its state are in its pod, and go with it";
        return Err(Stage::Failed("NotSupported", told.to_owned()));
    };
    if is_invalid(&job) {
        let told = "the job is changed and cannot run as it is written now (see its condition Valid): set it right, and the snapshot is taken";
        return waits("JobInvalid", told.to_owned());
    }
    match turn(cluster, &namespace, &job_name) {
        Some(first) if first != name => {
            return waits(
                "Queued",
                format!("the snapshot `{first}` of the job comes first"),
            );
        }
        _ => {}
    }
    if let Some(told) = observe::draining(cluster, &namespace, &job_name, now) {
        return waits("Draining", told);
    }
    let owner = owner(object);
    let stored_as = stored_as(&owner);
    let Some(location) = location(&spec, &stored_as) else {
        let told = "the job's `checkpoint.storage` names no S3 connection";
        return Err(Stage::Failed("NotSupported", told.to_owned()));
    };
    let job = Job {
        namespace,
        name: job_name,
        uid: job.uid().unwrap_or_default(),
        spec,
    };
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let term = placement::above(&placed, seconds);
    let mut arguments = vec!["--uid".to_owned(), job.uid.clone()];
    arguments.extend(["--name".to_owned(), stored_as]);
    arguments.extend(["--term".to_owned(), term.to_string()]);
    Ok(Beginning {
        task: Task {
            name: names::take_task(&owner.name),
            account: Some(names::account(&job.name)),
            config: names::snapshot_config(&owner.name),
            command: "snapshot",
            arguments,
            seconds: SECONDS,
            owner: owner.clone(),
        },
        config: config(&owner, &job),
        location,
        job,
    })
}

/// The job as it was: whoever deletes the snapshot later needs its connections and the names of its Secrets.
fn config(owner: &Owner, job: &Job) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": names::snapshot_config(&owner.name),
            "namespace": owner.namespace,
            "labels": names::task_labels(owner.kind, &owner.name),
            "ownerReferences": [owned_by(owner.kind, &owner.name, &owner.uid)],
        },
        "data": {names::JOB_KEY: whole_text(job)},
    })
}

async fn begin(
    operator: &Operator,
    object: &DynamicObject,
    beginning: &Beginning,
) -> Result<(), Error> {
    let Beginning {
        job, task, config, ..
    } = beginning;
    let cluster = &operator.cluster;
    apply::apply(cluster, &owner(object).uid, std::slice::from_ref(config)).await?;
    task.start(cluster, &job.spec, &operator.image)
        .await
        .map_err(Error::task)
}

fn status(
    object: &DynamicObject,
    before: &StreamSnapshotStatus,
    stage: &Stage,
    now: Timestamp,
) -> StreamSnapshotStatus {
    let generation = object.metadata.generation;
    let mut status = StreamSnapshotStatus {
        observed_generation: generation,
        ..before.clone()
    };
    let no = |reason: &str, message: &str| vec![Told::new(READY, false, reason, message)];
    let told = match stage {
        Stage::Waits(reason, message) => no(reason, message),
        Stage::Begins(beginning) => {
            status.location = Some(beginning.location.clone());
            status.job_uid = Some(beginning.job.uid.clone());
            no(
                "Storing",
                "the state is stored; the job's workers wait for it",
            )
        }
        Stage::Stores(message) => no("Storing", message),
        Stage::Taken => {
            status.taken_at = Some(Time(now));
            let told = "it is there: a new job with `restoreFrom` goes on from it";
            vec![Told::new(READY, true, "Taken", told)]
        }
        Stage::Failed(reason, message) => {
            let mut told = no(reason, message);
            told.push(Told::new(FAILED, true, reason, message.as_str()));
            told
        }
    };
    status.conditions = conditions(&before.conditions, told, generation, now);
    status
}

async fn report(
    operator: &Operator,
    object: &DynamicObject,
    before: &StreamSnapshotStatus,
    status: &StreamSnapshotStatus,
) -> Result<(), Error> {
    if status == before {
        return Ok(());
    }
    let body = json!({
        "apiVersion": "streamjob.dev/v1alpha1",
        "kind": SNAPSHOT,
        "metadata": {"name": object.name_any()},
        "status": status,
    });
    let namespace = object.namespace().unwrap_or_default();
    let api = operator.cluster.api_of(SNAPSHOT, &namespace);
    let params = PatchParams::apply(names::MANAGER).force();
    api.patch_status(&object.name_any(), &params, &Patch::Apply(&body))
        .await
        .map_err(|error| Error::Status(Box::new(error)))?;
    Ok(())
}

/// The snapshot for which the job's workers are stopped now. One comes after the other.
pub fn turn(cluster: &Cluster, namespace: &str, job: &str) -> Option<String> {
    let waits = |object: &DynamicObject| {
        job_of(object) == job
            && object.metadata.deletion_timestamp.is_none()
            && !is_over(&status_of(object))
    };
    let waiting = cluster.select(SNAPSHOT, namespace, waits);
    let first = waiting.into_iter().min_by_key(|object| {
        let made = object.metadata.creation_timestamp.as_ref();
        (made.map(|made| made.0), object.name_any())
    });
    Some(first?.name_any())
}

/// A snapshot of the job whose task runs.
pub fn being_taken(cluster: &Cluster, namespace: &str, job: &str) -> Option<String> {
    let runs = |object: &DynamicObject| {
        let owner = owner(object);
        let task = names::take_task(&owner.name);
        job_of(object) == job
            && matches!(
                crate::task::progress(cluster, &owner, &task),
                Progress::Runs(_)
            )
    };
    let running = cluster.select(SNAPSHOT, namespace, runs);
    Some(running.first()?.name_any())
}

/// Whether it is there, or never will be.
fn is_over(status: &StreamSnapshotStatus) -> bool {
    let holds = |kind| condition(status, kind).is_some_and(|told| told.status == "True");
    holds(READY) || holds(FAILED)
}

pub fn condition<'a>(status: &'a StreamSnapshotStatus, kind: &str) -> Option<&'a Condition> {
    let mut conditions = status.conditions.iter();
    conditions.find(|condition| condition.type_ == kind)
}

/// A status that cannot be read is written anew.
pub fn status_of(object: &DynamicObject) -> StreamSnapshotStatus {
    serde_json::from_value(object.data["status"].clone()).unwrap_or_default()
}

pub fn job_of(object: &DynamicObject) -> String {
    let name = object.data["spec"]["jobRef"]["name"].as_str();
    name.unwrap_or_default().to_owned()
}

fn is_invalid(job: &DynamicObject) -> bool {
    let mut conditions = job.data["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten();
    conditions.any(|told| told["type"] == "Valid" && told["status"] == "False")
}

/// Where a snapshot of this name is, in a job's checkpoint storage.
pub fn location(spec: &StreamJobSpec, stored_as: &str) -> Option<String> {
    let storage = spec.checkpoint.storage.as_ref()?.s3.as_ref()?;
    let mut named = spec
        .connections
        .iter()
        .filter(|one| one.name == storage.connection);
    let bucket = &named.find_map(|one| one.s3.as_ref())?.bucket;
    Some(format!(
        "s3://{bucket}/{}snapshots/{stored_as}",
        storage.prefix
    ))
}

fn owner(object: &DynamicObject) -> Owner {
    Owner {
        kind: SNAPSHOT,
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
    }
}

/// What it is called in the storage: another StreamSnapshot of the same name is another one.
fn stored_as(owner: &Owner) -> String {
    format!("{}-{}", owner.name, owner.uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> DynamicObject {
        let object = json!({
            "metadata": {"name": "cut", "namespace": "shop", "uid": "4711", "generation": 1},
            "spec": {"jobRef": {"name": "revenue"}},
        });
        serde_json::from_value(object).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn its_place_is_in_the_jobs_storage_under_a_name_of_its_own() {
        const REVENUE: &str = include_str!("../../manifests/samples/cluster-revenue.yaml");
        let document: Value = serde_yaml::from_str(REVENUE).unwrap();
        let mut spec: StreamJobSpec = serde_json::from_value(document["spec"].clone()).unwrap();
        let stored_as = stored_as(&owner(&snapshot()));
        assert_eq!(
            location(&spec, &stored_as).as_deref(),
            Some("s3://streams/checkpoints/snapshots/cut-4711")
        );
        spec.checkpoint.storage = None;
        assert_eq!(location(&spec, &stored_as), None);
    }

    #[test]
    fn it_is_over_when_it_is_taken_or_has_failed_and_not_before() {
        let object = snapshot();
        let none = StreamSnapshotStatus::default();
        let waits = Stage::Waits("JobNotFound", "there is none".into());
        let waiting = status(&object, &none, &waits, at(1));
        assert!(!is_over(&none) && !is_over(&waiting));
        assert_eq!(condition(&waiting, READY).unwrap().reason, "JobNotFound");
        let taken = status(&object, &waiting, &Stage::Taken, at(2));
        assert!(is_over(&taken));
        assert_eq!(taken.taken_at, Some(Time(at(2))));
        let why = "it ended with code 70: error: slot 1 is done";
        let failed = Stage::Failed("NotTaken", why.into());
        let failed = status(&object, &waiting, &failed, at(2));
        assert!(is_over(&failed));
        assert_eq!(condition(&failed, READY).unwrap().status, "False");
        assert_eq!(condition(&failed, FAILED).unwrap().message, why);
    }
}
