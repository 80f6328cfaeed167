//! A step's complete state as an Arrow batch, and back.
//!
//! A row for each window held, by end, then key: the group columns, `start`, `end`, `changed`, `emitted` and the row last emitted
//! (where rows may be emitted again), then the state columns of each call. The schema's metadata carries the
//! watermark and the number of rows read. Everything else (timers, lists of changed groups) follows from these.
//! Whether the state belongs to the plan is the caller's to know; what does not fit in shape is refused.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use super::{WindowError, WindowStep};
use crate::aggregate::Slot;
use crate::stateful::clock;

/// Key of the schema's metadata: `<format> <watermark> <rows read>`.
const HEADER: &str = "streamjob.window";
const FORMAT: &str = "1";
/// Column of the first accumulator's state behind the group columns, where no row is emitted again.
pub(super) const FIRST_STATE: usize = 4;

impl WindowStep {
    /// The complete state. Emission queues are empty between calls, so they are no part of it.
    pub fn save(&self) -> Result<Vec<RecordBatch>, WindowError> {
        let mut slots: Vec<Slot> = self.store.slots().collect();
        self.store.sort(&mut slots);
        let groups = || slots.iter().map(|slot| self.store.group(*slot));
        let mut columns = self
            .keys
            .decode(groups().map(|group| self.store.key_bytes(group.key)))?;
        columns.push(Arc::new(Int64Array::from_iter_values(
            groups().map(|group| group.start),
        )));
        columns.push(Arc::new(Int64Array::from_iter_values(
            groups().map(|group| group.end),
        )));
        columns.push(Arc::new(
            groups()
                .map(|group| Some(group.changed))
                .collect::<BooleanArray>(),
        ));
        columns.push(Arc::new(
            groups()
                .map(|group| Some(group.emitted.is_some()))
                .collect::<BooleanArray>(),
        ));
        columns.extend(self.emitter.kept_rows(&self.store, &slots)?);
        for accumulator in &self.accumulators {
            columns.extend(accumulator.save(&slots)?);
        }
        Ok(vec![RecordBatch::try_new(
            self.state_schema(self.watermark, self.sequence),
            columns,
        )?])
    }

    /// Takes back what `save` gave, into a new step of the same plan: from then on it behaves as the saved one would have.
    pub fn load(&mut self, state: &[RecordBatch]) -> Result<(), WindowError> {
        let [state] = state else {
            return Err(WindowError::State(format!(
                "there are {} batches of it, not one",
                state.len()
            )));
        };
        let (watermark, sequence) = header(state)?;
        let expected = self.state_schema(watermark, sequence);
        if !same_types(&expected, &state.schema()) {
            return Err(WindowError::State(format!(
                "columns are {}, not {expected}",
                state.schema()
            )));
        }
        if self.store.counts() != (0, 0) {
            return Err(WindowError::State("the step has state already".into()));
        }
        let groups = self.plan.group.len();
        let (keys, rest) = state.columns().split_at(groups);
        let keys = self.keys.encode(keys, state.num_rows())?;
        (self.watermark, self.sequence) = (watermark, sequence);
        let slots = (0..state.num_rows())
            .map(|row| self.restore_window(keys.get(row), row, rest))
            .collect::<Result<Vec<Slot>, _>>()?;
        self.grow();
        let mut column = FIRST_STATE;
        if self.updates {
            let rows = self.emitter.schema.fields().len();
            self.emitter.restore_rows(
                &mut self.store,
                &slots,
                &rest[column..column + rows],
                rest[3].as_boolean(),
            )?;
            column += rows;
        }
        for accumulator in &mut self.accumulators {
            let width = accumulator.state_types().len();
            accumulator.load(&slots, &rest[column..column + width])?;
            column += width;
        }
        self.set_boundary();
        Ok(())
    }

    fn restore_window(
        &mut self,
        key: &[u8],
        row: usize,
        columns: &[ArrayRef],
    ) -> Result<Slot, WindowError> {
        let wrong = |reason: &str| WindowError::State(format!("window {row}: {reason}"));
        if columns[..4].iter().any(|column| column.is_null(row)) {
            return Err(wrong("a bound or mark is missing"));
        }
        let bound = |column: usize| columns[column].as_primitive::<Int64Type>().value(row);
        let (start, end) = (bound(0), bound(1));
        if start > end || self.gone(end, self.watermark) {
            return Err(wrong("its bounds are impossible"));
        }
        let key = self.store.key(key);
        let windows = self.store.windows(key);
        let at = windows.partition_point(|held| held.end < end);
        if windows.get(at).is_some_and(|held| held.end == end) {
            return Err(wrong("it is there twice"));
        }
        let slot = self.store.hold(key, at, start, end);
        self.store.group_mut(slot).changed = false;
        self.schedule(slot);
        if columns[2].as_boolean().value(row) {
            self.mark(slot);
        }
        Ok(slot)
    }

    pub(super) fn state_schema(&self, watermark: i64, sequence: u64) -> SchemaRef {
        let open = |field: &Arc<Field>, prefix: &str| {
            Field::new(
                format!("{prefix}{}", field.name()),
                field.data_type().clone(),
                true,
            )
        };
        let mut fields: Vec<Field> = self
            .plan
            .aggregated
            .fields()
            .iter()
            .take(self.plan.group.len())
            .map(|field| open(field, "group."))
            .collect();
        fields.push(Field::new("start", DataType::Int64, false));
        fields.push(Field::new("end", DataType::Int64, false));
        fields.push(Field::new("changed", DataType::Boolean, false));
        fields.push(Field::new("emitted", DataType::Boolean, false));
        if self.updates {
            fields.extend(
                self.emitter
                    .schema
                    .fields()
                    .iter()
                    .map(|field| open(field, "emitted.")),
            );
        }
        for (call, accumulator) in self.accumulators.iter().enumerate() {
            let types = accumulator.state_types().into_iter().enumerate();
            fields.extend(types.map(|(part, data_type)| {
                Field::new(format!("call{call}.{part}"), data_type, true)
            }));
        }
        let header = HashMap::from([(
            HEADER.to_string(),
            format!("{FORMAT} {watermark} {sequence}"),
        )]);
        Arc::new(Schema::new_with_metadata(fields, header))
    }
}

/// Whether columns have the same types, in order.
pub(super) fn same_types(one: &Schema, other: &Schema) -> bool {
    let types = |schema: &Schema| -> Vec<DataType> {
        let fields = schema.fields().iter();
        fields.map(|field| field.data_type().clone()).collect()
    };
    types(one) == types(other)
}

/// The watermark, and the number of rows read.
pub(super) fn header(state: &RecordBatch) -> Result<(i64, u64), WindowError> {
    clock(state, HEADER, FORMAT).map_err(WindowError::State)
}
