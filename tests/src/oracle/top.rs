//! `topN`, the slow way: all rows of a window are sorted, and the first taken.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::{Key, Row, compare};

/// A column that rows are ranked by. Nulls come last unless they are to be first.
#[derive(Clone, Debug)]
pub struct By {
    pub column: String,
    pub descending: bool,
    pub nulls_first: bool,
}

/// The first `n` of each window and partition, by window, partition, and rank. Ties go by the group columns.
pub fn top(rows: &[Row], by: &[By], group: &[String], partition: &[String], n: usize) -> Vec<Row> {
    let mut windows: BTreeMap<(i64, i64, Key), Vec<&Row>> = BTreeMap::new();
    for row in rows {
        let bound = |name: &str| row[name].as_i64().expect("a window");
        let window = (
            bound("window_end"),
            bound("window_start"),
            Key::of(row, partition),
        );
        windows.entry(window).or_default().push(row);
    }
    let mut first = Vec::new();
    for mut rows in windows.into_values() {
        rows.sort_by(|a, b| {
            let ranks = by.iter().map(|by| by.compare(a, b));
            let ties = Key::of(a, group).cmp(&Key::of(b, group));
            ranks
                .chain([ties])
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal)
        });
        first.extend(rows.into_iter().take(n).cloned());
    }
    first
}

impl By {
    fn compare(&self, a: &Row, b: &Row) -> Ordering {
        let (a, b) = (&a[&self.column], &b[&self.column]);
        match (a.is_null(), b.is_null()) {
            (true, true) => Ordering::Equal,
            (true, false) if self.nulls_first => Ordering::Less,
            (true, false) => Ordering::Greater,
            (false, true) if self.nulls_first => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) if self.descending => compare(b, a),
            (false, false) => compare(a, b),
        }
    }
}
