//! Functions that keep values as they are, of any type: `first_value`, `last_value`, `array_agg`.
//!
//! Values are held as Arrow's row encoding while in memory, and saved as columns of their own type.

use super::*;
use arrow::array::{BooleanArray, Int64Array, ListArray, UInt32Array, UInt64Array};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::take;
use arrow::datatypes::{Field, UInt64Type};
use arrow::row::{RowConverter, Rows, SortField};

/// Values of one type, to bytes and back.
struct Codec {
    data_type: DataType,
    converter: RowConverter,
}

impl Codec {
    fn new(data_type: DataType) -> Result<Self, AggregateError> {
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
        Ok(Codec {
            data_type,
            converter,
        })
    }

    /// The values that pairs speak of. Returns too the row of each pair in the result.
    fn encode<'a>(
        &self,
        values: &ArrayRef,
        rows: &'a [u32],
    ) -> Result<(Rows, Option<&'a [u32]>), AggregateError> {
        if rows.len() >= values.len() {
            return Ok((
                self.converter
                    .convert_columns(std::slice::from_ref(values))?,
                Some(rows),
            ));
        }
        let spoken_of = take(values, &UInt32Array::from(rows.to_vec()), None)?;
        Ok((self.converter.convert_columns(&[spoken_of])?, None))
    }

    fn encode_all(&self, values: &ArrayRef) -> Result<Rows, AggregateError> {
        Ok(self
            .converter
            .convert_columns(std::slice::from_ref(values))?)
    }

    /// Nulls where there is no value.
    fn decode<'a>(
        &self,
        values: impl ExactSizeIterator<Item = Option<&'a [u8]>>,
    ) -> Result<ArrayRef, AggregateError> {
        let null = self.encode_all(&arrow::array::new_null_array(&self.data_type, 1))?;
        let parser = self.converter.parser();
        let null = null.row(0).owned();
        let rows = values.map(|value| value.map_or(null.row(), |bytes| parser.parse(bytes)));
        let mut columns = self.converter.convert_rows(rows)?;
        columns.pop().ok_or_else(|| AggregateError::Unsupported {
            function: "value",
            data_type: self.data_type.clone(),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    First,
    Last,
}

/// `first_value`, `last_value`: by event time, rows of one time by their place in the log.
pub struct Pick {
    end: End,
    codec: Codec,
    groups: Vec<Option<Picked>>,
}

struct Picked {
    place: (Millis, u64),
    value: Vec<u8>,
}

impl Pick {
    pub fn new(argument: DataType, end: End) -> Result<Self, AggregateError> {
        Ok(Pick {
            end,
            codec: Codec::new(argument)?,
            groups: Vec::new(),
        })
    }

    fn wins(end: End, place: (Millis, u64), held: (Millis, u64)) -> bool {
        match end {
            End::First => place < held,
            End::Last => place > held,
        }
    }
}

impl Accumulator for Pick {
    fn grow(&mut self, slots: usize) {
        self.groups
            .resize_with(slots.max(self.groups.len()), || None);
    }

    fn update(&mut self, input: &Input, pairs: Pairs<'_>) -> Result<(), AggregateError> {
        let values = counted_values(input, "first_value or last_value")?;
        let (encoded, direct) = self.codec.encode(values.values, pairs.rows)?;
        for (at, (row, slot)) in pairs.rows.iter().zip(pairs.slots).enumerate() {
            let row = *row as usize;
            if !values.counts(row) {
                continue;
            }
            let place = (pairs.times[row], pairs.sequences[row]);
            let value = || encoded.row(if direct.is_some() { row } else { at });
            match &mut self.groups[*slot as usize] {
                Some(held) if !Self::wins(self.end, place, held.place) => {}
                Some(held) => {
                    held.place = place;
                    held.value.clear();
                    held.value.extend_from_slice(value().data());
                }
                empty => {
                    *empty = Some(Picked {
                        place,
                        value: value().data().to_vec(),
                    })
                }
            }
        }
        Ok(())
    }

    fn merge(&mut self, from: Slot, into: Slot) {
        let Some(from) = self.groups[from as usize].take() else {
            return;
        };
        let into = &mut self.groups[into as usize];
        match into {
            Some(held) if !Self::wins(self.end, from.place, held.place) => {}
            _ => *into = Some(from),
        }
    }

    fn reset(&mut self, slots: &[Slot]) {
        slots
            .iter()
            .for_each(|slot| self.groups[*slot as usize] = None);
    }

    fn finish(&self, slots: &[Slot]) -> Result<Finished, AggregateError> {
        let values = slots.iter().map(|slot| {
            self.groups[*slot as usize]
                .as_ref()
                .map(|picked| picked.value.as_slice())
        });
        Ok(Finished::all(self.codec.decode(values)?))
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![
            DataType::Int64,
            DataType::UInt64,
            self.codec.data_type.clone(),
        ]
    }

    fn save(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, AggregateError> {
        let places = || {
            slots.iter().map(|slot| {
                self.groups[*slot as usize]
                    .as_ref()
                    .map(|picked| picked.place)
            })
        };
        Ok(vec![
            Arc::new(
                places()
                    .map(|place| place.map(|place| place.0))
                    .collect::<Int64Array>(),
            ),
            Arc::new(
                places()
                    .map(|place| place.map(|place| place.1))
                    .collect::<UInt64Array>(),
            ),
            self.finish(slots)?.values,
        ])
    }

    fn load(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<(), AggregateError> {
        const NAME: &str = "first_value or last_value";
        let times: &Int64Array = saved(state, 0, slots.len(), NAME)?;
        let sequences: &UInt64Array = saved(state, 1, slots.len(), NAME)?;
        let values = typed(state, 2, slots.len(), &self.codec.data_type, NAME)?;
        let values = self.codec.encode_all(values)?;
        for (at, slot) in slots.iter().enumerate() {
            self.groups[*slot as usize] = times.is_valid(at).then(|| Picked {
                place: (times.value(at), sequences.value(at)),
                value: values.row(at).data().to_vec(),
            });
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        let values: usize = self
            .groups
            .iter()
            .flatten()
            .map(|picked| picked.value.capacity())
            .sum();
        values + self.groups.capacity() * size_of::<Option<Picked>>()
    }
}

/// `array_agg`: the first values in log order, at most `limit`.
pub struct ArrayAgg {
    limit: usize,
    codec: Codec,
    item: Arc<Field>,
    /// In log order; a value with its place in the log, so that groups that merge are in order again.
    groups: Vec<Vec<(u64, Box<[u8]>)>>,
}

impl ArrayAgg {
    pub fn new(argument: DataType, result: DataType, limit: usize) -> Result<Self, AggregateError> {
        match result {
            DataType::List(item) if *item.data_type() == argument => Ok(ArrayAgg {
                limit,
                codec: Codec::new(argument)?,
                item,
                groups: Vec::new(),
            }),
            data_type => Err(AggregateError::Unsupported {
                function: "array_agg",
                data_type,
            }),
        }
    }

    fn offsets(&self, slots: &[Slot]) -> Result<OffsetBuffer<i32>, AggregateError> {
        let mut offsets = vec![0i32];
        let mut end = 0usize;
        for slot in slots {
            end += self.groups[*slot as usize].len();
            offsets.push(i32::try_from(end).map_err(|_| AggregateError::State {
                function: "array_agg",
                reason: "more than 2^31 values in one batch: lower its limit".into(),
            })?);
        }
        Ok(OffsetBuffer::new(ScalarBuffer::from(offsets)))
    }

    fn items<'a>(&'a self, slots: &'a [Slot]) -> impl Iterator<Item = &'a (u64, Box<[u8]>)> + 'a {
        slots.iter().flat_map(|slot| &self.groups[*slot as usize])
    }
}

impl Accumulator for ArrayAgg {
    fn grow(&mut self, slots: usize) {
        self.groups
            .resize_with(slots.max(self.groups.len()), Vec::new);
    }

    fn update(&mut self, input: &Input, pairs: Pairs<'_>) -> Result<(), AggregateError> {
        let values = counted_values(input, "array_agg")?;
        let (encoded, direct) = self.codec.encode(values.values, pairs.rows)?;
        for (at, (row, slot)) in pairs.rows.iter().zip(pairs.slots).enumerate() {
            let row = *row as usize;
            let group = &mut self.groups[*slot as usize];
            if group.len() < self.limit && values.counts(row) {
                let value = encoded.row(if direct.is_some() { row } else { at });
                group.push((pairs.sequences[row], value.data().into()));
            }
        }
        Ok(())
    }

    fn merge(&mut self, from: Slot, into: Slot) {
        let from = std::mem::take(&mut self.groups[from as usize]);
        let into = &mut self.groups[into as usize];
        into.extend(from);
        into.sort_by_key(|(sequence, _)| *sequence);
        into.truncate(self.limit);
    }

    fn reset(&mut self, slots: &[Slot]) {
        slots
            .iter()
            .for_each(|slot| self.groups[*slot as usize] = Vec::new());
    }

    fn finish(&self, slots: &[Slot]) -> Result<Finished, AggregateError> {
        let bytes: Vec<Option<&[u8]>> = self
            .items(slots)
            .map(|(_, bytes)| Some(bytes.as_ref()))
            .collect();
        let values = self.codec.decode(bytes.into_iter())?;
        let present = slots
            .iter()
            .map(|slot| !self.groups[*slot as usize].is_empty())
            .collect();
        let list = ListArray::try_new(
            self.item.clone(),
            self.offsets(slots)?,
            values,
            Some(NullBuffer::new(present)),
        )?;
        Ok(Finished::all(Arc::new(list)))
    }

    fn state_types(&self) -> Vec<DataType> {
        let list = |data_type| DataType::List(Arc::new(Field::new_list_field(data_type, true)));
        vec![list(DataType::UInt64), list(self.codec.data_type.clone())]
    }

    fn save(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, AggregateError> {
        let bytes: Vec<Option<&[u8]>> = self
            .items(slots)
            .map(|(_, bytes)| Some(bytes.as_ref()))
            .collect();
        let values = self.codec.decode(bytes.into_iter())?;
        let sequences =
            UInt64Array::from_iter_values(self.items(slots).map(|(sequence, _)| *sequence));
        let list = |values: ArrayRef| -> Result<ArrayRef, AggregateError> {
            let item = Arc::new(Field::new_list_field(values.data_type().clone(), true));
            Ok(Arc::new(ListArray::try_new(
                item,
                self.offsets(slots)?,
                values,
                None,
            )?))
        };
        Ok(vec![list(Arc::new(sequences))?, list(values)?])
    }

    fn load(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<(), AggregateError> {
        const NAME: &str = "array_agg";
        let wrong = |reason: &str| AggregateError::State {
            function: NAME,
            reason: reason.into(),
        };
        let sequences: &ListArray = saved(state, 0, slots.len(), NAME)?;
        let values: &ListArray = saved(state, 1, slots.len(), NAME)?;
        for (at, slot) in slots.iter().enumerate() {
            let (sequences, values) = (sequences.value(at), values.value(at));
            let sequences = sequences
                .as_primitive_opt::<UInt64Type>()
                .ok_or_else(|| wrong("places are no integers"))?;
            let same =
                sequences.len() == values.len() && values.data_type() == &self.codec.data_type;
            if !same || !sequences.values().is_sorted() {
                return Err(wrong("values and places do not belong together"));
            }
            let values = self.codec.encode_all(&values)?;
            self.groups[*slot as usize] = sequences
                .values()
                .iter()
                .zip(&values)
                .map(|(place, value)| (*place, value.data().into()))
                .collect();
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        let values: usize = self
            .groups
            .iter()
            .flatten()
            .map(|(_, bytes)| bytes.len() + 24)
            .sum();
        values + self.groups.capacity() * size_of::<Vec<(u64, Box<[u8]>)>>()
    }
}

/// An argument with its nulls and filter.
struct Counted<'a> {
    values: &'a ArrayRef,
    nulls: Option<NullBuffer>,
    filter: Option<&'a BooleanArray>,
}

impl Counted<'_> {
    fn counts(&self, row: usize) -> bool {
        self.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
            && self
                .filter
                .is_none_or(|filter| filter.is_valid(row) && filter.value(row))
    }
}

fn counted_values<'a>(
    input: &'a Input,
    function: &'static str,
) -> Result<Counted<'a>, AggregateError> {
    let missing = AggregateError::Unsupported {
        function,
        data_type: DataType::Null,
    };
    let values = input.values.as_ref().ok_or(missing)?;
    Ok(Counted {
        values,
        nulls: values.logical_nulls(),
        filter: input.filter.as_ref(),
    })
}

fn typed<'a>(
    state: &'a [ArrayRef],
    column: usize,
    rows: usize,
    data_type: &DataType,
    function: &'static str,
) -> Result<&'a ArrayRef, AggregateError> {
    let array = state
        .get(column)
        .filter(|array| array.data_type() == data_type && array.len() == rows);
    array.ok_or_else(|| AggregateError::State {
        function,
        reason: format!("column {column} is not {rows} {data_type}"),
    })
}
