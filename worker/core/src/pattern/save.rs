//! A step's complete state as Arrow batches, and back.
//!
//! | batch | a row for each | columns |
//! |---|---|---|
//! | events | event that waits or was taken, in their order | `time`, `sequence`, the columns held |
//! | waiting | event that waits, in their order | `event`, `variables`, the group columns |
//! | starts | start, in their order | `time`, `sequence`, the group columns |
//! | ways | way, by start, the preferred one first | `start`, `element`, `skipped`, `taken` |
//! | taken | event in a list of events taken | `event`, `element`, `before` (−1: none) |
//!
//! `event`, `start`, `taken` and `before` are rows of the other batches (`before`: an earlier one of the same). The first one's
//! metadata carries the watermark and the number of rows read. Everything else follows from these.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use super::events::Event;
use super::keys::{Start, Way};
use super::trail::{NONE, Taken};
use super::{MatchStep, PatternError, Waiting};
use crate::stateful::clock;

/// Key of the schema's metadata: `<format> <watermark> <rows read>`.
const HEADER: &str = "streamjob.match";
const FORMAT: &str = "1";

fn wrong(reason: impl Into<String>) -> PatternError {
    PatternError::State(reason.into())
}

fn longs(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

/// A set of variables as a number that a column can hold.
fn bits(variables: u64) -> i64 {
    i64::from_le_bytes(variables.to_le_bytes())
}

fn variables(bits: i64) -> u64 {
    u64::from_le_bytes(bits.to_le_bytes())
}

impl MatchStep {
    /// The complete state. What was found is put out between calls, so it is no part of it.
    pub fn save(&self) -> Result<Vec<RecordBatch>, PatternError> {
        let mut events = self.events.in_use();
        events.sort_by_key(|event| (self.events.time(*event), self.events.sequence(*event)));
        let places: BTreeMap<Event, i64> = events.iter().copied().zip(0..).collect();
        let starts = self.keys.all_starts();
        let mut waiting: Vec<Waiting> = self.waiting.iter().map(|waiting| waiting.0).collect();
        waiting.sort();

        let mut held = vec![
            longs(events.iter().map(|event| self.events.time(*event))),
            longs(
                events
                    .iter()
                    .map(|event| self.events.sequence(*event) as i64),
            ),
        ];
        for column in 0..self.plan.held.len() {
            held.push(self.events.column(column, &events)?);
        }

        let names = waiting.iter().map(|waiting| self.keys.name(waiting.key));
        let mut waits = vec![
            longs(waiting.iter().map(|waiting| places[&waiting.event])),
            longs(waiting.iter().map(|waiting| bits(waiting.variables))),
        ];
        waits.extend(self.group.decode(names)?);

        let names = starts.iter().map(|(key, _)| self.keys.name(*key));
        let mut begun = vec![
            longs(starts.iter().map(|(_, start)| start.time)),
            longs(starts.iter().map(|(_, start)| start.sequence as i64)),
        ];
        begun.extend(self.group.decode(names)?);

        let ways: Vec<(i64, Way)> = (0..)
            .zip(&starts)
            .flat_map(|(at, (_, start))| start.ways.iter().map(move |way| (at, *way)))
            .collect();
        let (links, taken) = self.links(&ways);
        let state = |way: &Way| self.states.get(way.state);
        let stand = vec![
            longs(ways.iter().map(|(start, _)| *start)),
            longs(ways.iter().map(|(_, way)| i64::from(state(way).element))),
            longs(ways.iter().map(|(_, way)| bits(state(way).skipped))),
            longs(ways.iter().map(|(_, way)| links[&way.taken])),
        ];
        let link = |taken: &Taken| self.trail.link(*taken);
        let took = vec![
            longs(taken.iter().map(|taken| places[&link(taken).0])),
            longs(taken.iter().map(|taken| i64::from(link(taken).1))),
            longs(
                taken
                    .iter()
                    .map(|taken| links.get(&link(taken).2).copied().unwrap_or(-1)),
            ),
        ];
        let schemas = self.state_schemas();
        [held, waits, begun, stand, took]
            .into_iter()
            .zip(schemas)
            .map(|(columns, schema)| Ok(RecordBatch::try_new(schema, columns)?))
            .collect()
    }

    /// Numbers for lists of events, and the lists: each after the one that it goes on from.
    fn links(&self, ways: &[(i64, Way)]) -> (BTreeMap<Taken, i64>, Vec<Taken>) {
        let (mut numbers, mut order) = (BTreeMap::new(), Vec::new());
        for (_, way) in ways {
            let new = self.trail.links_back(way.taken);
            let new: Vec<Taken> = new
                .take_while(|taken| !numbers.contains_key(taken))
                .collect();
            for taken in new.into_iter().rev() {
                numbers.insert(taken, order.len() as i64);
                order.push(taken);
            }
        }
        (numbers, order)
    }

    /// Takes back what `save` gave, into a new step of the same plan: from then on it behaves as the saved one would have.
    pub fn load(&mut self, state: &[RecordBatch]) -> Result<(), PatternError> {
        let schemas = self.state_schemas();
        if state.len() != schemas.len() {
            return Err(wrong(format!(
                "there are {} batches of it, not {}",
                state.len(),
                schemas.len()
            )));
        }
        for (batch, expected) in state.iter().zip(&schemas) {
            check_shape(batch, expected)?;
        }
        let [held, waits, begun, stand, took] = state else {
            return Err(wrong("batches are missing"));
        };
        if self.events.used() > 0 || self.keys.counts() != (0, 0) {
            return Err(wrong("the step has state already"));
        }
        (self.watermark, self.sequence) = header(held)?;
        let sequences = long(held, 1)
            .iter()
            .map(|sequence| *sequence as u64)
            .collect();
        let columns = held.columns()[2..].to_vec();
        let events = self.events.add(columns, long(held, 0).to_vec(), sequences);
        self.load_waiting(waits, &events)?;
        let taken = self.load_taken(took, &events)?;
        self.load_starts(begun, stand, &taken)?;
        // Each of these was held by being here, until it was taken or waited.
        for taken in taken {
            self.trail.release(taken, &mut self.events);
        }
        let waiting: std::collections::BTreeSet<Event> =
            self.waiting.iter().map(|waiting| waiting.0.event).collect();
        for event in events {
            if !waiting.contains(&event) {
                self.events.release(event);
            }
        }
        Ok(())
    }

    fn load_waiting(&mut self, waits: &RecordBatch, events: &[Event]) -> Result<(), PatternError> {
        let keys = self.group.encode(&waits.columns()[2..], waits.num_rows())?;
        let mut last = None;
        for row in 0..waits.num_rows() {
            let event = place(events, long(waits, 0)[row], "an event that waits")?;
            if last.is_some_and(|last| last >= event) {
                return Err(wrong("events that wait are out of order"));
            }
            last = Some(event);
            let key = self.keys.hold(keys.get(row));
            self.waiting.push(std::cmp::Reverse(Waiting {
                time: self.events.time(event),
                sequence: self.events.sequence(event),
                event,
                key,
                variables: variables(long(waits, 1)[row]),
            }));
        }
        Ok(())
    }

    fn load_taken(
        &mut self,
        took: &RecordBatch,
        events: &[Event],
    ) -> Result<Vec<Taken>, PatternError> {
        let elements = self.plan.nfa.variables.len();
        let mut taken: Vec<Taken> = Vec::with_capacity(took.num_rows());
        for row in 0..took.num_rows() {
            let event = place(events, long(took, 0)[row], "an event that was taken")?;
            let element = usize::try_from(long(took, 1)[row]).ok();
            let element = element.filter(|element| *element < elements);
            let element =
                element.ok_or_else(|| wrong("the pattern does not have such an element"))?;
            let before = match long(took, 2)[row] {
                -1 => NONE,
                before => place(&taken, before, "a list of events")?,
            };
            taken.push(
                self.trail
                    .push(event, element as u32, before, &mut self.events),
            );
        }
        Ok(taken)
    }

    fn load_starts(
        &mut self,
        begun: &RecordBatch,
        stand: &RecordBatch,
        taken: &[Taken],
    ) -> Result<(), PatternError> {
        let keys = self.group.encode(&begun.columns()[2..], begun.num_rows())?;
        let mut way = 0;
        for row in 0..begun.num_rows() {
            let mut start = Start {
                time: long(begun, 0)[row],
                sequence: long(begun, 1)[row] as u64,
                ways: Default::default(),
            };
            while way < stand.num_rows() && long(stand, 0)[way] == row as i64 {
                start.ways.push(self.load_way(stand, way, taken)?);
                way += 1;
            }
            if start.ways.is_empty() {
                return Err(wrong("a start without a way"));
            }
            let key = self.keys.hold(keys.get(row));
            if self.plan.within.is_some() {
                self.ends.push_back((start.time, start.sequence, key));
            }
            let mut starts = self.keys.take_starts(key);
            starts.push_back(start);
            self.keys.put_starts(key, starts);
            self.keys.release(key);
        }
        match way == stand.num_rows() {
            true => Ok(()),
            false => Err(wrong("a way without a start")),
        }
    }

    fn load_way(
        &mut self,
        stand: &RecordBatch,
        row: usize,
        taken: &[Taken],
    ) -> Result<Way, PatternError> {
        let skipped = variables(long(stand, 2)[row]);
        let element = u32::try_from(long(stand, 1)[row]).ok();
        let element = element.filter(|element| self.states.is_possible(*element, skipped));
        let element = element.ok_or_else(|| wrong("the pattern does not have such a way"))?;
        let taken = place(taken, long(stand, 3)[row], "what a way has taken")?;
        self.trail.retain(taken);
        Ok(Way {
            state: self.states.number(element, skipped),
            taken,
        })
    }

    fn state_schemas(&self) -> [SchemaRef; 5] {
        let open = |prefix: &str, field: &Field| {
            let name = format!("{prefix}.{}", field.name());
            Field::new(name, field.data_type().clone(), true)
        };
        let long = |name: &str| Field::new(name, DataType::Int64, false);
        let schema = |longs: &[&str], more: Vec<Field>| {
            let fields = longs.iter().map(|name| long(name)).chain(more);
            Schema::new(fields.collect::<Vec<_>>())
        };
        let held = self
            .events
            .schema()
            .fields()
            .iter()
            .map(|field| open("held", field));
        let groups = self.plan.partition.len();
        let group = || {
            let fields = self.plan.matched.fields().iter().take(groups);
            fields.map(|field| open("group", field)).collect::<Vec<_>>()
        };
        let header = format!("{FORMAT} {} {}", self.watermark, self.sequence);
        let header = HashMap::from([(HEADER.to_string(), header)]);
        [
            schema(&["time", "sequence"], held.collect()).with_metadata(header),
            schema(&["event", "variables"], group()),
            schema(&["time", "sequence"], group()),
            schema(&["start", "element", "skipped", "taken"], Vec::new()),
            schema(&["event", "element", "before"], Vec::new()),
        ]
        .map(Arc::new)
    }
}

fn check_shape(batch: &RecordBatch, expected: &Schema) -> Result<(), PatternError> {
    let shape = |schema: &Schema| -> Vec<(String, DataType)> {
        let fields = schema.fields().iter();
        fields
            .map(|field| (field.name().clone(), field.data_type().clone()))
            .collect()
    };
    if shape(&batch.schema()) != shape(expected) {
        let found = batch.schema();
        return Err(wrong(format!("columns are {found}, not {expected}")));
    }
    let fields = expected.fields().iter().zip(batch.columns());
    match fields
        .into_iter()
        .any(|(field, column)| !field.is_nullable() && column.null_count() > 0)
    {
        true => Err(wrong("a value is missing")),
        false => Ok(()),
    }
}

fn long(batch: &RecordBatch, column: usize) -> &[i64] {
    batch.column(column).as_primitive::<Int64Type>().values()
}

fn place<T: Copy>(list: &[T], at: i64, what: &str) -> Result<T, PatternError> {
    let found = usize::try_from(at).ok().and_then(|at| list.get(at));
    found
        .copied()
        .ok_or_else(|| wrong(format!("{what} is not there")))
}

/// The watermark, and the number of rows read.
fn header(state: &RecordBatch) -> Result<(i64, u64), PatternError> {
    clock(state, HEADER, FORMAT).map_err(wrong)
}
