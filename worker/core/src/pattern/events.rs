//! The events that partial matches need, in columns, for as long as they need them.
//!
//! Rows come in batches and are counted by use. A batch goes when none of its rows is in use; when most rows held are of
//! no use any more, the others move together (`compact`).

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use crate::chunk::Millis;

/// Where an event is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    batch: u32,
    row: u32,
}

/// Below so many rows of no use it is not worth while to move the others.
const WASTE: usize = 4096;

pub struct Events {
    schema: SchemaRef,
    batches: Vec<Option<Held>>,
    free: Vec<u32>,
    /// Rows held, and those of them in use.
    held: usize,
    used: usize,
}

struct Held {
    columns: Vec<ArrayRef>,
    times: Vec<Millis>,
    sequences: Vec<u64>,
    uses: Vec<u32>,
    /// Rows in use.
    used: usize,
}

/// Where events have moved.
pub struct Moved {
    to: Vec<Vec<Option<Event>>>,
}

impl Moved {
    pub fn of(&self, event: Event) -> Option<Event> {
        self.to[event.batch as usize][event.row as usize]
    }
}

impl Events {
    /// Holds columns of `schema`.
    pub fn new(schema: SchemaRef) -> Self {
        Events {
            schema,
            batches: Vec::new(),
            free: Vec::new(),
            held: 0,
            used: 0,
        }
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Events in use.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Takes in rows, each in use once.
    pub fn add(
        &mut self,
        columns: Vec<ArrayRef>,
        times: Vec<Millis>,
        sequences: Vec<u64>,
    ) -> Vec<Event> {
        let rows = times.len();
        if rows == 0 {
            return Vec::new();
        }
        let held = Some(Held {
            columns,
            uses: vec![1; rows],
            times,
            sequences,
            used: rows,
        });
        let batch = match self.free.pop() {
            Some(batch) => {
                self.batches[batch as usize] = held;
                batch
            }
            None => {
                self.batches.push(held);
                (self.batches.len() - 1) as u32
            }
        };
        self.held += rows;
        self.used += rows;
        (0..rows as u32).map(|row| Event { batch, row }).collect()
    }

    #[inline]
    fn batch(&self, event: Event) -> &Held {
        match &self.batches[event.batch as usize] {
            Some(held) => held,
            None => unreachable!("an event in use is held"),
        }
    }

    #[inline]
    pub fn time(&self, event: Event) -> Millis {
        self.batch(event).times[event.row as usize]
    }

    #[inline]
    pub fn sequence(&self, event: Event) -> u64 {
        self.batch(event).sequences[event.row as usize]
    }

    /// One more use.
    #[inline]
    pub fn retain(&mut self, event: Event) {
        if let Some(held) = &mut self.batches[event.batch as usize] {
            held.uses[event.row as usize] += 1;
        }
    }

    /// One use less.
    #[inline]
    pub fn release(&mut self, event: Event) {
        let place = &mut self.batches[event.batch as usize];
        let Some(held) = place else { return };
        let uses = &mut held.uses[event.row as usize];
        *uses -= 1;
        if *uses > 0 {
            return;
        }
        held.used -= 1;
        self.used -= 1;
        if held.used == 0 {
            self.held -= held.times.len();
            *place = None;
            self.free.push(event.batch);
        }
    }

    /// The values of a column for events, one after the other.
    pub fn column(&self, column: usize, events: &[Event]) -> Result<ArrayRef, ArrowError> {
        // Few batches, or few events: either way a short list.
        let mut batches: Vec<u32> = events.iter().map(|event| event.batch).collect();
        batches.sort_unstable();
        batches.dedup();
        let arrays: Vec<&dyn Array> = batches
            .iter()
            .filter_map(|batch| self.batches[*batch as usize].as_ref())
            .map(|held| held.columns[column].as_ref())
            .collect();
        if arrays.is_empty() {
            return Ok(arrow::array::new_empty_array(
                self.schema.field(column).data_type(),
            ));
        }
        let places: Vec<(usize, usize)> = events
            .iter()
            .map(|event| {
                let batch = batches.partition_point(|batch| *batch < event.batch);
                (batch, event.row as usize)
            })
            .collect();
        interleave(&arrays, &places)
    }

    /// Rows of events, with some of the columns.
    pub fn rows(
        &self,
        columns: &[usize],
        schema: &SchemaRef,
        events: &[Event],
    ) -> Result<RecordBatch, ArrowError> {
        let arrays = columns
            .iter()
            .map(|column| self.column(*column, events))
            .collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(events.len()));
        RecordBatch::try_new_with_options(schema.clone(), arrays, &options)
    }

    /// Lets go of rows that are of no use, where they are many. All events have new places then.
    pub fn compact(&mut self) -> Result<Option<Moved>, ArrowError> {
        let waste = self.held - self.used;
        if waste < WASTE || waste < 2 * self.used {
            return Ok(None);
        }
        let used: Vec<Event> = self.in_use();
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let columns = all
            .iter()
            .map(|column| self.column(*column, &used))
            .collect::<Result<Vec<_>, _>>()?;
        let uses = used
            .iter()
            .map(|event| self.batch(*event).uses[event.row as usize])
            .collect();
        let times = used.iter().map(|event| self.time(*event)).collect();
        let sequences = used.iter().map(|event| self.sequence(*event)).collect();
        let mut to: Vec<Vec<Option<Event>>> = self
            .batches
            .iter()
            .map(|held| vec![None; held.as_ref().map_or(0, |held| held.times.len())])
            .collect();
        for (row, event) in used.iter().enumerate() {
            let row = row as u32;
            to[event.batch as usize][event.row as usize] = Some(Event { batch: 0, row });
        }
        self.batches.clear();
        self.free.clear();
        (self.held, self.used) = (0, 0);
        self.add(columns, times, sequences);
        if let Some(Some(held)) = self.batches.first_mut() {
            held.uses = uses;
        }
        Ok(Some(Moved { to }))
    }

    /// All events in use, by place.
    pub fn in_use(&self) -> Vec<Event> {
        let batches = self.batches.iter().enumerate();
        batches
            .filter_map(|(batch, held)| Some((batch as u32, held.as_ref()?)))
            .flat_map(|(batch, held)| {
                let rows = 0..held.times.len() as u32;
                rows.filter(|row| held.uses[*row as usize] > 0)
                    .map(move |row| Event { batch, row })
            })
            .collect()
    }
}
