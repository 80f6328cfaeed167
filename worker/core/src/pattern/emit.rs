//! From matches, and starts that have ended, to rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{Schema, SchemaRef};

use super::events::Event;
use super::keys::KeyId;
use super::look::{Eye, Steps, steps};
use super::trail::Taken;
use super::{MatchStep, PatternError};
use crate::chunk::{Chunk, Millis};
use crate::exchange::pick;
use crate::expr::{Compiled, evaluate_each};
use crate::plan::MatchPlan;
use crate::stateful::StepOutput;
use crate::stateless::{failed_schema, nullable};

/// A match, or a start that has ended. It owns a use of its key and of what was taken.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    pub key: KeyId,
    pub start: Millis,
    pub taken: Taken,
}

pub struct Emitter {
    /// Schema of emitted rows.
    schema: SchemaRef,
    matched: SchemaRef,
    project: Vec<Compiled>,
    eyes: Vec<Eye>,
}

impl Emitter {
    pub fn new(plan: &MatchPlan, schema: SchemaRef, held: &Schema) -> Result<Self, PatternError> {
        let eyes = plan.looks.iter().map(|look| Eye::new(look, held));
        Ok(Emitter {
            schema,
            matched: plan.matched.clone(),
            project: plan.project.clone(),
            eyes: eyes.collect::<Result<_, _>>()?,
        })
    }
}

/// Rows, and those of the matches for which there is none, with the reason.
struct Rows {
    chunk: Chunk,
    failed: Vec<(Event, String)>,
}

impl MatchStep {
    /// Turns what was found into rows.
    pub(super) fn emit(&mut self, out: &mut StepOutput) -> Result<(), PatternError> {
        for (timed_out, list) in [
            (false, std::mem::take(&mut self.found)),
            (true, std::mem::take(&mut self.timed_out)),
        ] {
            if list.is_empty() {
                continue;
            }
            if timed_out {
                out.timed_out_count += list.len() as u64;
            }
            if !timed_out || self.reads.timed_out {
                let Rows { chunk, failed } = self.rows_of(&list)?;
                for (event, reason) in failed {
                    self.events.retain(event);
                    self.failed.push((event, reason));
                }
                let to = match timed_out {
                    true => &mut out.timed_out,
                    false => &mut out.main,
                };
                to.extend((!chunk.is_empty()).then_some(chunk));
            }
            for found in list {
                self.trail.release(found.taken, &mut self.events);
                self.keys.release(found.key);
            }
        }
        self.emit_failed(out)?;
        self.emit_overflow(out)
    }

    fn rows_of(&self, found: &[Found]) -> Result<Rows, PatternError> {
        let nfa = self.states.nfa();
        let ways: Vec<Steps> = found
            .iter()
            .map(|found| steps(&self.trail, nfa, found.taken, None))
            .collect();
        let last = |way: &Steps| way.last().map(|(event, _)| *event);
        let last: Vec<Event> = ways.iter().filter_map(last).collect();
        let times: Vec<Millis> = last.iter().map(|event| self.events.time(*event)).collect();
        let names = found.iter().map(|found| self.keys.name(found.key));
        let mut columns: Vec<ArrayRef> = self.group.decode(names)?;
        let starts = found.iter().map(|found| found.start);
        columns.push(Arc::new(TimestampMillisecondArray::from_iter_values(
            starts,
        )));
        columns.push(Arc::new(TimestampMillisecondArray::from(times.clone())));
        let mut failed: Vec<(usize, String)> = Vec::new();
        for eye in &self.emitter.eyes {
            let seen = eye.see(&self.events, &ways)?;
            columns.push(seen.values);
            failed.extend(seen.failed);
        }
        // Where a look failed there is no value, also where one must be.
        let matched = match failed.is_empty() {
            true => self.emitter.matched.clone(),
            false => Arc::new(nullable(&self.emitter.matched)),
        };
        let evaluated = evaluate_each(
            &self.emitter.project,
            &RecordBatch::try_new(matched, columns)?,
        );
        failed.extend(evaluated.failed);
        failed.sort_by_key(|(row, _)| *row);
        failed.dedup_by_key(|(row, _)| *row);
        let schema = match failed.is_empty() {
            true => self.emitter.schema.clone(),
            false => Arc::new(nullable(&self.emitter.schema)),
        };
        let all = Chunk {
            rows: RecordBatch::try_new(schema, evaluated.columns)?,
            before: self.before_each(&times),
            times,
            deletes: None,
        };
        Ok(Rows {
            chunk: match failed.is_empty() {
                true => all,
                false => self.without(all, &failed)?,
            },
            failed: failed
                .into_iter()
                .map(|(row, reason)| (last[row], reason))
                .collect(),
        })
    }

    /// The rows that did not fail.
    fn without(&self, all: Chunk, failed: &[(usize, String)]) -> Result<Chunk, PatternError> {
        let is_good = |row: &u32| {
            failed
                .binary_search_by_key(&(*row as usize), |(row, _)| *row)
                .is_err()
        };
        let good = pick(&all, (0..all.len() as u32).filter(is_good).collect())?;
        let columns = good.rows.columns().to_vec();
        Ok(Chunk {
            rows: RecordBatch::try_new(self.emitter.schema.clone(), columns)?,
            ..good
        })
    }

    /// The watermark before the move that passed each of these times, which ascend.
    fn before_each(&self, times: &[Millis]) -> Vec<Millis> {
        let mut before = self.watermark;
        let mut moves = self.moves.iter().copied().peekable();
        let mut each = Vec::with_capacity(times.len());
        for time in times {
            while let Some(w) = moves.next_if(|w| w <= time) {
                before = w;
            }
            each.push(before);
        }
        each
    }

    fn emit_failed(&mut self, out: &mut StepOutput) -> Result<(), PatternError> {
        let failed = std::mem::take(&mut self.failed);
        out.failed_count += failed.len() as u64;
        if self.reads.failed && !failed.is_empty() {
            let events: Vec<Event> = failed.iter().map(|(event, _)| *event).collect();
            let mut columns = self.whole_rows(&events)?.columns().to_vec();
            let reasons = failed.iter().map(|(_, reason)| reason);
            columns.push(Arc::new(StringArray::from_iter_values(reasons)));
            let schema = Arc::new(failed_schema(&self.plan.input));
            out.failed
                .push(self.timed(RecordBatch::try_new(schema, columns)?, &events));
        }
        for (event, _) in failed {
            self.events.release(event);
        }
        Ok(())
    }

    fn emit_overflow(&mut self, out: &mut StepOutput) -> Result<(), PatternError> {
        let events = std::mem::take(&mut self.overflow);
        out.overflow_count += events.len() as u64;
        if self.reads.overflow && !events.is_empty() {
            let rows = self.whole_rows(&events)?;
            out.overflow.push(self.timed(rows, &events));
        }
        for event in events {
            self.events.release(event);
        }
        Ok(())
    }

    /// Rows as they came in; all columns are held where somebody reads them.
    fn whole_rows(&self, events: &[Event]) -> Result<RecordBatch, PatternError> {
        let all: Vec<usize> = (0..self.plan.held.len()).collect();
        Ok(self.events.rows(&all, &self.plan.input, events)?)
    }

    fn timed(&self, rows: RecordBatch, events: &[Event]) -> Chunk {
        Chunk {
            rows,
            times: events
                .iter()
                .map(|event| self.events.time(*event))
                .collect(),
            before: vec![self.watermark; events.len()],
            deletes: None,
        }
    }
}
