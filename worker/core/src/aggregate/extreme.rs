//! `min` and `max`.
//!
//! Order: numbers and timestamps as usual, -0.0 below 0.0, NaN above every number; strings and bytes bytewise; false
//! before true.

use super::*;
use arrow::array::{BinaryArray, PrimitiveArray, StringArray};
use arrow::datatypes::ArrowPrimitiveType;
use std::cmp::Ordering;
use std::marker::PhantomData;

const NAME: &str = "min or max";

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Side {
    Least,
    Greatest,
}

impl Side {
    /// How a new value must compare to the one held to take its place.
    fn wanted(self) -> Ordering {
        match self {
            Side::Least => Ordering::Less,
            Side::Greatest => Ordering::Greater,
        }
    }
}

/// `min` or `max` of an argument of type `argument`.
pub fn extreme(argument: DataType, side: Side) -> Result<Box<dyn Accumulator>, AggregateError> {
    use DataType::*;
    Ok(match argument {
        Int64 => Numbers::<Int64Type>::accumulator(argument, side),
        Float64 => Numbers::<Float64Type>::accumulator(argument, side),
        Decimal128(..) => Numbers::<Decimal128Type>::accumulator(argument, side),
        Timestamp(TimeUnit::Millisecond, None) => {
            Numbers::<TimestampMillisecondType>::accumulator(argument, side)
        }
        Utf8 | Binary => Box::new(Grouped::of(Texts { argument, side })),
        Boolean => Box::new(Grouped::of(Truths { side })),
        data_type => {
            return Err(AggregateError::Unsupported {
                function: NAME,
                data_type,
            });
        }
    })
}

/// A total order in which equal values are the same bits.
trait Ordered: Copy + Default + Send {
    fn order(self, other: Self) -> Ordering;
    fn canonical(self) -> Self {
        self
    }
}

impl Ordered for i64 {
    #[inline]
    fn order(self, other: Self) -> Ordering {
        self.cmp(&other)
    }
}

impl Ordered for i128 {
    #[inline]
    fn order(self, other: Self) -> Ordering {
        self.cmp(&other)
    }
}

impl Ordered for f64 {
    #[inline]
    fn order(self, other: Self) -> Ordering {
        self.total_cmp(&other)
    }

    /// One NaN for all: arithmetic makes NaN of either sign, and `total_cmp` would put one of them below all numbers.
    #[inline]
    fn canonical(self) -> Self {
        if self.is_nan() { f64::NAN } else { self }
    }
}

struct Numbers<P> {
    argument: DataType,
    side: Side,
    native: PhantomData<fn() -> P>,
}

impl<P: ArrowPrimitiveType> Numbers<P>
where
    P::Native: Ordered,
{
    fn accumulator(argument: DataType, side: Side) -> Box<dyn Accumulator> {
        Box::new(Grouped::of(Numbers::<P> {
            argument,
            side,
            native: PhantomData,
        }))
    }

    fn column(&self, groups: &[&Option<P::Native>]) -> ArrayRef {
        let values = groups.iter().copied().copied();
        Arc::new(PrimitiveArray::<P>::from_iter(values).with_data_type(self.argument.clone()))
    }
}

#[inline]
fn offer<N: Ordered>(held: &mut Option<N>, value: N, wanted: Ordering) {
    match held {
        Some(held) if value.order(*held) != wanted => {}
        _ => *held = Some(value),
    }
}

impl<P: ArrowPrimitiveType> Function for Numbers<P>
where
    P::Native: Ordered,
{
    type Group = Option<P::Native>;

    fn name(&self) -> &'static str {
        NAME
    }

    fn update(
        &self,
        groups: &mut [Option<P::Native>],
        input: &Input,
        pairs: Pairs<'_>,
    ) -> Result<(), AggregateError> {
        let values = argument::<PrimitiveArray<P>>(input, NAME)?.values();
        let wanted = self.side.wanted();
        for_each(input, pairs, |row, slot| {
            offer(&mut groups[slot], values[row].canonical(), wanted)
        });
        Ok(())
    }

    fn merge(&self, from: Option<P::Native>, into: &mut Option<P::Native>) {
        if let Some(value) = from {
            offer(into, value, self.side.wanted());
        }
    }

    fn finish(&self, groups: &[&Option<P::Native>]) -> Result<Finished, AggregateError> {
        Ok(Finished::all(self.column(groups)))
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![self.argument.clone()]
    }

    fn save(&self, groups: &[&Option<P::Native>]) -> Result<Vec<ArrayRef>, AggregateError> {
        Ok(vec![self.column(groups)])
    }

    fn load(&self, saved: &Saved<'_>) -> Result<Vec<Option<P::Native>>, AggregateError> {
        Ok(saved.column::<PrimitiveArray<P>>(0)?.iter().collect())
    }
}

