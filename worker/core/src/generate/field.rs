//! A field's value, made from the seed, the event's index and the field's position.

use arrow::datatypes::DataType;
use serde_json::Value;
use streamjob_crds::{GeneratedField, Scalar};

use crate::chunk::Millis;
use crate::decode::parse_rfc3339;
use crate::encode::write_text;

/// 2026-01-01T00:00:00Z.
const DEFAULT_START: Millis = 1_767_225_600_000;

#[derive(Clone, Debug)]
pub(super) struct Field {
    kind: Kind,
    /// The column is a Double: in keys it is written as doubles are.
    double: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    Integers {
        start: i64,
    },
    /// The prefix as it is, and as the start of a string of JSON.
    Names {
        start: i64,
        prefix: String,
        quoted: Vec<u8>,
    },
    /// Between two numbers, in units of 10^-decimals.
    Uniform {
        min: i64,
        max: i64,
        decimals: u32,
    },
    Choice(Vec<Choice>),
    Now,
    Every {
        start: Millis,
        step: Millis,
        jitter: Millis,
    },
}

#[derive(Clone, Debug)]
struct Choice {
    json: Vec<u8>,
    /// In a key of several columns.
    key: Vec<u8>,
    /// In a key of one String column; `None` if it is null.
    text: Option<Vec<u8>>,
}

pub(super) fn path(name: &str) -> Vec<String> {
    name.split('.').map(str::to_owned).collect()
}

/// How many decimals a `uniform` field has.
pub(super) fn decimals(column: Option<&DataType>) -> u32 {
    match column {
        Some(DataType::Int64 | DataType::Timestamp(..)) => 0,
        Some(DataType::Decimal128(_, scale)) => u32::try_from(*scale).unwrap_or(0).min(2),
        _ => 2,
    }
}

/// The ends of a `uniform` field in units of 10^-decimals, if there is anything between them.
pub(super) fn uniform(min: f64, max: f64, decimals: u32) -> Option<(i64, i64)> {
    const LIMIT: f64 = 9e18;
    let factor = 10f64.powi(decimals as i32);
    let (min, max) = match decimals {
        0 => (min.ceil(), max.floor()),
        _ => ((min * factor).round(), (max * factor).round()),
    };
    // Written so that NaN is refused too.
    (min >= -LIMIT && max <= LIMIT && min <= max).then_some((min as i64, max as i64))
}

/// The time that `every` starts at.
pub(super) fn start(start: Option<&Scalar>) -> Option<Millis> {
    match start {
        None => Some(DEFAULT_START),
        Some(Scalar(Value::String(text))) => parse_rfc3339(text.as_bytes()),
        Some(Scalar(value)) => value.as_i64(),
    }
}

impl Field {
    /// `None` if the field has problems.
    pub fn new(field: &GeneratedField, column: Option<&DataType>) -> Option<Self> {
        let kind = match field {
            GeneratedField {
                sequence: Some(sequence),
                ..
            } => match &sequence.prefix {
                None => Kind::Integers {
                    start: sequence.start,
                },
                Some(prefix) => {
                    let mut quoted = Vec::new();
                    write_text(prefix, &mut quoted);
                    quoted.pop();
                    Kind::Names {
                        start: sequence.start,
                        prefix: prefix.clone(),
                        quoted,
                    }
                }
            },
            GeneratedField {
                uniform: Some(ends),
                ..
            } => {
                let decimals = decimals(column);
                let (min, max) = uniform(ends.min, ends.max, decimals)?;
                Kind::Uniform { min, max, decimals }
            }
            GeneratedField {
                choice: Some(values),
                ..
            } => Kind::Choice(
                values
                    .iter()
                    .map(|Scalar(value)| Choice::new(value, column))
                    .collect(),
            ),
            GeneratedField { now: Some(_), .. } => Kind::Now,
            GeneratedField {
                every: Some(every), ..
            } => Kind::Every {
                start: start(every.start.as_ref())?,
                step: every.step.as_millis(),
                jitter: every.jitter.map_or(0, |jitter| jitter.as_millis()),
            },
            _ => return None,
        };
        Some(Field {
            kind,
            double: column == Some(&DataType::Float64),
        })
    }

