//! The `generate` source: events made up from a seed, at the pace of the wall clock if the job asks for one.
//!
//! A position is the index of an event among all of the source; a partition skips those of the others. Event `i` is the same
//! at every run; for `now` fields because the source's beginning is journalled: see [`GeneratePartition::since`].

use streamjob_core::chunk::Millis;
use streamjob_core::generate::Generator;
use streamjob_core::plan::SourcePlan;
use streamjob_core::problem::Problem;
use streamjob_crds::GenerateSource;

use super::{Budget, Input, Row, SourceError};

/// Indices looked at in one poll for those of the partition, at most.
const LOOK: u64 = 1 << 16;

/// Fields that do not fit the source's columns; a planned job has none.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("; "))]
pub struct BadFields(Vec<Problem>);

pub struct GeneratePartition {
    generator: Generator,
    partition: u32,
    position: u64,
    pace: Option<Pace>,
    /// The clock that `now` fields show, if not the wall's.
    since: Option<Millis>,
    /// Events before this index are due.
    due: u64,
    event: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Pace {
    rows_per_second: u64,
    /// When which event was due; known from the first poll on.
    from: Option<(Millis, u64)>,
}

impl GeneratePartition {
    pub fn open(
        generate: &GenerateSource,
        source: &SourcePlan,
        partition: u32,
        position: i64,
    ) -> Result<Self, BadFields> {
        let generator =
            Generator::new(generate, &source.columns, &source.key).map_err(BadFields)?;
        Ok(GeneratePartition {
            generator,
            partition,
            position: u64::try_from(position).unwrap_or(0),
            pace: generate.rows_per_second.map(|rows_per_second| Pace {
                rows_per_second,
                from: None,
            }),
            since: None,
            due: 0,
            event: Vec::new(),
        })
    }

    /// Lets `now` fields show a clock that began with event 0 at `start` and moves on with the events, at their pace or a millisecond
    /// for a thousand. With the same start a replay makes the same events, which the wall clock would not.
    pub fn since(mut self, start: Millis) -> Self {
        if let Some(pace) = &mut self.pace {
            pace.from = Some((start, 0));
        }
        self.since = Some(start);
        self
    }

    /// The index before which events are due.
    fn due(&mut self, now: Millis) -> u64 {
        let Some(pace) = &mut self.pace else {
            return u64::MAX;
        };
        let (start, first) = *pace.from.get_or_insert((now, self.position));
        let elapsed = u64::try_from(now.saturating_sub(start)).unwrap_or(0);
        let due = u128::from(elapsed) * u128::from(pace.rows_per_second) / 1000;
        first.saturating_add(u64::try_from(due).unwrap_or(u64::MAX))
    }

    /// What a `now` field of the event shows.
    fn clock(&self, index: u64, now: Millis) -> Millis {
        let Some(start) = self.since else { return now };
        let rate = self.pace.map_or(1_000_000, |pace| pace.rows_per_second);
        let elapsed = u128::from(index) * 1000 / u128::from(rate.max(1));
        start.saturating_add(Millis::try_from(elapsed).unwrap_or(Millis::MAX))
    }

    fn end(&self) -> u64 {
        self.generator.rows().unwrap_or(u64::MAX)
    }
}

impl Input for GeneratePartition {
    fn poll(
        &mut self,
        now: Millis,
        mut budget: Budget,
        row: &mut dyn FnMut(Row<'_>),
    ) -> Result<usize, SourceError> {
        self.due = self.due(now);
        let replay = budget.until != i64::MAX;
        let to = match replay {
            // What is in the journal was due once.
            true => u64::try_from(budget.until).unwrap_or(0),
            false => self.due,
        };
        let to = to.min(self.end()).min(self.position.saturating_add(LOOK));
        let mut rows = 0;
        while !budget.used_up() && self.position < to {
            let Some(index) = self.generator.next_in(self.partition, self.position, to) else {
                self.position = to;
                break;
            };
            self.event.clear();
            self.generator
                .event(index, self.clock(index, now), &mut self.event);
            self.position = index + 1;
            row(Row {
                position: index as i64,
                next: self.position as i64,
                timestamp: None,
                payload: Some(&self.event),
            });
            rows += 1;
            budget.spend(self.event.len());
        }
        Ok(rows)
    }

    fn position(&self) -> i64 {
        self.position as i64
    }

    fn caught_up(&self) -> bool {
        self.position >= self.due
    }

    fn ended(&self) -> bool {
        self.position >= self.end()
    }

    fn lag(&self) -> Option<i64> {
        let ahead = self.due.min(self.end()).saturating_sub(self.position);
        // A source that is neither paced nor bounded has no end to lag behind.
        (ahead < i64::MAX as u64).then_some(ahead as i64)
    }
}

#[cfg(test)]
mod tests;
