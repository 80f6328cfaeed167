//! From groups that are due to rows: results, projection, `having`, and what had been emitted before.
//!
//! Groups that are due wait in a queue and are turned into rows many at a time. That is invisible: a group in the
//! queue is not changed before it is worked off, and each keeps the watermark from before the move that released it,
//! so that its row is on time for whoever comes next.
//!
//! Where a step may emit a group again, the row last emitted is kept with the group. Then
//!
//! | last emitted | result now | goes out |
//! |---|---|---|
//! | none | a row | the row |
//! | a row | another row | the new row |
//! | a row | the same row | nothing |
//! | a row | none (`having`, or a failure) | the last row, as withdrawn |
//! | none | none | nothing |

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, TimestampMillisecondArray,
    UInt32Array, new_null_array,
};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion_physical_expr::expressions::Column;

use super::WindowError;
use super::input::is_true;
use super::store::Store;
use crate::aggregate::{Accumulator, Slot};
use crate::chunk::{Chunk, Millis};
use crate::expr::evaluate_each;
use crate::key::GroupKeys;
use crate::plan::{WindowKind, WindowPlan};
use crate::stateful::StepOutput;
use crate::stateless::{failed_schema, nullable};

/// Something to put out.
#[derive(Debug)]
struct Queued {
    what: What,
    end: Millis,
    /// Watermark before the move that released it.
    before: Millis,
}

#[derive(Debug)]
enum What {
    Result(Slot),
    /// A row emitted before.
    Withdrawn(Box<[u8]>),
    /// The row last emitted for a group that is forgotten.
    Forgotten(Slot),
}

/// What a group comes to.
enum Outcome {
    /// Row of the projected batch.
    Row(usize),
    /// `having` is not true.
    Nothing,
    Failed(String),
}

pub struct Emitter {
    plan: Arc<WindowPlan>,
    /// Schema of emitted rows.
    pub schema: SchemaRef,
    /// Emitted rows as bytes, where they are kept.
    converter: Option<RowConverter>,
    failed_read: bool,
    /// How long before its group's end a row's event time is.
    before_end: Millis,
    queue: Vec<Queued>,
}

