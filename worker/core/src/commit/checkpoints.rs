//! Which checkpoints a slot's records name, and which may be deleted.
//!
//! uploaded → (every external sink has applied its epoch) → named by the next record → kept, until `retain`
//! newer ones are named → doomed → (the record that pushed it out is committed) → deleted.

use super::record::{CheckpointRef, JournalRecord};

#[derive(Clone, Debug, Default)]
pub(super) struct Checkpoints {
    retain: usize,
    /// As the last record names them, newest first.
    kept: Vec<CheckpointRef>,
    /// Not named yet, oldest first.
    uploaded: Vec<CheckpointRef>,
    /// Found damaged, or left over from an earlier owner: to be deleted with the next that is pushed out.
    unwanted: Vec<CheckpointRef>,
}

/// The list for a record, and what is free once that record is committed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Naming {
    pub list: Vec<CheckpointRef>,
    pub doomed: Vec<CheckpointRef>,
    /// Set when the list has a new head: journal records up to this epoch are free as well.
    pub trim_through: Option<u64>,
}

impl Checkpoints {
    /// As the journal has it: what earlier records name and the last one does not is left over.
    pub fn of(records: &[JournalRecord], retain: usize) -> Self {
        let kept = records
            .last()
            .map(|record| record.checkpoints.clone())
            .unwrap_or_default();
        let mut unwanted: Vec<CheckpointRef> = Vec::new();
        for reference in records.iter().flat_map(|record| &record.checkpoints) {
            if !kept.contains(reference) && !unwanted.contains(reference) {
                unwanted.push(reference.clone());
            }
        }
        Checkpoints {
            retain: retain.max(1),
            kept,
            uploaded: Vec::new(),
            unwanted,
        }
    }

    pub fn kept(&self) -> &[CheckpointRef] {
        &self.kept
    }

    /// In order of epochs; one reported before is not named twice.
    pub fn add_uploaded(&mut self, reference: CheckpointRef) {
        if !self.uploaded.contains(&reference) && !self.kept.contains(&reference) {
            self.uploaded.push(reference);
        }
    }

    /// Forgets those newer than the one that could be restored. `false`: that one is not in the list.
    pub fn restored(&mut self, from: Option<&CheckpointRef>) -> bool {
        let damaged = match from {
            None => self.kept.len(),
            Some(from) => match self.kept.iter().position(|kept| kept == from) {
                Some(index) => index,
                None => return false,
            },
        };
        self.unwanted.extend(self.kept.drain(..damaged));
        true
    }

    /// Whether a record would name a new checkpoint, if every external sink has applied the epochs up to `applied`.
    pub fn has_nameable(&self, applied: u64) -> bool {
        self.uploaded
            .iter()
            .any(|reference| reference.epoch <= applied)
    }

    /// Names the newest that may be. To be called once a record, before it is first sent.
    pub fn name(&mut self, applied: u64) -> Naming {
        let nameable = |reference: &CheckpointRef| reference.epoch <= applied;
        let (mut ready, waiting): (Vec<_>, Vec<_>) = self.uploaded.drain(..).partition(nameable);
        self.uploaded = waiting;
        let Some(newest) = ready.pop() else {
            return Naming {
                list: self.kept.clone(),
                ..Naming::default()
            };
        };
        let mut doomed = std::mem::take(&mut self.unwanted);
        doomed.append(&mut ready);
        self.kept.insert(0, newest);
        if self.kept.len() > self.retain {
            doomed.extend(self.kept.split_off(self.retain));
        }
        let trim_through = self.kept.last().map(|oldest| oldest.epoch);
        Naming {
            list: self.kept.clone(),
            doomed,
            trim_through,
        }
    }
}
