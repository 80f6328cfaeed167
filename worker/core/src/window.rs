//! The window step of one task: rows in log order go in, rows of windows that fire come out.
//!
//! A row is judged against the watermark W from before it, so results do not depend on how rows are cut into chunks.
//! The life of a group (a key in a window), by W:
//!
//! ```text
//!            open                      fired, kept                     gone
//!   ──────────────────────────┬──────────────────────────────┬──────────────────▶ W
//!   (emitEvery: changes       │ fires: its row goes out      │ a row is late
//!    go out early)            │ changes: its row goes out    │
//!                             │ again at the epoch's end     │
//!                        window_end              window_end + allowedLateness
//! ```
//!
//! So a group that is created with `window_end <= W` has fired already and goes out at the end of the epoch, and a change
//! never gets lost: what has not gone out when the group is gone goes out then. A row that would equal the one last emitted
//! for the group is not emitted again. W coming from `W_START` crosses no multiple of `emitEvery`: nothing went before.
//!
//! A session is [first, last + gap) of rows at most `gap` apart. When an emitted one changes its bounds, its row is
//! withdrawn at once, and the new one goes out when it is due.
//!
//! A running group is no window: it goes out at the end of every epoch that changed it, and lives until W is more than `ttl`
//! past its newest row. Then it goes out if it has changed since, is withdrawn, and is forgotten; a later row begins it
//! anew. So what holds at any W are the groups alive. The end of the input forgets nothing: its rows are those that stay.
//! Such a group is kept as a window whose end, the first W at which it is forgotten, moves with its newest row.
//!
//! Rows are worked on in two passes: one finds each row's groups and moves time (`place`), one for each call updates
//! its accumulators (`apply`), for many rows at once. Rooms: `assign` (which windows), `store` (which groups are
//! held, and when they are due), `crate::aggregate` (what is computed), `emit` (what goes out), `save`, `fold` (before an
//! exchange).

mod assign;
mod emit;
pub mod fold;
mod input;
mod running;
mod save;
mod store;

use std::sync::Arc;

use arrow::error::ArrowError;
use smallvec::SmallVec;

use crate::aggregate::{Accumulator, AggregateError, Pairs, Slot, accumulator};
use crate::chunk::{Chunk, Millis, W_END, W_START};
use crate::exchange::{ExchangeError, pick};
use crate::key::{GroupKeys, KeyError};
use crate::plan::{WindowKind, WindowPlan};
use crate::stateful::StepOutput;
use crate::stateless::failed_rows;
use assign::Grid;
use emit::Emitter;
use input::Prepared;
use store::{KeyId, Store};

