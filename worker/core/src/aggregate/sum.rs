//! `sum` and `avg`: exact for integers and decimals, compensated for doubles.
//!
//! Exact sums never wrap: they are held in more than 128 bits, and a result that does not fit its type is a failure of
//! that group. Doubles are summed in log order with Neumaier's variant of Kahan's compensation (1974), so that the
//! error does not grow with the number of rows.

use super::*;
use arrow::array::{Decimal128Array, Float64Array, Int64Array, PrimitiveArray, UInt64Array};
use arrow::datatypes::{ArrowPrimitiveType, DECIMAL128_MAX_PRECISION};
use std::marker::PhantomData;

#[derive(Clone, Copy)]
pub enum Outcome {
    Sum,
    Average,
}

impl Outcome {
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Sum => "sum",
            Outcome::Average => "avg",
        }
    }
}

/// The sum of an argument of type `argument`, in the widest of its kind, or its average, a Double.
pub fn sum(argument: DataType, outcome: Outcome) -> Result<Box<dyn Accumulator>, AggregateError> {
    Ok(match argument {
        DataType::Int64 => Totals::<Int64Type, Exact>::accumulator(argument, 0, outcome),
        DataType::Float64 => Totals::<Float64Type, Compensated>::accumulator(argument, 0, outcome),
        DataType::Decimal128(_, scale) => {
            let sum = DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale);
            Totals::<Decimal128Type, Exact>::accumulator(sum, scale, outcome)
        }
        data_type => {
            return Err(AggregateError::Unsupported {
                function: outcome.name(),
                data_type,
            });
        }
    })
}

/// A running total of values of type `N`.
trait Total<N>: Copy + Default + Send {
    const STATE: [DataType; 2];
    fn add(&mut self, value: N);
    fn merge(&mut self, other: Self);
    /// None where it does not fit.
    fn sum(self) -> Option<N>;
    fn as_f64(self) -> f64;
    fn save(totals: impl Iterator<Item = Self>) -> Result<Vec<ArrayRef>, AggregateError>;
    fn load(saved: &Saved<'_>) -> Result<Vec<Self>, AggregateError>;
}

#[derive(Clone, Copy, Default)]
struct Counted<T> {
    total: T,
    count: u64,
}

struct Totals<P, T> {
    outcome: Outcome,
    /// Type of a sum.
    sum: DataType,
    /// Digits of a value behind the point.
    scale: i8,
    types: PhantomData<fn() -> (P, T)>,
}

impl<P: ArrowPrimitiveType, T: Total<P::Native> + 'static> Totals<P, T> {
    fn accumulator(sum: DataType, scale: i8, outcome: Outcome) -> Box<dyn Accumulator> {
        Box::new(Grouped::of(Totals::<P, T> {
            outcome,
            sum,
            scale,
            types: PhantomData,
        }))
    }

    fn sums(&self, groups: &[&Counted<T>]) -> Finished {
        let mut failed = Vec::new();
        let sums = groups.iter().enumerate().map(|(at, group)| {
            let sum = group.total.sum().filter(|_| group.count > 0);
            if sum.is_none() && group.count > 0 {
                failed.push((at, format!("Overflow: sum does not fit {}", self.sum)));
            }
            sum
        });
        let sums = PrimitiveArray::<P>::from_iter(sums).with_data_type(self.sum.clone());
        Finished {
            values: Arc::new(sums),
            failed,
        }
    }

    fn averages(&self, groups: &[&Counted<T>]) -> Finished {
        let unit = 10f64.powi(self.scale.into());
        let averages = groups.iter().map(|group| {
            (group.count > 0).then(|| group.total.as_f64() / unit / group.count as f64)
        });
        Finished::all(Arc::new(Float64Array::from_iter(averages)))
    }
}

