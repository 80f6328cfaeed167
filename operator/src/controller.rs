//! What is done for a job, again and again: [`reconcile`] is the table of contents.
//!
//! A job is looked at when it or something of it changes, and once a second while it has workers: they are asked how they
//! are. A steady job costs no call to the cluster.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::runtime::controller::Action;
use kube::runtime::events::{EventType, Recorder};
use kube::runtime::reflector::Store;
use serde_json::json;
use streamjob_core::problem::Problem;
use streamjob_crds::{Placement, StepChange, StreamJobStatus};

use crate::apply::{ApplyError, apply};
use crate::cluster::Cluster;
use crate::decide::{Decided, Fleet, Hold, decide};
use crate::metrics::Metrics;
use crate::plan::pod::Image;
use crate::plan::{Decisions, Job, plan};
use crate::probe::{self, Probes};
use crate::restore::{self, Restore};
use crate::status::{self, Facts};
use crate::upgrade::{Judged, judge};
use crate::validate::{self, Valid, validate};
use crate::{autoscale, deletion, events, finalizer, names, observe, snapshot};

/// A job without workers is looked at this often, should an event have been missed.
const RARELY: Duration = Duration::from_secs(60);
/// Figures that always move are written this often.
const FIGURES: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error("the ConfigMap `{name}` holds no placement: {error}")]
    Placement {
        name: String,
        error: serde_json::Error,
    },
    #[error("cannot set the number of workers: {0}")]
    Scale(Box<kube::Error>),
    #[error("cannot write the status: {0}")]
    Status(Box<kube::Error>),
    #[error("cannot write the finalizer: {0}")]
    Finalizer(Box<kube::Error>),
    #[error("cannot make a Job: {0}")]
    Task(Box<kube::Error>),
}

impl Error {
    pub fn finalizer(error: kube::Error) -> Self {
        Error::Finalizer(Box::new(error))
    }

    pub fn task(error: kube::Error) -> Self {
        Error::Task(Box::new(error))
    }

    /// Whether the cluster would say the same another time.
    pub fn is_final(&self) -> bool {
        match self {
            Error::Apply(ApplyError::Foreign { .. }) => true,
            Error::Task(error) => match &**error {
                kube::Error::Api(status) => matches!(status.code, 400..=408 | 410..=428),
                _ => false,
            },
            _ => false,
        }
    }
}

/// What every reconciliation works with.
pub struct Operator {
    pub cluster: Cluster,
    /// All jobs, as they were last seen.
    pub jobs: Store<DynamicObject>,
    /// What pods run.
    pub image: Image,
    pub events: Recorder,
    pub metrics: Metrics,
    memories: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Memory>>>>,
}

/// What is known of a job beyond what the cluster holds. It may be lost: it is measured and asked for anew.
#[derive(Default)]
struct Memory {
    validated: Option<Validated>,
    judged: Option<Comparison>,
    probes: Probes,
    autoscaler: autoscale::Memory,
    figures_written: Option<Instant>,
}

/// What planning a generation of the job has come to.
struct Validated {
    generation: Option<i64>,
    outcome: Result<Valid, Vec<Problem>>,
}

/// What comparing a generation of the job with the running one has come to.
struct Comparison {
    generation: Option<i64>,
    running: String,
    judged: Judged,
}

impl Operator {
    pub fn new(
        cluster: Cluster,
        jobs: Store<DynamicObject>,
        image: Image,
        events: Recorder,
        metrics: Metrics,
    ) -> Self {
        Operator {
            cluster,
            jobs,
            image,
            events,
            metrics,
            memories: Mutex::default(),
        }
    }

    fn memory(&self, object: &DynamicObject) -> Arc<tokio::sync::Mutex<Memory>> {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        memories
            .entry(object.uid().unwrap_or_default())
            .or_default()
            .clone()
    }

    fn forget(&self, object: &DynamicObject) {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        memories.remove(&object.uid().unwrap_or_default());
    }
}

