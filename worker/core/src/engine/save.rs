//! A task's state as bytes: a JSON header that says what follows, then the steps' state as Arrow IPC streams.
//!
//! Layout: header length `u32` (little-endian), header, then for each step its stream (its length is in the header).

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};

use super::EngineError;
use super::task::{Intake, Step, Task};
use crate::stateful::StepError;
use crate::watermark::MergedWatermark;

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the checkpoint has no part `{0}`")]
    Missing(String),
    #[error("part `{name}` of the checkpoint: {source}")]
    Part {
        name: String,
        source: Box<LoadError>,
    },
    #[error("it is cut short or not one of ours")]
    Torn,
    #[error("its header is damaged: {0}")]
    Header(#[from] serde_json::Error),
    #[error("its rows are damaged: {0}")]
    Arrow(#[from] ArrowError),
    #[error(
        "step `{step}` had other settings when the state was saved: its state cannot be used by this plan"
    )]
    Incompatible { step: String },
    #[error("it has the state of step `{step}`, which this plan does not have")]
    Foreign { step: String },
    #[error("step `{step}`: {source}")]
    Step { step: String, source: StepError },
}

#[derive(Serialize, Deserialize)]
struct Header {
    position: i64,
    ended: bool,
    intake: SavedIntake,
    steps: Vec<SavedStep>,
}

#[derive(Serialize, Deserialize)]
enum SavedIntake {
    Source { watermark: i64 },
    Exchange { producers: Vec<i64> },
}

#[derive(Serialize, Deserialize)]
struct SavedStep {
    name: String,
    state_hash: u64,
    /// Lengths of its batches' streams.
    streams: Vec<u64>,
}

pub(super) fn save(task: &Task) -> Result<Vec<u8>, EngineError> {
    let mut steps = Vec::new();
    let mut body = Vec::new();
    for node in &task.nodes {
        if let Step::Stateful(step) = &node.step {
            let batches = step.save().map_err(|source| EngineError::Step {
                step: node.plan.name.clone(),
                source,
            })?;
            let streams = batches
                .iter()
                .map(|batch| write(batch, &mut body))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| EngineError::Save(error.to_string()))?;
            steps.push(SavedStep {
                name: node.plan.name.clone(),
                state_hash: node.plan.state_hash,
                streams,
            });
        }
    }
    let intake = match &task.intake {
        Intake::Source(source) => SavedIntake::Source {
            watermark: source.watermark.current(),
        },
        Intake::Exchange(exchange) => SavedIntake::Exchange {
            producers: exchange.watermark.producers().to_vec(),
        },
    };
    let header = Header {
        position: task.position,
        ended: task.ended,
        intake,
        steps,
    };
    let header =
        serde_json::to_vec(&header).map_err(|error| EngineError::Save(error.to_string()))?;
    let mut bytes = (header.len() as u32).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(body);
    Ok(bytes)
}

fn write(batch: &RecordBatch, body: &mut Vec<u8>) -> Result<u64, ArrowError> {
    let start = body.len();
    let mut writer = StreamWriter::try_new(&mut *body, &batch.schema())?;
    writer.write(batch)?;
    writer.finish()?;
    Ok((body.len() - start) as u64)
}

/// How the state that is loaded fits the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It is of this plan.
    Same,
    /// It is of the job before a change: steps may have come and gone.
    Changed {
        /// Steps whose settings changed begin anew.
        discard: bool,
    },
}

pub(super) fn load(task: &mut Task, bytes: &[u8], fit: Fit) -> Result<(), LoadError> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(LoadError::Torn)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (header, body) = rest.split_at_checked(length).ok_or(LoadError::Torn)?;
    let header: Header = serde_json::from_slice(header)?;
    match (&mut task.intake, header.intake) {
        (Intake::Source(source), SavedIntake::Source { watermark }) => {
            source.watermark.advance(watermark)
        }
        (Intake::Exchange(exchange), SavedIntake::Exchange { producers })
            if producers.len() == exchange.watermark.producers().len() =>
        {
            exchange.watermark = MergedWatermark::restore(producers);
        }
        _ => return Err(LoadError::Torn),
    }
    task.position = header.position;
    task.ended = header.ended;
    let mut saved = by_name(header.steps, body)?;
    for node in &mut task.nodes {
        let Step::Stateful(stateful) = &mut node.step else {
            continue;
        };
        let step = || node.plan.name.clone();
        let Some((state_hash, streams)) = saved.remove(&node.plan.name) else {
            match fit {
                Fit::Same => return Err(LoadError::Torn),
                Fit::Changed { .. } => continue,
            }
        };
        if state_hash != node.plan.state_hash {
            match fit {
                Fit::Changed { discard: true } => continue,
                _ => return Err(LoadError::Incompatible { step: step() }),
            }
        }
        let batches = streams
            .into_iter()
            .map(read)
            .collect::<Result<Vec<_>, _>>()?;
        stateful.load(&batches).map_err(|source| LoadError::Step {
            step: step(),
            source,
        })?;
    }
    match saved.pop_first() {
        Some((step, _)) if fit == Fit::Same => Err(LoadError::Foreign { step }),
        _ => Ok(()),
    }
}

/// Each step's state hash and streams.
type Saved<'a> = BTreeMap<String, (u64, Vec<&'a [u8]>)>;

fn by_name(steps: Vec<SavedStep>, mut body: &[u8]) -> Result<Saved<'_>, LoadError> {
    let mut saved = BTreeMap::new();
    for step in steps {
        let mut streams = Vec::new();
        for length in step.streams {
            let (stream, rest) = body
                .split_at_checked(length as usize)
                .ok_or(LoadError::Torn)?;
            body = rest;
            streams.push(stream);
        }
        saved.insert(step.name, (step.state_hash, streams));
    }
    match body.is_empty() {
        true => Ok(saved),
        false => Err(LoadError::Torn),
    }
}

fn read(stream: &[u8]) -> Result<RecordBatch, LoadError> {
    let mut batches = StreamReader::try_new(stream, None)?;
    Ok(batches.next().ok_or(LoadError::Torn)??)
}
