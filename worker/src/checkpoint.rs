//! Checkpoints: copies of a slot's state at the edge of an epoch, in S3 or a local folder.
//!
//! One checkpoint is a folder of objects, `<prefix><uid>/<slot>/<epoch>-<term>-<incarnation>-<n>/`, whose name no other attempt ever has.
//!
//! 1. The parts are uploaded first, the manifest last, each with a conditional create: nothing is ever overwritten. A create that
//!    finds its object there compares the content: the answer to an earlier try may have been lost.
//! 2. The manifest holds length and SHA-256 of every part, and its own. Reading verifies all of it; what is missing or damaged is
//!    an error of its own kind ([`CheckpointError::is_damage`]), and the caller goes back to the checkpoint before.
//! 3. A checkpoint exists for the job once a committed journal record names its manifest. Storage is never listed, except to forget a job.
//! 4. Deleting takes the manifest last, so that a delete that failed half-way can be made again.
//!
//! Uploads and deletes run on a runtime of their own, a bounded number at a time; the threads of the data path only hand over and
//! ask. A storage that is down costs nothing but age: the caller raises a condition and goes on committing.

pub mod local;
pub mod manifest;
pub mod s3;

use std::collections::VecDeque;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, bounded};
use streamjob_core::commit::record::CheckpointRef;
use streamjob_crds::{S3Connection, StreamJobSpec};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::secrets::Secrets;
use manifest::{Manifest, PartFacts};

/// Objects on their way at once, over all slots of the process.
const CONCURRENCY: usize = 4;
/// Deletes that failed are tried again with the next one; beyond this many the oldest are given up.
const DELETES_KEPT: usize = 1000;

/// A checkpoint's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointData {
    /// Uid of the job.
    pub job: String,
    pub slot: u32,
    pub epoch: u64,
    pub term: u64,
    pub incarnation: String,
    /// The job as it was when the state was made: a replay up to the journal's end runs under it.
    pub plan: String,
    /// Named pieces of state.
    pub parts: Vec<(String, Bytes)>,
}

/// What an upload has achieved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    pub reference: CheckpointRef,
    pub bytes: u64,
    pub took: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("checkpoint {manifest} is damaged: {what}")]
    Damaged { manifest: String, what: String },
    #[error("cannot start the checkpoint threads: {0}")]
    Runtime(std::io::Error),
    #[error("the upload was given up: the worker is ending")]
    Abandoned,
}

impl CheckpointError {
    /// Whether it may pass by itself.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            CheckpointError::Storage(StorageError::Unreachable { .. })
        )
    }

    /// Whether the checkpoint is lost, and the one before it is to be tried. Otherwise the storage is what is wrong.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            CheckpointError::Damaged { .. }
                | CheckpointError::Storage(StorageError::Missing { .. })
        )
    }
}

/// What can be wrong with a storage, by what there is to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// May pass by itself.
    #[error("cannot reach the checkpoint storage {place}: {why}")]
    Unreachable { place: String, why: String },
    /// Will not pass by itself.
    #[error("the checkpoint storage {place} refuses: {why}")]
    Refused { place: String, why: String },
    #[error("{name} is not in the checkpoint storage {place}")]
    Missing { place: String, name: String },
    #[error("{name} is in the checkpoint storage {place} already, with other content")]
    Taken { place: String, name: String },
    #[error("cannot {action} {path}: {error}")]
    Io {
        action: &'static str,
        path: PathBuf,
        error: std::io::Error,
    },
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send + 'a>>;

/// Named objects that are written once.
///
/// A create either stores the whole object durably or stores nothing under the name; an object that is there already with the
/// same content counts as stored. Names are relative, with `/` between the parts.
trait Storage: Send + Sync {
    fn create<'a>(&'a self, name: &'a str, body: Bytes) -> Answer<'a, ()>;
    fn read<'a>(&'a self, name: &'a str) -> Answer<'a, Bytes>;
    /// An object that is not there counts as deleted.
    fn delete<'a>(&'a self, name: &'a str) -> Answer<'a, ()>;
    /// Deletes every object in a folder and those below it; answers how many there were.
    fn delete_all<'a>(&'a self, folder: &'a str) -> Answer<'a, usize>;
}

