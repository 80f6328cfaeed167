//! Aggregate functions over many groups at once: columnar accumulators, one column of state for each call.
//!
//! A group is a *slot*: an index into every accumulator of a step. Rows arrive as pairs (row, slot), in log order, so
//! that each call makes one pass over its argument. Every accumulator is a function of the rows and their order in the
//! log alone, whatever the batches were; `merge` (sessions that grow together) gives what all rows in log order would
//! have given, up to the last bits of floating-point sums.
//!
//! All functions skip nulls. Functions of no values are null, counts are 0.

mod count;
mod distinct;
mod extreme;
mod grouped;
mod percentile;
mod stddev;
mod sum;
mod values;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, Int64Type, TimeUnit, TimestampMillisecondType,
};
use arrow::error::ArrowError;

use self::grouped::{Function, Grouped, Saved};
use crate::chunk::Millis;
use crate::plan::{AggregateCall, AggregateFunction};

/// Index of a group in every accumulator of a step.
pub type Slot = u32;

#[derive(Debug, thiserror::Error)]
pub enum AggregateError {
    #[error("{function} does not take {data_type}: cast the argument")]
    Unsupported {
        function: &'static str,
        data_type: DataType,
    },
    #[error("saved state of {function} does not fit: {reason}")]
    State {
        function: &'static str,
        reason: String,
    },
    #[error("aggregating: {0}")]
    Arrow(#[from] ArrowError),
}

/// What a call reads of a batch: its argument (none for `count(*)`) and the rows its `FILTER` lets through.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// Of type `argument_type`.
    pub values: Option<ArrayRef>,
    /// `None`: all rows. A null counts as false.
    pub filter: Option<BooleanArray>,
}

/// Which row goes to which group, in log order.
#[derive(Clone, Copy, Debug)]
pub struct Pairs<'a> {
    /// Rows of the input's arrays, as many as `slots`.
    pub rows: &'a [u32],
    pub slots: &'a [Slot],
    /// Event time of each row of the input.
    pub times: &'a [Millis],
    /// Place in the task's log of each row of the input: rows with one event time are told apart by it.
    pub sequences: &'a [u64],
}

/// Results of a call, and the groups whose result cannot be represented (null in `values`).
pub struct Finished {
    pub values: ArrayRef,
    /// Position among the slots asked for, and why.
    pub failed: Vec<(usize, String)>,
}

impl Finished {
    fn all(values: ArrayRef) -> Self {
        Finished {
            values,
            failed: Vec::new(),
        }
    }
}

/// State of one call in all groups. Slots must be within what `grow` was told; a slot is empty at first and after `reset`.
pub trait Accumulator: Send {
    /// Makes room for this many slots.
    fn grow(&mut self, slots: usize);
    fn update(&mut self, input: &Input, pairs: Pairs<'_>) -> Result<(), AggregateError>;
    /// Adds the rows of one slot to another.
    fn merge(&mut self, from: Slot, into: Slot);
    fn reset(&mut self, slots: &[Slot]);
    fn finish(&self, slots: &[Slot]) -> Result<Finished, AggregateError>;
    /// Types of the columns `save` gives.
    fn state_types(&self) -> Vec<DataType>;
    fn save(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, AggregateError>;
    /// Takes back what `save` gave, into empty slots. The columns have the types `state_types` says.
    fn load(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<(), AggregateError>;
}

/// An empty accumulator for a call.
pub fn accumulator(call: &AggregateCall) -> Result<Box<dyn Accumulator>, AggregateError> {
    use AggregateFunction::*;
    let argument = argument_type(call);
    let of = |function| {
        argument.clone().ok_or(AggregateError::Unsupported {
            function,
            data_type: DataType::Null,
        })
    };
    Ok(match call.function {
        Count => Box::new(Grouped::of(count::Count)),
        Sum => sum::sum(of("sum")?, sum::Outcome::Sum)?,
        Avg => sum::sum(of("avg")?, sum::Outcome::Average)?,
        Min => extreme::extreme(of("min")?, extreme::Side::Least)?,
        Max => extreme::extreme(of("max")?, extreme::Side::Greatest)?,
        Stddev => Box::new(Grouped::of(stddev::Stddev)),
        ApproxDistinct => Box::new(Grouped::of(distinct::ApproxDistinct)),
        ApproxPercentile(quantile) => {
            Box::new(Grouped::of(percentile::ApproxPercentile { quantile }))
        }
        FirstValue => pick(of("first_value")?, values::End::First)?,
        LastValue => pick(of("last_value")?, values::End::Last)?,
        ArrayAgg { limit } => {
            let function = values::ArrayAgg::new(of("array_agg")?, limit)?;
            Box::new(Grouped::of(function))
        }
    })
}

fn pick(argument: DataType, end: values::End) -> Result<Box<dyn Accumulator>, AggregateError> {
    Ok(Box::new(Grouped::of(values::Pick::new(argument, end)?)))
}

/// The type a call's argument is brought to before `update`; `None` where it has no argument.
pub fn argument_type(call: &AggregateCall) -> Option<DataType> {
    use AggregateFunction::*;
    let given = &call.argument.as_ref()?.data_type;
    Some(match &call.function {
        Stddev | ApproxPercentile(_) => DataType::Float64,
        _ => given.clone(),
    })
}

/// Brings an evaluated argument to `argument_type`. Fails where a value does not fit.
pub fn to_argument(values: ArrayRef, wanted: &DataType) -> Result<ArrayRef, AggregateError> {
    if values.data_type() == wanted {
        return Ok(values);
    }
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    Ok(cast_with_options(&values, wanted, &strict)?)
}

/// Which rows of an input count: those whose value is there and passes the call's filter.
struct Counting<'a> {
    nulls: Option<NullBuffer>,
    filter: Option<&'a BooleanArray>,
}

impl<'a> Counting<'a> {
    fn of(input: &'a Input) -> Self {
        let values = input.values.as_ref();
        Counting {
            nulls: values
                .and_then(|values| values.logical_nulls())
                .filter(|nulls| nulls.null_count() > 0),
            filter: input.filter.as_ref(),
        }
    }

    fn all(&self) -> bool {
        self.nulls.is_none() && self.filter.is_none()
    }

    fn counts(&self, row: usize) -> bool {
        self.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
            && self
                .filter
                .is_none_or(|filter| filter.is_valid(row) && filter.value(row))
    }
}

/// Calls `each(row, slot)` for every pair whose row counts.
#[inline]
fn for_each(input: &Input, pairs: Pairs<'_>, mut each: impl FnMut(usize, usize)) {
    let counting = Counting::of(input);
    let pairs = pairs
        .rows
        .iter()
        .zip(pairs.slots)
        .map(|(row, slot)| (*row as usize, *slot as usize));
    if counting.all() {
        pairs.for_each(|(row, slot)| each(row, slot));
    } else {
        pairs
            .filter(|(row, _)| counting.counts(*row))
            .for_each(|(row, slot)| each(row, slot));
    }
}

/// The argument as the array type that `argument_type` promised.
fn argument<'a, T: 'static>(
    input: &'a Input,
    function: &'static str,
) -> Result<&'a T, AggregateError> {
    let values = input.values.as_ref();
    values
        .and_then(|values| values.as_any().downcast_ref::<T>())
        .ok_or_else(|| AggregateError::Unsupported {
            function,
            data_type: values.map_or(DataType::Null, |values| values.data_type().clone()),
        })
}

#[cfg(test)]
mod tests;
