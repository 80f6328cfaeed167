//! Which windows a row falls into, for windows that lie on a grid (all kinds but sessions).
//!
//! Windows are aligned to the epoch plus an offset, half open, also before 1970. Within a grid kind the end names the
//! window: no two windows share one.

use crate::chunk::Millis;
use crate::plan::WindowKind;

/// The windows a row falls into: ends from `first_end` to `last_end`, `step` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub first_end: Millis,
    pub last_end: Millis,
    step: Millis,
    start: Start,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// This long before the end.
    Before(Millis),
    /// The same for all windows of the span.
    At(Millis),
}

impl Span {
    /// (start, end) of each window, by end.
    pub fn windows(self) -> impl Iterator<Item = (Millis, Millis)> {
        let mut next = Some(self.first_end);
        std::iter::from_fn(move || {
            let end = next?;
            // Below `last_end`, which can be represented, the next end can too.
            next = if end < self.last_end {
                end.checked_add(self.step)
            } else {
                None
            };
            Some((self.start(end), end))
        })
    }

    fn start(self, end: Millis) -> Millis {
        match self.start {
            Start::Before(size) => end.saturating_sub(size),
            Start::At(start) => start,
        }
    }
}

/// Finds the windows of a time. Rows of one time follow each other, so the last answer is kept.
#[derive(Clone, Debug)]
pub struct Grid {
    size: Millis,
    step: Millis,
    offset: Millis,
    cumulating: bool,
    /// Times from the first to before the second share this span.
    last: Option<(Millis, Millis, Span)>,
}

impl Grid {
    /// `None` for sessions and running groups, which lie on no grid.
    pub fn new(kind: WindowKind) -> Option<Self> {
        let (size, step, offset, cumulating) = match kind {
            WindowKind::Tumbling { size, offset } => (size, size, offset, false),
            WindowKind::Sliding {
                size,
                slide,
                offset,
            } => (size, slide, offset, false),
            WindowKind::Cumulating { size, step } => (size, step, 0, true),
            WindowKind::Session { .. } | WindowKind::Running { .. } => return None,
        };
        Some(Grid {
            size: size.max(1),
            step: step.max(1),
            offset,
            cumulating,
            last: None,
        })
    }

    /// `None` if a bound of one of the windows lies outside of 64-bit milliseconds.
    #[inline]
    pub fn span(&mut self, time: Millis) -> Option<Span> {
        match self.last {
            Some((from, to, span)) if from <= time && time < to => Some(span),
            _ => self.compute(time),
        }
    }

    fn compute(&mut self, time: Millis) -> Option<Span> {
        let wide = i128::from;
        let floor = |step: Millis| {
            let from_offset = wide(time) - wide(self.offset);
            from_offset - from_offset.rem_euclid(wide(step)) + wide(self.offset)
        };
        let cell = floor(self.step);
        let first_end = cell + wide(self.step);
        let (first_start, last_end) = match self.cumulating {
            true => (floor(self.size), floor(self.size) + wide(self.size)),
            false => (first_end - wide(self.size), cell + wide(self.size)),
        };
        let narrow = |bound: i128| Millis::try_from(bound).ok();
        let start = match self.cumulating {
            true => Start::At(narrow(first_start)?),
            false => narrow(first_start).map(|_| Start::Before(self.size))?,
        };
        let span = Span {
            first_end: narrow(first_end)?,
            last_end: narrow(last_end)?,
            step: self.step,
            start,
        };
        self.last = narrow(cell).map(|cell| (cell, span.first_end, span));
        Some(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(kind: WindowKind, time: Millis) -> Option<Vec<(Millis, Millis)>> {
        Grid::new(kind)?
            .span(time)
            .map(|span| span.windows().collect())
    }

    #[test]
    fn windows_lie_on_the_grid_also_before_1970() {
        let tumbling = WindowKind::Tumbling {
            size: 10,
            offset: 3,
        };
        assert_eq!(windows(tumbling, 12), Some(vec![(3, 13)]));
        assert_eq!(windows(tumbling, 13), Some(vec![(13, 23)]));
        assert_eq!(windows(tumbling, 2), Some(vec![(-7, 3)]));
        assert_eq!(windows(tumbling, -7), Some(vec![(-7, 3)]));
        assert_eq!(windows(tumbling, -8), Some(vec![(-17, -7)]));
    }

    #[test]
    fn sliding_windows_overlap() {
        let sliding = WindowKind::Sliding {
            size: 30,
            slide: 10,
            offset: 0,
        };
        assert_eq!(
            windows(sliding, 25),
            Some(vec![(0, 30), (10, 40), (20, 50)])
        );
        assert_eq!(
            windows(sliding, -1),
            Some(vec![(-30, 0), (-20, 10), (-10, 20)])
        );
    }

    #[test]
    fn cumulating_windows_share_their_start() {
        let cumulating = WindowKind::Cumulating { size: 30, step: 10 };
        assert_eq!(
            windows(cumulating, 5),
            Some(vec![(0, 10), (0, 20), (0, 30)])
        );
        assert_eq!(windows(cumulating, 25), Some(vec![(0, 30)]));
        assert_eq!(windows(cumulating, -15), Some(vec![(-30, -10), (-30, 0)]));
    }

    #[test]
    fn bounds_beyond_64_bits_are_no_window() {
        let tumbling = WindowKind::Tumbling {
            size: 10,
            offset: 0,
        };
        assert_eq!(windows(tumbling, Millis::MAX), None);
        assert_eq!(windows(tumbling, Millis::MIN), None);
        assert_eq!(
            windows(tumbling, Millis::MAX - 20).map(|windows| windows.len()),
            Some(1)
        );
        let sliding = WindowKind::Sliding {
            size: 1 << 62,
            slide: 1 << 61,
            offset: -1,
        };
        assert_eq!(windows(sliding, Millis::MIN + 5), None);
        assert_eq!(windows(sliding, 0).map(|windows| windows.len()), Some(2));
    }

    #[test]
    fn a_kept_answer_is_used_for_its_own_cell_only() {
        let kind = WindowKind::Cumulating { size: 30, step: 10 };
        let mut grid = Grid::new(kind).expect("a grid");
        for time in (-100..100).chain((-100..100).rev()) {
            let fresh = windows(kind, time);
            assert_eq!(
                grid.span(time).map(|span| span.windows().collect()),
                fresh,
                "{time}"
            );
        }
    }
}
