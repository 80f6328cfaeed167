//! The top-N step of one task: of a window's groups the first `n` in an order, or of each partition of them.
//!
//! Rows of a window are collected until W reaches its end: from then on no further one can come, because whoever emits
//! them moves its own W only behind them. Then the first ones go out, in their order. No more than about twice `n` of a
//! window are held. Where groups are spread over tasks, each task ranks its own, and one behind an exchange ranks those
//! that came first somewhere: what is not among the first of its task is not among the first of all.
//!
//! The order is total: rows that are equal in it go by their group columns, nulls first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::{Schema, SchemaRef, TimestampMillisecondType};
use arrow::row::{RowConverter, SortField};

use crate::chunk::{Chunk, Millis, W_START};
use crate::key::GroupKeys;
use crate::plan::TopNPlan;
use crate::stateful::{Stateful, StepError, StepOutput, header, only, refuse_withdrawn};
use crate::window::StateSize;

/// Key of the saved schema's metadata: `<format> <watermark>`.
const HEADER: &str = "streamjob.top";
const FORMAT: &str = "1";

pub struct TopN {
    plan: TopNPlan,
    schema: SchemaRef,
    watermark: Millis,
    /// Makes bytes of rows that compare as the rows rank.
    ranks: RowConverter,
    /// Makes bytes of whole rows, and rows of them.
    rows: RowConverter,
    partitions: GroupKeys,
    /// Rows by window (end, start), then partition.
    windows: BTreeMap<(Millis, Millis), BTreeMap<Vec<u8>, Vec<Ranked>>>,
}

/// A row, behind the bytes that it is ranked by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Ranked {
    rank: Box<[u8]>,
    row: Box<[u8]>,
}

impl TopN {
    /// For rows of `schema`.
    pub fn new(plan: TopNPlan, schema: SchemaRef) -> Result<Self, StepError> {
        let data_type = |at: usize| schema.field(at).data_type().clone();
        let by = plan.by.iter().map(|by| {
            let options = SortOptions {
                descending: by.descending,
                nulls_first: by.nulls_first,
            };
            SortField::new_with_options(data_type(by.column), options)
        });
        let ties = (0..plan.groups).map(|at| SortField::new(data_type(at)));
        let fields = schema.fields().iter();
        let whole = fields.map(|field| SortField::new(field.data_type().clone()));
        Ok(TopN {
            ranks: RowConverter::new(by.chain(ties).collect())?,
            rows: RowConverter::new(whole.collect())?,
            partitions: GroupKeys::new(plan.partition.iter().map(|at| data_type(*at)))?,
            watermark: W_START,
            windows: BTreeMap::new(),
            schema,
            plan,
        })
    }

    fn bound(&self, rows: &RecordBatch, after_groups: usize) -> Result<Vec<Millis>, StepError> {
        let column = rows.column(self.plan.groups + after_groups);
        let times = column.as_primitive_opt::<TimestampMillisecondType>();
        let plan = || StepError::Plan(format!("rows are {}", rows.schema()));
        Ok(times.ok_or_else(plan)?.values().to_vec())
    }

    fn take(
        &mut self,
        rows: &RecordBatch,
        before: Option<&[Millis]>,
        out: &mut StepOutput,
    ) -> Result<(), StepError> {
        let (starts, ends) = (self.bound(rows, 0)?, self.bound(rows, 1)?);
        let column = |at: usize| rows.column(at).clone();
        let ranked_by: Vec<ArrayRef> = self
            .plan
            .by
            .iter()
            .map(|by| column(by.column))
            .chain((0..self.plan.groups).map(column))
            .collect();
        let ranks = self.ranks.convert_columns(&ranked_by)?;
        let whole = self.rows.convert_columns(rows.columns())?;
        let partition: Vec<ArrayRef> = self.plan.partition.iter().map(|at| column(*at)).collect();
        let keys = self.partitions.encode(&partition, rows.num_rows())?;
        for row in 0..rows.num_rows() {
            if let Some(before) = before {
                self.move_to(before[row], out)?;
            }
            if ends[row] <= self.watermark {
                return Err(StepError::Ranked {
                    end: ends[row],
                    watermark: self.watermark,
                });
            }
            let window = self.windows.entry((ends[row], starts[row])).or_default();
            let held = window.entry(keys.get(row).to_vec()).or_default();
            held.push(Ranked {
                rank: ranks.row(row).data().into(),
                row: whole.row(row).data().into(),
            });
            if held.len() >= self.plan.n.saturating_mul(2).max(64) {
                first(held, self.plan.n);
            }
        }
        Ok(())
    }

    /// Windows that have ended go out.
    fn move_to(&mut self, w: Millis, out: &mut StepOutput) -> Result<(), StepError> {
        if w <= self.watermark {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.watermark, w);
        let (mut rows, mut times) = (Vec::new(), Vec::new());
        while let Some(window) = self.windows.first_entry().filter(|next| next.key().0 <= w) {
            let (end, _) = *window.key();
            for (_, mut held) in window.remove() {
                first(&mut held, self.plan.n);
                times.extend(held.iter().map(|_| end.saturating_sub(1)));
                rows.append(&mut held);
            }
        }
        if !rows.is_empty() {
            out.main.push(Chunk {
                rows: self.batch(self.schema.clone(), &rows)?,
                before: vec![before; times.len()],
                times,
                deletes: None,
            });
        }
        Ok(())
    }

    fn batch(&self, schema: SchemaRef, rows: &[Ranked]) -> Result<RecordBatch, StepError> {
        let parser = self.rows.parser();
        let columns = self
            .rows
            .convert_rows(rows.iter().map(|ranked| parser.parse(&ranked.row)))?;
        Ok(RecordBatch::try_new(schema, columns)?)
    }
}

/// Keeps the first `n`, in order.
fn first(held: &mut Vec<Ranked>, n: usize) {
    held.sort_unstable();
    held.truncate(n);
}

impl Stateful for TopN {
    fn rows(&mut self, chunk: &Chunk, out: &mut StepOutput) -> Result<(), StepError> {
        refuse_withdrawn(chunk)?;
        self.take(&chunk.rows, Some(&chunk.before), out)
    }

    fn advance(&mut self, w: Millis, out: &mut StepOutput) -> Result<(), StepError> {
        self.move_to(w, out)
    }

    /// The rows that may still be among the first, by window, partition and rank.
    fn save(&self) -> Result<Vec<RecordBatch>, StepError> {
        let mut rows = Vec::new();
        for held in self.windows.values().flat_map(BTreeMap::values) {
            let mut held = held.clone();
            first(&mut held, self.plan.n);
            rows.append(&mut held);
        }
        let header = HashMap::from([(HEADER.to_string(), format!("{FORMAT} {}", self.watermark))]);
        let schema = Schema::new_with_metadata(self.schema.fields().clone(), header);
        Ok(vec![self.batch(Arc::new(schema), &rows)?])
    }

    fn load(&mut self, state: &[RecordBatch]) -> Result<(), StepError> {
        let state = only(state)?;
        let [watermark] = header(state, HEADER, FORMAT)?[..] else {
            return Err(StepError::State("its header is cut".into()));
        };
        if state.schema().fields() != self.schema.fields() {
            return Err(StepError::State(format!("columns are {}", state.schema())));
        }
        self.watermark = watermark;
        // W does not move, so nothing goes out.
        self.take(state, None, &mut StepOutput::default())
    }

    fn held(&self) -> StateSize {
        let held = self.windows.values().flat_map(BTreeMap::values);
        StateSize {
            windows: self.windows.len(),
            keys: held.map(Vec::len).sum(),
            starts: 0,
        }
    }
}
