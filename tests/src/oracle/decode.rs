//! From an event's bytes to a row, strictly.

use serde_json::Value;

use super::{Column, Job, Kind, Row};

/// Why an event is malformed. Coarser than the engine's reasons: where one event has two faults either may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Null, empty, no JSON, no object, text after the object, bad UTF-8.
    NoObject,
    /// A value of another type, or out of the type's range.
    BadValue,
    /// A column that must not be null is null or absent.
    Missing,
    /// Further ahead of the Kafka timestamp than `maxFuture`.
    FarFuture,
}

pub fn decode(
    job: &Job,
    payload: Option<&[u8]>,
    kafka_timestamp: Option<i64>,
) -> Result<Row, Reason> {
    let event: Value =
        serde_json::from_slice(payload.ok_or(Reason::NoObject)?).map_err(|_| Reason::NoObject)?;
    if !event.is_object() {
        return Err(Reason::NoObject);
    }
    let mut row = Row::new();
    for column in &job.columns {
        row.insert(column.name.clone(), column_value(column, &event)?);
    }
    let time = row[&job.event_time].as_i64().ok_or(Reason::Missing)?;
    if let (Some(limit), Some(kafka_timestamp)) = (job.max_future, kafka_timestamp)
        && time > kafka_timestamp.saturating_add(limit)
    {
        return Err(Reason::FarFuture);
    }
    Ok(row)
}

fn column_value(column: &Column, event: &Value) -> Result<Value, Reason> {
    // `get` gives nothing for a value that is no object, which is what an absent field is.
    let found = column
        .path
        .iter()
        .try_fold(event, |value, field| value.get(field.as_str()));
    match found {
        None | Some(Value::Null) if column.nullable => Ok(Value::Null),
        None | Some(Value::Null) => Err(Reason::Missing),
        Some(value) => typed(column.kind, value).ok_or(Reason::BadValue),
    }
}

/// The value as the column holds it, or nothing if it is of another type.
fn typed(kind: Kind, value: &Value) -> Option<Value> {
    match kind {
        Kind::String => value.is_string().then(|| value.clone()),
        Kind::Boolean => value.is_boolean().then(|| value.clone()),
        Kind::Int64 => value.as_i64().map(Value::from),
        Kind::Double => value.as_f64().map(Value::from),
        Kind::Timestamp => value
            .as_i64()
            .or_else(|| rfc3339(value.as_str()?))
            .map(Value::from),
    }
}

/// `2026-01-02T03:04:05.678+01:00` in epoch ms. Digits after the milliseconds are cut off.
pub fn rfc3339(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = rest.split_at(zone_at);
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let valid = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !valid {
        return None;
    }
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(seconds * 1_000 + milliseconds(fraction)? - offset_minutes(zone)? * 60_000)
}

fn numbers(text: &str, separator: char, digits: [usize; 3]) -> Option<[i64; 3]> {
    let parts: Vec<&str> = text.split(separator).collect();
    let right_lengths = parts.iter().map(|part| part.len()).eq(digits);
    let all_digits = parts
        .iter()
        .all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    if !right_lengths || !all_digits {
        return None;
    }
    Some([
        parts[0].parse().ok()?,
        parts[1].parse().ok()?,
        parts[2].parse().ok()?,
    ])
}

fn milliseconds(fraction: &str) -> Option<i64> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{fraction}000")[..3].parse().ok()
}

fn offset_minutes(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let [hours, minutes, _] = numbers(&format!("{}:00", &zone[1..]), ':', [2, 2, 2])?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Counted a year and a month at a time.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let length = |year| if is_leap(year) { 366 } else { 365 };
    let years: i64 = if year >= 1970 {
        (1970..year).map(length).sum()
    } else {
        -(year..1970).map(length).sum::<i64>()
    };
    years
        + (1..month)
            .map(|month| days_in_month(year, month))
            .sum::<i64>()
        + day
        - 1
}
