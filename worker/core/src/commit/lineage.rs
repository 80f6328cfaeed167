//! The line of valid records in a slot's journal: what every reader agrees on, whoever wrote what.
//!
//! A record counts only as the successor of the one before:
//! - a claim carries the last epoch on (same number), under a higher term, or under the same term by the same owner;
//! - an epoch follows the last claim's writer (term, owner, incarnation) with the next number.
//!
//! So appending is a compare-and-set, even where nothing fences a zombie: of two that write at once, the first in
//! the journal is valid, and all readers drop the other. Under transactions no record is ever dropped.

use super::record::{JournalRecord, RecordKind};

/// Valid records in order, and the others.
#[derive(Clone, Debug, Default)]
pub struct Lineage {
    pub records: Vec<JournalRecord>,
    pub strays: Vec<Stray>,
}

/// A record that does not follow, and the last valid epoch before it.
#[derive(Clone, Debug)]
pub struct Stray {
    pub after: u64,
    pub record: JournalRecord,
}

impl Lineage {
    /// The first record is taken as it is: what was before it has been trimmed, or nothing.
    pub fn of(records: Vec<JournalRecord>) -> Self {
        let mut lineage = Lineage::default();
        for record in records {
            match lineage.records.last() {
                Some(last) if !follows(last, &record) => {
                    lineage.strays.push(Stray {
                        after: last.epoch,
                        record,
                    });
                }
                _ => lineage.records.push(record),
            }
        }
        lineage
    }

    pub fn last(&self) -> Option<&JournalRecord> {
        self.records.last()
    }

    /// Whether the journal may begin at the first record after epoch `through`: not with a stray, from which
    /// readers would follow another line.
    pub fn may_trim(&self, through: u64) -> bool {
        !self
            .strays
            .iter()
            .any(|stray| stray.record.epoch > through && stray.after <= through)
    }

    /// The epochs after `base`, or `None` if one of them is missing.
    pub fn epochs_after(&self, base: u64) -> Option<Vec<JournalRecord>> {
        let last = self.last().map_or(0, |record| record.epoch);
        let cuts: Vec<JournalRecord> = self
            .records
            .iter()
            .filter(|record| record.kind == RecordKind::Epoch && record.epoch > base)
            .cloned()
            .collect();
        let contiguous = cuts
            .iter()
            .zip(base + 1..)
            .all(|(cut, epoch)| cut.epoch == epoch);
        let complete = cuts.last().map_or(base, |cut| cut.epoch) == last;
        (contiguous && complete).then_some(cuts)
    }
}

fn follows(last: &JournalRecord, next: &JournalRecord) -> bool {
    match next.kind {
        RecordKind::Claim => {
            next.epoch == last.epoch
                && (next.term > last.term || next.term == last.term && next.owner == last.owner)
        }
        RecordKind::Epoch => {
            last.epoch.checked_add(1) == Some(next.epoch)
                && next.term == last.term
                && next.owner == last.owner
                && next.incarnation == last.incarnation
        }
    }
}
