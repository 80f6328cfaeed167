//! The pattern step of one task: rows in log order go in, a row for each match comes out.
//!
//! A row waits until the watermark W has passed its time. Then rows are looked at by event time, ties in log order, so
//! what comes out does not depend on how rows are cut into chunks:
//!
//! ```text
//!            ┌ late ─▶ .late
//!   row ─────┤                    W > time                ┌ completes a way ─▶ match
//!            └ on time ─▶ waits ────────────▶ its group's ┤
//!                                             starts      └ within over, or the end ─▶ .timedOut
//! ```
//!
//! A *start* is an event that may begin a match. It holds its *ways* through the pattern, the preferred one first, at most one a
//! place (see `nfa`). An event makes of each way, in order of preference, one for each element that takes it, and one that
//! skips it; a place that is held already is held by a preferred way. The first way that is complete is the match.
//!
//! What a condition needs of the row alone is computed for whole batches, a bit for each variable; what looks back is tried
//! for the ways that stand before such a variable. An event that no way wants costs a comparison.
//!
//! Rooms: `syntax` and `nfa` (the pattern), `input` (what is read of a chunk), `keys`, `trail` and `events` (what is held), `walk`
//! (an event and the starts of its group), `look` (what expressions see), `emit` (what goes out), `save`.

mod emit;
mod events;
mod input;
mod keys;
mod look;
pub mod nfa;
mod save;
pub mod syntax;
mod trail;
mod walk;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use arrow::array::UInt32Array;
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion_common::DataFusionError;

use crate::aggregate::AggregateError;
use crate::chunk::{Chunk, Millis, W_END, W_START};
use crate::exchange::{ExchangeError, pick};
use crate::key::{GroupKeys, KeyError};
use crate::plan::MatchPlan;
use crate::stateful::StepOutput;
use crate::stateless::failed_rows;
use emit::{Emitter, Found};
use events::{Event, Events};
use input::Prepared;
use keys::{KeyId, Keys};
use look::Trial;
use nfa::{States, Variables};
use trail::Trail;

/// Matches that are turned into rows at one time, at most about.
const ROWS: usize = 16 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    #[error("a pattern step got a withdrawn row: no match may follow a step that updates its rows")]
    Withdrawn,
    #[error("the pattern's plan does not add up: {0}")]
    Plan(String),
    #[error("saved partial matches do not fit the step: {0}")]
    State(String),
    #[error(transparent)]
    Aggregate(#[from] AggregateError),
    #[error(transparent)]
    Rows(#[from] ExchangeError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("patterns: {0}")]
    Arrow(#[from] ArrowError),
    #[error("patterns: {0}")]
    Expression(#[from] DataFusionError),
}

/// Which side streams somebody reads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reads {
    pub late: bool,
    pub failed: bool,
    pub timed_out: bool,
    pub overflow: bool,
}

/// The size of state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MatchSize {
    /// Groups that have starts or events that wait.
    pub keys: usize,
    /// Starts that have not ended.
    pub starts: usize,
    /// Events that wait or were taken.
    pub events: usize,
}

/// An event that waits for the watermark, in the order in which it will be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    time: Millis,
    /// Place in the task's log.
    sequence: u64,
    event: Event,
    key: KeyId,
    variables: Variables,
}

/// Emits a row for each match, whose time is that of its last event, and one for each start that ended without. A match on which an
/// expression fails goes out as its last event.
pub struct MatchStep {
    plan: Arc<MatchPlan>,
    reads: Reads,
    watermark: Millis,
    /// Rows read so far: a row's place in the task's log.
    sequence: u64,
    group: GroupKeys,
    keys: Keys,
    events: Events,
    trail: Trail,
    states: States,
    trials: Vec<Option<Trial>>,
    /// Variables that look back.
    tried: Variables,
    /// Of this round: most of them will not have to wait longer.
    fresh: Vec<Waiting>,
    waiting: BinaryHeap<Reverse<Waiting>>,
    /// Where W went in this round.
    moves: Vec<Millis>,
    /// With `within`: starts in their order, some of which have ended: time, sequence, group.
    ends: VecDeque<(Millis, u64, KeyId)>,
    found: Vec<Found>,
    timed_out: Vec<Found>,
    /// Events that failed or started one match too many.
    failed: Vec<(Event, String)>,
    overflow: Vec<Event>,
    emitter: Emitter,
}

