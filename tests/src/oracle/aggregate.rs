//! Aggregates over a window's rows, each computed from all of them.

use serde_json::Value;

use super::{Aggregate, Function, Row, compare};

/// A row of a window: its event time and its columns. A window's rows are in log order.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Place in the task's log.
    pub order: usize,
    pub time: i64,
    pub row: Row,
}

pub fn aggregate(aggregate: &Aggregate, rows: &[Taken]) -> Value {
    let Some(column) = &aggregate.column else {
        return Value::from(rows.len());
    };
    let values: Vec<(i64, &Value)> = rows
        .iter()
        .map(|taken| (taken.time, &taken.row[column]))
        .filter(|(_, value)| !value.is_null())
        .collect();
    let plain = || values.iter().map(|(_, value)| *value);
    match aggregate.function {
        Function::Count => Value::from(values.len()),
        Function::Sum => sum(plain()),
        Function::Avg if values.is_empty() => Value::Null,
        Function::Avg => Value::from(floats(plain()).iter().sum::<f64>() / values.len() as f64),
        Function::Min => plain()
            .min_by(|a, b| compare(a, b))
            .cloned()
            .unwrap_or(Value::Null),
        Function::Max => plain()
            .max_by(|a, b| compare(a, b))
            .cloned()
            .unwrap_or(Value::Null),
        Function::Stddev => stddev(&floats(plain())),
        Function::FirstValue => earliest(&values),
        Function::LastValue => latest(&values),
        Function::ArrayAgg { .. } if values.is_empty() => Value::Null,
        Function::ArrayAgg { limit } => plain().take(limit).cloned().collect(),
        Function::Distinct => Value::from(distinct(plain())),
        Function::Percentile(quantile) => percentile(plain(), quantile),
    }
}

fn floats<'v>(values: impl Iterator<Item = &'v Value>) -> Vec<f64> {
    values
        .map(|value| value.as_f64().expect("a number"))
        .collect()
}

fn sum<'v>(values: impl Iterator<Item = &'v Value>) -> Value {
    let values: Vec<&Value> = values.collect();
    if values.is_empty() {
        return Value::Null;
    }
    if values.iter().all(|value| value.is_i64()) {
        let total: i128 = values
            .iter()
            .map(|value| i128::from(value.as_i64().expect("an integer")))
            .sum();
        return Value::from(i64::try_from(total).expect("the workload's sums fit 64 bits"));
    }
    Value::from(floats(values.into_iter()).iter().sum::<f64>())
}

fn stddev(values: &[f64]) -> Value {
    if values.len() < 2 {
        return Value::Null;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values
        .iter()
        .map(|value| (value - mean) * (value - mean))
        .sum();
    Value::from((squares / (values.len() - 1) as f64).sqrt())
}

fn earliest(values: &[(i64, &Value)]) -> Value {
    let mut best: Option<(i64, &Value)> = None;
    for &(time, value) in values {
        if best.is_none_or(|(earliest, _)| time < earliest) {
            best = Some((time, value));
        }
    }
    best.map_or(Value::Null, |(_, value)| value.clone())
}

fn latest(values: &[(i64, &Value)]) -> Value {
    let mut best: Option<(i64, &Value)> = None;
    for &(time, value) in values {
        if best.is_none_or(|(latest, _)| time >= latest) {
            best = Some((time, value));
        }
    }
    best.map_or(Value::Null, |(_, value)| value.clone())
}

fn distinct<'v>(values: impl Iterator<Item = &'v Value>) -> usize {
    let mut values: Vec<&Value> = values.collect();
    values.sort_by(|a, b| compare(a, b));
    values.dedup();
    values.len()
}

fn percentile<'v>(values: impl Iterator<Item = &'v Value>, quantile: f64) -> Value {
    let mut values: Vec<&Value> = values.collect();
    values.sort_by(|a, b| compare(a, b));
    let rank = (quantile * values.len() as f64).ceil() as usize;
    values
        .get(rank.saturating_sub(1))
        .map_or(Value::Null, |value| (*value).clone())
}
