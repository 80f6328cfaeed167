//! An interval `join`, the slow way: every row is kept for ever, and each is held against all of the other side.

use serde_json::Value;

use super::Row;
use super::reads::Read;

pub struct JoinStep {
    /// The input that is the left side; every other row is of the right one.
    pub left: usize,
    /// Equal columns: the left one, the right one.
    pub on: Vec<(String, String)>,
    /// What right columns are called: this before their name.
    pub prefix: String,
    pub columns: [Vec<String>; 2],
    pub before: i64,
    pub after: i64,
    /// Whether rows of a side go out without a match.
    pub keep: [bool; 2],
}

#[derive(Debug, Default)]
pub struct Joined {
    /// In the order in which they go out.
    pub rows: Vec<Row>,
    /// Of either side, with nulls for the other.
    pub late: Vec<Row>,
}

struct Kept {
    side: usize,
    row: Row,
    time: i64,
    matched: bool,
    over: bool,
}

/// What a task puts out.
pub fn join(step: &JoinStep, reads: &[Read]) -> Joined {
    let mut joined = Joined::default();
    let mut kept: Vec<Kept> = Vec::new();
    let mut watermark = i64::MIN;
    for read in reads {
        let w = match read {
            Read::Row { before, .. } => *before,
            Read::Watermark(w) => *w,
            Read::Close => continue,
        };
        if w > watermark {
            watermark = w;
            pass(step, &mut kept, w, &mut joined.rows);
        }
        let Read::Row { input, row, .. } = read else {
            continue;
        };
        let side = usize::from(*input != step.left);
        let (row, time) = (row.row.clone(), row.time);
        if time < watermark {
            joined.late.push(step.pair(side, &row, None));
            continue;
        }
        let mut pairs: Vec<(i64, usize)> = Vec::new();
        for (at, other) in kept
            .iter()
            .enumerate()
            .filter(|(_, other)| other.side != side)
        {
            let (left, right) = match side {
                0 => ((&row, time), (&other.row, other.time)),
                _ => ((&other.row, other.time), (&row, time)),
            };
            if step.equal(left.0, right.0)
                && left.1 - step.before <= right.1
                && right.1 <= left.1 + step.after
            {
                assert!(!other.over, "what can be matched is held");
                pairs.push((other.time, at));
            }
        }
        // The other side's rows by time, then as they came.
        pairs.sort();
        for (_, at) in &pairs {
            kept[*at].matched = true;
            joined
                .rows
                .push(step.pair(side, &row, Some(&kept[*at].row)));
        }
        let matched = !pairs.is_empty();
        let nameless = step.on.iter().any(|on| row[[&on.0, &on.1][side]].is_null());
        if nameless && step.keep[side] {
            joined.rows.push(step.pair(side, &row, None));
        }
        let over = nameless;
        kept.push(Kept {
            side,
            row,
            time,
            matched,
            over,
        });
    }
    joined
}

/// Rows whose reach the watermark has passed.
fn pass(step: &JoinStep, kept: &mut [Kept], w: i64, out: &mut Vec<Row>) {
    let mut ended: Vec<(i64, usize, usize)> = kept
        .iter()
        .enumerate()
        .filter(|(_, row)| !row.over)
        .map(|(at, row)| (row.time + [step.after, step.before][row.side], row.side, at))
        .filter(|(end, ..)| *end < w)
        .collect();
    ended.sort();
    for (_, side, at) in ended {
        kept[at].over = true;
        if !kept[at].matched && step.keep[side] {
            out.push(step.pair(side, &kept[at].row, None));
        }
    }
}

impl JoinStep {
    /// A null equals nothing.
    fn equal(&self, left: &Row, right: &Row) -> bool {
        self.on
            .iter()
            .all(|(ours, theirs)| !left[ours].is_null() && left[ours] == right[theirs])
    }

    fn pair(&self, side: usize, row: &Row, other: Option<&Row>) -> Row {
        let sides = match side {
            0 => [Some(row), other],
            _ => [other, Some(row)],
        };
        let mut pair = Row::new();
        for (at, prefix) in ["", self.prefix.as_str()].into_iter().enumerate() {
            for column in &self.columns[at] {
                let value = sides[at].map_or(Value::Null, |row| row[column].clone());
                pair.insert(format!("{prefix}{column}"), value);
            }
        }
        pair
    }
}