impl Emitter {
    /// `updates`: whether a group may be emitted more than once.
    pub fn new(
        plan: Arc<WindowPlan>,
        updates: bool,
        failed_read: bool,
    ) -> Result<Self, WindowError> {
        let schema = emitted_schema(&plan)?;
        let fields = || {
            schema
                .fields()
                .iter()
                .map(|field| SortField::new(field.data_type().clone()))
                .collect()
        };
        let converter = if updates {
            Some(RowConverter::new(fields())?)
        } else {
            None
        };
        let before_end = match plan.kind {
            // The time of its newest row.
            WindowKind::Running { ttl } => ttl.saturating_add(1),
            _ => 1,
        };
        Ok(Emitter {
            plan,
            schema,
            converter,
            failed_read,
            before_end,
            queue: Vec::new(),
        })
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    pub fn result(&mut self, slot: Slot, end: Millis, before: Millis) {
        self.queue.push(Queued {
            what: What::Result(slot),
            end,
            before,
        });
    }

    pub fn withdraw(&mut self, row: Box<[u8]>, end: Millis, before: Millis) {
        self.queue.push(Queued {
            what: What::Withdrawn(row),
            end,
            before,
        });
    }

    pub fn forget(&mut self, slot: Slot, end: Millis, before: Millis) {
        self.queue.push(Queued {
            what: What::Forgotten(slot),
            end,
            before,
        });
    }

    /// Works off the queue. The accumulators must have seen all rows.
    pub fn emit(
        &mut self,
        store: &mut Store,
        keys: &GroupKeys,
        accumulators: &[Box<dyn Accumulator>],
        out: &mut StepOutput,
    ) -> Result<(), WindowError> {
        if self.queue.is_empty() {
            return Ok(());
        }
        let queue = std::mem::take(&mut self.queue);
        let results: Vec<&Queued> = queue
            .iter()
            .filter(|queued| matches!(queued.what, What::Result(_)))
            .collect();
        let slots: Vec<Slot> = queue.iter().filter_map(Queued::slot).collect();
        let aggregated = self.aggregate(store, keys, accumulators, &slots)?;
        let (projected, outcomes) = self.outcomes(&aggregated)?;
        self.report_failed(&aggregated.groups, &results, &outcomes, out)?;
        let chunk = match &self.converter {
            None => self.plain(&projected, &results, &outcomes)?,
            Some(converter) => {
                let rows = converter.convert_columns(projected.columns())?;
                self.updates(store, converter, &queue, &rows, outcomes)?
            }
        };
        slots
            .iter()
            .for_each(|slot| store.group_mut(*slot).queued = false);
        if !chunk.is_empty() {
            out.main.push(chunk);
        }
        Ok(())
    }

    fn aggregate(
        &self,
        store: &Store,
        keys: &GroupKeys,
        accumulators: &[Box<dyn Accumulator>],
        slots: &[Slot],
    ) -> Result<Aggregated, WindowError> {
        let mut columns = keys.decode(
            slots
                .iter()
                .map(|slot| store.key_bytes(store.group(*slot).key)),
        )?;
        let time = |of: fn(&super::store::Group) -> Millis| -> ArrayRef {
            Arc::new(TimestampMillisecondArray::from_iter_values(
                slots.iter().map(|slot| of(store.group(*slot))),
            ))
        };
        if self.plan.kind.bounds() > 0 {
            columns.push(time(|group| group.start));
            columns.push(time(|group| group.end));
        }
        let mut failed: Vec<Option<String>> = vec![None; slots.len()];
        for accumulator in accumulators {
            let finished = accumulator.finish(slots)?;
            columns.push(finished.values);
            finished
                .failed
                .into_iter()
                .for_each(|(at, reason)| failed[at] = Some(reason));
        }
        // A group whose result failed is null there; it is taken out before anyone looks.
        let schema = match failed.iter().any(Option::is_some) {
            true => Arc::new(nullable(&self.plan.aggregated)),
            false => self.plan.aggregated.clone(),
        };
        Ok(Aggregated {
            groups: RecordBatch::try_new(schema, columns)?,
            failed,
        })
    }

    /// The projected rows of the groups that have one, and what each group comes to.
    fn outcomes(
        &self,
        aggregated: &Aggregated,
    ) -> Result<(RecordBatch, Vec<Outcome>), WindowError> {
        let Aggregated { groups, failed } = aggregated;
        let sound: Vec<u32> = (0..groups.num_rows() as u32)
            .filter(|row| failed[*row as usize].is_none())
            .collect();
        let groups = match sound.len() == groups.num_rows() {
            true => groups.clone(),
            false => {
                let taken = take_record_batch(groups, &UInt32Array::from(sound.clone()))?;
                RecordBatch::try_new(self.plan.aggregated.clone(), taken.columns().to_vec())?
            }
        };
        let evaluated = evaluate_each(&self.plan.project, &groups);
        let mut reasons: Vec<Option<String>> = vec![None; groups.num_rows()];
        evaluated
            .failed
            .into_iter()
            .for_each(|(row, reason)| reasons[row] = Some(reason));
        let kept = self.having(&groups, &evaluated.columns, &mut reasons)?;
        let good: Vec<u32> = (0..groups.num_rows())
            .filter(|row| {
                reasons[*row].is_none() && kept.as_ref().is_none_or(|kept| is_true(kept, *row))
            })
            .map(|row| row as u32)
            .collect();
        let projected = RecordBatch::try_new(Arc::new(nullable(&self.schema)), evaluated.columns)?;
        let projected = match good.len() == groups.num_rows() {
            true => projected,
            false => take_record_batch(&projected, &UInt32Array::from(good.clone()))?,
        };
        let projected = RecordBatch::try_new(self.schema.clone(), projected.columns().to_vec())?;

        let mut outcomes: Vec<Outcome> = failed
            .iter()
            .map(|reason| {
                reason
                    .as_ref()
                    .map_or(Outcome::Nothing, |reason| Outcome::Failed(reason.clone()))
            })
            .collect();
        for (row, reason) in reasons.into_iter().enumerate() {
            if let Some(reason) = reason {
                outcomes[sound[row] as usize] = Outcome::Failed(reason);
            }
        }
        for (row, good) in good.into_iter().enumerate() {
            outcomes[sound[good as usize] as usize] = Outcome::Row(row);
        }
        Ok((projected, outcomes))
    }

    /// Which groups `having` keeps; a group whose projection failed is not looked at.
    fn having(
        &self,
        groups: &RecordBatch,
        projected: &[ArrayRef],
        reasons: &mut [Option<String>],
    ) -> Result<Option<BooleanArray>, WindowError> {
        let Some(having) = &self.plan.having else {
            return Ok(None);
        };
        let items = self.plan.group.len() + self.plan.kind.bounds();
        let columns = groups
            .columns()
            .iter()
            .chain(&projected[items..])
            .cloned()
            .collect();
        let rows = RecordBatch::try_new(Arc::new(nullable(&self.plan.having_schema)), columns)?;
        let mut evaluated = evaluate_each(std::slice::from_ref(having), &rows);
        for (row, reason) in evaluated.failed {
            reasons[row].get_or_insert(reason);
        }
        let column = evaluated.columns.pop();
        let mask = column
            .as_ref()
            .and_then(|column| column.as_boolean_opt())
            .cloned();
        Ok(Some(mask.ok_or_else(|| {
            WindowError::Condition(having.sql.clone())
        })?))
    }

    /// Compares with what had been emitted; see the table above.
    fn updates(
        &self,
        store: &mut Store,
        converter: &RowConverter,
        queue: &[Queued],
        rows: &Rows,
        outcomes: Vec<Outcome>,
    ) -> Result<Chunk, WindowError> {
        let mut outcomes = outcomes.into_iter();
        let (mut emitted, mut deletes) = (Vec::<Box<[u8]>>::new(), Vec::new());
        let (mut times, mut before) = (Vec::new(), Vec::new());
        for queued in queue {
            let (row, delete) = match &queued.what {
                What::Withdrawn(row) => (row.clone(), true),
                What::Forgotten(slot) => match store.group_mut(*slot).emitted.take() {
                    Some(row) => (row, true),
                    None => continue,
                },
                What::Result(slot) => {
                    let last = &mut store.group_mut(*slot).emitted;
                    match outcomes.next() {
                        Some(Outcome::Row(row)) => {
                            let row: Box<[u8]> = rows.row(row).data().into();
                            if last.as_ref() == Some(&row) {
                                continue;
                            }
                            *last = Some(row.clone());
                            (row, false)
                        }
                        _ => match last.take() {
                            Some(row) => (row, true),
                            None => continue,
                        },
                    }
                }
            };
            emitted.push(row);
            deletes.push(delete);
            times.push(self.time(queued));
            before.push(queued.before);
        }
        let parser = converter.parser();
        let columns = converter.convert_rows(emitted.iter().map(|row| parser.parse(row)))?;
        let rows = RecordBatch::try_new(self.schema.clone(), columns)?;
        let deletes = deletes.contains(&true).then(|| BooleanArray::from(deletes));
        Ok(Chunk {
            rows,
            times,
            before,
            deletes,
        })
    }

    /// Groups that failed as rows of `<step>.failed`: of the input's columns, those the group is made of.
    fn report_failed(
        &self,
        groups: &RecordBatch,
        results: &[&Queued],
        outcomes: &[Outcome],
        out: &mut StepOutput,
    ) -> Result<(), WindowError> {
        let failed: Vec<(usize, &str)> = outcomes
            .iter()
            .enumerate()
            .filter_map(|(at, outcome)| match outcome {
                Outcome::Failed(reason) => Some((at, reason.as_str())),
                _ => None,
            })
            .collect();
        out.failed_count += failed.len() as u64;
        if failed.is_empty() || !self.failed_read {
            return Ok(());
        }
        let places = UInt32Array::from_iter_values(failed.iter().map(|(at, _)| *at as u32));
        let groups = take_record_batch(groups, &places)?;
        let mut columns: Vec<ArrayRef> = self
            .plan
            .input
            .fields()
            .iter()
            .map(|field| new_null_array(field.data_type(), failed.len()))
            .collect();
        for (at, group) in self.plan.group.iter().enumerate() {
            let column = (group.physical.as_ref() as &dyn std::any::Any).downcast_ref::<Column>();
            let place = column.and_then(|column| columns.get_mut(column.index()));
            if let Some(place) =
                place.filter(|place| place.data_type() == groups.column(at).data_type())
            {
                *place = groups.column(at).clone();
            }
        }
        columns.push(Arc::new(StringArray::from_iter_values(
            failed.iter().map(|(_, reason)| reason),
        )));
        let rows = RecordBatch::try_new(Arc::new(failed_schema(&self.plan.input)), columns)?;
        let queued = || failed.iter().map(|(at, _)| results[*at]);
        let times = queued().map(|queued| self.time(queued)).collect();
        out.failed.push(Chunk {
            rows,
            times,
            before: queued().map(|queued| queued.before).collect(),
            deletes: None,
        });
        Ok(())
    }

    /// Event time of a row that goes out.
    fn time(&self, queued: &Queued) -> Millis {
        queued.end.saturating_sub(self.before_end)
    }

    /// Rows of a step that emits each group once.
    fn plain(
        &self,
        projected: &RecordBatch,
        results: &[&Queued],
        outcomes: &[Outcome],
    ) -> Result<Chunk, WindowError> {
        let rows = || {
            outcomes
                .iter()
                .zip(results)
                .filter(|(outcome, _)| matches!(outcome, Outcome::Row(_)))
        };
        Ok(Chunk {
            rows: projected.clone(),
            times: rows().map(|(_, queued)| self.time(queued)).collect(),
            before: rows().map(|(_, queued)| queued.before).collect(),
            deletes: None,
        })
    }

    /// Rows kept with their groups, as columns of the emitted schema; null where there is none.
    pub fn kept_rows(&self, store: &Store, slots: &[Slot]) -> Result<Vec<ArrayRef>, WindowError> {
        let Some(converter) = &self.converter else {
            return Ok(Vec::new());
        };
        let fields = self.schema.fields().iter();
        let nulls: Vec<ArrayRef> = fields
            .map(|field| new_null_array(field.data_type(), 1))
            .collect();
        let nulls = converter.convert_columns(&nulls)?;
        let parser = converter.parser();
        let rows = slots.iter().map(|slot| match &store.group(*slot).emitted {
            Some(row) => parser.parse(row),
            None => nulls.row(0),
        });
        Ok(converter.convert_rows(rows)?)
    }

    /// Takes back what `kept_rows` gave; `present` says where there is a row.
    pub fn restore_rows(
        &self,
        store: &mut Store,
        slots: &[Slot],
        columns: &[ArrayRef],
        present: &BooleanArray,
    ) -> Result<(), WindowError> {
        let Some(converter) = &self.converter else {
            return Ok(());
        };
        let rows = converter.convert_columns(columns)?;
        for (at, slot) in slots
            .iter()
            .enumerate()
            .filter(|(at, _)| is_true(present, *at))
        {
            store.group_mut(*slot).emitted = Some(rows.row(at).data().into());
        }
        Ok(())
    }
}

impl Queued {
    fn slot(&self) -> Option<Slot> {
        match self.what {
            What::Result(slot) => Some(slot),
            What::Withdrawn(_) | What::Forgotten(_) => None,
        }
    }
}

/// Aggregated groups; those that failed have a reason.
struct Aggregated {
    groups: RecordBatch,
    failed: Vec<Option<String>>,
}

/// Group columns and window bounds as they are in `aggregated`, then the items as `having` names them.
fn emitted_schema(plan: &WindowPlan) -> Result<SchemaRef, WindowError> {
    let bounds = plan.group.len() + plan.kind.bounds();
    let aggregated = plan.aggregated.fields();
    let items = plan.having_schema.fields().iter().skip(aggregated.len());
    let fields: Vec<Arc<Field>> = aggregated
        .iter()
        .take(bounds)
        .chain(items)
        .cloned()
        .collect();
    match fields.len() == plan.project.len() && aggregated.len() == bounds + plan.calls.len() {
        true => Ok(Arc::new(Schema::new(fields))),
        false => Err(WindowError::Plan(format!(
            "{} emitted columns, {} projected; {} aggregated, {} calls",
            fields.len(),
            plan.project.len(),
            aggregated.len(),
            plan.calls.len()
        ))),
    }
}
