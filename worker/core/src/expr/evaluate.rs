//! Evaluation that isolates failures: one row's division by zero costs that row only.
//!
//! The whole batch is evaluated at once. When that fails, the batch is halved until the failing rows stand alone:
//! `k` failing rows of `n` cost about `k log n` evaluations. A row's result is that of the row alone, so it does not
//! depend on its neighbours or on how rows are cut into batches.

use arrow::array::{ArrayRef, RecordBatch, new_empty_array, new_null_array};
use arrow::compute::concat;
use arrow::error::ArrowError;
use datafusion_common::DataFusionError;

use super::Compiled;

/// A column for each expression, as long as the batch.
#[derive(Clone, Debug, Default)]
pub struct Evaluated {
    /// Null in every column where a row failed.
    pub columns: Vec<ArrayRef>,
    /// Rows on which an expression failed, ascending, with the reason: `DivisionByZero`, `Overflow`, `InvalidCast` or
    /// `InvalidArgument`, and the expression.
    pub failed: Vec<(usize, String)>,
}

/// Evaluates expressions over all rows of a batch.
pub fn evaluate_each(exprs: &[Compiled], batch: &RecordBatch) -> Evaluated {
    if batch.num_rows() == 0 {
        let columns = exprs
            .iter()
            .map(|expr| new_empty_array(&expr.data_type))
            .collect();
        return Evaluated {
            columns,
            failed: Vec::new(),
        };
    }
    match evaluate_all(exprs, batch) {
        Ok(columns) => Evaluated {
            columns,
            failed: Vec::new(),
        },
        Err(_) => isolate(exprs, batch),
    }
}

/// The columns, or the index of the first expression that failed and why.
fn evaluate_all(
    exprs: &[Compiled],
    batch: &RecordBatch,
) -> Result<Vec<ArrayRef>, (usize, DataFusionError)> {
    exprs
        .iter()
        .enumerate()
        .map(|(at, expr)| expr.evaluate(batch).map_err(|error| (at, error)))
        .collect()
}

fn isolate(exprs: &[Compiled], batch: &RecordBatch) -> Evaluated {
    let mut pieces: Vec<Vec<ArrayRef>> = vec![Vec::new(); exprs.len()];
    let mut failed = Vec::new();
    // Ranges still to be done, the first one on top.
    let mut ranges = vec![(0, batch.num_rows())];
    while let Some((start, length)) = ranges.pop() {
        let columns = match evaluate_all(exprs, &batch.slice(start, length)) {
            Ok(columns) => columns,
            Err((at, error)) if length == 1 => {
                failed.push((start, reason(&error, &exprs[at].sql)));
                exprs
                    .iter()
                    .map(|expr| new_null_array(&expr.data_type, 1))
                    .collect()
            }
            Err(_) => {
                let half = length / 2;
                ranges.push((start + half, length - half));
                ranges.push((start, half));
                continue;
            }
        };
        pieces
            .iter_mut()
            .zip(columns)
            .for_each(|(pieces, column)| pieces.push(column));
    }
    match pieces
        .iter()
        .map(|pieces| joined(pieces))
        .collect::<Result<Vec<_>, _>>()
    {
        Ok(columns) => Evaluated { columns, failed },
        Err(error) => all_failed(exprs, batch.num_rows(), &error),
    }
}

fn joined(pieces: &[ArrayRef]) -> Result<ArrayRef, ArrowError> {
    concat(&pieces.iter().map(AsRef::as_ref).collect::<Vec<_>>())
}

/// Columns that cannot be put together: more text than an array can hold.
fn all_failed(exprs: &[Compiled], rows: usize, error: &ArrowError) -> Evaluated {
    let reason = format!("InvalidArgument: {error}");
    Evaluated {
        columns: exprs
            .iter()
            .map(|expr| new_null_array(&expr.data_type, rows))
            .collect(),
        failed: (0..rows).map(|row| (row, reason.clone())).collect(),
    }
}

/// Why a row failed, in words that stay the same from version to version and hold no data of the row.
fn reason(error: &DataFusionError, sql: &str) -> String {
    const LONGEST: usize = 100;
    let kind = match error.find_root() {
        DataFusionError::ArrowError(error, _) => match error.as_ref() {
            ArrowError::DivideByZero => "DivisionByZero",
            ArrowError::ArithmeticOverflow(_) => "Overflow",
            ArrowError::CastError(_) | ArrowError::ParseError(_) => "InvalidCast",
            _ => "InvalidArgument",
        },
        _ => "InvalidArgument",
    };
    let shown: String = sql.chars().take(LONGEST).collect();
    let more = if shown.len() < sql.len() { "…" } else { "" };
    format!("{kind}: {shown}{more}")
}