impl MatchStep {
    /// A step without state, which emits rows of `schema`.
    pub fn new(
        plan: Arc<MatchPlan>,
        schema: SchemaRef,
        reads: Reads,
    ) -> Result<Self, PatternError> {
        let held_schema: SchemaRef = Arc::new(plan.input.project(&plan.held)?);
        let trials = plan
            .variables
            .iter()
            .map(|variable| {
                let tried = variable.tried.as_ref();
                tried
                    .map(|tried| Trial::new(tried, &held_schema))
                    .transpose()
            })
            .collect::<Result<Vec<_>, _>>()?;
        let is_tried = |(number, trial): (usize, &Option<Trial>)| match trial {
            Some(_) => 1 << number,
            None => 0,
        };
        Ok(MatchStep {
            reads,
            watermark: W_START,
            sequence: 0,
            group: GroupKeys::new(plan.partition.iter().map(|column| column.data_type.clone()))?,
            keys: Keys::default(),
            trail: Trail::default(),
            states: States::new(plan.nfa.clone()),
            tried: trials
                .iter()
                .enumerate()
                .map(is_tried)
                .fold(0, |all, one: u64| all | one),
            trials,
            fresh: Vec::new(),
            waiting: BinaryHeap::new(),
            moves: Vec::new(),
            ends: VecDeque::new(),
            found: Vec::new(),
            timed_out: Vec::new(),
            failed: Vec::new(),
            overflow: Vec::new(),
            emitter: Emitter::new(&plan, schema, &held_schema)?,
            events: Events::new(held_schema),
            plan,
        })
    }

    /// What it holds at the moment.
    pub fn held(&self) -> MatchSize {
        let (keys, starts) = self.keys.counts();
        MatchSize {
            keys,
            starts,
            events: self.events.used(),
        }
    }

    /// The next rows of the log.
    pub fn rows(&mut self, chunk: &Chunk, out: &mut StepOutput) -> Result<(), PatternError> {
        if chunk
            .deletes
            .as_ref()
            .is_some_and(|deletes| deletes.has_true())
        {
            return Err(PatternError::Withdrawn);
        }
        let prepared = Prepared::new(&self.plan, &self.group, chunk)?;
        self.side_streams(chunk, &prepared, out)?;
        for w in &chunk.before {
            if *w > self.moves.last().copied().unwrap_or(self.watermark) {
                self.moves.push(*w);
            }
        }
        let rows = UInt32Array::from(prepared.rows.clone());
        let columns = self
            .plan
            .held
            .iter()
            .map(|column| take(chunk.rows.column(*column), &rows, None));
        let rows = || prepared.rows.iter().map(|row| *row as usize);
        let times = rows().map(|row| chunk.times[row]).collect();
        let sequences = rows().map(|row| self.sequence + row as u64).collect();
        let events = self
            .events
            .add(columns.collect::<Result<_, _>>()?, times, sequences);
        for (place, event) in events.into_iter().enumerate() {
            self.fresh.push(Waiting {
                time: self.events.time(event),
                sequence: self.events.sequence(event),
                event,
                key: self.keys.hold(prepared.keys.get(place)),
                variables: prepared.variables[place],
            });
        }
        self.sequence += chunk.len() as u64;
        Ok(())
    }

    /// W moves: events that it has passed are looked at, starts end.
    pub fn advance(&mut self, w: Millis, out: &mut StepOutput) -> Result<(), PatternError> {
        if w <= self.watermark && self.fresh.is_empty() {
            return Ok(());
        }
        let w = w.max(self.watermark);
        let passed = |time: Millis| time < w || w == W_END;
        let mut due = Vec::new();
        for event in self.fresh.drain(..) {
            match passed(event.time) {
                true => due.push(event),
                false => self.waiting.push(Reverse(event)),
            }
        }
        while self
            .waiting
            .peek()
            .is_some_and(|first| passed(first.0.time))
        {
            due.extend(self.waiting.pop().map(|Reverse(event)| event));
        }
        due.sort();
        for event in due {
            self.end_starts(|last| last < event.time);
            self.walk(event)?;
            if self.found.len() + self.timed_out.len() >= ROWS {
                self.emit(out)?;
            }
        }
        self.end_starts(|last| last < w || w == W_END);
        if w == W_END {
            self.end_all();
        }
        self.emit(out)?;
        self.watermark = w;
        self.moves.clear();
        self.compact()
    }

    fn side_streams(
        &self,
        chunk: &Chunk,
        prepared: &Prepared,
        out: &mut StepOutput,
    ) -> Result<(), PatternError> {
        out.late_count += prepared.late.len() as u64;
        out.failed_count += prepared.failed.len() as u64;
        if self.reads.late && !prepared.late.is_empty() {
            out.late.push(pick(chunk, prepared.late.clone())?);
        }
        if self.reads.failed && !prepared.failed.is_empty() {
            out.failed.push(failed_rows(chunk, &prepared.failed)?);
        }
        Ok(())
    }

    /// Moves the events in use together, where few of those held are.
    fn compact(&mut self) -> Result<(), PatternError> {
        let Some(moved) = self.events.compact()? else {
            return Ok(());
        };
        self.trail.moved(&moved);
        let waiting = std::mem::take(&mut self.waiting).into_vec();
        let there = |Reverse(event): Reverse<Waiting>| {
            Reverse(Waiting {
                event: moved.of(event.event).unwrap_or(event.event),
                ..event
            })
        };
        self.waiting = waiting.into_iter().map(there).collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
