//! Functions that keep values as they are, of any type: `first_value`, `last_value`, `array_agg`.
//!
//! Values are held as Arrow's row encoding while in memory, and saved as columns of their own type.

use super::*;
use arrow::array::{Int64Array, ListArray, UInt32Array, UInt64Array};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
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

    /// The values that pairs speak of: all values where that is no more (and `true`), else one for each pair.
    fn encode(&self, values: &ArrayRef, rows: &[u32]) -> Result<(Rows, bool), AggregateError> {
        if rows.len() >= values.len() {
            return Ok((self.encode_all(values)?, true));
        }
        let spoken_of = take(values, &UInt32Array::from(rows.to_vec()), None)?;
        Ok((self.encode_all(&spoken_of)?, false))
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
}

pub struct Picked {
    place: (Millis, u64),
    value: Vec<u8>,
}

impl Pick {
    pub fn new(argument: DataType, end: End) -> Result<Self, AggregateError> {
        Ok(Pick {
            end,
            codec: Codec::new(argument)?,
        })
    }

    fn wins(&self, place: (Millis, u64), held: &Picked) -> bool {
        match self.end {
            End::First => place < held.place,
            End::Last => place > held.place,
        }
    }

    fn values(&self, groups: &[&Option<Picked>]) -> Result<ArrayRef, AggregateError> {
        let values = groups
            .iter()
            .map(|group| group.as_ref().map(|picked| picked.value.as_slice()));
        self.codec.decode(values)
    }
}

impl Function for Pick {
    type Group = Option<Picked>;

