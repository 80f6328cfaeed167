//! The end of a snapshot with `deletionPolicy: Delete`: a task deletes its objects, then the StreamSnapshot may go. It never waits for
//! ever: what is not deleted in time stays, and an event says so.

use k8s_openapi::jiff::Timestamp;
use kube::core::DynamicObject;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use streamjob_core::manifest;
use streamjob_crds::StreamJobSpec;

use super::{OFTEN, owner, status_of, stored_as};
use crate::cluster::SNAPSHOT;
use crate::controller::{Error, Operator};
use crate::events::publish;
use crate::task::{Progress, Task, progress};
use crate::{finalizer, names};

/// How long it may take.
const SECONDS: i64 = 120;

pub async fn go_on(
    object: &DynamicObject,
    operator: &Operator,
    now: Timestamp,
) -> Result<Action, Error> {
    if !finalizer::is_on(object) {
        return Ok(Action::await_change());
    }
    let asked = object.metadata.deletion_timestamp.as_ref();
    let late = asked.is_some_and(|asked| asked.0.as_second() + SECONDS < now.as_second());
    let left = match next(object, operator) {
        Next::Over(left) => left,
        Next::Waits(what) if late => Some(format!("not within {SECONDS} s: {what}")),
        Next::Waits(_) => return Ok(Action::requeue(OFTEN)),
        Next::Begins(..) if late => Some(format!("not within {SECONDS} s")),
        Next::Begins(task, spec) => {
            match task.start(&operator.cluster, &spec, &operator.image).await {
                Ok(()) => return Ok(Action::requeue(OFTEN)),
                Err(error) => Some(error.to_string()),
            }
        }
    };
    if let Some(why) = left {
        let place = status_of(object).location.unwrap_or_default();
        let note = format!("the objects under {place} stay: {why}");
        publish(
            &operator.events,
            SNAPSHOT,
            object,
            EventType::Warning,
            "NotDeleted",
            note,
        )
        .await;
    }
    finalizer::take_off(&operator.cluster, SNAPSHOT, object)
        .await
        .map_err(Error::finalizer)?;
    Ok(Action::await_change())
}

enum Next {
    /// What is left, and why.
    Over(Option<String>),
    Waits(String),
    Begins(Box<Task>, Box<StreamJobSpec>),
}

fn next(object: &DynamicObject, operator: &Operator) -> Next {
    let cluster = &operator.cluster;
    let owner = owner(object);
    let name = names::discard_task(&owner.name);
    match progress(cluster, &owner, &name) {
        Progress::Done => return Next::Over(None),
        Progress::Failed(why) => return Next::Over(Some(why)),
        Progress::Runs(trouble) => {
            return Next::Waits(trouble.unwrap_or_else(|| "they are being deleted".into()));
        }
        Progress::NotBegun => {}
    }
    // It has never come to a place.
    if status_of(object).location.is_none() {
        return Next::Over(None);
    }
    if let Progress::Runs(_) = progress(cluster, &owner, &names::take_task(&owner.name)) {
        return Next::Waits("it is still being taken".into());
    }
    let config = names::snapshot_config(&owner.name);
    let text = cluster.get("ConfigMap", &owner.namespace, &config);
    let text =
        text.and_then(|config| Some(config.data["data"][names::JOB_KEY].as_str()?.to_owned()));
    let read = text.and_then(|text| manifest::validate(&text).ok());
    let Some((manifest, _)) = read else {
        return Next::Over(Some(format!(
            "the ConfigMap `{config}` is gone, which says how the storage is reached"
        )));
    };
    let arguments = vec!["--snapshot".to_owned(), stored_as(&owner)];
    let task = Task {
        name,
        // The job's own may be gone.
        account: None,
        config,
        command: "forget",
        arguments,
        seconds: SECONDS.unsigned_abs(),
        owner,
    };
    Next::Begins(Box::new(task), Box::new(manifest.job.spec))
}
