//! Rows expected against rows found, as multisets, with a difference that a person can read.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde_json::Value;

use crate::oracle::Row;

/// How many rows of each kind a difference shows.
const SHOWN: usize = 10;

/// Nothing in it: the same rows.
#[derive(Debug, Default)]
pub struct Difference {
    pub missing: Vec<Row>,
    pub doubled: Vec<Row>,
    /// Expected and found, of one identity.
    pub wrong: Vec<(Row, Row)>,
    /// Found, and of no identity that was expected.
    pub unexpected: Vec<Row>,
    pub expected: usize,
    pub found: usize,
}

impl Difference {
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
            && self.doubled.is_empty()
            && self.wrong.is_empty()
            && self.unexpected.is_empty()
    }
}

/// Compares rows exactly. `identity` names the columns that say which row is meant, for telling wrong from missing.
pub fn difference(expected: &[Row], found: &[Row], identity: &[&str]) -> Difference {
    difference_within(expected, found, identity, 0.0)
}

/// As [`difference`], with floating-point numbers equal up to a relative `tolerance`.
pub fn difference_within(
    expected: &[Row],
    found: &[Row],
    identity: &[&str],
    tolerance: f64,
) -> Difference {
    let mut result = Difference {
        expected: expected.len(),
        found: found.len(),
        ..Difference::default()
    };
    let mut groups: BTreeMap<String, (Vec<&Row>, Vec<&Row>)> = BTreeMap::new();
    for row in expected {
        groups
            .entry(identity_of(row, identity))
            .or_default()
            .0
            .push(row);
    }
    for row in found {
        groups
            .entry(identity_of(row, identity))
            .or_default()
            .1
            .push(row);
    }
    for (expected, found) in groups.into_values() {
        compare_group(expected, found, tolerance, &mut result);
    }
    result
}

fn compare_group(
    expected: Vec<&Row>,
    mut found: Vec<&Row>,
    tolerance: f64,
    result: &mut Difference,
) {
    let mut left = Vec::new();
    for row in &expected {
        match found
            .iter()
            .position(|other| same_row(row, other, tolerance))
        {
            Some(at) => drop(found.swap_remove(at)),
            None => left.push(*row),
        }
    }
    for row in found {
        if expected.iter().any(|other| same_row(other, row, tolerance)) {
            result.doubled.push(row.clone());
        } else if let Some(other) = left.pop() {
            result.wrong.push((other.clone(), row.clone()));
        } else {
            result.unexpected.push(row.clone());
        }
    }
    result.missing.extend(left.into_iter().cloned());
}

fn same_row(a: &Row, b: &Row, tolerance: f64) -> bool {
    a.len() == b.len()
        && a.iter().all(|(name, value)| {
            b.get(name)
                .is_some_and(|other| same(value, other, tolerance))
        })
}

/// `1` and `1.0` are one number.
fn same(a: &Value, b: &Value, tolerance: f64) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => match (x.as_i64(), y.as_i64()) {
            (Some(x), Some(y)) => x == y,
            _ => {
                let (x, y) = (
                    x.as_f64().unwrap_or(f64::NAN),
                    y.as_f64().unwrap_or(f64::NAN),
                );
                x == y || (x - y).abs() <= tolerance * x.abs().max(y.abs())
            }
        },
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b, tolerance))
        }
        (a, b) => a == b,
    }
}

fn identity_of(row: &Row, columns: &[&str]) -> String {
    let mut text = String::new();
    for column in columns {
        let _ = write!(text, "{} ", row.get(*column).unwrap_or(&Value::Null));
    }
    text
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} rows expected, {} found", self.expected, self.found)?;
        show(f, "missing", &self.missing, text)?;
        show(f, "doubled", &self.doubled, text)?;
        show(f, "unexpected", &self.unexpected, text)?;
        show(f, "wrong", &self.wrong, |(expected, found)| {
            format!("{}\n     found {}", text(expected), text(found))
        })
    }
}

fn show<T>(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    rows: &[T],
    text: impl Fn(&T) -> String,
) -> fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(f, "{what}: {}", rows.len())?;
    for row in rows.iter().take(SHOWN) {
        writeln!(f, "  {}", text(row))?;
    }
    if rows.len() > SHOWN {
        writeln!(f, "  …")?;
    }
    Ok(())
}

fn text(row: &Row) -> String {
    Value::Object(row.clone()).to_string()
}

/// Panics with the difference, if there is one.
#[track_caller]
pub fn assert_same_rows(expected: &[Row], found: &[Row], identity: &[&str]) {
    let difference = difference(expected, found, identity);
    assert!(difference.is_empty(), "{difference}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rows(values: &[(i64, Value)]) -> Vec<Row> {
        values
            .iter()
            .map(|(id, v)| Row::from_iter([("id".into(), json!(id)), ("v".into(), v.clone())]))
            .collect()
    }

    #[test]
    fn each_kind_of_difference_is_told() {
        let expected = rows(&[(1, json!(1)), (2, json!(2)), (3, json!(3)), (3, json!(3))]);
        let found = rows(&[
            (1, json!(1.0)),
            (1, json!(1)),
            (2, json!(7)),
            (3, json!(3)),
            (4, json!(4)),
        ]);
        let difference = difference(&expected, &found, &["id"]);
        assert_eq!(difference.doubled, rows(&[(1, json!(1))]));
        assert_eq!(
            difference.wrong,
            [(
                rows(&[(2, json!(2))]).remove(0),
                rows(&[(2, json!(7))]).remove(0)
            )]
        );
        assert_eq!(difference.missing, rows(&[(3, json!(3))]));
        assert_eq!(difference.unexpected, rows(&[(4, json!(4))]));
        assert!(
            difference
                .to_string()
                .contains("doubled: 1\n  {\"id\":1,\"v\":1}"),
            "{difference}"
        );
    }

    #[test]
    fn the_same_rows_in_another_order_are_the_same() {
        let expected = rows(&[(1, json!(0.1 + 0.2)), (2, json!([1, null]))]);
        let found = rows(&[(2, json!([1.0, null])), (1, json!(0.3))]);
        assert!(!difference(&expected, &found, &["id"]).is_empty());
        assert!(difference_within(&expected, &found, &["id"], 1e-9).is_empty());
    }
}