pub async fn reconcile(
    object: Arc<DynamicObject>,
    operator: Arc<Operator>,
) -> Result<Action, Error> {
    let _timer = operator.metrics.reconciled();
    let before = status_of(&object);
    let now = Timestamp::now();
    if object.metadata.deletion_timestamp.is_some() {
        return end(&operator, &object, &before, now).await; // I/O
    }
    finalizer::keep(&operator.cluster, "StreamJob", &object)
        .await
        .map_err(Error::finalizer)?; // I/O
    let memory = operator.memory(&object);
    let mut memory = memory.lock().await;
    let mut valid = match memory.validated(&object) {
        Ok(valid) => valid,
        Err(problems) => return refuse(&operator, &object, &before, &problems, now).await, // I/O
    };
    let Job {
        namespace, name, ..
    } = valid.job.clone();
    let placed = observe::placed(&operator.cluster, &namespace, &name)?;
    let mut seen = observe::workers(&operator.cluster, &namespace, &name);
    memory.probes.ask(&mut seen).await; // I/O
    let has_run = !placed.slots.is_empty();
    let mut restore = restore::look(&operator.cluster, &valid.job, &before, has_run);
    let judged = memory.judged(&operator.cluster, &valid.job, &placed);
    let hold = hold(
        &operator.cluster,
        &valid,
        &placed,
        restore.as_ref(),
        &judged,
        now,
    );
    let (job, blocked_by, steps) = may_run(judged, hold.as_ref());
    valid.job = job;
    let fleet = Fleet {
        placed: &placed,
        seen: &seen,
        stopped: observe::Fleet::of(&operator.cluster, &namespace, &name)
            .is_some_and(|fleet| fleet.is_stopped()),
        held: hold.is_some(),
    };
    let decided = decide(&valid, &before, &fleet, &mut memory.autoscaler, now); // pure
    scale(&operator, &valid.job, &decided).await?; // I/O
    let decisions = Decisions {
        image: operator.image.clone(),
        pods: decided.pods,
        placement: decided.placement.clone(),
    };
    let plan = plan(&valid.job, &decisions); // pure
    if let Err(error) = apply(&operator.cluster, &valid.job.uid, &plan).await {
        return blocked(&operator, &object, &before, error, now).await; // I/O
    }
    if let Some(restore) = &mut restore {
        restore.go_on(&operator, &valid.job).await; // I/O
    }
    let facts = Facts {
        job: &valid.job.name,
        generation: object.metadata.generation,
        suspend: valid.job.spec.suspend,
        desired: decided.desired,
        placement: &decided.placement,
        workers: &seen,
        warnings: validate::told(&valid.warnings),
        scaled: decided.scaled.clone(),
        limit: decided.limit.clone(),
        blocked: blocked_by,
        steps,
        hold: hold.clone(),
        restored: restore.map(|restore| restore.told),
        now,
    };
    let status = status::status(&before, &facts); // pure
    report(&operator, &object, &before, &status, Some(&mut memory)).await?; // I/O
    events::tell(&operator.events, &object, &placed, &decided).await; // I/O
    for (type_, reason, note) in status::news(&before, &status) {
        events::publish(&operator.events, "StreamJob", &object, type_, reason, note).await; // I/O
    }
    let busy = !seen.is_empty() || decided.pods > 0 || hold.is_some();
    Ok(Action::requeue(if busy { probe::EVERY } else { RARELY }))
}

/// Why the job is to have no workers for the time being.
fn hold(
    cluster: &Cluster,
    valid: &Valid,
    placed: &Placement,
    restore: Option<&Restore>,
    judged: &Judged,
    now: Timestamp,
) -> Option<Hold> {
    let Job {
        namespace, name, ..
    } = &valid.job;
    if let Some(restore) = restore.filter(|restore| !restore.is_done()) {
        return Some(Hold {
            reason: "Restoring",
            message: format!("see the condition Restored: {}", restore.told.message),
        });
    }
    // Without slots nobody has made state, and without Kafka it is in the pod.
    let has_state = !placed.slots.is_empty() && !valid.one_worker;
    let snapshot = snapshot::turn(cluster, namespace, name).filter(|_| has_state);
    if let Some(snapshot) = snapshot {
        return Some(Hold {
            reason: "Snapshot",
            message: format!("the workers are stopped while the snapshot `{snapshot}` is taken"),
        });
    }
    let Judged::After(_) = judged else {
        return None;
    };
    let draining = observe::draining(cluster, namespace, name, now)?;
    Some(Hold {
        reason: status::UPGRADING,
        message: format!(
            "the job is changed, and begins again with the state of the steps that stay: {draining}"
        ),
    })
}

/// The job that its workers may read now; why it is not what the user wrote; what becomes of the steps.
fn may_run(judged: Judged, hold: Option<&Hold>) -> (Job, Option<String>, Vec<StepChange>) {
    match judged {
        Judged::Free(job) => (job, None, Vec::new()),
        Judged::Blocked(job, blocked) => (job, Some(blocked.why), blocked.steps),
        Judged::After(passage) => match hold {
            Some(_) => (passage.before, None, passage.steps),
            None => (passage.after, None, passage.steps),
        },
    }
}

/// The end of a job. All that it is made of in the cluster is owned by it, and goes with it.
async fn end(
    operator: &Operator,
    object: &DynamicObject,
    before: &StreamJobStatus,
    now: Timestamp,
) -> Result<Action, Error> {
    match deletion::go_on(object, operator, before, now).await? {
        Ok(action) => {
            operator.forget(object);
            Ok(action)
        }
        Err(waits) => {
            let status = status::ending(before, object.metadata.generation, &waits, now);
            report(operator, object, before, &status, None).await?;
            Ok(Action::requeue(deletion::OFTEN))
        }
    }
}

