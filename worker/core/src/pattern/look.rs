//! What an expression sees of the events that ways have taken: a column for each look, a row for each way.

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Schema, SchemaRef};
use smallvec::SmallVec;

use super::PatternError;
use super::events::{Event, Events};
use super::nfa::Nfa;
use super::trail::{Taken, Trail};
use crate::aggregate::{Input, Pairs, Slot, accumulator, argument_type, to_argument};
use crate::chunk::Millis;
use crate::expr::{Compiled, evaluate_each};
use crate::plan::{AggregateCall, Look, Pick};

/// Events and the elements that took them, the first one first.
pub type Steps = SmallVec<[(Event, u8); 8]>;

/// What was taken, as events and variables; with the event in hand behind it, if there is one.
pub fn steps(trail: &Trail, nfa: &Nfa, taken: Taken, hand: Option<(Event, u8)>) -> Steps {
    let mut steps: Steps = hand.into_iter().collect();
    steps.extend(
        trail
            .back(taken)
            .map(|(event, element)| (event, nfa.variable(element))),
    );
    steps.reverse();
    steps
}

/// Values by way, and the ways for which there is none, with the reason.
pub struct Seen {
    pub values: ArrayRef,
    pub failed: Vec<(usize, String)>,
}

/// A look, bound to the columns that are held.
pub struct Eye {
    variable: Option<u8>,
    pick: Pick,
    argument: Option<Argument>,
}

/// An expression over some of the held columns.
pub struct Argument {
    columns: Vec<usize>,
    schema: SchemaRef,
    compiled: Compiled,
}

impl Argument {
    pub fn new(compiled: &Compiled, held: &Schema) -> Result<Self, PatternError> {
        let names = compiled.columns();
        let columns = names
            .iter()
            .map(|name| held.index_of(name))
            .collect::<Result<Vec<_>, _>>()?;
        let schema = SchemaRef::new(held.project(&columns)?);
        Ok(Argument {
            compiled: compiled.over(&schema)?,
            columns,
            schema,
        })
    }

    fn of(&self, events: &Events, of: &[Event]) -> Result<Seen, PatternError> {
        let rows = events.rows(&self.columns, &self.schema, of)?;
        let mut evaluated = evaluate_each(std::slice::from_ref(&self.compiled), &rows);
        let values = evaluated.columns.pop();
        Ok(Seen {
            values: values.ok_or_else(|| PatternError::Plan(self.compiled.sql.clone()))?,
            failed: evaluated.failed,
        })
    }
}

impl Eye {
    pub fn new(look: &Look, held: &Schema) -> Result<Self, PatternError> {
        let argument = look
            .argument()
            .map(|argument| Argument::new(argument, held))
            .transpose()?;
        Ok(Eye {
            variable: look.variable.map(|variable| variable as u8),
            pick: look.pick.clone(),
            argument,
        })
    }

    fn counts(&self, variable: u8) -> bool {
        self.variable.is_none_or(|own| own == variable)
    }

    pub fn see(&self, events: &Events, ways: &[Steps]) -> Result<Seen, PatternError> {
        match &self.pick {
            Pick::First(_) => self.pick(
                events,
                ways.iter()
                    .map(|way| way.iter().find(|(_, variable)| self.counts(*variable))),
            ),
            Pick::Last(_, back) => self.pick(
                events,
                ways.iter().map(|way| {
                    way.iter()
                        .rev()
                        .filter(|(_, variable)| self.counts(*variable))
                        .nth(*back)
                }),
            ),
            Pick::Fold(call) => self.fold(call, events, ways),
        }
    }

