//! Numbers out of JSON: 64-bit integers, doubles and exact decimals, with fast paths for the short ones.

use super::malformed::Reason;
use super::scan::{HIGHS, byte, mismatch, skip_number, word};

/// Powers of ten that a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

const TENS: [u64; 9] = [
    1,
    10,
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
];

/// Integers up to here are doubles too, without rounding.
const EXACT: u64 = 1 << 53;

/// An integer in range. `1.0` and `1e3` are numbers, but no integers: `WrongType`.
#[inline(always)]
pub fn int64(bytes: &[u8], at: usize, depth: usize) -> Result<(i64, usize), Reason> {
    let negative = byte(bytes, at) == b'-';
    let start = at + usize::from(negative);
    let (magnitude, end) = digits(0, bytes, start);
    let length = end - start;
    // Eighteen digits cannot overflow. What is odd in any way is looked at again, slowly.
    let odd = length == 0
        || length > 18
        || (length > 1 && byte(bytes, start) == b'0')
        || matches!(byte(bytes, end), b'.' | b'e' | b'E');
    if odd {
        return odd_int64(bytes, at, depth);
    }
    let value = magnitude as i64;
    Ok((if negative { -value } else { value }, end))
}

#[cold]
#[inline(never)]
fn odd_int64(bytes: &[u8], at: usize, depth: usize) -> Result<(i64, usize), Reason> {
    if !matches!(byte(bytes, at), b'-' | b'0'..=b'9') {
        return Err(mismatch(bytes, at, depth));
    }
    let end = skip_number(bytes, at)?;
    let text = &bytes[at..end];
    if text.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return Err(Reason::WrongType);
    }
    let value = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok());
    value.map(|value| (value, end)).ok_or(Reason::OutOfRange)
}

/// Any number. One too large for a double is `OutOfRange`.
///
/// At most 2^53 of mantissa and 22 digits behind the point make one exact division, so one rounding (Clinger, "How
/// to read floating point numbers accurately", 1990); the rest is the standard library's.
#[inline(always)]
pub fn double(bytes: &[u8], at: usize, depth: usize) -> Result<(f64, usize), Reason> {
    let negative = byte(bytes, at) == b'-';
    let start = at + usize::from(negative);
    let (mut mantissa, whole_end) = digits(0, bytes, start);
    let (mut end, mut fraction) = (whole_end, 0);
    if byte(bytes, whole_end) == b'.' {
        (mantissa, end) = digits(mantissa, bytes, whole_end + 1);
        fraction = end - whole_end - 1;
    }
    let odd = whole_end == start
        || end - start > 19
        || mantissa > EXACT
        || (end > whole_end && fraction == 0)
        || (whole_end > start + 1 && byte(bytes, start) == b'0')
        || matches!(byte(bytes, end), b'e' | b'E');
    if odd {
        return odd_double(bytes, at, depth);
    }
    let value = mantissa as f64 / POWERS[fraction];
    Ok((if negative { -value } else { value }, end))
}

#[cold]
#[inline(never)]
fn odd_double(bytes: &[u8], at: usize, depth: usize) -> Result<(f64, usize), Reason> {
    if !matches!(byte(bytes, at), b'-' | b'0'..=b'9') {
        return Err(mismatch(bytes, at, depth));
    }
    let end = skip_number(bytes, at)?;
    let value = std::str::from_utf8(&bytes[at..end])
        .ok()
        .and_then(|text| text.parse::<f64>().ok());
    match value {
        Some(value) if value.is_finite() => Ok((value, end)),
        _ => Err(Reason::OutOfRange),
    }
}

/// A number that `precision` digits, `scale` of them behind the point, hold exactly; in units of 10^-scale.
pub fn decimal(
    bytes: &[u8],
    at: usize,
    depth: usize,
    precision: u8,
    scale: i8,
) -> Result<(i128, usize), Reason> {
    if !matches!(byte(bytes, at), b'-' | b'0'..=b'9') {
        return Err(mismatch(bytes, at, depth));
    }
    let end = skip_number(bytes, at)?;
    let number = Digits::of(&bytes[at..end])?;
    if number.mantissa == 0 {
        return Ok((0, end));
    }
    let shift = number.exponent.saturating_add(i64::from(scale));
    if shift < 0 {
        return Err(Reason::Inexact);
    }
    let power = u32::try_from(shift)
        .ok()
        .and_then(|shift| 10i128.checked_pow(shift));
    let unscaled = power.and_then(|power| number.mantissa.checked_mul(power));
    let limit = 10i128.checked_pow(u32::from(precision));
    match (unscaled, limit) {
        (Some(unscaled), Some(limit)) if unscaled < limit => Ok((
            if byte(bytes, at) == b'-' {
                -unscaled
            } else {
                unscaled
            },
            end,
        )),
        _ => Err(Reason::OutOfRange),
    }
}

