//! Snapshots: the whole job's state under a name of its own, to go on from in another job.
//!
//! A snapshot is a cut through all slots, each at the end of its journal. [`take`](take::take) fences every slot, restores and
//! replays it, and stores its state, its last journal record, and what lies in its internal topics unread. So it needs
//! neither a job that was stopped in good order nor topics that have run empty. [`restore`](restore::restore) puts the
//! state under a new job's uid and writes it a journal that begins where the old one ended.
//!
//! Names in the checkpoint storage: `snapshots/NAME/<slot>/…`, each a checkpoint with parts of its own, and the catalogue
//! `snapshots/NAME/catalogue.json`, which is written last: with it the snapshot is there. No job ever deletes them; `streamjob-worker forget --snapshot` does.

pub mod restore;
pub mod take;

use std::time::Duration;

use anyhow::anyhow;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use streamjob_core::commit::record::CheckpointRef;

use crate::checkpoint::{CheckpointData, CheckpointError, Checkpoints};
use crate::cli::Failure;
use crate::setup::{bad_setting, refused};

/// Part of a slot's checkpoint: its last journal record.
const RECORD: &str = "journal-record";

const VERSION: u32 = 1;

/// Of a slot's upload, and of internal records that do not come.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a snapshot consists of.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Catalogue {
    version: u32,
    namespace: String,
    job: String,
    uid: String,
    /// Each slot's state, by number.
    slots: Vec<CheckpointRef>,
}

impl Catalogue {
    fn object(name: &str) -> String {
        format!("{}/catalogue.json", folder(name))
    }

    /// The snapshot of this name, if there is one.
    fn find(checkpoints: &Checkpoints, name: &str) -> Result<Option<Self>, Failure> {
        let text = match checkpoints.read(&Self::object(name)) {
            Err(error) if error.is_damage() => return Ok(None),
            text => text.map_err(storage_failed)?,
        };
        let damaged = |what: String| refused(anyhow!("the catalogue of snapshot `{name}` {what}"));
        let catalogue: Catalogue = serde_json::from_slice(&text)
            .map_err(|error| damaged(format!("is damaged: {error}")))?;
        match catalogue.version {
            VERSION => Ok(Some(catalogue)),
            other => Err(damaged(format!(
                "has version {other}, this program knows version {VERSION}"
            ))),
        }
    }

    /// Makes the snapshot one.
    fn write(&self, checkpoints: &Checkpoints, name: &str) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(self).map_err(refused)?;
        let written = checkpoints.create(&Self::object(name), text.into());
        written.map_err(storage_failed)
    }
}

/// Stands where a job's uid stands in the names of its checkpoints.
pub(crate) fn folder(name: &str) -> String {
    format!("snapshots/{name}")
}

/// Part of a slot's checkpoint: records of an internal topic that the slot has yet to read.
fn unread(input: &str) -> String {
    format!("unread/{input}")
}

/// Stores a slot's state, and waits for it.
fn stored(checkpoints: &Checkpoints, data: CheckpointData) -> Result<CheckpointRef, Failure> {
    let outcome = checkpoints.upload(data).wait(PATIENCE);
    let outcome = outcome.unwrap_or(Err(CheckpointError::Abandoned));
    Ok(outcome.map_err(storage_failed)?.reference)
}

fn storage_failed(error: CheckpointError) -> Failure {
    bad_setting(error.is_unreachable(), error)
}

/// Values as bytes: each with its length before it (`u32`, little-endian).
#[derive(Default)]
struct Values(Vec<u8>);

impl Values {
    fn push(&mut self, value: &[u8]) {
        // No record of Kafka is longer.
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.0.extend(length.to_le_bytes());
        self.0.extend(value);
    }

    fn into_bytes(self) -> Bytes {
        self.0.into()
    }

    /// `None`: cut short.
    fn split(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
        let mut values = Vec::new();
        while !bytes.is_empty() {
            let (length, rest) = bytes.split_first_chunk::<4>()?;
            let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            values.push(value);
            bytes = rest;
        }
        Some(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_went() {
        let mut values = Values::default();
        for value in [&b"one"[..], b"", b"three"] {
            values.push(value);
        }
        let bytes = values.into_bytes();
        let split = Values::split(&bytes).unwrap();
        assert_eq!(split, [&b"one"[..], b"", b"three"]);
        assert_eq!(Values::split(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Values::split(&bytes[..2]), None);
    }
}
