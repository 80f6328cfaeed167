//! `streamjob-worker forget`: deletes what a job keeps outside of this process, or a snapshot. `--fresh` begins with it.
//!
//! The one place where storage is listed: what workers that were killed have left behind is found by no journal.

use std::path::Path;

use anyhow::anyhow;
use streamjob_core::plan::JournalPlan;

use crate::checkpoint::{CheckpointError, Checkpoints};
use crate::cli::args::ForgetArgs;
use crate::cli::job::Job;
use crate::cli::{ExitCode, Failure};
use crate::names;
use crate::run::storage;
use crate::secrets::Secrets;
use crate::setup::{Kafkas, Names, bad_setting, judged, refused};
use crate::snapshot;
use crate::topics::TopicError;

/// Deletes the job's state, or one of its snapshots. What is gone already is no error: it can be done again.
pub fn forget(job: &Job, args: &ForgetArgs) -> Result<ExitCode, Failure> {
    let host = &args.host;
    let names = Names::of(job, host);
    let folder = host.secrets_dir.clone();
    let secrets = Secrets::new(folder.unwrap_or_else(|| job.folder.join("secrets")));
    let storage = storage(job, host)?;
    let checkpoints = Checkpoints::open(&storage, &names.uid, &secrets).map_err(failed)?;
    if let Some(name) = &args.snapshot {
        let folder = snapshot::folder(name);
        let objects = checkpoints.delete_all(&folder).map_err(failed)?;
        tracing::info!("{objects} objects of snapshot `{name}` are deleted");
        return Ok(ExitCode::Done);
    }
    let kafkas = Kafkas::connect(job, &secrets, &names)?;
    forget_state(job, &names, &kafkas, &host.state_dir, &checkpoints)?;
    tracing::info!(
        "job {}/{} ({}) is forgotten: its journal, internal topics and checkpoints are deleted",
        names.namespace,
        names.name,
        names.uid
    );
    Ok(ExitCode::Done)
}

/// Deletes what the job has noted: checkpoints, journal, internal topics. Output files are emptied when they are opened.
pub fn forget_state(
    job: &Job,
    names: &Names,
    kafkas: &Kafkas,
    state_dir: &Path,
    checkpoints: &Checkpoints,
) -> Result<(), Failure> {
    let objects = checkpoints.delete_all(&names.uid).map_err(failed)?;
    tracing::debug!(objects, "checkpoints are deleted");
    if let JournalPlan::Kafka { connection } = &job.plan.journal {
        let (_, admin) = kafkas.get(connection)?;
        let failed = |error: TopicError| judged(error.kafka().unreachable(), error);
        // Steps that the job no longer has have left theirs.
        let all = admin.topics().map_err(failed)?;
        let internal = all.iter().map(String::as_str);
        let internal: Vec<&str> = internal
            .filter(|topic| names::is_internal(&names.uid, topic))
            .collect();
        admin.delete(&internal).map_err(failed)?;
        admin
            .delete_group(&names::group(&names.uid))
            .map_err(failed)?;
    }
    let folder = state_dir.join(&names.uid);
    match std::fs::remove_dir_all(&folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(refused(anyhow!(
            "cannot delete {}: {error}",
            folder.display()
        ))),
    }
}

fn failed(error: CheckpointError) -> Failure {
    bad_setting(error.is_unreachable(), error)
}
