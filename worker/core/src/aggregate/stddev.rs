//! `stddev`: sample standard deviation, by Welford's updates; groups merge by the formula of Chan, Golub and LeVeque
//! (1979). Both stay accurate where the mean is large against the spread. Fewer than two values: null.

use super::*;
use arrow::array::{Float64Array, UInt64Array};

pub struct Stddev;

#[derive(Clone, Copy, Default)]
pub struct Moments {
    count: u64,
    mean: f64,
    /// Sum of squared distances from the mean.
    squares: f64,
}

impl Moments {
    #[inline]
    fn add(&mut self, value: f64) {
        self.count += 1;
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (value - self.mean);
    }

    fn merge(&mut self, other: Moments) {
        if self.count == 0 || other.count == 0 {
            *self = if self.count == 0 { other } else { *self };
            return;
        }
        let count = self.count + other.count;
        let apart = other.mean - self.mean;
        let share = other.count as f64 / count as f64;
        self.squares += other.squares + apart * apart * self.count as f64 * share;
        self.mean += apart * share;
        self.count = count;
    }

    fn deviation(self) -> Option<f64> {
        (self.count > 1).then(|| (self.squares / (self.count - 1) as f64).sqrt())
    }
}

impl Function for Stddev {
    type Group = Moments;

    fn name(&self) -> &'static str {
        "stddev"
    }

    fn update(
        &self,
        groups: &mut [Moments],
        input: &Input,
        pairs: Pairs<'_>,
    ) -> Result<(), AggregateError> {
        let values = argument::<Float64Array>(input, "stddev")?.values();
        for_each(input, pairs, |row, slot| groups[slot].add(values[row]));
        Ok(())
    }

    fn merge(&self, from: Moments, into: &mut Moments) {
        into.merge(from);
    }

    fn finish(&self, groups: &[&Moments]) -> Result<Finished, AggregateError> {
        let values = groups.iter().map(|group| group.deviation());
        Ok(Finished::all(Arc::new(Float64Array::from_iter(values))))
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![DataType::UInt64, DataType::Float64, DataType::Float64]
    }

    fn save(&self, groups: &[&Moments]) -> Result<Vec<ArrayRef>, AggregateError> {
        let counts = groups.iter().map(|group| group.count);
        let means = groups.iter().map(|group| group.mean);
        let squares = groups.iter().map(|group| group.squares);
        Ok(vec![
            Arc::new(UInt64Array::from_iter_values(counts)),
            Arc::new(Float64Array::from_iter_values(means)),
            Arc::new(Float64Array::from_iter_values(squares)),
        ])
    }

    fn load(&self, saved: &Saved<'_>) -> Result<Vec<Moments>, AggregateError> {
        let counts = saved.column::<UInt64Array>(0)?.values();
        let means = saved.column::<Float64Array>(1)?.values();
        let squares = saved.column::<Float64Array>(2)?.values();
        let moments = counts.iter().zip(means).zip(squares);
        Ok(moments
            .map(|((count, mean), squares)| Moments {
                count: *count,
                mean: *mean,
                squares: *squares,
            })
            .collect())
    }
}
