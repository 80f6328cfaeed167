//! What a reading of the journal says: is it in order, and are we still the owner?

use streamjob_crds::Guarantee;

use super::SlotProtocol;
use crate::commit::record::JournalRecord;
use crate::commit::{Lineage, StopReason, Term};

impl SlotProtocol {
    /// The line of valid records, if we may go on in view of it.
    pub(super) fn examine(
        &mut self,
        records: Vec<JournalRecord>,
        trimmed: bool,
    ) -> Result<Lineage, StopReason> {
        let slot = self.identity.slot;
        if records.is_empty() && (trimmed || self.claimed) {
            return Err(StopReason::JournalMissing { slot });
        }
        if let Some(other) = records
            .iter()
            .find(|record| record.job != self.identity.job)
        {
            let (job, found) = (self.identity.job.clone(), other.job.clone());
            return Err(StopReason::OtherJob { job, found });
        }
        if let Some(other) = records.iter().find(|record| record.slot != slot) {
            return Err(self.conflict(format!("it holds records of slot {}", other.slot)));
        }
        let lineage = Lineage::of(records);
        if let Some(stray) = lineage.strays.first()
            && self.settings.guarantee == Guarantee::ExactlyOnce
        {
            let (epoch, owner) = (stray.record.epoch, &stray.record.owner);
            return Err(self.conflict(format!(
                "epoch {epoch} of {owner} does not follow epoch {}",
                stray.after
            )));
        }
        self.check_owner(lineage.last())?;
        Ok(lineage)
    }

    pub(super) fn check_owner(&mut self, last: Option<&JournalRecord>) -> Result<(), StopReason> {
        let Some(last) = last else {
            self.term.get_or_insert(1);
            return Ok(());
        };
        let term = *self.term.get_or_insert(last.term.saturating_add(1));
        if self.is_ours(last) {
            return Ok(());
        }
        let (slot, owner) = (self.identity.slot, last.owner.clone());
        // The same pod, restarted, may claim again under its term; the one before must then give way.
        let again = last.term == term && last.owner == self.identity.owner;
        if (again || last.term < term) && !self.claimed {
            return Ok(());
        }
        if last.term < term {
            return Err(self.conflict(format!(
                "{owner} wrote under term {}, ours is {term}",
                last.term
            )));
        }
        if last.term == term && !again && self.identity.term != Term::AfterLast {
            return Err(StopReason::TwoOwners { slot, owner, term });
        }
        Err(StopReason::TakenOver {
            slot,
            owner,
            term: last.term,
        })
    }

    pub(super) fn is_ours(&self, record: &JournalRecord) -> bool {
        Some(record.term) == self.term
            && record.owner == self.identity.owner
            && record.incarnation == self.identity.incarnation
    }
}