/// Where checkpoints are kept.
#[derive(Clone, Debug, PartialEq)]
pub enum StorageConfig {
    S3 {
        connection: S3Connection,
        prefix: String,
    },
    Local {
        root: PathBuf,
    },
}

impl StorageConfig {
    /// What the job says, else a folder in the worker's state directory. `folder` is the job file's.
    /// A plan has checked that the connection is there; `None` if it is not.
    pub fn of(spec: &StreamJobSpec, folder: &Path, state_dir: &Path) -> Option<Self> {
        let storage = spec.checkpoint.storage.as_ref();
        if let Some(s3) = storage.and_then(|storage| storage.s3.as_ref()) {
            let mut named = spec.connections.iter().filter(|c| c.name == s3.connection);
            return Some(StorageConfig::S3 {
                connection: named.find_map(|c| c.s3.clone())?,
                prefix: s3.prefix.clone(),
            });
        }
        let root = match storage.and_then(|storage| storage.local.as_ref()) {
            Some(local) => folder.join(&local.path),
            None => state_dir.join("checkpoints"),
        };
        Some(StorageConfig::Local { root })
    }
}

/// The process's access to checkpoint storage. Clones share it.
#[derive(Clone)]
pub struct Checkpoints {
    shared: Arc<Shared>,
    runtime: Arc<Runtime>,
}

struct Shared {
    storage: Box<dyn Storage>,
    /// Put before all names.
    prefix: String,
    permits: Semaphore,
    attempts: AtomicU64,
    /// What is to be deleted.
    undeleted: Mutex<VecDeque<Doomed>>,
    /// Held by the one that deletes.
    sweeping: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug)]
enum Doomed {
    Checkpoint(CheckpointRef),
    /// An object of an upload that failed.
    Object(String),
}

/// An upload on its way.
#[derive(Debug)]
pub struct Upload {
    answer: Receiver<Result<Uploaded, CheckpointError>>,
}

impl Upload {
    /// The outcome once it is known, without waiting.
    pub fn outcome(&self) -> Option<Result<Uploaded, CheckpointError>> {
        match self.answer.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(crossbeam_channel::TryRecvError::Empty) => None,
            Err(crossbeam_channel::TryRecvError::Disconnected) => {
                Some(Err(CheckpointError::Abandoned))
            }
        }
    }

    /// Waits for the outcome, at most so long.
    pub fn wait(&self, most: Duration) -> Option<Result<Uploaded, CheckpointError>> {
        match self.answer.recv_timeout(most) {
            Ok(outcome) => Some(outcome),
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => None,
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => {
                Some(Err(CheckpointError::Abandoned))
            }
        }
    }
}

