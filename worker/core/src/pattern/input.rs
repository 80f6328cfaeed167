//! What a pattern reads of a chunk: the rows that pass and are on time, their groups, and which variables each may satisfy.
//!
//! `where` comes first, then lateness, so nothing else is evaluated on rows that take no part. A row on which an
//! expression fails takes part in nothing.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::take;

use super::PatternError;
use super::nfa::Variables;
use crate::chunk::Chunk;
use crate::exchange::pick;
use crate::expr::{Compiled, evaluate_each};
use crate::key::{EncodedKeys, GroupKeys};
use crate::plan::MatchPlan;

/// Rows of a chunk that somebody may take, or (where nothing is skipped) miss.
pub struct Prepared {
    /// Rows of the chunk.
    pub rows: Vec<u32>,
    /// By place in `rows`.
    pub keys: EncodedKeys,
    /// By place: variables that the row may satisfy; those that look back still have to be tried.
    pub variables: Vec<Variables>,
    /// Rows of the chunk that came too late.
    pub late: Vec<u32>,
    /// Rows of the chunk that failed, in order, each with its reason.
    pub failed: Vec<(usize, String)>,
}

type Failed = Vec<(usize, String)>;

impl Prepared {
    pub fn new(plan: &MatchPlan, keys: &GroupKeys, chunk: &Chunk) -> Result<Self, PatternError> {
        let (passing, mut failed) = match &plan.filter {
            None => (None, Failed::new()),
            Some(filter) => {
                let (mask, failed) = condition(filter, &chunk.rows)?;
                (Some(mask), failed)
            }
        };
        let passes = |row: &u32| {
            passing
                .as_ref()
                .is_none_or(|mask| is_true(mask, *row as usize))
        };
        let is_late = |row: &u32| chunk.times[*row as usize] < chunk.before[*row as usize];
        let (late, on_time): (Vec<u32>, Vec<u32>) =
            (0..chunk.len() as u32).filter(passes).partition(is_late);
        let batch = match on_time.len() == chunk.len() {
            true => chunk.rows.clone(),
            false => pick(chunk, on_time.clone())?.rows,
        };
        let group = evaluate_each(&plan.partition, &batch);
        let mut bad = group.failed;
        let variables = variables(plan, &batch, &mut bad)?;
        bad.sort_by_key(|(place, _)| *place);
        bad.dedup_by_key(|(place, _)| *place);
        let is_bad = |place: u32| {
            bad.binary_search_by_key(&(place as usize), |(place, _)| *place)
                .is_ok()
        };
        // Nobody will ever take or miss the others: most rows of most jobs.
        let kept: Vec<u32> = (0..on_time.len() as u32)
            .filter(|place| variables[*place as usize] != 0 || plan.nfa.strict)
            .filter(|place| bad.is_empty() || !is_bad(*place))
            .collect();
        let places = UInt32Array::from(kept.clone());
        let group: Vec<ArrayRef> = match kept.len() == on_time.len() {
            true => group.columns,
            false => {
                let columns = group.columns.iter();
                columns
                    .map(|column| take(column, &places, None))
                    .collect::<Result<_, _>>()?
            }
        };
        let in_chunk = |(place, reason): (usize, String)| (on_time[place] as usize, reason);
        failed.extend(bad.into_iter().map(in_chunk));
        failed.sort_by_key(|(row, _)| *row);
        Ok(Prepared {
            keys: keys.encode(&group, kept.len())?,
            variables: kept
                .iter()
                .map(|place| variables[*place as usize])
                .collect(),
            rows: kept.iter().map(|place| on_time[*place as usize]).collect(),
            late,
            failed,
        })
    }
}

/// For each row the variables whose condition is true as far as it can be told from the row.
fn variables(
    plan: &MatchPlan,
    rows: &RecordBatch,
    failed: &mut Failed,
) -> Result<Vec<Variables>, PatternError> {
    let mut variables: Vec<Variables> = vec![0; rows.num_rows()];
    for (number, variable) in plan.variables.iter().enumerate() {
        let bit = 1 << number;
        let Some(row) = &variable.row else {
            variables.iter_mut().for_each(|variables| *variables |= bit);
            continue;
        };
        let (mask, more) = condition(row, rows)?;
        failed.extend(more);
        let truth = match mask.nulls() {
            None => mask.values().clone(),
            Some(nulls) => mask.values() & nulls.inner(),
        };
        truth.set_indices().for_each(|row| variables[row] |= bit);
    }
    Ok(variables)
}

/// A condition for each row: null (not true) where it failed.
fn condition(
    condition: &Compiled,
    rows: &RecordBatch,
) -> Result<(BooleanArray, Failed), PatternError> {
    let mut evaluated = evaluate_each(std::slice::from_ref(condition), rows);
    let column = evaluated.columns.pop();
    let mask = column
        .as_ref()
        .and_then(|column| column.as_boolean_opt())
        .cloned();
    let mask = mask.ok_or_else(|| PatternError::Plan(condition.sql.clone()))?;
    Ok((mask, evaluated.failed))
}

fn is_true(mask: &BooleanArray, row: usize) -> bool {
    mask.is_valid(row) && mask.value(row)
}
