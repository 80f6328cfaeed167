//! The ledger of a job without Kafka: the journal is a local file, and all rows go to external sinks, which take them
//! after the record is on disk.

use std::sync::Arc;

use streamjob_core::commit::record::JournalRecord;
use streamjob_core::commit::{Fact, Failure, StopReason};
use streamjob_core::output::EpochOutput;

use super::{Journal, Ledger, LedgerError};
use crate::journal::file::FileJournal;

pub struct FileLedger {
    journal: FileJournal,
}

impl FileLedger {
    pub fn new(journal: FileJournal) -> Self {
        FileLedger { journal }
    }
}

impl Ledger for FileLedger {
    fn find(&mut self) -> Result<(), LedgerError> {
        self.read().map(|_| ())
    }

    fn read(&mut self) -> Result<Journal, LedgerError> {
        match self.journal.read() {
            Fact::JournalRead { records, trimmed } => Ok(Journal { records, trimmed }),
            Fact::JournalMissing => Err(LedgerError::Missing),
            Fact::Refused(reason) => Err(LedgerError::Refused(reason)),
            other => Err(LedgerError::Refused(unexpected("reading", &other))),
        }
    }

    /// Nothing to fence with: an append is refused when somebody else has written.
    fn init(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn commit(
        &mut self,
        record: &JournalRecord,
        _output: Option<&Arc<EpochOutput>>,
    ) -> Result<(), Failure> {
        match self.journal.append(record) {
            Fact::Committed => Ok(()),
            Fact::CommitFailed(failure) => Err(failure),
            Fact::JournalMissing => Err(Failure::Fatal(
                "the journal's file was deleted under the running job".to_owned(),
            )),
            other => Err(Failure::Fatal(unexpected("appending", &other).to_string())),
        }
    }

    fn trim(&mut self, through: u64) {
        if let Err(error) = self.journal.trim(through) {
            tracing::warn!(%error, "cannot trim the journal; it is tried again");
        }
    }
}

fn unexpected(doing: &str, fact: &Fact) -> StopReason {
    StopReason::Internal {
        slot: 0,
        what: format!("{doing} the journal gave {fact:?}"),
    }
}