    fn name(&self) -> &'static str {
        match self.end {
            End::First => "first_value",
            End::Last => "last_value",
        }
    }

    fn update(
        &self,
        groups: &mut [Option<Picked>],
        input: &Input,
        pairs: Pairs<'_>,
    ) -> Result<(), AggregateError> {
        let (values, counting) = (values_of(input, self.name())?, Counting::of(input));
        let (encoded, direct) = self.codec.encode(values, pairs.rows)?;
        for (at, (row, slot)) in pairs.rows.iter().zip(pairs.slots).enumerate() {
            let row = *row as usize;
            if !counting.counts(row) {
                continue;
            }
            let place = (pairs.times[row], pairs.sequences[row]);
            let value = || encoded.row(if direct { row } else { at });
            match &mut groups[*slot as usize] {
                Some(held) if !self.wins(place, held) => {}
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

    fn merge(&self, from: Option<Picked>, into: &mut Option<Picked>) {
        match (&from, &into) {
            (None, _) => {}
            (Some(picked), Some(held)) if !self.wins(picked.place, held) => {}
            _ => *into = from,
        }
    }

    fn finish(&self, groups: &[&Option<Picked>]) -> Result<Finished, AggregateError> {
        Ok(Finished::all(self.values(groups)?))
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![
            DataType::Int64,
            DataType::UInt64,
            self.codec.data_type.clone(),
        ]
    }

    fn save(&self, groups: &[&Option<Picked>]) -> Result<Vec<ArrayRef>, AggregateError> {
        let places = groups
            .iter()
            .map(|group| group.as_ref().map(|picked| picked.place));
        let times: Int64Array = places.clone().map(|place| Some(place?.0)).collect();
        let sequences: UInt64Array = places.map(|place| Some(place?.1)).collect();
        Ok(vec![
            Arc::new(times),
            Arc::new(sequences),
            self.values(groups)?,
        ])
    }

    fn load(&self, saved: &Saved<'_>) -> Result<Vec<Option<Picked>>, AggregateError> {
        let times: &Int64Array = saved.column(0)?;
        let sequences: &UInt64Array = saved.column(1)?;
        let values = saved.any(2)?;
        if *values.data_type() != self.codec.data_type {
            return Err(saved.damaged("values have another type"));
        }
        let values = self.codec.encode_all(values)?;
        let groups = values.iter().enumerate().map(|(at, value)| {
            times.is_valid(at).then(|| Picked {
                place: (times.value(at), sequences.value(at)),
                value: value.data().to_vec(),
            })
        });
        Ok(groups.collect())
    }
}

/// `array_agg`: the first values in log order, at most `limit`.
pub struct ArrayAgg {
    limit: usize,
    codec: Codec,
}

/// In log order; a value with its place in the log, so that groups that merge are in order again.
type Values = Vec<(u64, Box<[u8]>)>;

impl ArrayAgg {
    pub fn new(argument: DataType, limit: usize) -> Result<Self, AggregateError> {
        Ok(ArrayAgg {
            limit,
            codec: Codec::new(argument)?,
        })
    }

    /// The values of all groups, one behind the other.
    fn values(&self, groups: &[&Values]) -> Result<ArrayRef, AggregateError> {
        let bytes: Vec<Option<&[u8]>> = groups
            .iter()
            .copied()
            .flatten()
            .map(|(_, bytes)| Some(bytes.as_ref()))
            .collect();
        self.codec.decode(bytes.into_iter())
    }

    /// A list for each group; `present` says which are not null.
    fn lists(
        &self,
        groups: &[&Values],
        items: ArrayRef,
        present: Option<NullBuffer>,
    ) -> Result<ArrayRef, AggregateError> {
        let mut offsets = vec![0i32];
        let mut end = 0usize;
        for group in groups {
            end += group.len();
            offsets.push(i32::try_from(end).map_err(|_| AggregateError::State {
                function: self.name(),
                reason: "more than 2^31 values in one batch: lower its limit".into(),
            })?);
        }
        let item = Arc::new(Field::new_list_field(items.data_type().clone(), true));
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        Ok(Arc::new(ListArray::try_new(item, offsets, items, present)?))
    }
}

impl Function for ArrayAgg {
    type Group = Values;

    fn name(&self) -> &'static str {
        "array_agg"
    }

    fn update(
        &self,
        groups: &mut [Values],
        input: &Input,
        pairs: Pairs<'_>,
    ) -> Result<(), AggregateError> {
        let (values, counting) = (values_of(input, self.name())?, Counting::of(input));
        let (encoded, direct) = self.codec.encode(values, pairs.rows)?;
        for (at, (row, slot)) in pairs.rows.iter().zip(pairs.slots).enumerate() {
            let row = *row as usize;
            let group = &mut groups[*slot as usize];
            if group.len() < self.limit && counting.counts(row) {
                let value = encoded.row(if direct { row } else { at });
                group.push((pairs.sequences[row], value.data().into()));
            }
        }
        Ok(())
    }

    fn merge(&self, from: Values, into: &mut Values) {
        into.extend(from);
        into.sort_by_key(|(sequence, _)| *sequence);
        into.truncate(self.limit);
    }

    fn finish(&self, groups: &[&Values]) -> Result<Finished, AggregateError> {
        let present = groups.iter().map(|group| !group.is_empty()).collect();
        let lists = self.lists(groups, self.values(groups)?, Some(present))?;
        Ok(Finished::all(lists))
    }

    fn state_types(&self) -> Vec<DataType> {
        let list = |data_type| DataType::List(Arc::new(Field::new_list_field(data_type, true)));
        vec![list(DataType::UInt64), list(self.codec.data_type.clone())]
    }

    fn save(&self, groups: &[&Values]) -> Result<Vec<ArrayRef>, AggregateError> {
        let sequences = groups.iter().copied().flatten().map(|(place, _)| *place);
        let sequences = Arc::new(UInt64Array::from_iter_values(sequences));
        Ok(vec![
            self.lists(groups, sequences, None)?,
            self.lists(groups, self.values(groups)?, None)?,
        ])
    }

    fn load(&self, saved: &Saved<'_>) -> Result<Vec<Values>, AggregateError> {
        let sequences: &ListArray = saved.column(0)?;
        let values: &ListArray = saved.column(1)?;
        let group = |at| {
            let (sequences, values) = (sequences.value(at), values.value(at));
            let sequences = sequences
                .as_primitive_opt::<UInt64Type>()
                .ok_or_else(|| saved.damaged("places are no integers"))?;
            let same =
                sequences.len() == values.len() && values.data_type() == &self.codec.data_type;
            if !same || !sequences.values().is_sorted() {
                return Err(saved.damaged("values and places do not belong together"));
            }
            let values = self.codec.encode_all(&values)?;
            let places = sequences.values().iter().zip(&values);
            Ok(places
                .map(|(place, value)| (*place, value.data().into()))
                .collect())
        };
        (0..sequences.len()).map(group).collect()
    }
}

fn values_of<'a>(input: &'a Input, function: &'static str) -> Result<&'a ArrayRef, AggregateError> {
    let missing = AggregateError::Unsupported {
        function,
        data_type: DataType::Null,
    };
    input.values.as_ref().ok_or(missing)
}