impl Checkpoints {
    /// Opens the storage and tries it: writes, reads and deletes a small object, so that a wrong key, bucket or path shows at the start.
    pub fn open(
        config: &StorageConfig,
        uid: &str,
        secrets: &Secrets,
    ) -> Result<Self, CheckpointError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("checkpoint")
            .enable_all()
            .build()
            .map_err(CheckpointError::Runtime)?;
        let (storage, prefix): (Box<dyn Storage>, _) = match config {
            StorageConfig::S3 { connection, prefix } => {
                let s3 = runtime.block_on(s3::S3::connect(connection, secrets))?;
                (Box::new(s3), prefix.clone())
            }
            StorageConfig::Local { root } => {
                (Box::new(local::Local::new(root.clone())), String::new())
            }
        };
        let shared = Arc::new(Shared {
            storage,
            prefix,
            permits: Semaphore::new(CONCURRENCY),
            attempts: AtomicU64::new(0),
            undeleted: Mutex::default(),
            sweeping: tokio::sync::Mutex::default(),
        });
        let checkpoints = Checkpoints {
            shared,
            runtime: Arc::new(runtime),
        };
        checkpoints.try_out(uid)?;
        Ok(checkpoints)
    }

    fn try_out(&self, uid: &str) -> Result<(), CheckpointError> {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let since = since.unwrap_or_default().as_nanos();
        let name = format!(
            "{}{uid}/try-{since:x}-{:x}",
            self.shared.prefix,
            std::process::id()
        );
        let storage = &self.shared.storage;
        self.runtime.block_on(async {
            storage.create(&name, Bytes::from_static(b"ok")).await?;
            storage.read(&name).await?;
            storage.delete(&name).await
        })?;
        Ok(())
    }

    /// Starts to upload in the background.
    pub fn upload(&self, data: CheckpointData) -> Upload {
        let (sender, answer) = bounded(1);
        let shared = self.shared.clone();
        self.runtime.spawn(async move {
            let outcome = upload(&shared, data).await;
            let works = outcome.is_ok();
            // The receiver may have lost interest: the slot was released.
            let _ = sender.send(outcome);
            if works {
                sweep(&shared).await;
            }
        });
        Upload { answer }
    }

    /// Reads and verifies a checkpoint. Waits for it.
    pub fn fetch(&self, reference: &CheckpointRef) -> Result<CheckpointData, CheckpointError> {
        self.runtime.block_on(fetch(&self.shared, reference))
    }

    /// Stores an object beside the checkpoints. One of that name that is there already must be the same.
    pub fn create(&self, name: &str, body: Bytes) -> Result<(), CheckpointError> {
        let name = format!("{}{name}", self.shared.prefix);
        Ok(self.runtime.block_on(self.shared.create(&name, body))?)
    }

    /// Reads such an object.
    pub fn read(&self, name: &str) -> Result<Bytes, CheckpointError> {
        let name = format!("{}{name}", self.shared.prefix);
        Ok(self.runtime.block_on(self.shared.storage.read(&name))?)
    }

    /// Deletes in the background. Only for checkpoints that no committed journal record needs any more, and only by the slot's current term.
    pub fn delete(&self, reference: CheckpointRef) {
        self.shared.doom(Doomed::Checkpoint(reference));
        let shared = self.shared.clone();
        self.runtime.spawn(async move { sweep(&shared).await });
    }

    /// Deletes all that is in a folder: a job's uid, or a snapshot's. Waits for it.
    pub fn delete_all(&self, folder: &str) -> Result<usize, CheckpointError> {
        let folder = format!("{}{folder}", self.shared.prefix);
        Ok(self
            .runtime
            .block_on(self.shared.storage.delete_all(&folder))?)
    }

    /// Waits, at most so long, until nothing is left to delete; for an orderly end.
    pub fn settle(&self, most: Duration) {
        let swept = async { tokio::time::timeout(most, sweep(&self.shared)).await };
        if self.runtime.block_on(swept).is_err() {
            tracing::debug!("left deletes of old checkpoints undone");
        }
    }
}

impl Shared {
    /// The one place that makes names of checkpoints.
    fn folder(&self, data: &CheckpointData) -> String {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        let CheckpointData {
            job,
            slot,
            epoch,
            term,
            incarnation,
            ..
        } = data;
        format!(
            "{}{job}/{slot}/{epoch}-{term}-{incarnation}-{attempt}",
            self.prefix
        )
    }

    fn doom(&self, doomed: Doomed) {
        let mut undeleted = self
            .undeleted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        undeleted.push_back(doomed);
        if undeleted.len() > DELETES_KEPT {
            undeleted.pop_front();
        }
    }

    fn doomed(&self) -> Option<Doomed> {
        let mut undeleted = self
            .undeleted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        undeleted.pop_front()
    }
}

async fn upload(shared: &Arc<Shared>, data: CheckpointData) -> Result<Uploaded, CheckpointError> {
    let started = Instant::now();
    let folder = shared.folder(&data);
    let manifest = Manifest::of(&data);
    let outcome = upload_to(shared, &folder, &manifest, data.parts).await;
    if outcome.is_err() {
        for part in &manifest.parts {
            shared.doom(Doomed::Object(format!("{folder}/{}", part.object)));
        }
        // Last: it may be there although the answer was an error.
        shared.doom(Doomed::Object(format!("{folder}/{}", manifest::NAME)));
    }
    outcome?;
    Ok(Uploaded {
        reference: CheckpointRef {
            epoch: manifest.epoch,
            manifest: format!("{folder}/{}", manifest::NAME),
        },
        bytes: manifest.parts.iter().map(|part| part.bytes).sum(),
        took: started.elapsed(),
    })
}

