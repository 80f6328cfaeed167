//! The job file that a command line names: read, checked and planned, or all that is wrong with it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use streamjob_core::manifest::{self, Manifest};
use streamjob_core::plan::JobPlan;

use super::exit::Problems;
use super::{ExitCode, Failure};

/// A job that can run.
#[derive(Clone, Debug)]
pub struct Job {
    pub namespace: String,
    pub name: String,
    /// The job file as it was read.
    pub text: String,
    /// Where relative paths in the job start.
    pub folder: PathBuf,
    pub plan: Arc<JobPlan>,
    /// What is doubtful, for people to read; empty: nothing.
    pub warnings: String,
}

impl Job {
    /// Reads the file at `path`; `-` is the standard input, with paths relative to the current directory.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let (text, folder) = read(path).map_err(|error| {
            let told = anyhow!("cannot read the job file {}: {error}", path.display());
            Failure::new(ExitCode::BadManifest, told)
        })?;
        Job::parse(&text, folder, &shown(path))
            .map_err(|problems| Failure::new(ExitCode::BadManifest, problems))
    }

    /// `file_name` is what problems call the file.
    pub fn parse(text: &str, folder: PathBuf, file_name: &str) -> Result<Self, Problems> {
        let (Manifest { job, source_map }, plan) = manifest::validate(text).map_err(|bad| {
            Problems(manifest::render(
                &bad.problems,
                &bad.source_map,
                file_name,
                text,
            ))
        })?;
        let namespace = job.metadata.namespace.unwrap_or_else(|| "default".into());
        let warnings = match plan.warnings.is_empty() {
            true => String::new(),
            false => manifest::render_warnings(&plan.warnings, &source_map, file_name, text),
        };
        Ok(Job {
            namespace,
            name: job.metadata.name.unwrap_or_default(),
            text: text.to_owned(),
            folder,
            warnings,
            plan: Arc::new(plan),
        })
    }
}

fn read(path: &Path) -> std::io::Result<(String, PathBuf)> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text)?;
        return Ok((text, PathBuf::from(".")));
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok((std::fs::read_to_string(path)?, folder))
}

fn shown(path: &Path) -> String {
    match path == Path::new("-") {
        true => "<stdin>".to_owned(),
        false => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests;
