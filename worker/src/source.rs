//! Sources: what a driver reads. One `Input` is one partition, read in order from a position; it never waits and never skips.
//!
//! A position is the next thing to read: a Kafka offset, a byte of a file, the index of a generated event. Rows have
//! positions too, and between two rows there may be a gap (control records, blank lines): `Input::position` is past it.

pub mod file;
pub mod generate;
pub mod kafka;

use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use streamjob_core::chunk::Millis;

/// An event as it was written, borrowed from the input's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// Where it is.
    pub position: i64,
    /// The next position to read after it.
    pub next: i64,
    /// The time at which the broker has it; `None` for files.
    pub timestamp: Option<Millis>,
    /// `None`: a Kafka record without a value.
    pub payload: Option<&'a [u8]>,
}

/// How much one poll may hand over. A poll ends behind the row that used it up, so that at least one row goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub rows: usize,
    pub bytes: usize,
    /// Rows at or behind this position stay (in a replay: the journalled cut).
    pub until: i64,
}

impl Budget {
    pub fn new(rows: usize, bytes: usize) -> Self {
        Budget {
            rows,
            bytes,
            until: i64::MAX,
        }
    }

    pub fn until(self, position: i64) -> Self {
        Budget {
            until: position,
            ..self
        }
    }

    /// Whether nothing may be handed over any more.
    pub fn used_up(&self) -> bool {
        self.rows == 0 || self.bytes == 0
    }

    /// Counts a row of `bytes`.
    pub fn spend(&mut self, bytes: usize) {
        self.rows = self.rows.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes.max(1));
    }
}

/// One partition of a source or exchange.
pub trait Input: Send {
    /// Hands over the rows that are there now, in order, and returns how many. Without rows it returns at once.
    /// `now` is the wall clock; only paced inputs look at it.
    fn poll(
        &mut self,
        now: Millis,
        budget: Budget,
        row: &mut dyn FnMut(Row<'_>),
    ) -> Result<usize, SourceError>;

    /// The next position to read: behind all rows handed over, and behind gaps that are known to hold none.
    fn position(&self) -> i64;

    /// Whether the position is the partition's end, as far as the server has told: only then may time pass without rows.
    fn caught_up(&self) -> bool;

    /// Whether the input is bounded and all of it was handed over.
    fn ended(&self) -> bool;

    /// Distance to the end in the position's unit; `None` while unknown.
    fn lag(&self) -> Option<i64>;
}

/// Longest wait for a signal between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// Hands over all rows of a bounded input. `woken` tells of new ones. `false`: none came for `patience`.
pub fn read_to_end(
    input: &mut dyn Input,
    woken: &Receiver<()>,
    patience: Duration,
    row: &mut dyn FnMut(Row<'_>),
) -> Result<bool, SourceError> {
    let mut heard = Instant::now();
    while !input.ended() {
        if input.poll(0, Budget::new(usize::MAX, usize::MAX), row)? > 0 {
            heard = Instant::now();
        } else if heard.elapsed() > patience {
            return Ok(false);
        } else if !input.ended() {
            // Woken or not, the next round looks.
            let _ = woken.recv_timeout(LOOK);
        }
    }
    Ok(true)
}

/// Why reading cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    File(#[from] file::FileError),
    #[error(transparent)]
    Kafka(#[from] kafka::KafkaSourceError),
}