async fn upload_to(
    shared: &Arc<Shared>,
    folder: &str,
    manifest: &Manifest,
    parts: Vec<(String, Bytes)>,
) -> Result<(), CheckpointError> {
    let mut uploads = JoinSet::new();
    for (facts, (_, body)) in manifest.parts.iter().zip(parts) {
        let (shared, name) = (shared.clone(), format!("{folder}/{}", facts.object));
        uploads.spawn(async move { shared.create(&name, body).await });
    }
    // All of them, so that after a failure none is still under way while its object is deleted.
    let mut outcome = Ok(());
    while let Some(uploaded) = uploads.join_next().await {
        outcome = outcome.and(match uploaded {
            Ok(uploaded) => uploaded.map_err(CheckpointError::from),
            Err(_) => Err(CheckpointError::Abandoned),
        });
    }
    outcome?;
    let name = format!("{folder}/{}", manifest::NAME);
    shared.create(&name, manifest.encode()).await?;
    Ok(())
}

impl Shared {
    async fn create(&self, name: &str, body: Bytes) -> Result<(), StorageError> {
        let _permit = self.permits.acquire().await;
        self.storage.create(name, body).await
    }
}

async fn fetch(
    shared: &Arc<Shared>,
    reference: &CheckpointRef,
) -> Result<CheckpointData, CheckpointError> {
    let damaged = |what: String| CheckpointError::Damaged {
        manifest: reference.manifest.clone(),
        what,
    };
    let text = shared.storage.read(&reference.manifest).await?;
    let manifest = Manifest::decode(&text).map_err(damaged)?;
    if manifest.epoch != reference.epoch {
        return Err(damaged(format!(
            "it is of epoch {}, the journal says {}",
            manifest.epoch, reference.epoch
        )));
    }
    let folder = folder_of(&reference.manifest);
    let mut reads = JoinSet::new();
    for (index, facts) in manifest.parts.iter().cloned().enumerate() {
        let (shared, name) = (shared.clone(), format!("{folder}{}", facts.object));
        reads.spawn(async move {
            let _permit = shared.permits.acquire().await;
            let body = shared.storage.read(&name).await;
            body.map(|body| (index, facts, body))
        });
    }
    let mut parts = vec![None; manifest.parts.len()];
    while let Some(read) = reads.join_next().await {
        let (index, facts, body) = read.map_err(|_| CheckpointError::Abandoned)??;
        facts.verify(&body).map_err(damaged)?;
        parts[index] = Some((facts.name, body));
    }
    Ok(manifest.with(parts.into_iter().flatten().collect()))
}

/// Of `a/b/manifest.json`: `a/b/`.
fn folder_of(manifest: &str) -> &str {
    manifest.rfind('/').map_or("", |at| &manifest[..=at])
}

/// Deletes what is to be deleted, until all is gone or the storage fails.
async fn sweep(shared: &Arc<Shared>) {
    let _sweeping = shared.sweeping.lock().await;
    while let Some(doomed) = shared.doomed() {
        let _permit = shared.permits.acquire().await;
        if let Err(error) = delete(shared, &doomed).await {
            tracing::warn!(%error, ?doomed, "cannot delete an old checkpoint now; it will be tried again with the next one");
            shared.doom(doomed);
            return;
        }
    }
}

async fn delete(shared: &Shared, doomed: &Doomed) -> Result<(), StorageError> {
    let manifest = match doomed {
        Doomed::Object(name) => return shared.storage.delete(name).await,
        Doomed::Checkpoint(reference) => &reference.manifest,
    };
    let parts: Vec<PartFacts> = match shared.storage.read(manifest).await {
        // Of a manifest that cannot be read the parts are unknown: they stay.
        Ok(text) => Manifest::decode(&text).map_or(Vec::new(), |manifest| manifest.parts),
        Err(StorageError::Missing { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    for part in parts {
        let name = format!("{}{}", folder_of(manifest), part.object);
        shared.storage.delete(&name).await?;
    }
    shared.storage.delete(manifest).await
}

#[cfg(test)]
mod tests;
