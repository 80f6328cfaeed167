//! The end of a job with `deletionPolicy: Delete`: its workers commit and end, a task deletes its internal topics and checkpoints,
//! then the StreamJob may go. It never waits for ever: what is not deleted in time stays, and an event says so.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::core::DynamicObject;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use serde_json::Value;
use streamjob_crds::{Duration, StreamJobSpec, StreamJobStatus};

use crate::apply::apply;
use crate::controller::{Error, Operator};
use crate::events::publish;
use crate::plan::{Decisions, Job, plan};
use crate::task::{Owner, Progress, Task, progress};
use crate::upgrade::as_it_runs;
use crate::{finalizer, names, observe, probe, snapshot};

/// Of a job that does not say it in a way that can be read.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is left to do.
pub enum Next {
    /// What stays, and why.
    Over(Option<String>),
    /// For what.
    Waits(String),
    /// The workers run.
    Stops,
    Begins(Box<Task>),
}

/// The next step towards the job's end. `Err`: what it waits for.
pub async fn go_on(
    object: &DynamicObject,
    operator: &Operator,
    before: &StreamJobStatus,
    now: Timestamp,
) -> Result<Result<Action, String>, Error> {
    if !finalizer::is_on(object) {
        return Ok(Ok(Action::await_change()));
    }
    let Some(job) = ending(object, operator) else {
        // It has never run, unless somebody has taken its ConfigMap away.
        let left = (!before.slots.is_empty())
            .then(|| "its ConfigMap is gone, which says how they are reached".to_owned());
        return over(object, operator, left).await.map(Ok);
    };
    let next = next(operator, &job, now);
    let waits = match next {
        Next::Over(left) => return over(object, operator, left).await.map(Ok),
        _ if is_late(object, now) => {
            let what = match next {
                Next::Waits(what) => what,
                _ => "the workers have not ended".to_owned(),
            };
            let left = format!("they were not deleted within `deletionTimeout`: {what}");
            return over(object, operator, Some(left)).await.map(Ok);
        }
        Next::Waits(what) => what,
        Next::Stops => {
            let decisions = Decisions {
                image: operator.image.clone(),
                pods: 0,
                placement: observe::placed(&operator.cluster, &job.namespace, &job.name)?,
            };
            apply(&operator.cluster, &job.uid, &plan(&job, &decisions)).await?;
            "the workers are about to be stopped".to_owned()
        }
        Next::Begins(task) => match task
            .start(&operator.cluster, &job.spec, &operator.image)
            .await
        {
            Ok(()) => DELETING.to_owned(),
            // In a namespace that ends nothing is made any more.
            Err(error) => {
                return over(object, operator, Some(error.to_string()))
                    .await
                    .map(Ok);
            }
        },
    };
    Ok(Err(waits))
}

const DELETING: &str = "internal topics and checkpoints are deleted";
/// Before it is looked at again.
pub const OFTEN: std::time::Duration = probe::EVERY;

/// The job as its workers read it; `None`: they never have.
fn ending(object: &DynamicObject, operator: &Operator) -> Option<Job> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let running = observe::running(&operator.cluster, &namespace, &name)?;
    let spec: StreamJobSpec = as_it_runs(&object.data["spec"], &running)?;
    Some(Job {
        namespace,
        name,
        uid: object.uid().unwrap_or_default(),
        spec,
    })
}

fn next(operator: &Operator, job: &Job, now: Timestamp) -> Next {
    let cluster = &operator.cluster;
    let task = task(job);
    match task.progress(cluster) {
        Progress::Done => return Next::Over(None),
        Progress::Failed(why) => return Next::Over(Some(why)),
        Progress::Runs(trouble) => return Next::Waits(trouble.unwrap_or_else(|| DELETING.into())),
        Progress::NotBegun => {}
    }
    let fleet = observe::Fleet::of(cluster, &job.namespace, &job.name);
    if fleet.is_some_and(|fleet| !fleet.is_stopped()) {
        return Next::Stops;
    }
    if let Some(what) = observe::draining(cluster, &job.namespace, &job.name, now) {
        return Next::Waits(what);
    }
    // Another task would make anew what is deleted under it.
    let restore = progress(cluster, &task.owner, &names::restore_task(&job.name));
    let snapshot = snapshot::being_taken(cluster, &job.namespace, &job.name);
    match (restore, snapshot) {
        (Progress::Runs(_), _) => Next::Waits("a snapshot's state is still being copied".into()),
        (_, Some(name)) => Next::Waits(format!("the snapshot `{name}` is still being taken")),
        _ => Next::Begins(Box::new(task)),
    }
}

fn task(job: &Job) -> Task {
    Task {
        owner: Owner::job(job),
        name: names::forget_task(&job.name),
        account: Some(names::account(&job.name)),
        config: names::job_config(&job.name),
        command: "forget",
        arguments: vec!["--uid".into(), job.uid.clone()],
        seconds: u64::try_from(job.spec.deletion_timeout.as_millis() / 1000)
            .map_or(1, |seconds| seconds.max(1)),
    }
}

fn is_late(object: &DynamicObject, now: Timestamp) -> bool {
    let Some(asked) = &object.metadata.deletion_timestamp else {
        return false;
    };
    let patience: Duration = match &object.data["spec"]["deletionTimeout"] {
        Value::Null => PATIENCE,
        told => serde_json::from_value(told.clone()).unwrap_or(PATIENCE),
    };
    now.duration_since(asked.0) > SignedDuration::from_millis(patience.as_millis())
}

/// Lets the job go.
async fn over(
    object: &DynamicObject,
    operator: &Operator,
    left: Option<String>,
) -> Result<Action, Error> {
    let uid = object.uid().unwrap_or_default();
    let (kind, reason, note) = match left {
        Some(why) => (
            EventType::Warning,
            "StateNotDeleted",
            format!("the topics streamjob-{uid}-* and the checkpoints under {uid}/ stay: {why}"),
        ),
        None => (
            EventType::Normal,
            "StateDeleted",
            format!("the topics streamjob-{uid}-* and the checkpoints under {uid}/ are deleted"),
        ),
    };
    publish(&operator.events, "StreamJob", object, kind, reason, note).await;
    finalizer::take_off(&operator.cluster, "StreamJob", object)
        .await
        .map_err(Error::finalizer)?;
    Ok(Action::await_change())
}
