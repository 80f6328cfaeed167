//! `count(*)` and `count(x)`.

use super::*;
use arrow::array::Int64Array;

#[derive(Default)]
pub struct Count {
    counts: Vec<i64>,
}

impl Accumulator for Count {
    fn grow(&mut self, slots: usize) {
        self.counts.resize(slots.max(self.counts.len()), 0);
    }

    fn update(&mut self, input: &Input, pairs: Pairs<'_>) -> Result<(), AggregateError> {
        for_each(input, pairs, |_, slot| self.counts[slot] += 1);
        Ok(())
    }

    fn merge(&mut self, from: Slot, into: Slot) {
        self.counts[into as usize] += self.counts[from as usize];
    }

    fn reset(&mut self, slots: &[Slot]) {
        slots
            .iter()
            .for_each(|slot| self.counts[*slot as usize] = 0);
    }

    fn finish(&self, slots: &[Slot]) -> Result<Finished, AggregateError> {
        Ok(Finished::all(self.column(slots)))
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![DataType::Int64]
    }

    fn save(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, AggregateError> {
        Ok(vec![self.column(slots)])
    }

    fn load(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<(), AggregateError> {
        let counts: &Int64Array = saved(state, 0, slots.len(), "count")?;
        slots
            .iter()
            .zip(counts.values())
            .for_each(|(slot, count)| self.counts[*slot as usize] = *count);
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.counts.capacity() * size_of::<i64>()
    }
}

impl Count {
    fn column(&self, slots: &[Slot]) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(
            slots.iter().map(|slot| self.counts[*slot as usize]),
        ))
    }
}
