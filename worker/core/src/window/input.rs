//! What a window step reads of a chunk: the rows that pass, their keys, the arguments of the calls.
//!
//! `where` comes first, so nothing else is evaluated on rows it drops; likewise a call's `FILTER` before its argument.
//! A row on which an expression fails goes to the failed rows and takes part in nothing, late or not.

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;

use super::WindowError;
use crate::aggregate::{Input, argument_type, to_argument};
use crate::chunk::Chunk;
use crate::expr::{Compiled, evaluate_each};
use crate::key::{EncodedKeys, GroupKeys};
use crate::plan::{AggregateCall, WindowPlan};

/// Rows of a chunk, ready to be counted. *Places* are rows of the evaluated arrays.
pub struct Prepared {
    pub keys: EncodedKeys,
    pub inputs: Vec<Input>,
    /// Row of the chunk at each place; `None`: the same.
    rows: Option<Vec<u32>>,
    /// Places of rows that failed, in order, each with its reason.
    pub failed: Vec<(usize, String)>,
    /// Rows of the chunk on which `where` failed.
    filter_failed: Vec<(usize, String)>,
}

impl Prepared {
    pub fn new(plan: &WindowPlan, keys: &GroupKeys, chunk: &Chunk) -> Result<Self, WindowError> {
        let (batch, rows, filter_failed) = passing(plan.filter.as_ref(), &chunk.rows)?;
        let group = evaluate_each(&plan.group, &batch);
        let mut failed = group.failed;
        let inputs = plan
            .calls
            .iter()
            .map(|call| input(call, &batch, &mut failed))
            .collect::<Result<_, _>>()?;
        failed.sort_by_key(|(place, _)| *place);
        failed.dedup_by_key(|(place, _)| *place);
        let keys = keys.encode(&group.columns, batch.num_rows())?;
        Ok(Prepared {
            keys,
            inputs,
            rows,
            failed,
            filter_failed,
        })
    }

    /// Row of the chunk at each place.
    pub fn rows(&self, chunk: &Chunk) -> Vec<u32> {
        self.rows
            .clone()
            .unwrap_or_else(|| (0..chunk.len() as u32).collect())
    }

    /// All rows of the chunk that failed, in order.
    pub fn failed_rows(self) -> Vec<(usize, String)> {
        let Prepared {
            rows,
            failed,
            filter_failed,
            ..
        } = self;
        let in_chunk = |place: usize| rows.as_ref().map_or(place, |rows| rows[place] as usize);
        let mut all: Vec<_> = failed
            .into_iter()
            .map(|(place, reason)| (in_chunk(place), reason))
            .collect();
        all.extend(filter_failed);
        all.sort_by_key(|(row, _)| *row);
        all
    }
}

type Passing = (RecordBatch, Option<Vec<u32>>, Vec<(usize, String)>);

/// The rows on which the filter is true, and those on which it fails.
fn passing(filter: Option<&Compiled>, rows: &RecordBatch) -> Result<Passing, WindowError> {
    let Some(filter) = filter else {
        return Ok((rows.clone(), None, Vec::new()));
    };
    let (mask, failed) = condition(filter, rows)?;
    if mask.null_count() == 0 && !mask.has_false() {
        return Ok((rows.clone(), None, failed));
    }
    let places = (0..mask.len())
        .filter(|row| is_true(&mask, *row))
        .map(|row| row as u32)
        .collect();
    Ok((filter_record_batch(rows, &mask)?, Some(places), failed))
}

/// A condition for each row: null (not true) where it failed.
fn condition(
    condition: &Compiled,
    rows: &RecordBatch,
) -> Result<(BooleanArray, Vec<(usize, String)>), WindowError> {
    let mut evaluated = evaluate_each(std::slice::from_ref(condition), rows);
    let column = evaluated.columns.pop();
    let mask = column
        .as_ref()
        .and_then(|column| column.as_boolean_opt())
        .cloned();
    Ok((
        mask.ok_or_else(|| WindowError::Condition(condition.sql.clone()))?,
        evaluated.failed,
    ))
}

fn input(
    call: &AggregateCall,
    rows: &RecordBatch,
    failed: &mut Vec<(usize, String)>,
) -> Result<Input, WindowError> {
    let filter = match &call.filter {
        None => None,
        Some(filter) => {
            let (mask, filter_failed) = condition(filter, rows)?;
            failed.extend(filter_failed);
            Some(mask)
        }
    };
    let Some(argument) = &call.argument else {
        return Ok(Input {
            values: None,
            filter,
        });
    };
    let mut evaluated = evaluate_each(std::slice::from_ref(argument), rows);
    let passes = |row: usize| filter.as_ref().is_none_or(|filter| is_true(filter, row));
    failed.extend(evaluated.failed.into_iter().filter(|(row, _)| passes(*row)));
    let values = match (evaluated.columns.pop(), argument_type(call)) {
        (Some(values), Some(wanted)) => Some(to_argument(values, &wanted)?),
        (values, _) => values,
    };
    Ok(Input { values, filter })
}

pub fn is_true(mask: &BooleanArray, row: usize) -> bool {
    mask.is_valid(row) && mask.value(row)
}
