//! `sum` and `avg`: exact for integers and decimals, compensated for doubles.
//!
//! Exact sums never wrap: they are held in more than 128 bits, and a result that does not fit its type is a failure of
//! that group. Doubles are summed in log order with Neumaier's variant of Kahan's compensation (1974), so that the
//! error does not grow with the number of rows.

use super::*;
use arrow::array::{Decimal128Array, Float64Array, Int64Array, PrimitiveArray, UInt64Array};
use arrow::datatypes::{ArrowPrimitiveType, DECIMAL128_MAX_PRECISION, i256};
use std::marker::PhantomData;

/// `sum` of an argument of type `argument`, as `result`.
pub fn sum(argument: DataType, result: DataType) -> Result<Box<dyn Accumulator>, AggregateError> {
    numeric("sum", argument, result, Outcome::Sum)
}

/// `avg`: exact sum over count, decimals rounded half away from zero.
pub fn avg(argument: DataType, result: DataType) -> Result<Box<dyn Accumulator>, AggregateError> {
    numeric("avg", argument, result, Outcome::Average)
}

fn numeric(
    function: &'static str,
    argument: DataType,
    result: DataType,
    outcome: Outcome,
) -> Result<Box<dyn Accumulator>, AggregateError> {
    Ok(match argument {
        DataType::Int64 => Box::new(Totals::<Int64Type, Exact>::new(
            function, 0, result, outcome,
        )),
        DataType::Decimal128(_, scale) => Box::new(Totals::<Decimal128Type, Exact>::new(
            function, scale, result, outcome,
        )),
        DataType::Float64 => Box::new(Totals::<Float64Type, Compensated>::new(
            function, 0, result, outcome,
        )),
        data_type => {
            return Err(AggregateError::Unsupported {
                function,
                data_type,
            });
        }
    })
}

#[derive(Clone, Copy)]
enum Outcome {
    Sum,
    Average,
}

/// A running total.
trait Total<N>: Copy + Default + Send {
    const STATE: [DataType; 2];
    fn add(&mut self, value: N);
    fn merge(&mut self, other: Self);
    fn save(totals: impl Iterator<Item = Self>) -> Result<Vec<ArrayRef>, AggregateError>;
    fn load(
        state: &[ArrayRef],
        rows: usize,
        function: &'static str,
    ) -> Result<Vec<Self>, AggregateError>;
    fn finish(
        totals: &[Counted<Self>],
        outcome: Outcome,
        scale: i8,
        result: &DataType,
        function: &'static str,
    ) -> Result<Finished, AggregateError>;
}

#[derive(Clone, Copy, Default)]
struct Counted<T> {
    total: T,
    count: u64,
}

struct Totals<P, T> {
    function: &'static str,
    /// Scale of the argument.
    scale: i8,
    result: DataType,
    outcome: Outcome,
    groups: Vec<Counted<T>>,
    argument: PhantomData<fn() -> P>,
}

impl<P, T> Totals<P, T> {
    fn new(function: &'static str, scale: i8, result: DataType, outcome: Outcome) -> Self {
        Totals {
            function,
            scale,
            result,
            outcome,
            groups: Vec::new(),
            argument: PhantomData,
        }
    }
}

