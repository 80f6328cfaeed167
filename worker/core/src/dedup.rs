//! The deduplicate step of one task: lets through the first of equal rows, in log order.
//!
//! A row is a *duplicate* when a row that went through before it has the same key and an event time at most `within` from
//! its own, on either side. So rows that went through with one key lie more than `within` apart, whatever their order was.
//!
//! A row is *late* when it is more than `within` behind the watermark from before it. With that, what can be forgotten is
//! exact: a row that is not late has `time >= W - within`, what it may be a copy of has `time >= W - 2 within`.
//!
//! ```text
//!        forgotten        remembered: copies of it are found            newest
//!   ───────────────┬───────────────────────┬───────────────────────┬──────────▶ event time
//!             W - 2 within             W - within                  W
//!                         rows are late  ◀─┼─▶ rows are judged
//! ```

mod seen;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use crate::chunk::{Chunk, Millis, W_START};
use crate::exchange::pick;
use crate::expr::evaluate_each;
use crate::key::GroupKeys;
use crate::plan::DedupPlan;
use crate::stateful::{Stateful, StepError, StepOutput, header, only, refuse_withdrawn};
use crate::stateless::failed_rows;
use crate::window::StateSize;
use seen::Seen;

/// Key of the saved schema's metadata: `<format> <watermark>`.
const HEADER: &str = "streamjob.deduplicate";
const FORMAT: &str = "1";

pub struct Dedup {
    plan: DedupPlan,
    late_read: bool,
    failed_read: bool,
    watermark: Millis,
    keys: GroupKeys,
    seen: Seen,
}

impl Dedup {
    pub fn new(plan: DedupPlan, late_read: bool, failed_read: bool) -> Result<Self, StepError> {
        Ok(Dedup {
            late_read,
            failed_read,
            watermark: W_START,
            keys: GroupKeys::new(plan.by.iter().map(|by| by.data_type.clone()))?,
            seen: Seen::new(plan.within),
            plan,
        })
    }

    fn move_to(&mut self, w: Millis) {
        self.watermark = self.watermark.max(w);
        self.seen.forget_before(
            self.watermark
                .saturating_sub(self.plan.within)
                .saturating_sub(self.plan.within),
        );
    }
}

impl Stateful for Dedup {
    fn rows(&mut self, chunk: &Chunk, out: &mut StepOutput) -> Result<(), StepError> {
        refuse_withdrawn(chunk)?;
        let by = evaluate_each(&self.plan.by, &chunk.rows);
        let keys = self.keys.encode(&by.columns, chunk.len())?;
        let mut next_failed = by.failed.iter().map(|(row, _)| *row).peekable();
        let (mut first, mut late) = (Vec::new(), Vec::new());
        let times = chunk.times.iter().zip(&chunk.before);
        for (row, (time, before)) in times.enumerate() {
            self.watermark = self.watermark.max(*before);
            if next_failed.next_if_eq(&row).is_some() {
                continue;
            }
            if time.saturating_add(self.plan.within) < self.watermark {
                late.push(row as u32);
            } else if self.seen.is_first(keys.get(row), *time) {
                first.push(row as u32);
            }
        }
        self.move_to(self.watermark);
        out.late_count += late.len() as u64;
        out.failed_count += by.failed.len() as u64;
        if first.len() == chunk.len() {
            out.main.push(chunk.clone());
        } else if !first.is_empty() {
            out.main.push(pick(chunk, first)?);
        }
        if self.late_read && !late.is_empty() {
            out.late.push(pick(chunk, late)?);
        }
        if self.failed_read && !by.failed.is_empty() {
            out.failed.push(failed_rows(chunk, &by.failed)?);
        }
        Ok(())
    }

    fn advance(&mut self, w: Millis, _: &mut StepOutput) -> Result<(), StepError> {
        self.move_to(w);
        Ok(())
    }

    /// A row for each remembered one, by time, then key: its key, and its time.
    fn save(&self) -> Result<Vec<RecordBatch>, StepError> {
        let remembered = self.seen.all();
        let mut columns = self.keys.decode(remembered.iter().map(|(_, key)| *key))?;
        let mut fields: Vec<Field> = columns
            .iter()
            .enumerate()
            .map(|(at, column)| Field::new(format!("by{at}"), column.data_type().clone(), true))
            .collect();
        let times: ArrayRef = Arc::new(Int64Array::from_iter_values(
            remembered.iter().map(|(time, _)| *time),
        ));
        columns.push(times);
        fields.push(Field::new("time", DataType::Int64, false));
        let header = HashMap::from([(HEADER.to_string(), format!("{FORMAT} {}", self.watermark))]);
        let schema = Arc::new(Schema::new_with_metadata(fields, header));
        Ok(vec![RecordBatch::try_new(schema, columns)?])
    }

    fn load(&mut self, state: &[RecordBatch]) -> Result<(), StepError> {
        let state = only(state)?;
        let [watermark] = header(state, HEADER, FORMAT)?[..] else {
            return Err(StepError::State("its header is cut".into()));
        };
        let wrong = || StepError::State(format!("columns are {}", state.schema()));
        let (times, keys) = state.columns().split_last().ok_or_else(wrong)?;
        let times = times.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
        let types = keys.iter().map(|column| column.data_type());
        if times.null_count() > 0 || !types.eq(self.plan.by.iter().map(|by| &by.data_type)) {
            return Err(wrong());
        }
        let keys = self.keys.encode(keys, state.num_rows())?;
        for (row, time) in times.values().iter().enumerate() {
            if !self.seen.is_first(keys.get(row), *time) {
                return Err(StepError::State(format!("row {row} is there twice")));
            }
        }
        self.watermark = watermark;
        Ok(())
    }

    fn held(&self) -> StateSize {
        let (rows, keys) = self.seen.counts();
        StateSize {
            windows: rows,
            keys,
            starts: 0,
        }
    }
}
