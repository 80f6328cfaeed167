//! A chunk: rows on their way through a task, each with its event time and the watermark it is judged against.

use arrow::array::{BooleanArray, RecordBatch};

/// Event time in milliseconds since the epoch.
pub type Millis = i64;

/// The watermark before any event.
pub const W_START: Millis = i64::MIN;
/// The watermark after the end of the input: every window fires.
pub const W_END: Millis = i64::MAX;

/// Rows in order. A row is judged against the watermark that the rows *before* it made, so results do not
/// depend on how rows are cut into chunks.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub rows: RecordBatch,
    /// Event time of each row.
    pub times: Vec<Millis>,
    /// Watermark before each row; never decreases from row to row.
    pub before: Vec<Millis>,
    /// Rows that withdraw an earlier one (`true`); `None`: none does.
    pub deletes: Option<BooleanArray>,
}

impl Chunk {
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
