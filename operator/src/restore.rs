//! `restoreFrom`: a new job gets a snapshot's state before it has workers.

use streamjob_crds::{StreamJobStatus, StreamSnapshotStatus};

use crate::cluster::Cluster;
use crate::controller::{Error, Operator};
use crate::names;
use crate::plan::Job;
use crate::snapshot;
use crate::status::{RESTORED, Told};
use crate::task::{KEPT_SECONDS, Owner, Progress, Task};

/// How long it may take.
const SECONDS: u64 = 900;

/// How far a job is with it.
pub struct Restore {
    /// The condition.
    pub told: Told,
    /// What is to be done now.
    pub task: Option<Task>,
}

impl Restore {
    /// Whether there may be workers.
    pub fn is_done(&self) -> bool {
        self.told.holds
    }

    /// Does what is to be done now. What the cluster has against it is told: it is tried again.
    pub async fn go_on(&mut self, operator: &Operator, job: &Job) {
        let Some(task) = &self.task else { return };
        let started = task.start(&operator.cluster, &job.spec, &operator.image);
        if let Err(error) = started.await {
            self.told.message = format!("it is tried again: {}", Error::task(error));
        }
    }
}

/// `None`: the job begins as any other. `has_run`: it has had slots.
pub fn look(
    cluster: &Cluster,
    job: &Job,
    before: &StreamJobStatus,
    has_run: bool,
) -> Option<Restore> {
    let name = &job.spec.restore_from.as_ref()?.snapshot;
    let task = task(job, String::new());
    let mut conditions = before.conditions.iter();
    let known = conditions.find(|known| known.type_ == RESTORED && known.status == "True");
    let done = format!("the job goes on where the snapshot `{name}` was taken");
    if let Some(known) = known {
        return Some(told(true, &known.reason, known.message.clone()));
    }
    if has_run {
        return Some(told(true, "Restored", done));
    }
    Some(match task.progress(cluster) {
        Progress::Done => told(true, "Restored", done),
        Progress::Runs(None) => told(
            false,
            "Restoring",
            format!("the state of the snapshot `{name}` is copied"),
        ),
        Progress::Runs(Some(trouble)) => {
            told(false, "Restoring", format!("it is tried again: {trouble}"))
        }
        Progress::Failed(why) => told(
            false,
            "Failed",
            format!(
                "the state of the snapshot `{name}` could not be made this job's; it is tried again in {KEPT_SECONDS} s. {why}"
            ),
        ),
        Progress::NotBegun => match found(cluster, job, name) {
            Ok(stored_as) => Restore {
                task: Some(self::task(job, stored_as)),
                ..told(
                    false,
                    "Restoring",
                    format!("the state of the snapshot `{name}` is copied"),
                )
            },
            Err((reason, message)) => told(false, reason, message),
        },
    })
}

fn told(holds: bool, reason: &str, message: String) -> Restore {
    Restore {
        told: Told::new(RESTORED, holds, reason, message),
        task: None,
    }
}

/// What the snapshot is called in the job's checkpoint storage.
fn found(cluster: &Cluster, job: &Job, name: &str) -> Result<String, (&'static str, String)> {
    let Some(object) = cluster.get("StreamSnapshot", &job.namespace, name) else {
        let told = format!(
            "there is no StreamSnapshot `{name}` in the namespace {}: the job waits for it",
            job.namespace
        );
        return Err(("SnapshotNotFound", told));
    };
    let status: StreamSnapshotStatus = snapshot::status_of(&object);
    if let Some(failed) = snapshot::condition(&status, snapshot::FAILED) {
        let told = format!(
            "the snapshot `{name}` has failed, and there is nothing to go on from: {}",
            failed.message
        );
        return Err(("SnapshotFailed", told));
    }
    let ready =
        snapshot::condition(&status, snapshot::READY).filter(|ready| ready.status == "True");
    let (Some(_), Some(location)) = (ready, &status.location) else {
        return Err((
            "SnapshotNotReady",
            format!("the snapshot `{name}` is not ready yet: the job waits for it"),
        ));
    };
    let stored_as = location.rsplit('/').next().unwrap_or_default();
    match snapshot::location(&job.spec, stored_as) {
        Some(here) if here == *location => Ok(stored_as.to_owned()),
        here => Err((
            "OtherStorage",
            format!(
                "the snapshot `{name}` is {location}, but with this job's `checkpoint.storage` it would be {}: use the storage of the job that it was taken of",
                here.unwrap_or_else(|| "nowhere".to_owned())
            ),
        )),
    }
}

fn task(job: &Job, stored_as: String) -> Task {
    Task {
        owner: Owner::job(job),
        name: names::restore_task(&job.name),
        account: Some(names::account(&job.name)),
        config: names::job_config(&job.name),
        command: "restore",
        arguments: vec!["--uid".into(), job.uid.clone(), "--from".into(), stored_as],
        seconds: SECONDS,
    }
}