/// A number's magnitude, `mantissa * 10^exponent`; the mantissa does not end in a zero.
struct Digits {
    mantissa: i128,
    exponent: i64,
}

impl Digits {
    /// Of text that has a number's form.
    fn of(text: &[u8]) -> Result<Self, Reason> {
        let split = text
            .iter()
            .position(|byte| matches!(byte, b'e' | b'E'))
            .unwrap_or(text.len());
        let (mut mantissa, mut exponent) =
            (0i128, exponent(text.get(split + 1..).unwrap_or_default()));
        // Zeros are held back until another digit follows.
        let (mut zeros, mut behind_point) = (0u32, false);
        for byte in &text[..split] {
            match byte {
                b'.' => behind_point = true,
                b'0'..=b'9' => {
                    exponent = exponent.saturating_sub(i64::from(behind_point));
                    if *byte == b'0' {
                        zeros += u32::from(mantissa != 0);
                        continue;
                    }
                    let power = zeros
                        .checked_add(1)
                        .and_then(|digits| 10i128.checked_pow(digits));
                    let shifted = power.and_then(|power| mantissa.checked_mul(power));
                    let next =
                        shifted.and_then(|shifted| shifted.checked_add(i128::from(byte - b'0')));
                    mantissa = next.ok_or(Reason::OutOfRange)?;
                    zeros = 0;
                }
                _ => {}
            }
        }
        Ok(Digits {
            mantissa,
            exponent: exponent.saturating_add(i64::from(zeros)),
        })
    }
}

/// The number behind an `e`, or 0; saturating, since beyond a few dozen it only says "too much".
fn exponent(text: &[u8]) -> i64 {
    let magnitude =
        text.iter()
            .filter(|byte| byte.is_ascii_digit())
            .fold(0i64, |magnitude, byte| {
                magnitude
                    .saturating_mul(10)
                    .saturating_add(i64::from(byte - b'0'))
                    .min(i64::MAX / 4)
            });
    if text.first() == Some(&b'-') {
        -magnitude
    } else {
        magnitude
    }
}

/// Appends decimal digits to `value`; returns it and the end of the digits. Wraps: the caller looks at their count.
///
/// Up to eight digits at a time and without a loop over them: what is no digit is flagged, and the digits before it
/// are moved to the high end of the word, so that zeros stand before them.
#[inline(always)]
fn digits(mut value: u64, bytes: &[u8], mut at: usize) -> (u64, usize) {
    while let Some(word) = word(bytes, at) {
        let digits = word ^ 0x3030_3030_3030_3030;
        let others = ((digits & !HIGHS) + 0x7676_7676_7676_7676) | digits;
        let count = ((others & HIGHS).trailing_zeros() / 8) as usize;
        if count == 0 {
            return (value, at);
        }
        let digits = eight_digits(digits << (64 - 8 * count));
        value = value.wrapping_mul(TENS[count]).wrapping_add(digits);
        at += count;
        if count < 8 {
            return (value, at);
        }
    }
    last_digits(value, bytes, at)
}

/// Those that less than eight bytes follow.
#[inline(never)]
fn last_digits(mut value: u64, bytes: &[u8], mut at: usize) -> (u64, usize) {
    loop {
        let digit = byte(bytes, at).wrapping_sub(b'0');
        if digit > 9 {
            return (value, at);
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
}

/// The number that eight digits (0 to 9, not ASCII) make, by three multiplications: pairs, fours, all (Lemire, "Quickly
/// parsing eight digits", 2022).
#[inline(always)]
fn eight_digits(digits: u64) -> u64 {
    const MASK: u64 = 0x0000_00FF_0000_00FF;
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let high = (pairs & MASK).wrapping_mul(0x000F_4240_0000_0064);
    let low = ((pairs >> 16) & MASK).wrapping_mul(0x0000_2710_0000_0001);
    high.wrapping_add(low) >> 32
}
