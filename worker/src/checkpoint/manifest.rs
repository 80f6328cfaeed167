//! A checkpoint's manifest: what it is a checkpoint of, and length and SHA-256 of every part.
//!
//! Two lines: the manifest as JSON, then `{"sha256": …}` of the first line's bytes, newline not included.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::CheckpointData;

/// The object's name in the checkpoint's folder.
pub const NAME: &str = "manifest.json";
const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Of the manifest's form.
    pub version: u32,
    pub job: String,
    pub slot: u32,
    pub epoch: u64,
    pub term: u64,
    pub incarnation: String,
    pub plan: String,
    pub parts: Vec<PartFacts>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartFacts {
    /// What the state calls it.
    pub name: String,
    /// Name of its object in the checkpoint's folder.
    pub object: String,
    pub bytes: u64,
    pub sha256: String,
}

#[derive(Serialize, Deserialize)]
struct Seal {
    sha256: String,
}

impl Manifest {
    pub fn of(data: &CheckpointData) -> Self {
        let parts = data.parts.iter().enumerate();
        Manifest {
            version: VERSION,
            job: data.job.clone(),
            slot: data.slot,
            epoch: data.epoch,
            term: data.term,
            incarnation: data.incarnation.clone(),
            plan: data.plan.clone(),
            parts: parts
                .map(|(index, (name, body))| PartFacts {
                    name: name.clone(),
                    object: format!("part-{index}"),
                    bytes: body.len() as u64,
                    sha256: sha256(body),
                })
                .collect(),
        }
    }

    pub fn with(self, parts: Vec<(String, Bytes)>) -> CheckpointData {
        CheckpointData {
            job: self.job,
            slot: self.slot,
            epoch: self.epoch,
            term: self.term,
            incarnation: self.incarnation,
            plan: self.plan,
            parts,
        }
    }

    pub fn encode(&self) -> Bytes {
        let json = |value: serde_json::Result<String>| value.unwrap_or_default();
        let body = json(serde_json::to_string(self));
        let seal = Seal {
            sha256: sha256(body.as_bytes()),
        };
        let seal = json(serde_json::to_string(&seal));
        Bytes::from(format!("{body}\n{seal}\n"))
    }

    /// The error says what is wrong with the text.
    pub fn decode(text: &[u8]) -> Result<Self, String> {
        let mut lines = text.split(|byte| *byte == b'\n');
        let (body, seal) = (lines.next().unwrap_or(b""), lines.next().unwrap_or(b""));
        let seal: Seal =
            serde_json::from_slice(seal).map_err(|_| "the manifest is not whole".to_owned())?;
        if seal.sha256 != sha256(body) {
            return Err("the manifest's SHA-256 does not fit".to_owned());
        }
        let manifest: Manifest = serde_json::from_slice(body)
            .map_err(|error| format!("the manifest cannot be understood: {error}"))?;
        match manifest.version {
            VERSION => Ok(manifest),
            other => Err(format!(
                "the manifest has version {other}, this worker knows {VERSION}"
            )),
        }
    }
}

impl PartFacts {
    pub fn verify(&self, body: &[u8]) -> Result<(), String> {
        let PartFacts { name, bytes, .. } = self;
        if body.len() as u64 != *bytes {
            let length = body.len();
            return Err(format!(
                "part `{name}` has {length} bytes instead of {bytes}"
            ));
        }
        match sha256(body) == self.sha256 {
            true => Ok(()),
            false => Err(format!("the SHA-256 of part `{name}` does not fit")),
        }
    }
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}
