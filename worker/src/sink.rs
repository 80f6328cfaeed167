//! Sinks outside the transaction: they take an epoch's rows after its commit, and skip an epoch that they already have.
//!
//! An epoch is applied once it is committed, in order, per slot; what a crash leaves unapplied is derived again from the
//! journal and applied at the next start. So a sink must know which epoch of each slot it has (`applied`), and that must
//! not get lost where the rows do not: a checkpoint is named in the journal only when `applied` has reached its epoch.

pub mod file;
pub mod stdout;

use streamjob_core::output::{EpochOutput, Target, TargetOutput};

pub trait ExternalSink: Send {
    /// The last epoch of `slot` whose rows are in the sink to stay, through a crash and a loss of power;
    /// `None`: the sink cannot know (its rows are at-least-once).
    ///
    /// A sink that is ahead of the journal belongs to an earlier life of the job: see [`not_ahead`].
    fn applied(&mut self, slot: u32) -> Result<Option<u64>, SinkError>;

    /// Writes all rows of a committed epoch (see [`rows_for`]), in order. Called for epochs without rows too, so that `applied` moves on;
    /// an epoch at or before the last applied one is skipped. After an error the same call may be made again.
    /// `sink_timestamp` is the journalled one, the version of the rows.
    fn apply(
        &mut self,
        slot: u32,
        epoch: u64,
        sink_timestamp: i64,
        rows: &[&TargetOutput],
    ) -> Result<(), SinkError>;
}

#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error(transparent)]
    File(#[from] file::FileSinkError),
    #[error("whoever read the standard output has gone")]
    ReaderGone,
    #[error("cannot write to the standard output: {0}")]
    Stdout(std::io::Error),
    #[error(
        "sink `{sink}` has epoch {applied} of slot {slot}, the journal only {journal}: the journal was lost or put back to an earlier state. Start the job anew with --fresh, which also empties its output files"
    )]
    Ahead {
        sink: String,
        slot: u32,
        applied: u64,
        journal: u64,
    },
}

/// The check at the start of a slot: a sink that has epochs which the journal does not know would silently skip new ones.
pub fn not_ahead(
    sink: &str,
    slot: u32,
    applied: Option<u64>,
    journal: u64,
) -> Result<(), SinkError> {
    match applied {
        Some(applied) if applied > journal => Err(SinkError::Ahead {
            sink: sink.to_owned(),
            slot,
            applied,
            journal,
        }),
        _ => Ok(()),
    }
}

/// What an epoch has for the sink of this index in the plan.
pub fn rows_for(output: &EpochOutput, sink: usize) -> Vec<&TargetOutput> {
    let targets = output.targets.iter();
    targets
        .filter(|rows| rows.target == Target::Sink(sink))
        .collect()
}

/// The rows as lines, in order. A tombstone has no text and is no line.
fn lines(rows: &[&TargetOutput], into: &mut Vec<u8>) {
    into.clear();
    for target in rows {
        into.reserve(target.bytes.len() + target.rows.len());
        for value in target.rows.iter().filter_map(|row| target.value(row)) {
            into.extend_from_slice(value);
            into.push(b'\n');
        }
    }
}
