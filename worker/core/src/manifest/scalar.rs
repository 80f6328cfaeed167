//! Plain scalars of YAML 1.2's core schema (chapter 10.3): which words are null, booleans and numbers.

use serde_json::{Number, Value};

/// The value of an unquoted scalar. The error says why a number cannot be taken.
pub fn resolve(text: &str) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err(format!("`{text}` is not a number that a job can hold"));
    }
    if let Some(digits) = text
        .strip_prefix("0x")
        .filter(|digits| all(digits, |byte| byte.is_ascii_hexdigit()))
    {
        return integer(text, u64::from_str_radix(digits, 16).ok().map(Number::from));
    }
    if let Some(digits) = text
        .strip_prefix("0o")
        .filter(|digits| all(digits, |byte| (b'0'..=b'7').contains(byte)))
    {
        return integer(text, u64::from_str_radix(digits, 8).ok().map(Number::from));
    }
    if all(unsigned, u8::is_ascii_digit) {
        let digits = text.strip_prefix('+').unwrap_or(text);
        let number = digits.parse().ok().map(|number: i64| Number::from(number));
        return integer(
            text,
            number.or_else(|| digits.parse().ok().map(|number: u64| Number::from(number))),
        );
    }
    if is_float(unsigned) {
        let number = text.parse().ok().and_then(Number::from_f64);
        return number
            .map(Value::Number)
            .ok_or_else(|| format!("`{text}` is too large a number"));
    }
    Ok(Value::String(text.into()))
}

fn integer(text: &str, number: Option<Number>) -> Result<Value, String> {
    number
        .map(Value::Number)
        .ok_or_else(|| format!("`{text}` is too large an integer: it takes more than 64 bits"))
}

fn all(text: &str, is: impl Fn(&u8) -> bool) -> bool {
    !text.is_empty() && text.as_bytes().iter().all(is)
}

/// `( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits_or_none = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let mantissa_fits = match mantissa.split_once('.') {
        Some(("", fraction)) => all(fraction, u8::is_ascii_digit),
        Some((whole, fraction)) => all(whole, u8::is_ascii_digit) && digits_or_none(fraction),
        None => all(mantissa, u8::is_ascii_digit),
    };
    let exponent_fits = exponent.is_none_or(|digits| {
        all(
            digits.strip_prefix(['-', '+']).unwrap_or(digits),
            u8::is_ascii_digit,
        )
    });
    mantissa_fits && exponent_fits
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn core_schema() {
        for (text, value) in [
            ("~", json!(null)),
            ("Null", json!(null)),
            ("TRUE", json!(true)),
            ("yes", json!("yes")),
            ("off", json!("off")),
            ("12", json!(12)),
            ("+12", json!(12)),
            ("-0", json!(0)),
            ("010", json!(10)),
            ("0x1F", json!(31)),
            ("0o17", json!(15)),
            ("-0x1F", json!("-0x1F")),
            ("0b1", json!("0b1")),
            ("1_000", json!("1_000")),
            ("18446744073709551615", json!(u64::MAX)),
            ("1e3", json!(1000.0)),
            (".5", json!(0.5)),
            ("5.", json!(5.0)),
            ("-1.5E-2", json!(-0.015)),
            (".", json!(".")),
            ("1.2.3", json!("1.2.3")),
            ("e3", json!("e3")),
            ("1e", json!("1e")),
            ("12:30", json!("12:30")),
            ("2026-01-01", json!("2026-01-01")),
            ("-", json!("-")),
        ] {
            assert_eq!(resolve(text), Ok(value), "{text}");
        }
        for text in [
            ".inf",
            "-.Inf",
            ".NaN",
            "1e999",
            "18446744073709551616",
            "-9223372036854775809",
            "0x1FFFFFFFFFFFFFFFF",
        ] {
            assert!(resolve(text).is_err(), "{text}");
        }
    }
}
