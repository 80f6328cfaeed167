//! The interval join step of one task: rows of two streams that are equal in some columns and near in event time.
//!
//! Both sides come as one stream whose rows say which side they are of (the other's columns are null in them), so that one
//! watermark, the least of both sides', judges them and their order is that of the log. A left row at `t` matches right rows
//! from `t - before` to `t + after`, both included. A pair goes out when its second row is read, at the later of both
//! times. A row that came before W (`time < W`) is late, takes part in nothing and goes aside.
//!
//! ```text
//!   right row                       ├── left rows that it matches ──┤
//!   ─────────────────────────────r - after ────── r ───────── r + before ─────▶ event time
//!   it is held until W is past ───────────────────────────────────▲
//! ```
//!
//! A row is held while one that is not late could match it: until W is past its reach (a left row's is `t + after`, a right
//! row's `t + before`). If it has matched nothing by then and its side is kept (`Left`, `Right`, `Full`), it goes out with
//! nulls for the other side, at the time of its reach, so that it is on time for the next step. Rows that reach their end
//! together go out by that time, left ones first, then as they came. A null in `on` equals nothing.

mod state;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{RowConverter, SortField};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::chunk::{Chunk, Millis, W_END, W_START};
use crate::exchange::pick;
use crate::key::GroupKeys;
use crate::plan::JoinPlan;
use crate::stateful::{Stateful, StepError, StepOutput, refuse_withdrawn};
use crate::window::StateSize;

/// Pairs that are turned into rows at one time, at most about.
const ROWS: usize = 16 * 1024;

type Bytes = Box<[u8]>;

/// Index of a side: its rows, and what is kept of it.
const LEFT: usize = 0;
const RIGHT: usize = 1;

pub struct Join {
    plan: JoinPlan,
    /// Of the rows that it reads, and that it emits.
    input: SchemaRef,
    schema: SchemaRef,
    late_read: bool,
    watermark: Millis,
    /// Rows held so far: each has a number, in log order.
    sequence: u64,
    keys: GroupKeys,
    sides: [Side; 2],
    held: HashMap<Vec<u8>, [VecDeque<Held>; 2], FixedState>,
    /// Rows by the end of their reach, side and number; the key that each is held under.
    ends: BTreeMap<(Millis, usize, u64), Vec<u8>>,
    out: Vec<Pair>,
}

/// What a side's rows are made of.
struct Side {
    /// Its columns among those of the input.
    columns: Range<usize>,
    types: Vec<DataType>,
    converter: RowConverter,
    /// How far before and after a row of it the other side's may lie.
    back: Millis,
    ahead: Millis,
    /// Whether rows without a match go out.
    kept: bool,
}

/// A key's rows of one side are in order of time, then number.
struct Held {
    time: Millis,
    number: u64,
    matched: bool,
    row: Bytes,
}

/// A row on its way out.
struct Pair {
    sides: [Option<Bytes>; 2],
    time: Millis,
    before: Millis,
}

impl Join {
    /// `input`: schema of the rows it reads, `schema`: of those it emits.
    pub fn new(plan: JoinPlan, schema: SchemaRef, late_read: bool) -> Result<Self, StepError> {
        let input = plan.input.clone();
        let first = 1 + plan.on;
        let middle = first + plan.left;
        if middle > input.fields().len() || schema.fields().len() + first != input.fields().len() {
            return Err(StepError::Plan(format!("rows {input} make {schema}")));
        }
        let side = |columns: Range<usize>, back, ahead, kept| -> Result<Side, StepError> {
            let fields = input.fields()[columns.clone()].iter();
            let types: Vec<DataType> = fields.map(|field| field.data_type().clone()).collect();
            let sorted = types.iter().cloned().map(SortField::new).collect();
            Ok(Side {
                converter: RowConverter::new(sorted)?,
                types,
                columns,
                back,
                ahead,
                kept,
            })
        };
        let sides = [
            side(first..middle, plan.before, plan.after, plan.keep_left)?,
            side(
                middle..input.fields().len(),
                plan.after,
                plan.before,
                plan.keep_right,
            )?,
        ];
        let on = input.fields()[1..first]
            .iter()
            .map(|field| field.data_type().clone());
        Ok(Join {
            keys: GroupKeys::new(on)?,
            input: input.clone(),
            schema,
            late_read,
            watermark: W_START,
            sequence: 0,
            sides,
            held: HashMap::with_hasher(FixedState::with_seed(0x9e37_79b9_7f4a_7c15)),
            ends: BTreeMap::new(),
            out: Vec::new(),
            plan,
        })
    }

    /// A row of a side: pairs with what is held of the other, then is held itself.
    fn row(&mut self, side: usize, time: Millis, key: Option<&[u8]>, row: &[u8]) {
        let this = &self.sides[side];
        let (from, to) = (
            time.saturating_sub(this.back),
            time.saturating_add(this.ahead),
        );
        let Some(key) = key else {
            if this.kept {
                self.alone(side, row.into(), time, self.watermark);
            }
            return;
        };
        let mut matched = false;
        if let Some(sides) = self.held.get_mut(key) {
            let others = &mut sides[1 - side];
            let first = others.partition_point(|other| other.time < from);
            for other in others
                .range_mut(first..)
                .take_while(|other| other.time <= to)
            {
                (matched, other.matched) = (true, true);
                let mut pair = [None, None];
                pair[side] = Some(row.into());
                pair[1 - side] = Some(other.row.clone());
                self.out.push(Pair {
                    sides: pair,
                    time: time.max(other.time),
                    before: self.watermark,
                });
            }
        }
        let number = self.sequence;
        self.sequence += 1;
        self.hold(
            side,
            key,
            Held {
                time,
                number,
                matched,
                row: row.into(),
            },
        );
    }