    /// Appends the value as JSON.
    pub fn write(&self, seed: u64, index: u64, position: usize, now: Millis, out: &mut Vec<u8>) {
        let random = random(seed, index, position);
        match &self.kind {
            Kind::Integers { start } => write_int(nth(*start, 1, index), out),
            Kind::Names { start, quoted, .. } => {
                out.extend_from_slice(quoted);
                write_int(nth(*start, 1, index), out);
                out.push(b'"');
            }
            Kind::Uniform { min, max, decimals } => {
                write_units(between(random, *min, *max), *decimals, out)
            }
            Kind::Choice(values) => {
                if let Some(choice) = pick(random, values) {
                    out.extend_from_slice(&choice.json);
                }
            }
            Kind::Now => write_int(now, out),
            Kind::Every {
                start,
                step,
                jitter,
            } => {
                write_int(
                    nth(*start, *step, index).saturating_add(between(random, -jitter, *jitter)),
                    out,
                );
            }
        }
    }

    /// Appends the value as it is written in a key of several columns.
    pub fn write_key(&self, seed: u64, index: u64, position: usize, out: &mut Vec<u8>) {
        let start = out.len();
        match &self.kind {
            Kind::Choice(values) => {
                let choice = pick(random(seed, index, position), values);
                out.extend_from_slice(choice.map_or(&b"null"[..], |choice| &choice.key));
            }
            _ => {
                self.write(seed, index, position, 0, out);
                if self.double {
                    let double = key_of_double(&out[start..]);
                    out.truncate(start);
                    out.extend_from_slice(&double);
                }
            }
        }
    }

    /// Appends the value as the key that it is all of. `false` if it is null.
    pub fn write_text_key(
        &self,
        seed: u64,
        index: u64,
        position: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        match &self.kind {
            Kind::Names { start, prefix, .. } => {
                out.extend_from_slice(prefix.as_bytes());
                write_int(nth(*start, 1, index), out);
                true
            }
            Kind::Choice(values) => {
                let text = pick(random(seed, index, position), values)
                    .and_then(|choice| choice.text.as_ref());
                out.extend_from_slice(text.map_or(&[][..], Vec::as_slice));
                text.is_some()
            }
            _ => {
                self.write(seed, index, position, 0, out);
                true
            }
        }
    }
}

impl Choice {
    fn new(value: &Value, column: Option<&DataType>) -> Self {
        let json = value.to_string().into_bytes();
        let key = match (column, value) {
            (Some(DataType::Float64), Value::Number(_)) => key_of_double(&json),
            (Some(DataType::Timestamp(..)), Value::String(text)) => parse_rfc3339(text.as_bytes())
                .map_or_else(|| json.clone(), |time| time.to_string().into_bytes()),
            _ => json.clone(),
        };
        let text = match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone().into_bytes()),
            _ => Some(json.clone()),
        };
        Choice { json, key, text }
    }
}

/// A number as sinks write doubles.
fn key_of_double(json: &[u8]) -> Vec<u8> {
    let value = std::str::from_utf8(json)
        .ok()
        .and_then(|text| text.parse::<f64>().ok());
    match value.filter(|value| value.is_finite()) {
        Some(value) => ryu::Buffer::new().format_finite(value).as_bytes().to_vec(),
        None => b"null".to_vec(),
    }
}

/// `start + index * step`, or the nearest there is.
fn nth(start: i64, step: i64, index: u64) -> i64 {
    let index = i64::try_from(index).unwrap_or(i64::MAX);
    start.saturating_add(step.saturating_mul(index))
}

/// SplitMix64 over all three; the same everywhere, for ever.
fn random(seed: u64, index: u64, position: usize) -> u64 {
    mix(mix(mix(seed) ^ index) ^ position as u64)
}

fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// A number from `min` to `max`, both included.
fn between(random: u64, min: i64, max: i64) -> i64 {
    let span = (i128::from(max) - i128::from(min) + 1).max(1) as u128;
    let above = (u128::from(random) * span) >> 64;
    min.saturating_add_unsigned(above as u64)
}

fn pick<T>(random: u64, values: &[T]) -> Option<&T> {
    values.get(between(random, 0, values.len() as i64 - 1) as usize)
}

fn write_int(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// `units * 10^-decimals`, with all its decimals.
fn write_units(units: i64, decimals: u32, out: &mut Vec<u8>) {
    if decimals == 0 {
        return write_int(units, out);
    }
    let factor = 10u64.pow(decimals);
    let (whole, fraction) = (units.unsigned_abs() / factor, units.unsigned_abs() % factor);
    if units < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    out.push(b'.');
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(fraction).as_bytes();
    out.extend(std::iter::repeat_n(b'0', decimals as usize - digits.len()));
    out.extend_from_slice(digits);
}
