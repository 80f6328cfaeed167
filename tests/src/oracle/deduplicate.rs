//! `deduplicate`, the slow way: every row that went through is kept for ever.

use super::reads::{Read, Timed};
use super::{Key, Row};

#[derive(Debug, Default, PartialEq)]
pub struct Deduplicated {
    pub passed: Vec<Row>,
    pub late: Vec<Row>,
}

/// What a task lets through.
pub fn deduplicate(reads: &[Read], by: &[String], within: i64) -> Deduplicated {
    let mut outcome = Deduplicated::default();
    let mut went: Vec<(Key, i64)> = Vec::new();
    for read in reads {
        let Read::Row {
            row: Timed { row, time },
            before,
            ..
        } = read
        else {
            continue;
        };
        let key = Key::of(row, by);
        let behind = i128::from(*before) - i128::from(*time);
        if behind > i128::from(within) {
            outcome.late.push(row.clone());
        } else if !went
            .iter()
            .any(|(other, at)| *other == key && (at - time).abs() <= within)
        {
            went.push((key, *time));
            outcome.passed.push(row.clone());
        }
    }
    outcome
}
