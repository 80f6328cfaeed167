//! A stateless step: filters and projects rows. Rows on which an expression fails go aside; the rest go on.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::chunk::Chunk;
use crate::exchange::{ExchangeError, pick};
use crate::expr::evaluate_each;
use crate::plan::StatelessPlan;

/// What a step makes of a chunk.
#[derive(Debug, Default)]
pub struct StatelessOutput {
    pub main: Option<Chunk>,
    /// With the schema of `failed_schema`.
    pub failed: Option<Chunk>,
}

#[derive(Debug, thiserror::Error)]
pub enum StatelessError {
    #[error(transparent)]
    Rows(#[from] ExchangeError),
    #[error("rows of a step: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
}

/// Applies the step to rows whose output has `schema`.
pub fn apply(
    plan: &StatelessPlan,
    schema: &SchemaRef,
    chunk: &Chunk,
) -> Result<StatelessOutput, StatelessError> {
    let mut failed: Vec<(usize, String)> = Vec::new();
    let kept = match &plan.filter {
        None => None,
        Some(filter) => {
            let evaluated = evaluate_each(std::slice::from_ref(filter), &chunk.rows);
            let kept = passing(&evaluated.columns[0], &evaluated.failed);
            failed.extend(evaluated.failed);
            Some(kept)
        }
    };
    let filtered = match kept {
        Some(rows) if rows.len() < chunk.len() => Some((pick(chunk, rows.clone())?, rows)),
        _ => None,
    };
    let (input, origin) = match &filtered {
        Some((filtered, origin)) => (filtered, Some(origin)),
        None => (chunk, None),
    };
    let main = match &plan.project {
        None => input.clone(),
        Some(project) => {
            let evaluated = evaluate_each(project, &input.rows);
            let rows = batch(schema, evaluated.columns, input.len())?;
            let projected = Chunk {
                rows,
                ..input.clone()
            };
            if evaluated.failed.is_empty() {
                projected
            } else {
                let bad: Vec<usize> = evaluated.failed.iter().map(|(row, _)| *row).collect();
                let good = (0..input.len() as u32)
                    .filter(|row| bad.binary_search(&(*row as usize)).is_err())
                    .collect();
                let in_chunk = |row: usize| origin.map_or(row, |origin| origin[row] as usize);
                failed.extend(
                    evaluated
                        .failed
                        .into_iter()
                        .map(|(row, reason)| (in_chunk(row), reason)),
                );
                let good = pick(&projected, good)?;
                Chunk {
                    rows: RecordBatch::try_new(schema.clone(), good.rows.columns().to_vec())?,
                    ..good
                }
            }
        }
    };
    failed.sort_by_key(|(row, _)| *row);
    Ok(StatelessOutput {
        main: (!main.is_empty()).then_some(main),
        failed: if failed.is_empty() {
            None
        } else {
            Some(failed_rows(chunk, &failed)?)
        },
    })
}

/// Rows on which the condition is true; null is not.
fn passing(condition: &dyn Array, failed: &[(usize, String)]) -> Vec<u32> {
    let Some(condition) = condition.as_any().downcast_ref::<BooleanArray>() else {
        return Vec::new();
    };
    let mut failed = failed.iter().map(|(row, _)| *row).peekable();
    (0..condition.len())
        .filter(|row| {
            let is_failed = failed.next_if_eq(row).is_some();
            !is_failed && condition.is_valid(*row) && condition.value(*row)
        })
        .map(|row| row as u32)
        .collect()
}

fn batch(
    schema: &SchemaRef,
    columns: Vec<arrow::array::ArrayRef>,
    rows: usize,
) -> Result<RecordBatch, StatelessError> {
    // A failed row is null in every column until it is taken out: the batch is built over a schema that allows it.
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let open = match schema
        .fields()
        .iter()
        .zip(&columns)
        .any(|(field, column)| !field.is_nullable() && column.null_count() > 0)
    {
        true => Arc::new(nullable(schema)),
        false => schema.clone(),
    };
    Ok(RecordBatch::try_new_with_options(open, columns, &options)?)
}

/// The schema with nulls allowed everywhere.
pub(crate) fn nullable(schema: &Schema) -> Schema {
    let fields = schema.fields().iter();
    let nullable = fields.map(|field| field.as_ref().clone().with_nullable(true));
    Schema::new(nullable.collect::<Vec<_>>())
}

/// Schema of `<step>.failed` for a step that reads `input`: its columns, all nullable, and the reason.
pub fn failed_schema(input: &Schema) -> Schema {
    let reason = Arc::new(Field::new("reason", DataType::Utf8, false));
    let nullable = nullable(input);
    let columns = nullable.fields().iter().cloned().chain([reason]);
    Schema::new(columns.collect::<Vec<_>>())
}

/// The rows of `chunk` that failed, each with its reason.
pub fn failed_rows(chunk: &Chunk, failed: &[(usize, String)]) -> Result<Chunk, ExchangeError> {
    let picked = pick(chunk, failed.iter().map(|(row, _)| *row as u32).collect())?;
    let mut columns = picked.rows.columns().to_vec();
    columns.push(Arc::new(StringArray::from_iter_values(
        failed.iter().map(|(_, reason)| reason),
    )));
    let rows = RecordBatch::try_new(Arc::new(failed_schema(&chunk.rows.schema())), columns)?;
    Ok(Chunk {
        rows,
        deletes: None,
        ..picked
    })
}
