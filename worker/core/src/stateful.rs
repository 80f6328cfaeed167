//! Steps with state, whatever they compute: what the engine asks of each.
//!
//! A step is a function of the rows of its task in log order, each with the watermark from before it: how they are cut into
//! chunks and epochs, and where the state is saved and loaded, changes no row.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;

use crate::chunk::{Chunk, Millis};
use crate::dedup::Dedup;
use crate::exchange::ExchangeError;
use crate::join::Join;
use crate::key::KeyError;
use crate::pattern::{MatchSize, MatchStep, PatternError, Reads};
use crate::plan::{NodeKind, NodePlan};
use crate::topn::TopN;
use crate::window::{StateSize, WindowError, WindowStep};

#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error("it got a withdrawn row: it may not follow a step that updates its rows")]
    Withdrawn,
    #[error("its plan does not add up: {0}")]
    Plan(String),
    #[error("saved state does not fit the step: {0}")]
    State(String),
    #[error(
        "a row of a window that ends at {end} came when the watermark was at {watermark}: the window has been ranked"
    )]
    Ranked { end: Millis, watermark: Millis },
    #[error(transparent)]
    Window(#[from] WindowError),
    #[error(transparent)]
    Match(#[from] PatternError),
    #[error(transparent)]
    Rows(#[from] ExchangeError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("rows of a step: {0}")]
    Arrow(#[from] ArrowError),
}

/// What a step puts out, by port. Rows of all chunks of a stream are in order.
#[derive(Debug, Default)]
pub struct StepOutput {
    pub main: Vec<Chunk>,
    /// Input rows that were too late, unchanged. These and the following: where somebody reads them.
    pub late: Vec<Chunk>,
    /// Rows on which an expression failed: input columns, nullable, and `reason`.
    pub failed: Vec<Chunk>,
    /// A row for each start of a pattern that ended without a match.
    pub timed_out: Vec<Chunk>,
    /// Input rows that would have been one start too many.
    pub overflow: Vec<Chunk>,
    /// Rows of side streams, read by somebody or not.
    pub late_count: u64,
    pub failed_count: u64,
    pub timed_out_count: u64,
    pub overflow_count: u64,
}

pub trait Stateful: Send {
    /// The next rows of the log. W becomes each row's `before` before that row is looked at.
    fn rows(&mut self, chunk: &Chunk, out: &mut StepOutput) -> Result<(), StepError>;
    /// W moves without a row: after a chunk, while idle, at the end of the input.
    fn advance(&mut self, w: Millis, out: &mut StepOutput) -> Result<(), StepError>;
    /// Puts out what has changed in the epoch, where a step does that at its end.
    fn end_epoch(&mut self, _: &mut StepOutput) -> Result<(), StepError> {
        Ok(())
    }
    /// Rows of a round in log order, then the watermark `w` behind them. `closing`: the epoch ends.
    fn pass(&mut self, rows: &[Chunk], w: Millis, closing: bool) -> Result<StepOutput, StepError> {
        let mut out = StepOutput::default();
        for chunk in rows {
            self.rows(chunk, &mut out)?;
        }
        self.advance(w, &mut out)?;
        if closing {
            self.end_epoch(&mut out)?;
        }
        Ok(out)
    }
    /// Groups that another task has folded, none of whose windows has fired. Returns how many rows they stand for.
    fn add_groups(&mut self, _: &RecordBatch) -> Result<u64, StepError> {
        Err(StepError::Plan("rows are not folded for it".into()))
    }
    /// The complete state. What is put out is put out between calls, so it is no part of it.
    fn save(&self) -> Result<Vec<RecordBatch>, StepError>;
    /// Takes back what `save` gave, into a new step of the same plan.
    fn load(&mut self, state: &[RecordBatch]) -> Result<(), StepError>;
    /// What it holds at the moment.
    fn held(&self) -> StateSize;
}

/// The step of a node, without state; `None` where it never has any.
pub fn stateful(node: &NodePlan) -> Result<Option<Box<dyn Stateful>>, StepError> {
    let (late, failed) = (node.late_read, node.failed_read);
    Ok(match &node.kind {
        NodeKind::Stateless(_) => None,
        NodeKind::Window(plan) => {
            let plan = Arc::new(plan.clone());
            Some(Box::new(WindowStep::new(plan, late, failed)?))
        }
        NodeKind::Match(plan) => {
            let reads = Reads {
                late,
                failed,
                timed_out: node.timed_out_read,
                overflow: node.overflow_read,
            };
            let plan = Arc::new(plan.as_ref().clone());
            let step = MatchStep::new(plan, node.schema.clone(), reads)?;
            Some(Box::new(step))
        }
        NodeKind::Deduplicate(plan) => Some(Box::new(Dedup::new(plan.clone(), late, failed)?)),
        NodeKind::Join(plan) => {
            let schema = node.schema.clone();
            Some(Box::new(Join::new(plan.clone(), schema, late)?))
        }
        NodeKind::TopN(plan) => Some(Box::new(TopN::new(plan.clone(), node.schema.clone())?)),
    })
}

impl Stateful for WindowStep {
    fn rows(&mut self, chunk: &Chunk, out: &mut StepOutput) -> Result<(), StepError> {
        Ok(WindowStep::rows(self, chunk, out)?)
    }

    fn advance(&mut self, w: Millis, out: &mut StepOutput) -> Result<(), StepError> {
        Ok(WindowStep::advance(self, w, out)?)
    }

    fn end_epoch(&mut self, out: &mut StepOutput) -> Result<(), StepError> {
        Ok(WindowStep::end_epoch(self, out)?)
    }

    fn add_groups(&mut self, groups: &RecordBatch) -> Result<u64, StepError> {
        Ok(WindowStep::add_groups(self, groups)?)
    }

    fn save(&self) -> Result<Vec<RecordBatch>, StepError> {
        Ok(WindowStep::save(self)?)
    }

    fn load(&mut self, state: &[RecordBatch]) -> Result<(), StepError> {
        Ok(WindowStep::load(self, state)?)
    }

    fn held(&self) -> StateSize {
        WindowStep::held(self)
    }
}

impl Stateful for MatchStep {
    fn rows(&mut self, chunk: &Chunk, out: &mut StepOutput) -> Result<(), StepError> {
        Ok(MatchStep::rows(self, chunk, out)?)
    }

    fn advance(&mut self, w: Millis, out: &mut StepOutput) -> Result<(), StepError> {
        Ok(MatchStep::advance(self, w, out)?)
    }

    fn save(&self) -> Result<Vec<RecordBatch>, StepError> {
        Ok(MatchStep::save(self)?)
    }

    fn load(&mut self, state: &[RecordBatch]) -> Result<(), StepError> {
        Ok(MatchStep::load(self, state)?)
    }

    fn held(&self) -> StateSize {
        let MatchSize { keys, starts, .. } = MatchStep::held(self);
        StateSize {
            keys,
            starts,
            windows: 0,
        }
    }
}

/// Rows that a step cannot read.
pub fn refuse_withdrawn(chunk: &Chunk) -> Result<(), StepError> {
    let deletes = chunk.deletes.as_ref();
    match deletes.is_some_and(|deletes| deletes.has_true()) {
        true => Err(StepError::Withdrawn),
        false => Ok(()),
    }
}

/// The only batch of a saved state.
pub fn only(state: &[RecordBatch]) -> Result<&RecordBatch, StepError> {
    match state {
        [state] => Ok(state),
        state => Err(StepError::State(format!(
            "there are {} batches of it, not one",
            state.len()
        ))),
    }
}

/// Numbers that a saved state carries in its schema's metadata, under `name`, behind the version of its form.
pub fn header(state: &RecordBatch, name: &str, format: &str) -> Result<Vec<i64>, StepError> {
    let text = metadata(state, name);
    numbers(&text, format).ok_or_else(|| {
        StepError::State(format!(
            "its header `{name}` is `{text}`, not of version {format}"
        ))
    })
}

/// The watermark and the number of rows read, where these are the numbers; else what is wrong.
pub fn clock(state: &RecordBatch, name: &str, format: &str) -> Result<(Millis, u64), String> {
    let text = metadata(state, name);
    let clock = match numbers(&text, format).as_deref() {
        Some([watermark, rows]) => u64::try_from(*rows).ok().map(|rows| (*watermark, rows)),
        _ => None,
    };
    clock.ok_or_else(|| format!("its header is `{text}`, not `{format} <watermark> <rows read>`"))
}

fn metadata(state: &RecordBatch, name: &str) -> String {
    let schema = state.schema();
    schema.metadata().get(name).cloned().unwrap_or_default()
}

fn numbers(text: &str, format: &str) -> Option<Vec<i64>> {
    let mut parts = text.split(' ');
    let version = parts.next()?;
    let numbers = parts.map(|part| part.parse().ok());
    (version == format).then(|| numbers.collect())?
}
