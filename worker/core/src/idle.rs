//! When a partition without events stops holding the others back.
//!
//! A task is idle when it has been caught up (its position at the partition's end) for `idleAfter`; never because its
//! reader is slow. The watermark of an idle task then follows the job-wide one of its stage: the minimum over the tasks
//! that are not idle. When all are idle it moves with the time that passes. Advances are journalled, so that a replay
//! makes the same ones.

use crate::chunk::{Millis, W_END, W_START};

/// What one task knows of itself. `now` is any clock in milliseconds that does not go back.
#[derive(Clone, Debug)]
pub struct IdleClock {
    idle_after: Millis,
    caught_up_since: Option<Millis>,
    /// Watermark of the stage and time, when all were first seen idle.
    all_idle: Option<(Millis, Millis)>,
}

/// A task of the stage, as this slot knows it or as another slot's journal tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub w: Millis,
    pub idle: bool,
}

impl IdleClock {
    pub fn new(idle_after: Millis) -> Self {
        IdleClock {
            idle_after,
            caught_up_since: None,
            all_idle: None,
        }
    }

    /// Told at every poll: whether the position is at the end, and whether rows came.
    pub fn observe(&mut self, now: Millis, caught_up: bool, rows: bool) {
        if rows || !caught_up {
            self.caught_up_since = None;
            self.all_idle = None;
        }
        if caught_up && self.caught_up_since.is_none() {
            self.caught_up_since = Some(now);
        }
    }

    pub fn idle(&self, now: Millis) -> bool {
        self.caught_up_since
            .is_some_and(|since| now - since >= self.idle_after)
    }

    /// Where the watermark `own` of this task, if it is idle, may move, given all other tasks of its stage.
    pub fn advance(&mut self, now: Millis, own: Millis, others: &[Peer]) -> Option<Millis> {
        let since = self
            .caught_up_since
            .filter(|since| now - since >= self.idle_after)?;
        let awake = others
            .iter()
            .filter(|peer| !peer.idle && peer.w != W_END)
            .map(|peer| peer.w)
            .min();
        let target = match awake {
            Some(least) => {
                self.all_idle = None;
                least
            }
            None => {
                let latest = others
                    .iter()
                    .map(|peer| peer.w)
                    .filter(|w| *w != W_END)
                    .fold(own, Millis::max);
                let (base, from) = *self.all_idle.get_or_insert((latest, since));
                if base == W_START {
                    W_START
                } else {
                    base.saturating_add(now - from)
                }
            }
        };
        (target > own).then_some(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(w: Millis, idle: bool) -> Peer {
        Peer { w, idle }
    }

    fn idle_since(at: Millis) -> IdleClock {
        let mut clock = IdleClock::new(1_000);
        clock.observe(at, true, false);
        clock
    }

    #[test]
    fn idle_is_being_caught_up_for_long_enough() {
        let mut clock = idle_since(0);
        assert!(!clock.idle(999));
        assert!(clock.idle(1_000));
        clock.observe(1_100, true, true);
        assert!(!clock.idle(1_200), "rows came");
        clock.observe(1_300, false, false);
        assert!(!clock.idle(9_000), "a slow reader is not idle");
    }

    #[test]
    fn follows_the_slowest_that_is_awake() {
        let mut clock = idle_since(0);
        assert_eq!(clock.advance(999, 10, &[peer(50, false)]), None);
        assert_eq!(
            clock.advance(
                1_000,
                10,
                &[peer(50, false), peer(70, false), peer(20, true)]
            ),
            Some(50)
        );
        assert_eq!(
            clock.advance(1_000, 60, &[peer(50, false)]),
            None,
            "never back"
        );
        assert_eq!(
            clock.advance(1_000, 10, &[peer(W_START, false)]),
            None,
            "one awake without events holds back"
        );
    }

    #[test]
    fn moves_with_time_when_all_are_idle() {
        let mut clock = idle_since(0);
        assert_eq!(
            clock.advance(1_500, 100, &[peer(300, true), peer(W_END, true)]),
            Some(1_800)
        );
        assert_eq!(
            clock.advance(2_500, 1_800, &[peer(1_900, true)]),
            Some(2_800),
            "from where it began, not compounding"
        );
        assert_eq!(
            idle_since(0).advance(9_000, W_START, &[]),
            None,
            "no event ever: no time to move"
        );
    }
}
