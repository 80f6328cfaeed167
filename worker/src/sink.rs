//! Sinks outside the transaction: they take an epoch's rows after its commit, and skip an epoch that they already have.
//!
//! An epoch is applied once it is committed, in order, per slot; what a crash leaves unapplied is derived again from the
//! journal and applied at the next start, also what the sink has already and only the journal does not know of. So a sink
//! remembers which epoch of each slot it has, and has it to stay before `apply` returns: the journal may say so from then on.

pub mod file;
pub mod stdout;

use streamjob_core::output::TargetOutput;

pub trait ExternalSink: Send {
    /// The last epoch of `slot` with rows that the sink has; `None`: it cannot know (its rows are at-least-once).
    ///
    /// A sink that is ahead of the journal belongs to an earlier life of the job: see [`not_ahead`].
    fn applied(&mut self, slot: u32) -> Result<Option<u64>, SinkError>;

    /// Writes all rows of a committed epoch, in order, to stay through a crash and a loss of power. An epoch at or before
    /// the last applied one is skipped. After an error the same call may be made again.
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