/// What follows for a job or a snapshot whose reconciliation failed.
pub fn after_error(object: Arc<DynamicObject>, error: &Error, operator: Arc<Operator>) -> Action {
    let stale = matches!(error, Error::Apply(error) if error.is_stale());
    if !stale {
        operator.metrics.errors.inc();
        tracing::warn!(name = object.name_any(), namespace = object.namespace(), %error, "cannot bring it about; it is tried again");
    }
    Action::requeue(Duration::from_secs(if stale { 1 } else { 5 }))
}

impl Memory {
    /// Planning takes a while: once a generation is enough.
    fn validated(&mut self, object: &DynamicObject) -> Result<Valid, Vec<Problem>> {
        let generation = object.metadata.generation;
        match &self.validated {
            Some(known) if known.generation == generation => known.outcome.clone(),
            _ => {
                let outcome = validate(object);
                self.validated = Some(Validated {
                    generation,
                    outcome: outcome.clone(),
                });
                outcome
            }
        }
    }
}

impl Memory {
    /// What may run of a changed job. Comparing takes a while: once is enough.
    fn judged(&mut self, cluster: &Cluster, job: &Job, placed: &Placement) -> Judged {
        let running = observe::running(cluster, &job.namespace, &job.name);
        // Without slots nobody has made state.
        let Some(running) = running.filter(|_| !placed.slots.is_empty()) else {
            return Judged::Free(job.clone());
        };
        let generation = self.validated.as_ref().and_then(|known| known.generation);
        let known = self
            .judged
            .as_ref()
            .filter(|known| known.generation == generation && known.running == running);
        let judged = match known {
            Some(known) => known.judged.clone(),
            None => judge(job, Some(&running)),
        };
        self.judged = Some(Comparison {
            generation,
            running,
            judged: judged.clone(),
        });
        judged
    }
}

/// The autoscaler writes what `kubectl scale` writes.
async fn scale(operator: &Operator, job: &Job, decided: &Decided) -> Result<(), Error> {
    let applied = decided.scaled.as_ref().filter(|scaled| scaled.applied);
    let Some(scaled) = applied else { return Ok(()) };
    tracing::info!(
        job = job.name,
        from = scaled.from,
        to = scaled.to,
        scaled.message,
        "scaling"
    );
    let api = operator.cluster.api_of("StreamJob", &job.namespace);
    let body = json!({"spec": {"replicas": scaled.to}});
    api.patch_scale(&job.name, &PatchParams::default(), &Patch::Merge(&body))
        .await
        .map_err(|error| Error::Scale(Box::new(error)))?;
    Ok(())
}

async fn refuse(
    operator: &Operator,
    object: &DynamicObject,
    before: &StreamJobStatus,
    problems: &[Problem],
    now: Timestamp,
) -> Result<Action, Error> {
    let told = validate::told(problems);
    let status = status::invalid(before, object.metadata.generation, &told, now);
    if report(operator, object, before, &status, None).await? {
        events::publish(
            &operator.events,
            "StreamJob",
            object,
            EventType::Warning,
            "Invalid",
            told,
        )
        .await;
    }
    Ok(Action::await_change())
}

/// What stands in the way is told in the status, unless it passes by itself.
async fn blocked(
    operator: &Operator,
    object: &DynamicObject,
    before: &StreamJobStatus,
    error: ApplyError,
    now: Timestamp,
) -> Result<Action, Error> {
    if !error.is_stale() {
        let reason = match error {
            ApplyError::Foreign { .. } => "NameTaken",
            ApplyError::Refused { .. } => "NotApplied",
        };
        let generation = object.metadata.generation;
        let status = status::blocked(before, generation, reason, &error.to_string(), now);
        report(operator, object, before, &status, None).await?;
    }
    Err(error.into())
}

/// Writes the status if it says something new. Figures alone are written now and then.
async fn report(
    operator: &Operator,
    object: &DynamicObject,
    before: &StreamJobStatus,
    status: &StreamJobStatus,
    memory: Option<&mut Memory>,
) -> Result<bool, Error> {
    let written = memory.as_ref().and_then(|memory| memory.figures_written);
    let recent = written.is_some_and(|at| at.elapsed() < FIGURES);
    if status == before || (recent && status::only_figures_differ(before, status)) {
        return Ok(false);
    }
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let body = json!({
        "apiVersion": "streamjob.dev/v1alpha1",
        "kind": "StreamJob",
        "metadata": {"name": name},
        "status": status,
    });
    let api = operator.cluster.api_of("StreamJob", &namespace);
    let params = PatchParams::apply(names::MANAGER).force();
    api.patch_status(&name, &params, &Patch::Apply(&body))
        .await
        .map_err(|error| Error::Status(Box::new(error)))?;
    if let Some(memory) = memory {
        memory.figures_written = Some(Instant::now());
    }
    Ok(true)
}

/// What the last look at the job reported. A status that cannot be read is written anew.
fn status_of(object: &DynamicObject) -> StreamJobStatus {
    serde_json::from_value(object.data["status"].clone()).unwrap_or_default()
}
