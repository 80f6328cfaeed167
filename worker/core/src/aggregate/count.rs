//! `count(*)` and `count(x)`.

use super::*;
use arrow::array::Int64Array;

pub struct Count;

impl Function for Count {
    type Group = i64;

    fn name(&self) -> &'static str {
        "count"
    }

    fn update(
        &self,
        counts: &mut [i64],
        input: &Input,
        pairs: Pairs<'_>,
    ) -> Result<(), AggregateError> {
        for_each(input, pairs, |_, slot| counts[slot] += 1);
        Ok(())
    }

    fn merge(&self, from: i64, into: &mut i64) {
        *into += from;
    }

    fn finish(&self, counts: &[&i64]) -> Result<Finished, AggregateError> {
        Ok(Finished::all(column(counts)))
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![DataType::Int64]
    }

    fn save(&self, counts: &[&i64]) -> Result<Vec<ArrayRef>, AggregateError> {
        Ok(vec![column(counts)])
    }

    fn load(&self, saved: &Saved<'_>) -> Result<Vec<i64>, AggregateError> {
        Ok(saved.column::<Int64Array>(0)?.values().to_vec())
    }
}

fn column(counts: &[&i64]) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(
        counts.iter().copied().copied(),
    ))
}