    fn hold(&mut self, side: usize, key: &[u8], held: Held) {
        let end = held.time.saturating_add(self.sides[side].ahead);
        self.ends.insert((end, side, held.number), key.into());
        let rows = &mut self.held.entry_ref(key).or_default()[side];
        let at =
            rows.partition_point(|other| (other.time, other.number) < (held.time, held.number));
        rows.insert(at, held);
    }

    fn alone(&mut self, side: usize, row: Bytes, time: Millis, before: Millis) {
        let mut sides = [None, None];
        sides[side] = Some(row);
        self.out.push(Pair {
            sides,
            time,
            before,
        });
    }

    /// Rows whose reach W has passed are let go.
    fn move_to(&mut self, w: Millis) {
        if w <= self.watermark {
            return;
        }
        let before = std::mem::replace(&mut self.watermark, w);
        while let Some(entry) = self.ends.first_entry() {
            let (end, side, number) = *entry.key();
            // Nothing lies behind the end of the input.
            if end >= w && w != W_END {
                return;
            }
            let key = entry.remove();
            let Some(rows) = self.held.get_mut(&key) else {
                continue;
            };
            let ahead = self.sides[side].ahead;
            let held = place(&rows[side], end, number, ahead).and_then(|at| rows[side].remove(at));
            if rows.iter().all(VecDeque::is_empty) {
                self.held.remove(&key);
            }
            if let Some(held) = held.filter(|held| !held.matched && self.sides[side].kept) {
                self.alone(side, held.row, end, before);
            }
        }
    }

    /// Turns pairs into rows.
    fn emit(&mut self, out: &mut StepOutput) -> Result<(), StepError> {
        if self.out.is_empty() {
            return Ok(());
        }
        let pairs = std::mem::take(&mut self.out);
        let mut columns = Vec::new();
        for (at, side) in self.sides.iter().enumerate() {
            columns.extend(side.columns(pairs.iter().map(|pair| pair.sides[at].as_deref()))?);
        }
        out.main.push(Chunk {
            rows: RecordBatch::try_new(self.schema.clone(), columns)?,
            times: pairs.iter().map(|pair| pair.time).collect(),
            before: pairs.iter().map(|pair| pair.before).collect(),
            deletes: None,
        });
        Ok(())
    }
}

/// Where a row is among a key's of its side.
fn place(rows: &VecDeque<Held>, end: Millis, number: u64, ahead: Millis) -> Option<usize> {
    let at =
        rows.partition_point(|held| (held.time.saturating_add(ahead), held.number) < (end, number));
    let here = |at: &usize| rows.get(*at).is_some_and(|held| held.number == number);
    // At the end of all time ends are one, and the order is not theirs.
    Some(at)
        .filter(here)
        .or_else(|| rows.iter().position(|held| held.number == number))
}

impl Side {
    /// The columns of rows; null where there is none.
    fn columns<'a>(
        &self,
        rows: impl Iterator<Item = Option<&'a [u8]>>,
    ) -> Result<Vec<ArrayRef>, StepError> {
        let nulls = self.nulls()?;
        let parser = self.converter.parser();
        let rows = rows.map(|row| parser.parse(row.unwrap_or(&nulls)));
        Ok(self.converter.convert_rows(rows)?)
    }

    fn nulls(&self) -> Result<Bytes, StepError> {
        let types = self.types.iter();
        let nulls: Vec<ArrayRef> = types
            .map(|data_type| new_null_array(data_type, 1))
            .collect();
        Ok(self.converter.convert_columns(&nulls)?.row(0).data().into())
    }
}

impl Stateful for Join {
    fn rows(&mut self, chunk: &Chunk, out: &mut StepOutput) -> Result<(), StepError> {
        refuse_withdrawn(chunk)?;
        let columns = chunk.rows.columns();
        let rows = [LEFT, RIGHT].map(|side| {
            let side = &self.sides[side];
            side.converter
                .convert_columns(&columns[side.columns.clone()])
        });
        let [left, right] = rows;
        let rows = [left?, right?];
        let on = &columns[1..=self.plan.on];
        let keys = self.keys.encode(on, chunk.len())?;
        let is_right = is_right(&chunk.rows)?;
        let mut late = Vec::new();
        for row in 0..chunk.len() {
            self.move_to(chunk.before[row]);
            let time = chunk.times[row];
            if time < self.watermark {
                late.push(row as u32);
                continue;
            }
            let side = usize::from(is_right.value(row));
            let whole = on.iter().all(|column| column.is_valid(row));
            let key = whole.then(|| keys.get(row));
            self.row(side, time, key, rows[side].row(row).data());
            if self.out.len() >= ROWS {
                self.emit(out)?;
            }
        }
        out.late_count += late.len() as u64;
        if self.late_read && !late.is_empty() {
            out.late.push(pick(chunk, late)?);
        }
        self.emit(out)
    }

    fn advance(&mut self, w: Millis, out: &mut StepOutput) -> Result<(), StepError> {
        self.move_to(w);
        self.emit(out)
    }

    fn save(&self) -> Result<Vec<RecordBatch>, StepError> {
        state::save(self)
    }

    fn load(&mut self, saved: &[RecordBatch]) -> Result<(), StepError> {
        state::load(self, saved)
    }

    fn held(&self) -> StateSize {
        StateSize {
            windows: self.ends.len(),
            keys: self.held.len(),
            starts: 0,
        }
    }
}

/// Which side each row is of.
fn is_right(rows: &RecordBatch) -> Result<&BooleanArray, StepError> {
    let column = rows
        .columns()
        .first()
        .and_then(|column| column.as_boolean_opt());
    column.ok_or_else(|| StepError::Plan(format!("rows are {}", rows.schema())))
}
