//! A join's complete state as an Arrow batch, and back.
//!
//! A row for each row held, by the end of its reach, side and number: the input's columns (which side, `on`, both sides'),
//! then its time, its number, and whether it has matched. The schema's metadata carries the watermark and the numbers
//! given out.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use super::{Held, Join, is_right, place};
use crate::stateful::{StepError, header, only};

/// Key of the schema's metadata: `<format> <watermark> <numbers given out>`.
const HEADER: &str = "streamjob.join";
const FORMAT: &str = "1";

pub(super) fn save(join: &Join) -> Result<Vec<RecordBatch>, StepError> {
    let mut rows = Vec::with_capacity(join.ends.len());
    for ((end, side, number), key) in &join.ends {
        let of_key = join.held.get(key).map(|sides| &sides[*side]);
        let ahead = join.sides[*side].ahead;
        let held = of_key.and_then(|rows| rows.get(place(rows, *end, *number, ahead)?));
        rows.extend(held.map(|held| (*side, key, held)));
    }
    let sides = rows.iter().map(|(side, ..)| Some(*side == super::RIGHT));
    let mut columns: Vec<ArrayRef> = vec![Arc::new(sides.collect::<BooleanArray>())];
    columns.extend(join.keys.decode(rows.iter().map(|(_, key, _)| &key[..]))?);
    for (at, side) in join.sides.iter().enumerate() {
        let of_side = rows
            .iter()
            .map(|(side, _, held)| (*side == at).then_some(&held.row[..]));
        columns.extend(side.columns(of_side)?);
    }
    let longs = |of: fn(&Held) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(
            rows.iter().map(|(_, _, held)| of(held)),
        ))
    };
    columns.push(longs(|held| held.time));
    columns.push(longs(|held| held.number as i64));
    let matched = rows.iter().map(|(_, _, held)| Some(held.matched));
    columns.push(Arc::new(matched.collect::<BooleanArray>()));
    Ok(vec![RecordBatch::try_new(Arc::new(schema(join)), columns)?])
}

pub(super) fn load(join: &mut Join, saved: &[RecordBatch]) -> Result<(), StepError> {
    let saved = only(saved)?;
    let [watermark, sequence] = header(saved, HEADER, FORMAT)?[..] else {
        return Err(StepError::State("its header is cut".into()));
    };
    let wrong = || StepError::State(format!("columns are {}", saved.schema()));
    if saved.schema().fields() != schema(join).fields() || !join.ends.is_empty() {
        return Err(wrong());
    }
    let columns = saved.columns();
    let input = join.input.fields().len();
    let is_right = is_right(saved)?;
    let keys = join
        .keys
        .encode(&columns[1..=join.plan.on], saved.num_rows())?;
    let convert = |side: &super::Side| {
        side.converter
            .convert_columns(&columns[side.columns.clone()])
    };
    let rows = [convert(&join.sides[0])?, convert(&join.sides[1])?];
    let longs = |at: usize| {
        columns[at]
            .as_primitive_opt::<Int64Type>()
            .ok_or_else(wrong)
    };
    let (times, numbers) = (longs(input)?, longs(input + 1)?);
    let matched = columns[input + 2].as_boolean_opt().ok_or_else(wrong)?;
    for row in 0..saved.num_rows() {
        let side = usize::from(is_right.value(row));
        let held = Held {
            time: times.value(row),
            number: numbers.value(row) as u64,
            matched: matched.value(row),
            row: rows[side].row(row).data().into(),
        };
        join.hold(side, keys.get(row), held);
    }
    (join.watermark, join.sequence) = (watermark, sequence as u64);
    Ok(())
}

fn schema(join: &Join) -> Schema {
    let mut fields: Vec<Arc<Field>> = join.input.fields().iter().cloned().collect();
    let more = [
        ("time", DataType::Int64),
        ("number", DataType::Int64),
        ("matched", DataType::Boolean),
    ];
    fields.extend(
        more.map(|(name, data_type)| Arc::new(Field::new(format!("#{name}"), data_type, false))),
    );
    let (w, sequence) = (join.watermark, join.sequence);
    let header = HashMap::from([(HEADER.to_string(), format!("{FORMAT} {w} {sequence}"))]);
    Schema::new_with_metadata(fields, header)
}
