//! Windows of one task: which a row belongs to, when they fire, what they emit.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::aggregate::{Taken, aggregate};
use super::reads::Read;
use super::{Emission, Key, Row, TaskOutcome, Window, WindowStep};

/// In the order in which windows that fire together come out.
type Place = (i64, Key, i64);

/// The windows of a task, given what it reads.
pub fn over(step: &WindowStep, reads: &[Read]) -> TaskOutcome {
    let mut windows = Windows::new(step);
    let mut outcome = TaskOutcome::default();
    let mut watermark = i64::MIN;
    for read in reads {
        let to = match read {
            Read::Row { before, .. } => *before,
            Read::Watermark(w) => *w,
            Read::Close => continue,
        };
        if to > watermark {
            windows.advance(watermark, to, &mut outcome.emitted);
            watermark = to;
        }
        if let Read::Row { row, .. } = read {
            let row = row.clone();
            let taken = windows.take(watermark, row.time, row.row, &mut outcome.emitted);
            outcome.late.extend(taken.err());
        }
    }
    outcome
}

/// The windows that still take rows.
pub struct Windows<'j> {
    step: &'j WindowStep,
    /// By end, key and start.
    kept: BTreeMap<Place, Kept>,
    /// Ends and starts of a key's kept windows: sessions are looked for by key.
    of_key: BTreeMap<Key, BTreeSet<(i64, i64)>>,
    rows_taken: usize,
}

#[derive(Default)]
struct Kept {
    rows: Vec<Taken>,
    /// The last row that was emitted and not withdrawn.
    shown: Option<Row>,
    /// Since the last emission.
    changed: bool,
}

impl<'j> Windows<'j> {
    pub fn new(step: &'j WindowStep) -> Self {
        Windows {
            step,
            kept: BTreeMap::new(),
            of_key: BTreeMap::new(),
            rows_taken: 0,
        }
    }

    /// Puts a row into its windows, or gives it back: too late for all of them.
    pub fn take(
        &mut self,
        watermark: i64,
        time: i64,
        row: Row,
        out: &mut Vec<Emission>,
    ) -> Result<(), Row> {
        let key = Key::of(&row, &self.step.group);
        let taken = Taken {
            order: self.rows_taken,
            time,
            row,
        };
        self.rows_taken += 1;
        let places = match self.step.window {
            Window::Session { gap } => self.merge_sessions(watermark, &key, time, gap, out),
            aligned => aligned_windows(aligned, time)
                .into_iter()
                .filter(|(_, end)| !self.is_over(*end, watermark))
                .map(|(start, end)| (end, key.clone(), start))
                .collect(),
        };
        if places.is_empty() {
            return Err(taken.row);
        }
        for place in places {
            self.of_key
                .entry(place.1.clone())
                .or_default()
                .insert((place.0, place.2));
            let kept = self.kept.entry(place.clone()).or_default();
            kept.rows.push(taken.clone());
            kept.rows.sort_by_key(|taken| taken.order);
            kept.changed = true;
            if place.0 <= watermark {
                self.emit(&place, out);
            }
        }
        Ok(())
    }

    /// The watermark moves: windows fire, early results come out, what is too old to change is dropped.
    pub fn advance(&mut self, from: i64, to: i64, out: &mut Vec<Emission>) {
        let fired: Vec<Place> = self
            .kept
            .keys()
            .take_while(|place| place.0 <= to)
            .filter(|place| place.0 > from)
            .cloned()
            .collect();
        for place in &fired {
            self.emit(place, out);
        }
        if let Some(every) = self.step.emit_every
            && from.div_euclid(every) < to.div_euclid(every)
        {
            let open: Vec<Place> = self
                .kept
                .iter()
                .filter(|(place, kept)| place.0 > to && kept.changed)
                .map(|(p, _)| p.clone())
                .collect();
            for place in &open {
                self.emit(place, out);
            }
        }
        let over: Vec<Place> = self
            .kept
            .keys()
            .take_while(|place| self.is_over(place.0, to))
            .cloned()
            .collect();
        for place in &over {
            self.remove(place);
        }
    }

    fn is_over(&self, end: i64, watermark: i64) -> bool {
        end.saturating_add(self.step.allowed_lateness) <= watermark
    }

    fn remove(&mut self, place: &Place) -> Kept {
        let (end, key, start) = place;
        if let Some(windows) = self.of_key.get_mut(key) {
            windows.remove(&(*end, *start));
            if windows.is_empty() {
                self.of_key.remove(key);
            }
        }
        self.kept.remove(place).expect("a place that was found")
    }

    /// Merges the kept sessions that lie at most `gap` from `time` with it. Nothing: the merged session is over.
    fn merge_sessions(
        &mut self,
        watermark: i64,
        key: &Key,
        time: i64,
        gap: i64,
        out: &mut Vec<Emission>,
    ) -> Vec<Place> {
        let touching: Vec<Place> = self
            .of_key
            .get(key)
            .into_iter()
            .flatten()
            .filter(|(end, start)| start - gap <= time && time <= *end)
            .map(|(end, start)| (*end, key.clone(), *start))
            .collect();
        let start = touching.iter().map(|place| place.2).fold(time, i64::min);
        let end = touching
            .iter()
            .map(|place| place.0)
            .fold(time + gap, i64::max);
        if self.is_over(end, watermark) {
            return Vec::new();
        }
        let merged = (end, key.clone(), start);
        let mut whole = Kept::default();
        for place in touching {
            let part = self.remove(&place);
            whole.rows.extend(part.rows);
            if place == merged {
                whole.shown = part.shown;
            } else {
                out.extend(part.shown.map(Emission::Withdrawn));
            }
        }
        self.kept.insert(merged.clone(), whole);
        vec![merged]
    }

    fn emit(&mut self, place: &Place, out: &mut Vec<Emission>) {
        let step = self.step;
        let kept = self.kept.get_mut(place).expect("a place that was found");
        let row = window_row(step, place, &kept.rows);
        kept.changed = false;
        if step.having.as_ref().is_none_or(|having| having(&row)) {
            kept.shown = Some(row.clone());
            out.push(Emission::Row(row));
        } else {
            out.extend(kept.shown.take().map(Emission::Withdrawn));
        }
    }
}

fn window_row(step: &WindowStep, (end, key, start): &Place, rows: &[Taken]) -> Row {
    let mut row: Row = step
        .group
        .iter()
        .cloned()
        .zip(key.values().iter().cloned())
        .collect();
    row.insert("window_start".into(), Value::from(*start));
    row.insert("window_end".into(), Value::from(*end));
    for item in &step.aggregates {
        row.insert(item.name.clone(), aggregate(item, rows));
    }
    row
}

/// Start and end of every window that holds `time`.
fn aligned_windows(window: Window, time: i64) -> Vec<(i64, i64)> {
    match window {
        Window::Tumbling { size, offset } => {
            let start = floor(time - offset, size) + offset;
            vec![(start, start + size)]
        }
        Window::Sliding {
            size,
            slide,
            offset,
        } => {
            let last = floor(time - offset, slide) + offset;
            (0..size / slide)
                .map(|back| last - back * slide)
                .map(|start| (start, start + size))
                .collect()
        }
        Window::Cumulating { size, step } => {
            let start = floor(time, size);
            (1..=size / step)
                .map(|n| (start, start + n * step))
                .filter(|(_, end)| time < *end)
                .collect()
        }
        Window::Session { .. } => unreachable!("sessions are merged, not aligned"),
    }
}

fn floor(time: i64, unit: i64) -> i64 {
    time.div_euclid(unit) * unit
}
