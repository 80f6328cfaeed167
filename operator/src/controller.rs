//! What is done for a job, again and again: [`reconcile`] is the table of contents.
//!
//! A job is looked at when it or something of it changes, and once a second while it has workers: they are asked how they
//! are. A steady job costs no call to the cluster.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use streamjob_core::problem::Problem;
use streamjob_crds::{PLACEMENT_KEY, Placement, StreamJobStatus, placement_name};

use crate::apply::{ApplyError, apply};
use crate::cluster::{self, Cluster};
use crate::decide::{Decided, decide};
use crate::metrics::Metrics;
use crate::placement::ordinal;
use crate::plan::{Decisions, Job, plan};
use crate::probe::{self, Probes};
use crate::status::{self, Facts};
use crate::upgrade::{Blocked, Judged, judge};
use crate::validate::{self, Valid, validate};
use crate::workers::Seen;
use crate::{autoscale, names};

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
}

/// What the operator was started with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub image: String,
    pub pull_policy: Option<String>,
}

/// What every reconciliation works with.
pub struct Operator {
    pub cluster: Cluster,
    pub settings: Settings,
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
    pub fn new(cluster: Cluster, settings: Settings, events: Recorder, metrics: Metrics) -> Self {
        Operator {
            cluster,
            settings,
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
    if object.metadata.deletion_timestamp.is_some() {
        // All that the job is made of is owned by it, and goes with it.
        operator.forget(&object);
        return Ok(Action::await_change());
    }
    let memory = operator.memory(&object);
    let mut memory = memory.lock().await;
    let before = status_of(&object);
    let now = Timestamp::now();
    let mut valid = match memory.validated(&object) {
        Ok(valid) => valid,
        Err(problems) => return refuse(&operator, &object, &before, &problems, now).await, // I/O
    };
    let placed = placed(&operator.cluster, &valid.job)?;
    let held_back = memory.held_back(&operator.cluster, &mut valid, &placed);
    let seen = observe(&operator.cluster, &valid.job, &mut memory.probes).await; // I/O
    let decided = decide(&valid, &before, &placed, &seen, &mut memory.autoscaler, now); // pure
    scale(&operator, &valid.job, &decided).await?; // I/O
    let plan = plan(&valid.job, &decisions(&operator.settings, &decided)); // pure
    if let Err(error) = apply(&operator.cluster, &valid.job, &plan).await {
        return blocked(&operator, &object, &before, error, now).await; // I/O
    }
    let facts = facts(&object, &valid, &decided, &seen, &held_back, now);
    let status = status::status(&before, &facts); // pure
    report(&operator, &object, &before, &status, Some(&mut memory)).await?; // I/O
    tell(&operator, &object, &placed, &decided).await; // I/O
    if let Some(why) = held_back.filter(|_| !status::is_blocked(&before)) {
        publish(
            &operator,
            &object,
            EventType::Warning,
            "UpgradeBlocked",
            why.why,
        )
        .await; // I/O
    }
    let busy = !seen.is_empty() || decided.pods > 0;
    Ok(Action::requeue(if busy { probe::EVERY } else { RARELY }))
}

/// What follows for a job whose reconciliation failed.
pub fn after_error(object: Arc<DynamicObject>, error: &Error, operator: Arc<Operator>) -> Action {
    let stale = matches!(error, Error::Apply(error) if error.is_stale());
    if !stale {
        operator.metrics.errors.inc();
        tracing::warn!(job = object.name_any(), namespace = object.namespace(), %error, "cannot bring the job about; it is tried again");
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
    /// Takes out of a job what its state does not allow, and says why. Comparing takes a while: once is enough.
    fn held_back(
        &mut self,
        cluster: &Cluster,
        valid: &mut Valid,
        placed: &Placement,
    ) -> Option<Blocked> {
        let name = names::job_config(&valid.job.name);
        let config = cluster.get("ConfigMap", &valid.job.namespace, &name)?;
        // Without slots nobody has made state.
        let running = config.data["data"][names::JOB_KEY].as_str();
        let running = running.filter(|_| !placed.slots.is_empty())?;
        let generation = self.validated.as_ref()?.generation;
        let known = self
            .judged
            .as_ref()
            .filter(|known| known.generation == generation && known.running == *running);
        let judged = match known {
            Some(known) => known.judged.clone(),
            None => judge(&valid.job, Some(running)),
        };
        valid.job = judged.job.clone();
        let blocked = judged.blocked.clone();
        self.judged = Some(Comparison {
            generation,
            running: running.to_owned(),
            judged,
        });
        blocked
    }
}

/// The job's pods and what their workers say.
async fn observe(cluster: &Cluster, job: &Job, probes: &mut Probes) -> Vec<Seen> {
    let fleet = cluster.get("StatefulSet", &job.namespace, &names::fleet(&job.name));
    let count = |fleet: &DynamicObject| {
        let fields = [
            &fleet.data["spec"]["replicas"],
            &fleet.data["status"]["replicas"],
        ];
        fields.into_iter().filter_map(Value::as_u64).max()
    };
    let most = fleet.as_deref().and_then(count).unwrap_or(0);
    let pods = (0..u32::try_from(most).unwrap_or(0))
        .map(|ordinal| names::pod(&job.name, ordinal))
        .filter_map(|pod| cluster.get("Pod", &job.namespace, &pod));
    let mut seen: Vec<Seen> = pods.map(|pod| Seen::of(&pod)).collect();
    probes.ask(&mut seen).await;
    seen
}

/// The placement that there is.
fn placed(cluster: &Cluster, job: &Job) -> Result<Placement, Error> {
    let name = placement_name(&job.name);
    let Some(config) = cluster.get("ConfigMap", &job.namespace, &name) else {
        return Ok(Placement::default());
    };
    let text = config.data["data"][PLACEMENT_KEY].as_str().unwrap_or("{}");
    Placement::parse(text).map_err(|error| Error::Placement { name, error })
}

fn decisions(settings: &Settings, decided: &Decided) -> Decisions {
    Decisions {
        image: settings.image.clone(),
        pull_policy: settings.pull_policy.clone(),
        pods: decided.pods,
        placement: decided.placement.clone(),
    }
}

fn facts<'a>(
    object: &DynamicObject,
    valid: &'a Valid,
    decided: &'a Decided,
    seen: &'a [Seen],
    blocked: &Option<Blocked>,
    now: Timestamp,
) -> Facts<'a> {
    Facts {
        job: &valid.job.name,
        generation: object.metadata.generation,
        suspend: valid.job.spec.suspend,
        desired: decided.desired,
        placement: &decided.placement,
        workers: seen,
        warnings: validate::told(&valid.warnings),
        scaled: decided.scaled.clone(),
        limit: decided.limit.clone(),
        blocked: blocked.clone(),
        now,
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
        publish(operator, object, EventType::Warning, "Invalid", told).await;
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

/// Events, for what a user would ask about later.
async fn tell(operator: &Operator, object: &DynamicObject, placed: &Placement, decided: &Decided) {
    if let Some(scaled) = &decided.scaled {
        let reason = if scaled.applied {
            "Scaled"
        } else {
            "WouldScale"
        };
        let note = format!(
            "{} to {} workers: {}",
            scaled.from, scaled.to, scaled.message
        );
        publish(operator, object, EventType::Normal, reason, note).await;
    }
    let moved: Vec<String> = decided
        .placement
        .slots
        .iter()
        .filter(|(slot, place)| placed.slots.get(slot) != Some(place))
        .map(|(slot, place)| format!("{slot} to {}", ordinal(&place.pod)))
        .collect();
    if !moved.is_empty() {
        let note = format!("slots to workers {}", moved.join(", "));
        publish(operator, object, EventType::Normal, "SlotsPlaced", note).await;
    }
}

/// An event that cannot be written is no reason not to go on.
async fn publish(
    operator: &Operator,
    object: &DynamicObject,
    type_: EventType,
    reason: &str,
    note: String,
) {
    // What the cluster takes.
    const LONGEST: usize = 1000;
    const LONGEST_ACTION: usize = 100;
    let event = Event {
        type_,
        reason: reason.to_owned(),
        note: Some(note.chars().take(LONGEST).collect()),
        // Events of one reason and action are told as one, with the note of the first: what reads differently is another action.
        action: note
            .split(": ")
            .next()
            .unwrap_or(reason)
            .chars()
            .take(LONGEST_ACTION)
            .collect(),
        secondary: None,
    };
    let reference = object.object_ref(&cluster::jobs());
    if let Err(error) = operator.events.publish(&event, &reference).await {
        tracing::warn!(%error, "cannot write an event");
    }
}

/// What the last look at the job reported. A status that cannot be read is written anew.
fn status_of(object: &DynamicObject) -> StreamJobStatus {
    serde_json::from_value(object.data["status"].clone()).unwrap_or_default()
}
