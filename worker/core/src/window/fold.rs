//! Partial aggregation before an exchange: an epoch's rows of a group go over it as one row of accumulator states.
//!
//! It changes no row that comes out. Only aggregates are folded whose result is the same bits in any order of rows. And only
//! rows are folded whose windows all end after the producer's watermark at the end of the epoch: the watermark behind
//! the exchange is never ahead of any producer's, so none of them is late there, and none of their windows has fired
//! when they come. The other rows go as they are, each with the watermark from before it.
//!
//! A folded batch is a window step's saved state: what `WindowStep::save` gives, `WindowStep::add_groups` adds to another.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};

use super::assign::Grid;
use super::save::{FIRST_STATE, header, same_types};
use super::{WindowError, WindowStep};
use crate::aggregate::{Slot, argument_type};
use crate::chunk::{Chunk, Millis, W_START};
use crate::exchange::pick;
use crate::plan::{AggregateCall, AggregateFunction, NodeKind, NodePlan, WindowKind, WindowPlan};
use crate::stateful::StepOutput;

/// Folding pays where it saves at least half of the rows.
const ROWS_PER_GROUP: usize = 2;

/// Folds the rows that one task sends through an exchange.
pub struct Folder {
    plan: Arc<WindowPlan>,
    grid: Grid,
}

/// What an epoch's rows have become.
#[derive(Debug, Default)]
pub struct Folded {
    pub rows: Option<Chunk>,
    pub groups: Option<RecordBatch>,
}

/// Whether rows may be folded before they come to this node.
pub fn foldable(node: &NodePlan) -> bool {
    let NodeKind::Window(window) = &node.kind else {
        return false;
    };
    !node.late_read
        && !matches!(
            window.kind,
            WindowKind::Session { .. } | WindowKind::Running { .. }
        )
        && window.allowed_lateness == 0
        && window.emit_every.is_none()
        && window.calls.iter().all(in_any_order)
}

/// Whether the order of rows does not change a bit of the result.
fn in_any_order(call: &AggregateCall) -> bool {
    use AggregateFunction::*;
    match call.function {
        Count | Min | Max | ApproxDistinct | ApproxPercentile(_) => true,
        Sum | Avg => argument_type(call) != Some(DataType::Float64),
        Stddev | FirstValue | LastValue | ArrayAgg { .. } => false,
    }
}

impl Folder {
    /// For rows on their way to `node`; `None` where they must not be folded.
    pub fn new(node: &NodePlan) -> Option<Self> {
        match &node.kind {
            NodeKind::Window(window) if foldable(node) => Some(Folder {
                plan: Arc::new(window.clone()),
                grid: Grid::new(window.kind)?,
            }),
            _ => None,
        }
    }

    /// `w`: the producer's watermark at the end of the epoch.
    pub fn fold(&mut self, chunk: Chunk, w: Millis) -> Result<Folded, WindowError> {
        let (open, closed): (Vec<u32>, Vec<u32>) = (0..chunk.len() as u32).partition(|row| {
            let span = self.grid.span(chunk.times[*row as usize]);
            span.is_some_and(|span| span.first_end > w)
        });
        let groups = match chunk.deletes {
            None if open.len() >= ROWS_PER_GROUP => self.groups(pick(&chunk, open)?)?,
            _ => None,
        };
        Ok(match groups {
            None => Folded {
                rows: Some(chunk),
                groups: None,
            },
            some => Folded {
                rows: (!closed.is_empty())
                    .then(|| pick(&chunk, closed))
                    .transpose()?,
                groups: some,
            },
        })
    }

    /// One row a group; `None` where that saves too little, or where a row fails: it is told of on the other side.
    fn groups(&self, mut rows: Chunk) -> Result<Option<RecordBatch>, WindowError> {
        rows.before.fill(W_START);
        let mut step = WindowStep::new(self.plan.clone(), false, false)?;
        let mut out = StepOutput::default();
        step.rows(&rows, &mut out)?;
        let saves = step.held().windows * ROWS_PER_GROUP <= rows.len();
        match saves && out.failed_count == 0 {
            true => Ok(step.save()?.pop()),
            false => Ok(None),
        }
    }
}

impl WindowStep {
    /// Adds folded groups, none of whose windows has fired. Returns how many rows they stand for.
    pub fn add_groups(&mut self, groups: &RecordBatch) -> Result<u64, WindowError> {
        let (_, rows) = header(groups)?;
        if !same_types(&self.state_schema(W_START, 0), &groups.schema()) {
            let message = format!("folded groups have columns {}", groups.schema());
            return Err(WindowError::State(message));
        }
        let (keys, rest) = groups.columns().split_at(self.plan.group.len());
        let keys = self.keys.encode(keys, groups.num_rows())?;
        let into = (0..groups.num_rows())
            .map(|row| self.window_of(keys.get(row), row, rest))
            .collect::<Result<Vec<Slot>, _>>()?;
        self.merge_states(&into, &rest[FIRST_STATE..])?;
        self.sequence += rows;
        Ok(rows)
    }

    fn window_of(
        &mut self,
        key: &[u8],
        row: usize,
        columns: &[ArrayRef],
    ) -> Result<Slot, WindowError> {
        let bound = |column: usize| columns[column].as_primitive::<Int64Type>().value(row);
        let (start, end) = (bound(0), bound(1));
        if start > end || end <= self.watermark {
            let message = format!("a folded group of the window [{start}, {end}) came too late");
            return Err(WindowError::State(message));
        }
        let key = self.store.key(key);
        let windows = self.store.windows(key);
        let at = windows.partition_point(|held| held.end < end);
        match windows.get(at).filter(|held| held.end == end) {
            Some(held) => Ok(held.slot),
            None => Ok(self.create(key, at, start, end)),
        }
    }

    /// States are loaded behind the slots in use, merged into theirs, and forgotten.
    fn merge_states(&mut self, into: &[Slot], states: &[ArrayRef]) -> Result<(), WindowError> {
        let first = self.store.capacity();
        let behind: Vec<Slot> = (first..first + into.len())
            .map(|slot| slot as Slot)
            .collect();
        let mut column = 0;
        for accumulator in &mut self.accumulators {
            accumulator.grow(first + into.len());
            let width = accumulator.state_types().len();
            accumulator.load(&behind, &states[column..column + width])?;
            column += width;
            for (from, into) in behind.iter().zip(into) {
                accumulator.merge(*from, *into);
            }
            accumulator.reset(&behind);
        }
        Ok(())
    }
}
