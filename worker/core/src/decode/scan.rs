//! JSON by position: functions that take the bytes and where to start, and return where they stopped.
//!
//! They check RFC 8259 to the letter, whether or not anybody wants the value: number grammar, escapes, surrogate
//! pairs, control characters, nesting. That the bytes are UTF-8 has been checked before. Reading past the end gives
//! a zero byte, which is allowed nowhere in JSON, so that the end needs no case of its own.

use super::malformed::Reason;

/// How deep objects and arrays may nest.
pub const MAX_DEPTH: usize = 128;

const ONES: u64 = 0x0101_0101_0101_0101;
/// The highest bit of each byte of a word.
pub const HIGHS: u64 = 0x8080_8080_8080_8080;

#[inline(always)]
pub fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// The eight bytes from `at`, if there are eight.
#[inline(always)]
pub fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u64::from_le_bytes)
}

/// Skips whitespace.
#[inline(always)]
pub fn space(bytes: &[u8], mut at: usize) -> usize {
    while byte(bytes, at) <= b' ' && matches!(byte(bytes, at), b' ' | b'\n' | b'\r' | b'\t') {
        at += 1;
    }
    at
}

/// The first byte from `at` on that ends or interrupts a plain run of a string: a quote, a backslash, a control
/// character, or the end. Eight bytes at a time ("Bit Twiddling Hacks", bytes less than n and equal to n): the
/// lowest flag is exact, higher ones may be false.
#[inline(always)]
pub fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = word(bytes, at) {
        let quote = word ^ (ONES * b'"' as u64);
        let backslash = word ^ (ONES * b'\\' as u64);
        let flags = (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        let flags = flags & HIGHS;
        if flags != 0 {
            return at + (flags.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < bytes.len() && bytes[at] >= 0x20 && bytes[at] != b'"' && bytes[at] != b'\\' {
        at += 1;
    }
    at
}

/// Appends the string whose inside starts at `at`; returns the position behind its closing quote.
#[inline(always)]
pub fn string_into(bytes: &[u8], at: usize, out: &mut Vec<u8>) -> Result<usize, Reason> {
    let end = plain_end(bytes, at);
    if byte(bytes, end) != b'"' {
        return unescape_into(bytes, at, out);
    }
    append(bytes, at, end, out);
    Ok(end + 1)
}

/// Appends `bytes[from..to]`. Short pieces as sixteen bytes, cut off afterwards: a copy of fixed size costs a fraction of a
/// call to memcpy.
#[inline(always)]
fn append(bytes: &[u8], from: usize, to: usize, out: &mut Vec<u8>) {
    let length = to - from;
    match bytes[from..].first_chunk::<16>() {
        Some(chunk) if length <= 16 => {
            let before = out.len();
            out.extend_from_slice(chunk);
            out.truncate(before + length);
        }
        _ => out.extend_from_slice(&bytes[from..to]),
    }
}

#[cold]
#[inline(never)]
fn unescape_into(bytes: &[u8], mut at: usize, out: &mut Vec<u8>) -> Result<usize, Reason> {
    loop {
        let end = plain_end(bytes, at);
        out.extend_from_slice(&bytes[at..end]);
        match byte(bytes, end) {
            b'"' => return Ok(end + 1),
            b'\\' => {
                let (character, after) = escape(bytes, end)?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                at = after;
            }
            _ => return Err(Reason::InvalidJson),
        }
    }
}

/// Skips the string whose inside starts at `at`.
#[inline(always)]
pub fn skip_string(bytes: &[u8], mut at: usize) -> Result<usize, Reason> {
    loop {
        let end = plain_end(bytes, at);
        match byte(bytes, end) {
            b'"' => return Ok(end + 1),
            b'\\' => at = escape(bytes, end)?.1,
            _ => return Err(Reason::InvalidJson),
        }
    }
}

/// The character that the escape at `at` (its backslash) stands for, and the position behind it. Half a surrogate pair is an error: no string can hold it.
fn escape(bytes: &[u8], at: usize) -> Result<(char, usize), Reason> {
    let character = match byte(bytes, at + 1) {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode_escape(bytes, at),
        _ => return Err(Reason::InvalidJson),
    };
    Ok((character, at + 2))
}

fn unicode_escape(bytes: &[u8], at: usize) -> Result<(char, usize), Reason> {
    let first = hex(bytes, at + 2)?;
    let (code, after) = if (0xD800..0xDC00).contains(&first) {
        if byte(bytes, at + 6) != b'\\' || byte(bytes, at + 7) != b'u' {
            return Err(Reason::InvalidJson);
        }
        let second = hex(bytes, at + 8)?;
        if !(0xDC00..0xE000).contains(&second) {
            return Err(Reason::InvalidJson);
        }
        (
            0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00),
            at + 12,
        )
    } else {
        (first, at + 6)
    };
    char::from_u32(code)
        .map(|character| (character, after))
        .ok_or(Reason::InvalidJson)
}

fn hex(bytes: &[u8], at: usize) -> Result<u32, Reason> {
    (at..at + 4).try_fold(0, |code, at| {
        let digit = (byte(bytes, at) as char)
            .to_digit(16)
            .ok_or(Reason::InvalidJson)?;
        Ok(code * 16 + digit)
    })
}

/// Skips a number: `-? (0 | [1-9][0-9]*) (\.[0-9]+)? ([eE][+-]?[0-9]+)?`.
pub fn skip_number(bytes: &[u8], mut at: usize) -> Result<usize, Reason> {
    if byte(bytes, at) == b'-' {
        at += 1;
    }
    let start = at;
    at = some_digits(bytes, at)?;
    if byte(bytes, start) == b'0' && at > start + 1 {
        return Err(Reason::InvalidJson);
    }
    if byte(bytes, at) == b'.' {
        at = some_digits(bytes, at + 1)?;
    }
    if matches!(byte(bytes, at), b'e' | b'E') {
        at += 1;
        if matches!(byte(bytes, at), b'+' | b'-') {
            at += 1;
        }
        at = some_digits(bytes, at)?;
    }
    Ok(at)
}

fn some_digits(bytes: &[u8], start: usize) -> Result<usize, Reason> {
    let mut at = start;
    while byte(bytes, at).is_ascii_digit() {
        at += 1;
    }
    if at == start {
        Err(Reason::InvalidJson)
    } else {
        Ok(at)
    }
}

/// Skips `true`, `false` or `null`.
#[inline]
pub fn literal(bytes: &[u8], at: usize, word: &[u8]) -> Result<usize, Reason> {
    match bytes.get(at..).is_some_and(|rest| rest.starts_with(word)) {
        true => Ok(at + word.len()),
        false => Err(Reason::InvalidJson),
    }
}

/// Skips a value of any kind that lies `depth` objects and arrays deep.
#[inline(always)]
pub fn skip(bytes: &[u8], at: usize, depth: usize) -> Result<usize, Reason> {
    match byte(bytes, at) {
        b'{' | b'[' => skip_container(bytes, at, depth),
        _ => skip_scalar(bytes, at),
    }
}

#[inline(always)]
fn skip_scalar(bytes: &[u8], at: usize) -> Result<usize, Reason> {
    match byte(bytes, at) {
        b'"' => skip_string(bytes, at + 1),
        b'-' | b'0'..=b'9' => skip_number(bytes, at),
        b't' => literal(bytes, at, b"true"),
        b'f' => literal(bytes, at, b"false"),
        b'n' => literal(bytes, at, b"null"),
        _ => Err(Reason::InvalidJson),
    }
}

/// Without recursion: the open containers are the low bits of a word, one for an object, zero for an array.
fn skip_container(bytes: &[u8], mut at: usize, outer: usize) -> Result<usize, Reason> {
    let (mut open, mut depth) = (0u128, 0);
    loop {
        // A value starts here.
        let first = byte(bytes, at);
        if first == b'{' || first == b'[' {
            if outer + depth >= MAX_DEPTH {
                return Err(Reason::TooDeep);
            }
            depth += 1;
            open = open << 1 | u128::from(first == b'{');
            at = space(bytes, at + 1);
            let empty = byte(bytes, at) == if first == b'{' { b'}' } else { b']' };
            if !empty {
                at = if first == b'{' {
                    skip_key(bytes, at)?
                } else {
                    at
                };
                continue;
            }
        } else {
            at = space(bytes, skip_scalar(bytes, at)?);
        }
        // A value, or the inside of a container, has ended.
        loop {
            let object = open & 1 == 1;
            match byte(bytes, at) {
                b',' => {
                    at = space(bytes, at + 1);
                    at = if object { skip_key(bytes, at)? } else { at };
                    break;
                }
                b'}' if object => {}
                b']' if !object => {}
                _ => return Err(Reason::InvalidJson),
            }
            open >>= 1;
            depth -= 1;
            if depth == 0 {
                return Ok(at + 1);
            }
            at = space(bytes, at + 1);
        }
    }
}

/// Skips a key, its colon and the space around.
fn skip_key(bytes: &[u8], at: usize) -> Result<usize, Reason> {
    if byte(bytes, at) != b'"' {
        return Err(Reason::InvalidJson);
    }
    let at = space(bytes, skip_string(bytes, at + 1)?);
    match byte(bytes, at) {
        b':' => Ok(space(bytes, at + 1)),
        _ => Err(Reason::InvalidJson),
    }
}

/// A value at `at` is of a type that is not wanted: says whether it is one at all.
#[cold]
#[inline(never)]
pub fn mismatch(bytes: &[u8], at: usize, depth: usize) -> Reason {
    skip(bytes, at, depth).err().unwrap_or(Reason::WrongType)
}
