//! A slot's state at the end of its journal, for a snapshot: taken over, restored and replayed as at any start, but nothing is
//! read on.

use bytes::Bytes;
use streamjob_core::commit::record::JournalRecord;

use super::{Driver, DriverError, Start, restore};

/// A slot, as its journal's last record says.
pub struct Captured {
    pub record: JournalRecord,
    pub parts: Vec<(String, Bytes)>,
}

impl Driver {
    /// `None`: all its inputs have ended. The slot is ours until the driver is dropped, or another worker takes it.
    pub fn capture(&mut self) -> Result<Option<Captured>, DriverError> {
        match self.start(&|| false)? {
            Start::Running(running) => Ok(Some(Captured {
                parts: restore::save(&running.engine)?,
                record: running.base,
            })),
            Start::Done | Start::Stopped => Ok(None),
        }
    }
}
