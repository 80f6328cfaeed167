//! `stddev`: sample standard deviation, by Welford's updates; groups merge by the formula of Chan, Golub and LeVeque
//! (1979). Both stay accurate where the mean is large against the spread. Fewer than two values: null.

use super::*;
use arrow::array::{Float64Array, UInt64Array};

#[derive(Default)]
pub struct Stddev {
    groups: Vec<Moments>,
}

#[derive(Clone, Copy, Default)]
struct Moments {
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

impl Accumulator for Stddev {
    fn grow(&mut self, slots: usize) {
        self.groups
            .resize(slots.max(self.groups.len()), Moments::default());
    }

    fn update(&mut self, input: &Input, pairs: Pairs<'_>) -> Result<(), AggregateError> {
        let values = argument::<Float64Array>(input, "stddev")?.values();
        for_each(input, pairs, |row, slot| self.groups[slot].add(values[row]));
        Ok(())
    }

    fn merge(&mut self, from: Slot, into: Slot) {
        let from = self.groups[from as usize];
        self.groups[into as usize].merge(from);
    }

    fn reset(&mut self, slots: &[Slot]) {
        slots
            .iter()
            .for_each(|slot| self.groups[*slot as usize] = Moments::default());
    }

    fn finish(&self, slots: &[Slot]) -> Result<Finished, AggregateError> {
        let values = slots
            .iter()
            .map(|slot| self.groups[*slot as usize].deviation());
        Ok(Finished::all(Arc::new(Float64Array::from_iter(values))))
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![DataType::UInt64, DataType::Float64, DataType::Float64]
    }

    fn save(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, AggregateError> {
        let groups = || slots.iter().map(|slot| self.groups[*slot as usize]);
        Ok(vec![
            Arc::new(UInt64Array::from_iter_values(
                groups().map(|group| group.count),
            )),
            Arc::new(Float64Array::from_iter_values(
                groups().map(|group| group.mean),
            )),
            Arc::new(Float64Array::from_iter_values(
                groups().map(|group| group.squares),
            )),
        ])
    }

    fn load(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<(), AggregateError> {
        let counts: &UInt64Array = saved(state, 0, slots.len(), "stddev")?;
        let means: &Float64Array = saved(state, 1, slots.len(), "stddev")?;
        let squares: &Float64Array = saved(state, 2, slots.len(), "stddev")?;
        for (at, slot) in slots.iter().enumerate() {
            self.groups[*slot as usize] = Moments {
                count: counts.value(at),
                mean: means.value(at),
                squares: squares.value(at),
            };
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.groups.capacity() * size_of::<Moments>()
    }
}