    /// The argument of one event of each way; null where there is none.
    fn pick<'a>(
        &self,
        events: &Events,
        picked: impl Iterator<Item = Option<&'a (Event, u8)>>,
    ) -> Result<Seen, PatternError> {
        let Some(argument) = &self.argument else {
            return Err(PatternError::Plan("a look without an argument".into()));
        };
        let mut found = Vec::new();
        let mut ways = Vec::new();
        let places: UInt32Array = picked
            .enumerate()
            .map(|(way, picked)| {
                let (event, _) = picked?;
                found.push(*event);
                ways.push(way);
                Some((found.len() - 1) as u32)
            })
            .collect();
        let seen = argument.of(events, &found)?;
        let failed = seen.failed.into_iter();
        let failed = failed.map(|(at, reason)| (ways[at], reason)).collect();
        Ok(Seen {
            values: match places.null_count() {
                0 => seen.values,
                _ => take(&seen.values, &places, None)?,
            },
            failed,
        })
    }

    fn fold(
        &self,
        call: &AggregateCall,
        events: &Events,
        ways: &[Steps],
    ) -> Result<Seen, PatternError> {
        let mut of = Vec::new();
        let mut slots: Vec<Slot> = Vec::new();
        for (way, steps) in ways.iter().enumerate() {
            let own = steps.iter().filter(|(_, variable)| self.counts(*variable));
            of.extend(own.map(|(event, _)| *event));
            slots.resize(of.len(), way as Slot);
        }
        let mut failed = Vec::new();
        let values = match &self.argument {
            None => None,
            Some(argument) => {
                let seen = argument.of(events, &of)?;
                let reasons = seen.failed.into_iter();
                failed.extend(reasons.map(|(at, reason)| (slots[at] as usize, reason)));
                Some(match argument_type(call) {
                    Some(wanted) => to_argument(seen.values, &wanted)?,
                    None => seen.values,
                })
            }
        };
        let times: Vec<Millis> = of.iter().map(|event| events.time(*event)).collect();
        let sequences: Vec<u64> = of.iter().map(|event| events.sequence(*event)).collect();
        let rows: Vec<u32> = (0..of.len() as u32).collect();
        let mut accumulator = accumulator(call)?;
        accumulator.grow(ways.len());
        let input = Input {
            values,
            filter: None,
        };
        accumulator.update(
            &input,
            Pairs {
                rows: &rows,
                slots: &slots,
                times: &times,
                sequences: &sequences,
            },
        )?;
        let all: Vec<Slot> = (0..ways.len() as Slot).collect();
        let finished = accumulator.finish(&all)?;
        failed.extend(finished.failed);
        Ok(Seen {
            values: finished.values,
            failed,
        })
    }
}

/// A condition that looks back, bound to the columns that are held.
pub struct Trial {
    /// Held columns of the event in hand that it reads.
    own: Vec<usize>,
    eyes: Vec<Eye>,
    /// Own columns, then a column for each look.
    schema: SchemaRef,
    condition: Compiled,
}

impl Trial {
    pub fn new(tried: &crate::plan::Tried, held: &Schema) -> Result<Self, PatternError> {
        let eyes = tried
            .looks
            .iter()
            .map(|look| Eye::new(look, held))
            .collect::<Result<Vec<_>, _>>()?;
        let names = tried.condition.columns();
        let own = names
            .iter()
            .filter(|name| !name.starts_with('#'))
            .map(|name| held.index_of(name))
            .collect::<Result<Vec<_>, _>>()?;
        let looks = tried.schema.fields().len() - eyes.len();
        let fields = held
            .project(&own)?
            .fields()
            .iter()
            .cloned()
            .collect::<Vec<_>>();
        let fields = fields
            .into_iter()
            .chain(tried.schema.fields()[looks..].iter().cloned());
        let schema = SchemaRef::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(Trial {
            condition: tried.condition.over(&schema)?,
            own,
            eyes,
            schema,
        })
    }

    /// Whether `hand` satisfies the condition, for each way that would take it; or why it cannot be told.
    pub fn tell(
        &self,
        events: &Events,
        hand: Event,
        ways: &[Steps],
    ) -> Result<Result<Vec<bool>, String>, PatternError> {
        let hands = vec![hand; ways.len()];
        let mut columns = self
            .own
            .iter()
            .map(|column| events.column(*column, &hands))
            .collect::<Result<Vec<_>, _>>()?;
        for eye in &self.eyes {
            let seen = eye.see(events, ways)?;
            if let Some((_, reason)) = seen.failed.into_iter().next() {
                return Ok(Err(reason));
            }
            columns.push(seen.values);
        }
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        let mut evaluated = evaluate_each(std::slice::from_ref(&self.condition), &batch);
        if let Some((_, reason)) = evaluated.failed.into_iter().next() {
            return Ok(Err(reason));
        }
        let column = evaluated.columns.pop();
        let mask = column
            .as_ref()
            .and_then(|column| arrow::array::AsArray::as_boolean_opt(column.as_ref()))
            .ok_or_else(|| PatternError::Plan(self.condition.sql.clone()))?;
        Ok(Ok((0..mask.len())
            .map(|row| mask.is_valid(row) && mask.value(row))
            .collect()))
    }
}