impl<P, T> Accumulator for Totals<P, T>
where
    P: ArrowPrimitiveType,
    T: Total<P::Native>,
{
    fn grow(&mut self, slots: usize) {
        self.groups
            .resize(slots.max(self.groups.len()), Counted::default());
    }

    fn update(&mut self, input: &Input, pairs: Pairs<'_>) -> Result<(), AggregateError> {
        let values = argument::<PrimitiveArray<P>>(input, self.function)?.values();
        for_each(input, pairs, |row, slot| {
            let group = &mut self.groups[slot];
            group.total.add(values[row]);
            group.count += 1;
        });
        Ok(())
    }

    fn merge(&mut self, from: Slot, into: Slot) {
        let from = self.groups[from as usize];
        let into = &mut self.groups[into as usize];
        into.total.merge(from.total);
        into.count += from.count;
    }

    fn reset(&mut self, slots: &[Slot]) {
        slots
            .iter()
            .for_each(|slot| self.groups[*slot as usize] = Counted::default());
    }

    fn finish(&self, slots: &[Slot]) -> Result<Finished, AggregateError> {
        let totals: Vec<_> = slots
            .iter()
            .map(|slot| self.groups[*slot as usize])
            .collect();
        T::finish(
            &totals,
            self.outcome,
            self.scale,
            &self.result,
            self.function,
        )
    }

    fn state_types(&self) -> Vec<DataType> {
        let mut types = T::STATE.to_vec();
        types.push(DataType::UInt64);
        types
    }

    fn save(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, AggregateError> {
        let groups = || slots.iter().map(|slot| self.groups[*slot as usize]);
        let mut columns = T::save(groups().map(|group| group.total))?;
        columns.push(Arc::new(UInt64Array::from_iter_values(
            groups().map(|group| group.count),
        )));
        Ok(columns)
    }

    fn load(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<(), AggregateError> {
        let totals = T::load(state, slots.len(), self.function)?;
        let counts: &UInt64Array = saved(state, 2, slots.len(), self.function)?;
        for ((slot, total), count) in slots.iter().zip(totals).zip(counts.values()) {
            self.groups[*slot as usize] = Counted {
                total,
                count: *count,
            };
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.groups.capacity() * size_of::<Counted<T>>()
    }
}

/// An integer of 192 bits: `carry * 2^128 + low`, where `low` is signed.
#[derive(Clone, Copy, Debug, Default)]
struct Exact {
    low: i128,
    carry: i64,
}

impl Exact {
    #[inline]
    fn add_wide(&mut self, value: i128) {
        let (low, overflowed) = self.low.overflowing_add(value);
        self.low = low;
        if overflowed {
            self.carry += value.signum() as i64;
        }
    }

    /// The total, where it fits 128 bits.
    fn value(self) -> Option<i128> {
        (self.carry == 0).then_some(self.low)
    }

    fn as_f64(self) -> f64 {
        self.carry as f64 * 2f64.powi(128) + self.low as f64
    }
}

impl<N: Into<i128>> Total<N> for Exact {
    const STATE: [DataType; 2] = [
        DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0),
        DataType::Int64,
    ];

    #[inline]
    fn add(&mut self, value: N) {
        self.add_wide(value.into());
    }

    fn merge(&mut self, other: Self) {
        self.add_wide(other.low);
        self.carry += other.carry;
    }

    fn save(totals: impl Iterator<Item = Self>) -> Result<Vec<ArrayRef>, AggregateError> {
        let (low, carry): (Vec<i128>, Vec<i64>) =
            totals.map(|total| (total.low, total.carry)).unzip();
        // The type carries 128 bits; its precision, which these bits may exceed, is not checked.
        let low =
            Decimal128Array::from(low).with_precision_and_scale(DECIMAL128_MAX_PRECISION, 0)?;
        Ok(vec![Arc::new(low), Arc::new(Int64Array::from(carry))])
    }

    fn load(
        state: &[ArrayRef],
        rows: usize,
        function: &'static str,
    ) -> Result<Vec<Self>, AggregateError> {
        let low: &Decimal128Array = saved(state, 0, rows, function)?;
        let carry: &Int64Array = saved(state, 1, rows, function)?;
        Ok(low
            .values()
            .iter()
            .zip(carry.values())
            .map(|(low, carry)| Exact {
                low: *low,
                carry: *carry,
            })
            .collect())
    }

    fn finish(
        totals: &[Counted<Self>],
        outcome: Outcome,
        scale: i8,
        result: &DataType,
        function: &'static str,
    ) -> Result<Finished, AggregateError> {
        let unsupported = || AggregateError::Unsupported {
            function,
            data_type: result.clone(),
        };
        if let DataType::Float64 = result {
            let divisor = |count: u64| match outcome {
                Outcome::Sum => 1.0,
                Outcome::Average => count as f64,
            };
            let scaled = |group: &Counted<Exact>| {
                group.total.as_f64() / 10f64.powi(scale.into()) / divisor(group.count)
            };
            let values = totals
                .iter()
                .map(|group| (group.count > 0).then(|| scaled(group)));
            return Ok(Finished::all(Arc::new(Float64Array::from_iter(values))));
        }
        let (precision, target) = match result {
            DataType::Int64 | DataType::UInt64 => (DECIMAL128_MAX_PRECISION, 0),
            DataType::Decimal128(precision, target) => (*precision, *target),
            _ => return Err(unsupported()),
        };
        let mut failed = Vec::new();
        let values: Vec<Option<i128>> = totals
            .iter()
            .enumerate()
            .map(|(at, group)| {
                if group.count == 0 {
                    return None;
                }
                let value = exact_result(group, outcome, scale, target)
                    .filter(|value| fits(*value, precision, result));
                if value.is_none() {
                    failed.push((at, format!("Overflow: {function} does not fit {result}")));
                }
                value
            })
            .collect();
        let values: ArrayRef = match result {
            DataType::Int64 => Arc::new(Int64Array::from_iter(
                values.iter().map(|value| value.map(|value| value as i64)),
            )),
            DataType::UInt64 => Arc::new(UInt64Array::from_iter(
                values.iter().map(|value| value.map(|value| value as u64)),
            )),
            _ => {
                Arc::new(Decimal128Array::from(values).with_precision_and_scale(precision, target)?)
            }
        };
        Ok(Finished { values, failed })
    }
}

/// The sum or average, brought from scale `from` to scale `to`, rounded half away from zero.
fn exact_result(group: &Counted<Exact>, outcome: Outcome, from: i8, to: i8) -> Option<i128> {
    let total = group.total.value()?;
    let divisor = match outcome {
        Outcome::Sum => 1,
        Outcome::Average => group.count,
    };
    if from == to && divisor == 1 {
        return Some(total);
    }
    let power = |exponent: i8| i256::from_i128(10).checked_pow(u32::try_from(exponent).ok()?);
    let shift = to.checked_sub(from)?;
    let (mut numerator, mut divisor) = (i256::from_i128(total), i256::from_i128(divisor.into()));
    match shift >= 0 {
        true => numerator = numerator.checked_mul(power(shift)?)?,
        false => divisor = divisor.checked_mul(power(-shift)?)?,
    }
    let half = divisor.checked_div(i256::from_i128(2))?;
    let rounded = match numerator.is_negative() {
        true => numerator.checked_sub(half)?,
        false => numerator.checked_add(half)?,
    };
    rounded.checked_div(divisor)?.to_i128()
}

fn fits(value: i128, precision: u8, result: &DataType) -> bool {
    match result {
        DataType::Int64 => i64::try_from(value).is_ok(),
        DataType::UInt64 => u64::try_from(value).is_ok(),
        _ => 10u128
            .checked_pow(precision.into())
            .is_none_or(|bound| value.unsigned_abs() < bound),
    }
}

/// A sum of doubles and what rounding has cost it so far.
#[derive(Clone, Copy, Debug, Default)]
struct Compensated {
    sum: f64,
    lost: f64,
}

impl Compensated {
    fn value(self) -> f64 {
        match self.sum.is_finite() {
            true => self.sum + self.lost,
            false => self.sum,
        }
    }
}

impl Total<f64> for Compensated {
    const STATE: [DataType; 2] = [DataType::Float64, DataType::Float64];

    #[inline]
    fn add(&mut self, value: f64) {
        let sum = self.sum + value;
        // Infinities and NaN have no rounding error; computing one would spoil the sum.
        if sum.is_finite() {
            self.lost += match self.sum.abs() >= value.abs() {
                true => (self.sum - sum) + value,
                false => (value - sum) + self.sum,
            };
        }
        self.sum = sum;
    }

    fn merge(&mut self, other: Self) {
        self.add(other.sum);
        self.lost += other.lost;
    }

    fn save(totals: impl Iterator<Item = Self>) -> Result<Vec<ArrayRef>, AggregateError> {
        let (sum, lost): (Vec<f64>, Vec<f64>) = totals.map(|total| (total.sum, total.lost)).unzip();
        Ok(vec![
            Arc::new(Float64Array::from(sum)),
            Arc::new(Float64Array::from(lost)),
        ])
    }

    fn load(
        state: &[ArrayRef],
        rows: usize,
        function: &'static str,
    ) -> Result<Vec<Self>, AggregateError> {
        let sum: &Float64Array = saved(state, 0, rows, function)?;
        let lost: &Float64Array = saved(state, 1, rows, function)?;
        Ok(sum
            .values()
            .iter()
            .zip(lost.values())
            .map(|(sum, lost)| Compensated {
                sum: *sum,
                lost: *lost,
            })
            .collect())
    }

    fn finish(
        totals: &[Counted<Self>],
        outcome: Outcome,
        _: i8,
        result: &DataType,
        _: &'static str,
    ) -> Result<Finished, AggregateError> {
        let value = |group: &Counted<Compensated>| match outcome {
            Outcome::Sum => group.total.value(),
            Outcome::Average => group.total.value() / group.count as f64,
        };
        let values = totals
            .iter()
            .map(|group| (group.count > 0).then(|| value(group)));
        Ok(Finished::all(cast(
            Arc::new(Float64Array::from_iter(values)),
            result,
        )?))
    }
}