/// Pairs of a row and a group that are collected before the accumulators see them: enough to make a pass worthwhile,
/// few enough to stay small where a row falls into many windows.
const PAIRS: usize = 32 * 1024;
/// Groups that are turned into rows at one time, at most about.
const ROWS: usize = 16 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum WindowError {
    #[error("a window step got a withdrawn row: no window may follow a step that updates its rows")]
    Withdrawn,
    #[error("`{0}` is no condition: it must be true, false or null")]
    Condition(String),
    #[error("the window's plan does not add up: {0}")]
    Plan(String),
    #[error("saved windows do not fit the step: {0}")]
    State(String),
    #[error(transparent)]
    Aggregate(#[from] AggregateError),
    #[error(transparent)]
    Rows(#[from] ExchangeError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("windows: {0}")]
    Arrow(#[from] ArrowError),
}

/// The size of state: windows and partial matches of all keys, and keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateSize {
    pub windows: usize,
    pub keys: usize,
    /// Partial matches of patterns.
    pub starts: usize,
}

impl StateSize {
    pub fn plus(self, other: StateSize) -> StateSize {
        StateSize {
            windows: self.windows + other.windows,
            keys: self.keys + other.keys,
            starts: self.starts + other.starts,
        }
    }
}

/// Emits rows of its `schema`; their time is `window_end - 1`. A group on which an expression fails goes out as the columns that
/// it is grouped by, with the time of its window.
pub struct WindowStep {
    plan: Arc<WindowPlan>,
    kind: Kind,
    late_read: bool,
    failed_read: bool,
    /// Whether a group may be emitted more than once.
    updates: bool,
    watermark: Millis,
    /// Rows read so far: a row's place in the task's log.
    sequence: u64,
    /// W below this moves without anything becoming due.
    boundary: Millis,
    keys: GroupKeys,
    store: Store,
    accumulators: Vec<Box<dyn Accumulator>>,
    emitter: Emitter,
    /// Groups changed since they were last put out, open ones (for `emitEvery`) and fired ones. May name groups that
    /// are no longer so.
    changed_open: Vec<Slot>,
    changed_fired: Vec<Slot>,
    /// Let go, to be freed once the queue is worked off.
    released: Vec<Slot>,
    pairs: Batch,
}

/// What varies between kinds of windows.
enum Kind {
    Grid(Grid),
    Session { gap: Millis },
    Running { ttl: Millis },
}

/// Rows that are placed, but not applied yet.
#[derive(Default)]
struct Batch {
    places: Vec<u32>,
    slots: Vec<Slot>,
}

/// Times and places in the log of the rows at hand, by place.
struct Log {
    times: Vec<Millis>,
    sequences: Vec<u64>,
    /// Keys that were known before these rows, good while the store has forgotten none since.
    keys: Vec<Option<KeyId>>,
    forgotten: u64,
}

/// What became of a row.
enum Placed {
    Counted,
    Late,
    /// No window: its bounds are beyond 64-bit milliseconds.
    Nowhere,
}

impl WindowStep {
    /// A step without state. `late_read`, `failed_read`: whether somebody reads these side streams.
    pub fn new(
        plan: Arc<WindowPlan>,
        late_read: bool,
        failed_read: bool,
    ) -> Result<Self, WindowError> {
        let kind = match plan.kind {
            WindowKind::Session { gap } => Kind::Session { gap },
            WindowKind::Running { ttl } => Kind::Running { ttl },
            kind => {
                Kind::Grid(Grid::new(kind).ok_or_else(|| WindowError::Plan(format!("{kind:?}")))?)
            }
        };
        let updates = plan.allowed_lateness > 0
            || plan.emit_every.is_some()
            || matches!(kind, Kind::Running { .. });
        Ok(WindowStep {
            kind,
            late_read,
            failed_read,
            updates,
            watermark: W_START,
            sequence: 0,
            boundary: W_START,
            keys: GroupKeys::new(plan.group.iter().map(|group| group.data_type.clone()))?,
            store: Store::default(),
            accumulators: plan
                .calls
                .iter()
                .map(accumulator)
                .collect::<Result<_, _>>()?,
            emitter: Emitter::new(plan.clone(), updates, failed_read)?,
            changed_open: Vec::new(),
            changed_fired: Vec::new(),
            released: Vec::new(),
            pairs: Batch::default(),
            plan,
        })
    }

    /// What it holds at the moment.
    pub fn held(&self) -> StateSize {
        let (windows, keys) = self.store.counts();
        StateSize {
            windows,
            keys,
            starts: 0,
        }
    }

    /// The next rows of the log. W becomes each row's `before` before that row is looked at.
    pub fn rows(&mut self, chunk: &Chunk, out: &mut StepOutput) -> Result<(), WindowError> {
        if chunk
            .deletes
            .as_ref()
            .is_some_and(|deletes| deletes.has_true())
        {
            return Err(WindowError::Withdrawn);
        }
        let mut prepared = Prepared::new(&self.plan, &self.keys, chunk)?;
        let rows = prepared.rows(chunk);
        let log = Log {
            times: rows.iter().map(|row| chunk.times[*row as usize]).collect(),
            sequences: rows
                .iter()
                .map(|row| self.sequence + u64::from(*row))
                .collect(),
            keys: self
                .store
                .find_keys((0..rows.len()).map(|place| prepared.keys.get(place))),
            forgotten: self.store.forgotten(),
        };
        let mut late = Vec::new();
        let mut nowhere = Vec::new();
        let mut place = 0;
        let mut next_failed = prepared.failed.iter().map(|(place, _)| *place).peekable();
        for (row, w) in chunk.before.iter().enumerate() {
            if *w > self.watermark {
                self.move_to(*w);
            }
            if rows.get(place).is_none_or(|next| *next as usize != row) {
                continue;
            }
            let this = place;
            place += 1;
            if next_failed.next_if_eq(&this).is_some() {
                continue;
            }
            if self.pairs.slots.len() >= PAIRS || self.emitter.len() >= ROWS {
                self.settle(&prepared, &log, out)?;
            }
            match self.place(this, &prepared, &log, out)? {
                Placed::Counted => {}
                Placed::Late => late.push(row as u32),
                Placed::Nowhere => nowhere.push(this),
            }
        }
        drop(next_failed);
        self.settle(&prepared, &log, out)?;
        self.sequence += chunk.len() as u64;
        let reason =
            || "OutOfRange: the window of its time lies beyond 64-bit milliseconds".to_string();
        prepared
            .failed
            .extend(nowhere.into_iter().map(|place| (place, reason())));
        self.side_streams(chunk, late, prepared.failed_rows(), out)
    }

    /// W moves without a row: after a chunk, while idle, at the end of the input.
    pub fn advance(&mut self, w: Millis, out: &mut StepOutput) -> Result<(), WindowError> {
        if w > self.watermark {
            self.move_to(w);
        }
        self.emit(out)
    }

    /// Emits fired groups that changed in this epoch, and running ones.
    pub fn end_epoch(&mut self, out: &mut StepOutput) -> Result<(), WindowError> {
        let mut due = std::mem::take(&mut self.changed_fired);
        due.retain(|slot| self.take_changed(*slot, |end, w| end <= w));
        if self.is_running() {
            let mut alive = std::mem::take(&mut self.changed_open);
            alive.retain(|slot| self.take_changed(*slot, |end, w| end > w));
            due.append(&mut alive);
        }
        self.store.sort(&mut due);
        due.into_iter()
            .for_each(|slot| self.queue(slot, self.watermark));
        self.emit(out)
    }

    fn side_streams(
        &self,
        chunk: &Chunk,
        late: Vec<u32>,
        failed: Vec<(usize, String)>,
        out: &mut StepOutput,
    ) -> Result<(), WindowError> {
        out.late_count += late.len() as u64;
        out.failed_count += failed.len() as u64;
        if self.late_read && !late.is_empty() {
            out.late.push(pick(chunk, late)?);
        }
        if self.failed_read && !failed.is_empty() {
            out.failed.push(failed_rows(chunk, &failed)?);
        }
        Ok(())
    }

    #[inline]
    fn place(
        &mut self,
        place: usize,
        prepared: &Prepared,
        log: &Log,
        out: &mut StepOutput,
    ) -> Result<Placed, WindowError> {
        match self.kind {
            Kind::Grid(_) => self.place_on_grid(place, prepared, log, out),
            Kind::Session { gap } => self.place_in_session(place, gap, prepared, log, out),
            Kind::Running { ttl } => self.place_running(place, ttl, prepared, log, out),
        }
    }

    #[inline]
    fn place_on_grid(
        &mut self,
        place: usize,
        prepared: &Prepared,
        log: &Log,
        out: &mut StepOutput,
    ) -> Result<Placed, WindowError> {
        let Kind::Grid(grid) = &mut self.kind else {
            return Ok(Placed::Nowhere);
        };
        let Some(span) = grid.span(log.times[place]) else {
            return Ok(Placed::Nowhere);
        };
        if self.gone(span.last_end, self.watermark) {
            return Ok(Placed::Late);
        }
        let key = match self.found(place, log) {
            Some(key) => key,
            None => self.store.key(prepared.keys.get(place)),
        };
        for (start, end) in span.windows() {
            if self.gone(end, self.watermark) {
                continue;
            }
            let windows = self.store.windows(key);
            // A key has few windows, the newest last: look there first.
            let at = match windows.last() {
                Some(last) if last.end == end => windows.len() - 1,
                Some(last) if last.end < end => windows.len(),
                _ => windows.partition_point(|held| held.end < end),
            };
            let slot = match windows.get(at).filter(|held| held.end == end) {
                Some(held) => {
                    let slot = held.slot;
                    self.touch(slot, prepared, log, out)?;
                    slot
                }
                None => self.create(key, at, start, end),
            };
            self.pairs.places.push(place as u32);
            self.pairs.slots.push(slot);
        }
        Ok(Placed::Counted)
    }

    /// The key at a place, if it was known before the rows at hand and surely still is.
    #[inline]
    fn found(&self, place: usize, log: &Log) -> Option<KeyId> {
        match log.forgotten == self.store.forgotten() {
            true => log.keys[place],
            false => None,
        }
    }

    fn place_in_session(
        &mut self,
        place: usize,
        gap: Millis,
        prepared: &Prepared,
        log: &Log,
        out: &mut StepOutput,
    ) -> Result<Placed, WindowError> {
        let time = log.times[place];
        // A session is known by its end, so the last moment a row may join it, `last + gap`, is its end.
        let Some(reach) = time.checked_add(gap) else {
            return Ok(Placed::Nowhere);
        };
        let bytes = prepared.keys.get(place);
        let known = self
            .found(place, log)
            .or_else(|| self.store.find_key(bytes));
        let windows = known.map_or(&[][..], |key| self.store.windows(key));
        let at = windows.partition_point(|held| held.end < time);
        // Sessions lie more than `gap` apart, so a row is near two at most.
        let near: SmallVec<[Slot; 2]> = windows[at..]
            .iter()
            .take_while(|held| self.store.group(held.slot).start <= reach)
            .map(|held| held.slot)
            .collect();
        let slot = match near.split_first() {
            None if self.gone(reach, self.watermark) => return Ok(Placed::Late),
            None => {
                let key = known.unwrap_or_else(|| self.store.key(bytes));
                self.create(key, at, time, reach)
            }
            Some((first, others)) => {
                self.touch(*first, prepared, log, out)?;
                for other in others {
                    self.absorb(*first, *other, prepared, log, out)?;
                }
                let (start, end) = self.bounds(*first);
                self.resize(*first, start.min(time), end.max(reach));
                *first
            }
        };
        self.pairs.places.push(place as u32);
        self.pairs.slots.push(slot);
        Ok(Placed::Counted)
    }

    fn is_running(&self) -> bool {
        matches!(self.kind, Kind::Running { .. })
    }

    /// Merges a session into one before it: both are one from the row at hand on.
    fn absorb(
        &mut self,
        into: Slot,
        from: Slot,
        prepared: &Prepared,
        log: &Log,
        out: &mut StepOutput,
    ) -> Result<(), WindowError> {
        self.settle(prepared, log, out)?;
        let (start, end) = self.bounds(into);
        let (from_start, from_end) = self.bounds(from);
        self.withdraw(from);
        self.store.let_go(from);
        self.store.group_mut(from).changed = false;
        self.resize(into, start.min(from_start), end.max(from_end));
        self.accumulators
            .iter_mut()
            .for_each(|accumulator| accumulator.merge(from, into));
        self.released.push(from);
        Ok(())
    }

    fn bounds(&self, slot: Slot) -> (Millis, Millis) {
        let group = self.store.group(slot);
        (group.start, group.end)
    }

    /// Gives a session new bounds. A fired one may be open again.
    fn resize(&mut self, slot: Slot, start: Millis, end: Millis) {
        let (old_start, old_end) = self.bounds(slot);
        if (start, end) == (old_start, old_end) {
            return;
        }
        self.withdraw(slot);
        self.store.resize(slot, start, end);
        if old_end <= self.watermark && end > self.watermark {
            self.store.group_mut(slot).listed = false;
            self.mark(slot);
            self.schedule(slot);
        }
    }

    /// Withdraws what was emitted for a group, if anything was.
    fn withdraw(&mut self, slot: Slot) {
        let group = self.store.group_mut(slot);
        let end = group.end;
        if let Some(row) = group.emitted.take() {
            self.emitter.withdraw(row, end, self.watermark);
        }
    }

    fn create(&mut self, key: KeyId, at: usize, start: Millis, end: Millis) -> Slot {
        let slot = self.store.hold(key, at, start, end);
        self.schedule(slot);
        if self.updates {
            self.mark(slot);
        }
        slot
    }

    /// A group is about to change.
    #[inline]
    fn touch(
        &mut self,
        slot: Slot,
        prepared: &Prepared,
        log: &Log,
        out: &mut StepOutput,
    ) -> Result<(), WindowError> {
        if self.updates {
            if self.store.group(slot).queued {
                self.settle(prepared, log, out)?;
            }
            self.mark(slot);
        }
        Ok(())
    }

    /// Notes that a group differs from what was last put out.
    fn mark(&mut self, slot: Slot) {
        let group = self.store.group_mut(slot);
        group.changed = true;
        let fired = group.end <= self.watermark;
        let early = self.plan.emit_every.is_some() || matches!(self.kind, Kind::Running { .. });
        if group.listed || !(fired || early) {
            return;
        }
        group.listed = true;
        match fired {
            true => self.changed_fired.push(slot),
            false => self.changed_open.push(slot),
        }
    }

    /// Sets the timer of a group: to fire, or once it has fired, to be gone.
    fn schedule(&mut self, slot: Slot) {
        let end = self.store.group(slot).end;
        let at = if end > self.watermark {
            end
        } else {
            end.saturating_add(self.plan.allowed_lateness)
        };
        self.store.set_timer(slot, at);
        self.boundary = self.boundary.min(at);
    }

    /// Whether a window is past its lateness, or a running group forgotten.
    #[inline]
    fn gone(&self, end: Millis, w: Millis) -> bool {
        end.saturating_add(self.plan.allowed_lateness) <= w && !(w == W_END && self.is_running())
    }

    #[inline]
    fn move_to(&mut self, w: Millis) {
        match w >= self.boundary {
            true => self.cross(w),
            false => self.watermark = w,
        }
    }

    /// W passes something: groups fire, are gone, or go out early.
    fn cross(&mut self, w: Millis) {
        let before = std::mem::replace(&mut self.watermark, w);
        let mut reached = Vec::new();
        self.store.due(w, &mut reached);
        let (mut due, mut forgotten) = (Vec::new(), Vec::new());
        for slot in reached {
            let end = self.store.group(slot).end;
            // A session's timer stands where its end was when it was set.
            if end <= w && self.take_changed(slot, |_, _| true) {
                due.push(slot);
            }
            match self.gone(end, w) {
                true => {
                    self.store.let_go(slot);
                    self.released.push(slot);
                    if self.is_running() {
                        forgotten.push(slot);
                    }
                }
                false => self.schedule(slot),
            }
        }
        if self
            .plan
            .emit_every
            .is_some_and(|every| crosses(before, w, every))
        {
            let mut early = std::mem::take(&mut self.changed_open);
            early.retain(|slot| self.take_changed(*slot, |end, w| end > w));
            due.append(&mut early);
        }
        self.store.sort(&mut due);
        due.into_iter().for_each(|slot| self.queue(slot, before));
        self.store.sort(&mut forgotten);
        for slot in forgotten {
            let end = self.store.group(slot).end;
            self.emitter.forget(slot, end, before);
        }
        self.set_boundary();
    }

    /// Whether the group has changed and is as `wanted` by its end and W; if so, it no longer counts as changed.
    fn take_changed(&mut self, slot: Slot, wanted: impl Fn(Millis, Millis) -> bool) -> bool {
        let w = self.watermark;
        let group = self.store.group_mut(slot);
        let take = group.changed && wanted(group.end, w);
        if take {
            (group.changed, group.listed) = (false, false);
        }
        take
    }

    fn queue(&mut self, slot: Slot, before: Millis) {
        let group = self.store.group_mut(slot);
        group.queued = true;
        self.emitter.result(slot, group.end, before);
    }

    /// Finds the next W at which something becomes due.
    fn set_boundary(&mut self) {
        let timer = self.store.next_timer().unwrap_or(Millis::MAX);
        let early = self
            .plan
            .emit_every
            .map_or(Millis::MAX, |every| next_multiple(self.watermark, every));
        self.boundary = timer.min(early);
    }

    /// Brings everything up to the row at hand: accumulators first, then the queue.
    fn settle(
        &mut self,
        prepared: &Prepared,
        log: &Log,
        out: &mut StepOutput,
    ) -> Result<(), WindowError> {
        self.grow();
        let pairs = std::mem::take(&mut self.pairs);
        let Batch {
            mut places,
            mut slots,
        } = pairs;
        if !slots.is_empty() {
            let view = Pairs {
                rows: &places,
                slots: &slots,
                times: &log.times,
                sequences: &log.sequences,
            };
            for (accumulator, input) in self.accumulators.iter_mut().zip(&prepared.inputs) {
                accumulator.update(input, view)?;
            }
        }
        places.clear();
        slots.clear();
        self.pairs = Batch { places, slots };
        self.emit(out)
    }

    fn grow(&mut self) {
        let capacity = self.store.capacity();
        self.accumulators
            .iter_mut()
            .for_each(|accumulator| accumulator.grow(capacity));
    }

    /// Works off the queue, then frees what is gone. All rows must be applied.
    fn emit(&mut self, out: &mut StepOutput) -> Result<(), WindowError> {
        self.emitter
            .emit(&mut self.store, &self.keys, &self.accumulators, out)?;
        if !self.released.is_empty() {
            self.accumulators
                .iter_mut()
                .for_each(|accumulator| accumulator.reset(&self.released));
            self.released
                .drain(..)
                .for_each(|slot| self.store.free(slot));
        }
        Ok(())
    }
}

/// Whether W passes a multiple of `every` on its way; nothing lies before `W_START`.
fn crosses(before: Millis, w: Millis, every: Millis) -> bool {
    before != W_START && before.div_euclid(every.max(1)) < w.div_euclid(every.max(1))
}

/// The first multiple of `every` after `w`, or the end of time. The first move of W is always looked at.
fn next_multiple(w: Millis, every: Millis) -> Millis {
    if w == W_START {
        return W_START;
    }
    let (wide, every) = (i128::from(w), i128::from(every.max(1)));
    Millis::try_from(wide - wide.rem_euclid(every) + every).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests;
