//! How long an epoch is: short when there is little to do, longer under backlog and with many slots in the process, so
//! that commits cost little where latency is lost anyway.

use std::time::Duration;

/// An epoch takes no more rows than this: what a crash makes the next owner compute again, and what memory holds.
const MOST_ROWS: usize = 100_000;
/// Rows per round of reading.
const ROUND_ROWS: usize = 8_192;
/// Under backlog an epoch is this many intervals long, but no longer than `LONGEST`.
const BACKLOG_FACTOR: u32 = 12;
const LONGEST: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug)]
pub struct Pace {
    interval: Duration,
}

impl Pace {
    /// Commits of one process share its cores and its brokers: with many slots each commits more rarely.
    pub fn new(interval: Duration, hosted: u32) -> Self {
        Pace {
            interval: interval * hosted.div_ceil(8).max(1),
        }
    }

    pub fn interval(&self, backlog: bool) -> Duration {
        if backlog {
            (self.interval * BACKLOG_FACTOR).min(LONGEST.max(self.interval))
        } else {
            self.interval
        }
    }

    /// Rows that may still be read into the epoch.
    pub fn budget(&self, rows: usize) -> usize {
        MOST_ROWS.saturating_sub(rows).min(ROUND_ROWS)
    }

    /// Whether the epoch should be closed as soon as the one before is committed.
    pub fn full(&self, rows: usize, open: Duration, backlog: bool) -> bool {
        rows >= MOST_ROWS || open >= self.interval(backlog)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn epochs_lengthen_with_backlog_and_slots() {
        let pace = Pace::new(25 * MS, 4);
        assert_eq!(pace.interval(false), 25 * MS);
        assert_eq!(pace.interval(true), 300 * MS);
        assert_eq!(Pace::new(25 * MS, 64).interval(false), 200 * MS);
        assert_eq!(
            Pace::new(2_000 * MS, 1).interval(true),
            2_000 * MS,
            "never shorter than asked for"
        );
    }

    #[test]
    fn an_epoch_is_bounded_in_rows() {
        let pace = Pace::new(25 * MS, 1);
        assert!(pace.full(MOST_ROWS, MS, true));
        assert!(!pace.full(10, MS, true));
        assert_eq!(pace.budget(MOST_ROWS), 0);
        assert_eq!(pace.budget(MOST_ROWS - 5), 5);
    }
}
