//! `min` and `max`.
//!
//! Order: numbers and timestamps as usual, -0.0 below 0.0, NaN above every number; strings and bytes bytewise; false
//! before true.

use super::*;
use arrow::array::{BinaryArray, PrimitiveArray, StringArray};
use arrow::datatypes::ArrowPrimitiveType;
use std::cmp::Ordering;

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

pub fn extreme(
    argument: DataType,
    result: DataType,
    side: Side,
) -> Result<Box<dyn Accumulator>, AggregateError> {
    use DataType::*;
    Ok(match argument {
        Int64 => Box::new(Numbers::<Int64Type>::new(argument, result, side)),
        Float64 => Box::new(Numbers::<Float64Type>::new(argument, result, side)),
        Decimal128(..) => Box::new(Numbers::<Decimal128Type>::new(argument, result, side)),
        Timestamp(TimeUnit::Millisecond, None) => Box::new(
            Numbers::<TimestampMillisecondType>::new(argument, result, side),
        ),
        Utf8 | Binary => Box::new(Texts {
            argument,
            result,
            side,
            groups: Vec::new(),
        }),
        Boolean => Box::new(Truths {
            side,
            groups: Vec::new(),
        }),
        data_type => {
            return Err(AggregateError::Unsupported {
                function: "min or max",
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

struct Numbers<P: ArrowPrimitiveType> {
    argument: DataType,
    result: DataType,
    side: Side,
    groups: Vec<Option<P::Native>>,
}

impl<P: ArrowPrimitiveType> Numbers<P> {
    fn new(argument: DataType, result: DataType, side: Side) -> Self {
        Numbers {
            argument,
            result,
            side,
            groups: Vec::new(),
        }
    }

    fn column(&self, slots: &[Slot]) -> ArrayRef {
        let values = slots.iter().map(|slot| self.groups[*slot as usize]);
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

impl<P: ArrowPrimitiveType> Accumulator for Numbers<P>
where
    P::Native: Ordered,
{
    fn grow(&mut self, slots: usize) {
        self.groups.resize(slots.max(self.groups.len()), None);
    }

    fn update(&mut self, input: &Input, pairs: Pairs<'_>) -> Result<(), AggregateError> {
        let values = argument::<PrimitiveArray<P>>(input, "min or max")?.values();
        let wanted = self.side.wanted();
        for_each(input, pairs, |row, slot| {
            offer(&mut self.groups[slot], values[row].canonical(), wanted)
        });
        Ok(())
    }

    fn merge(&mut self, from: Slot, into: Slot) {
        if let Some(value) = self.groups[from as usize] {
            offer(&mut self.groups[into as usize], value, self.side.wanted());
        }
    }

    fn reset(&mut self, slots: &[Slot]) {
        slots
            .iter()
            .for_each(|slot| self.groups[*slot as usize] = None);
    }

    fn finish(&self, slots: &[Slot]) -> Result<Finished, AggregateError> {
        Ok(Finished::all(cast(self.column(slots), &self.result)?))
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![self.argument.clone()]
    }

    fn save(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, AggregateError> {
        Ok(vec![self.column(slots)])
    }

    fn load(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<(), AggregateError> {
        let values: &PrimitiveArray<P> = saved(state, 0, slots.len(), "min or max")?;
        slots
            .iter()
            .zip(values)
            .for_each(|(slot, value)| self.groups[*slot as usize] = value);
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.groups.capacity() * size_of::<Option<P::Native>>()
    }
}

/// Strings or bytes.
struct Texts {
    argument: DataType,
    result: DataType,
    side: Side,
    groups: Vec<Option<Box<[u8]>>>,
}

impl Texts {
    fn offer(&mut self, slot: usize, value: &[u8]) {
        match &self.groups[slot] {
            Some(held) if value.cmp(held) != self.side.wanted() => {}
            _ => self.groups[slot] = Some(value.into()),
        }
    }

    fn column(&self, slots: &[Slot]) -> Result<ArrayRef, AggregateError> {
        let bytes: BinaryArray = slots
            .iter()
            .map(|slot| self.groups[*slot as usize].as_deref())
            .collect();
        Ok(match self.argument {
            DataType::Utf8 => Arc::new(StringArray::try_from_binary(bytes)?),
            _ => Arc::new(bytes),
        })
    }
}

impl Accumulator for Texts {
    fn grow(&mut self, slots: usize) {
        self.groups.resize(slots.max(self.groups.len()), None);
    }

    fn update(&mut self, input: &Input, pairs: Pairs<'_>) -> Result<(), AggregateError> {
        if let DataType::Utf8 = self.argument {
            let values: &StringArray = argument(input, "min or max")?;
            for_each(input, pairs, |row, slot| {
                self.offer(slot, values.value(row).as_bytes())
            });
        } else {
            let values: &BinaryArray = argument(input, "min or max")?;
            for_each(input, pairs, |row, slot| {
                self.offer(slot, values.value(row))
            });
        }
        Ok(())
    }

    fn merge(&mut self, from: Slot, into: Slot) {
        if let Some(value) = self.groups[from as usize].clone() {
            self.offer(into as usize, &value);
        }
    }

    fn reset(&mut self, slots: &[Slot]) {
        slots
            .iter()
            .for_each(|slot| self.groups[*slot as usize] = None);
    }

    fn finish(&self, slots: &[Slot]) -> Result<Finished, AggregateError> {
        Ok(Finished::all(cast(self.column(slots)?, &self.result)?))
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![self.argument.clone()]
    }

    fn save(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, AggregateError> {
        Ok(vec![self.column(slots)?])
    }

    fn load(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<(), AggregateError> {
        let mut put = |values: &mut dyn Iterator<Item = Option<&[u8]>>| {
            slots
                .iter()
                .zip(values)
                .for_each(|(slot, value)| self.groups[*slot as usize] = value.map(Into::into));
        };
        match self.argument {
            DataType::Utf8 => {
                let values: &StringArray = saved(state, 0, slots.len(), "min or max")?;
                put(&mut values.iter().map(|value| value.map(str::as_bytes)));
            }
            _ => put(&mut saved::<BinaryArray>(state, 0, slots.len(), "min or max")?.iter()),
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        let texts: usize = self.groups.iter().flatten().map(|text| text.len()).sum();
        texts + self.groups.capacity() * size_of::<Option<Box<[u8]>>>()
    }
}

struct Truths {
    side: Side,
    groups: Vec<Option<bool>>,
}

impl Truths {
    fn offer(&mut self, slot: usize, value: bool) {
        let held = &mut self.groups[slot];
        *held = Some(match (*held, self.side) {
            (None, _) => value,
            (Some(held), Side::Least) => held && value,
            (Some(held), Side::Greatest) => held || value,
        });
    }

    fn column(&self, slots: &[Slot]) -> ArrayRef {
        Arc::new(
            slots
                .iter()
                .map(|slot| self.groups[*slot as usize])
                .collect::<BooleanArray>(),
        )
    }
}

impl Accumulator for Truths {
    fn grow(&mut self, slots: usize) {
        self.groups.resize(slots.max(self.groups.len()), None);
    }

    fn update(&mut self, input: &Input, pairs: Pairs<'_>) -> Result<(), AggregateError> {
        let values: &BooleanArray = argument(input, "min or max")?;
        for_each(input, pairs, |row, slot| {
            self.offer(slot, values.value(row))
        });
        Ok(())
    }

    fn merge(&mut self, from: Slot, into: Slot) {
        if let Some(value) = self.groups[from as usize] {
            self.offer(into as usize, value);
        }
    }

    fn reset(&mut self, slots: &[Slot]) {
        slots
            .iter()
            .for_each(|slot| self.groups[*slot as usize] = None);
    }

    fn finish(&self, slots: &[Slot]) -> Result<Finished, AggregateError> {
        Ok(Finished::all(self.column(slots)))
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![DataType::Boolean]
    }

    fn save(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, AggregateError> {
        Ok(vec![self.column(slots)])
    }

    fn load(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<(), AggregateError> {
        let values: &BooleanArray = saved(state, 0, slots.len(), "min or max")?;
        slots
            .iter()
            .zip(values)
            .for_each(|(slot, value)| self.groups[*slot as usize] = value);
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.groups.capacity()
    }
}
