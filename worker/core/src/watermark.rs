//! Watermarks of one task: how event time moves, row by row, with one producer (a source's partition) or several
//! (the tasks on the other side of an exchange).

use crate::chunk::{Millis, W_END, W_START};

/// `W = max(event time so far) - maxOutOfOrderness`, and never back.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceWatermark {
    max_out_of_orderness: Millis,
    current: Millis,
}

impl SourceWatermark {
    pub fn new(max_out_of_orderness: Millis) -> Self {
        SourceWatermark {
            max_out_of_orderness,
            current: W_START,
        }
    }

    pub fn current(&self) -> Millis {
        self.current
    }

    /// Moves without data: idle, restored, or (`W_END`) at the end of the input.
    pub fn advance(&mut self, w: Millis) {
        self.current = self.current.max(w);
    }

    /// For each row the watermark before it, given the rows' event times in log order.
    pub fn before_each(&mut self, times: &[Millis]) -> Vec<Millis> {
        let mut current = self.current;
        let before = times
            .iter()
            .map(|time| {
                let before = current;
                // A time just above i64::MIN must not make the start watermark out of a real one.
                current = current.max(time.saturating_sub(self.max_out_of_orderness));
                before
            })
            .collect();
        self.current = current;
        before
    }
}

/// The minimum over the producers of an exchange: until each has spoken, nothing is known.
#[derive(Clone, Debug, PartialEq)]
pub struct MergedWatermark {
    producers: Vec<Millis>,
    current: Millis,
}

impl MergedWatermark {
    pub fn new(producers: usize) -> Self {
        MergedWatermark {
            producers: vec![W_START; producers],
            current: if producers == 0 { W_END } else { W_START },
        }
    }

    pub fn current(&self) -> Millis {
        self.current
    }

    pub fn producers(&self) -> &[Millis] {
        &self.producers
    }

    /// Producer `index` is at `w`; the merged watermark after that.
    pub fn producer_at(&mut self, index: usize, w: Millis) -> Millis {
        let old = self.producers[index];
        if w > old {
            self.producers[index] = w;
            if old <= self.current {
                let least = self.producers.iter().copied().min().unwrap_or(W_END);
                self.current = self.current.max(least);
            }
        }
        self.current
    }

    /// Restores what `producers` gave.
    pub fn restore(producers: Vec<Millis>) -> Self {
        let current = producers.iter().copied().min().unwrap_or(W_END);
        MergedWatermark { producers, current }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_judged_by_the_rows_before_it() {
        let mut watermark = SourceWatermark::new(5);
        assert_eq!(watermark.before_each(&[10, 8, 20]), [W_START, 5, 5]);
        assert_eq!(watermark.current(), 15);
        assert_eq!(watermark.before_each(&[12]), [15]);
        watermark.advance(W_END);
        assert_eq!(watermark.before_each(&[100]), [W_END]);
    }

    #[test]
    fn event_times_at_the_limits_do_not_overflow() {
        let mut watermark = SourceWatermark::new(1_000);
        assert_eq!(
            watermark.before_each(&[i64::MIN, i64::MIN + 1]),
            [W_START, W_START]
        );
    }

    #[test]
    fn merged_is_the_slowest_producer() {
        let mut merged = MergedWatermark::new(2);
        assert_eq!(merged.producer_at(0, 50), W_START);
        assert_eq!(merged.producer_at(1, 10), 10);
        assert_eq!(merged.producer_at(1, 70), 50);
        assert_eq!(merged.producer_at(0, 40), 50);
        assert_eq!(merged.producer_at(0, W_END), 70);
        assert_eq!(merged.producer_at(1, W_END), W_END);
    }
}