/// Strings or bytes.
struct Texts {
    argument: DataType,
    side: Side,
}

type Text = Option<Box<[u8]>>;

impl Texts {
    fn offer(&self, held: &mut Text, value: &[u8]) {
        match held {
            Some(held) if value.cmp(held) != self.side.wanted() => {}
            _ => *held = Some(value.into()),
        }
    }

    fn column(&self, groups: &[&Text]) -> Result<ArrayRef, AggregateError> {
        let bytes: BinaryArray = groups.iter().map(|text| text.as_deref()).collect();
        Ok(match self.argument {
            DataType::Utf8 => Arc::new(StringArray::try_from_binary(bytes)?),
            _ => Arc::new(bytes),
        })
    }
}

impl Function for Texts {
    type Group = Text;

    fn name(&self) -> &'static str {
        NAME
    }

    fn update(
        &self,
        groups: &mut [Text],
        input: &Input,
        pairs: Pairs<'_>,
    ) -> Result<(), AggregateError> {
        if let DataType::Utf8 = self.argument {
            let values: &StringArray = argument(input, NAME)?;
            for_each(input, pairs, |row, slot| {
                self.offer(&mut groups[slot], values.value(row).as_bytes())
            });
        } else {
            let values: &BinaryArray = argument(input, NAME)?;
            for_each(input, pairs, |row, slot| {
                self.offer(&mut groups[slot], values.value(row))
            });
        }
        Ok(())
    }

    fn merge(&self, from: Text, into: &mut Text) {
        match (&from, &into) {
            (None, _) => {}
            (Some(value), Some(held)) if value.cmp(held) != self.side.wanted() => {}
            _ => *into = from,
        }
    }

    fn finish(&self, groups: &[&Text]) -> Result<Finished, AggregateError> {
        Ok(Finished::all(self.column(groups)?))
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![self.argument.clone()]
    }

    fn save(&self, groups: &[&Text]) -> Result<Vec<ArrayRef>, AggregateError> {
        Ok(vec![self.column(groups)?])
    }

    fn load(&self, saved: &Saved<'_>) -> Result<Vec<Text>, AggregateError> {
        Ok(match self.argument {
            DataType::Utf8 => {
                let texts = saved.column::<StringArray>(0)?.iter();
                texts
                    .map(|text| text.map(|text| text.as_bytes().into()))
                    .collect()
            }
            _ => {
                let texts = saved.column::<BinaryArray>(0)?.iter();
                texts.map(|bytes| bytes.map(Into::into)).collect()
            }
        })
    }
}

struct Truths {
    side: Side,
}

impl Truths {
    fn offer(&self, held: &mut Option<bool>, value: bool) {
        *held = Some(match (*held, self.side) {
            (None, _) => value,
            (Some(held), Side::Least) => held && value,
            (Some(held), Side::Greatest) => held || value,
        });
    }
}

fn truths(groups: &[&Option<bool>]) -> ArrayRef {
    let values: BooleanArray = groups.iter().copied().copied().collect();
    Arc::new(values)
}

impl Function for Truths {
    type Group = Option<bool>;

    fn name(&self) -> &'static str {
        NAME
    }

    fn update(
        &self,
        groups: &mut [Option<bool>],
        input: &Input,
        pairs: Pairs<'_>,
    ) -> Result<(), AggregateError> {
        let values: &BooleanArray = argument(input, NAME)?;
        for_each(input, pairs, |row, slot| {
            self.offer(&mut groups[slot], values.value(row))
        });
        Ok(())
    }

    fn merge(&self, from: Option<bool>, into: &mut Option<bool>) {
        if let Some(value) = from {
            self.offer(into, value);
        }
    }

    fn finish(&self, groups: &[&Option<bool>]) -> Result<Finished, AggregateError> {
        Ok(Finished::all(truths(groups)))
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![DataType::Boolean]
    }

    fn save(&self, groups: &[&Option<bool>]) -> Result<Vec<ArrayRef>, AggregateError> {
        Ok(vec![truths(groups)])
    }

    fn load(&self, saved: &Saved<'_>) -> Result<Vec<Option<bool>>, AggregateError> {
        Ok(saved.column::<BooleanArray>(0)?.iter().collect())
    }
}