impl<P: ArrowPrimitiveType, T: Total<P::Native> + 'static> Function for Totals<P, T> {
    type Group = Counted<T>;

    fn name(&self) -> &'static str {
        self.outcome.name()
    }

    fn update(
        &self,
        groups: &mut [Counted<T>],
        input: &Input,
        pairs: Pairs<'_>,
    ) -> Result<(), AggregateError> {
        let values = argument::<PrimitiveArray<P>>(input, self.name())?.values();
        for_each(input, pairs, |row, slot| {
            let group = &mut groups[slot];
            group.total.add(values[row]);
            group.count += 1;
        });
        Ok(())
    }

    fn merge(&self, from: Counted<T>, into: &mut Counted<T>) {
        into.total.merge(from.total);
        into.count += from.count;
    }

    fn finish(&self, groups: &[&Counted<T>]) -> Result<Finished, AggregateError> {
        Ok(match self.outcome {
            Outcome::Sum => self.sums(groups),
            Outcome::Average => self.averages(groups),
        })
    }

    fn state_types(&self) -> Vec<DataType> {
        let mut types = T::STATE.to_vec();
        types.push(DataType::UInt64);
        types
    }

    fn save(&self, groups: &[&Counted<T>]) -> Result<Vec<ArrayRef>, AggregateError> {
        let mut columns = T::save(groups.iter().map(|group| group.total))?;
        let counts = groups.iter().map(|group| group.count);
        columns.push(Arc::new(UInt64Array::from_iter_values(counts)));
        Ok(columns)
    }

    fn load(&self, saved: &Saved<'_>) -> Result<Vec<Counted<T>>, AggregateError> {
        let counts: &UInt64Array = saved.column(2)?;
        let totals = T::load(saved)?.into_iter().zip(counts.values());
        Ok(totals
            .map(|(total, count)| Counted {
                total,
                count: *count,
            })
            .collect())
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

    /// The total, where it fits a decimal.
    fn value(self) -> Option<i128> {
        const BOUND: u128 = 10u128.pow(DECIMAL128_MAX_PRECISION as u32);
        (self.carry == 0 && self.low.unsigned_abs() < BOUND).then_some(self.low)
    }
}

impl<N: Into<i128> + TryFrom<i128>> Total<N> for Exact {
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

    fn sum(self) -> Option<N> {
        N::try_from(self.value()?).ok()
    }

    fn as_f64(self) -> f64 {
        self.carry as f64 * 2f64.powi(128) + self.low as f64
    }

    fn save(totals: impl Iterator<Item = Self>) -> Result<Vec<ArrayRef>, AggregateError> {
        let (low, carry): (Vec<i128>, Vec<i64>) =
            totals.map(|total| (total.low, total.carry)).unzip();
        // The type carries 128 bits; its precision, which these bits may exceed, is not checked.
        let low =
            Decimal128Array::from(low).with_precision_and_scale(DECIMAL128_MAX_PRECISION, 0)?;
        Ok(vec![Arc::new(low), Arc::new(Int64Array::from(carry))])
    }

    fn load(saved: &Saved<'_>) -> Result<Vec<Self>, AggregateError> {
        let low: &Decimal128Array = saved.column(0)?;
        let carry: &Int64Array = saved.column(1)?;
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
}

/// A sum of doubles and what rounding has cost it so far.
#[derive(Clone, Copy, Debug, Default)]
struct Compensated {
    sum: f64,
    lost: f64,
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

    fn sum(self) -> Option<f64> {
        Some(self.as_f64())
    }

    fn as_f64(self) -> f64 {
        match self.sum.is_finite() {
            true => self.sum + self.lost,
            false => self.sum,
        }
    }

    fn save(totals: impl Iterator<Item = Self>) -> Result<Vec<ArrayRef>, AggregateError> {
        let (sum, lost): (Vec<f64>, Vec<f64>) = totals.map(|total| (total.sum, total.lost)).unzip();
        Ok(vec![
            Arc::new(Float64Array::from(sum)),
            Arc::new(Float64Array::from(lost)),
        ])
    }

    fn load(saved: &Saved<'_>) -> Result<Vec<Self>, AggregateError> {
        let sum: &Float64Array = saved.column(0)?;
        let lost: &Float64Array = saved.column(1)?;
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
}
