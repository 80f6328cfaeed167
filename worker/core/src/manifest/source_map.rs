//! Where the fields of a job file stand, and what part of a line a problem means.

use std::collections::BTreeMap;
use std::ops::Range;

use saphyr_parser::ScalarStyle;

use crate::problem::Problem;

/// A part of one line, in characters. Both counts start at 1; `end` is the column behind the last character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    pub line: usize,
    pub column: usize,
    pub end: usize,
}

/// Where the fields of one document stand. Positions are characters from its start.
#[derive(Clone, Debug, Default)]
pub struct SourceMap {
    text: Vec<char>,
    /// Index of each line's first character.
    lines: Vec<usize>,
    entries: BTreeMap<String, Entry>,
    /// Problems that are not about a field's value: known by path and message.
    pinned: BTreeMap<(String, String), Range<usize>>,
}

#[derive(Clone, Debug)]
struct Entry {
    /// The field's name; none for an element of a list.
    key: Option<Range<usize>>,
    /// Of a list or mapping: its first character.
    value: Range<usize>,
    scalar: Option<Scalar>,
}

#[derive(Clone, Debug)]
struct Scalar {
    value: String,
    style: ScalarStyle,
}

impl SourceMap {
    pub(super) fn new(text: &str) -> Self {
        let text: Vec<char> = text.chars().collect();
        let breaks = text
            .iter()
            .enumerate()
            .filter(|(_, char)| **char == '\n')
            .map(|(index, _)| index + 1);
        let lines = std::iter::once(0).chain(breaks).collect();
        SourceMap {
            text,
            lines,
            ..SourceMap::default()
        }
    }

    pub(super) fn add(&mut self, path: &str, key: Option<Range<usize>>, value: Range<usize>) {
        self.entries.insert(
            path.into(),
            Entry {
                key,
                value,
                scalar: None,
            },
        );
    }

    pub(super) fn add_scalar(
        &mut self,
        path: &str,
        key: Option<Range<usize>>,
        span: Range<usize>,
        value: &str,
        style: ScalarStyle,
    ) {
        let scalar = Some(Scalar {
            value: value.into(),
            style,
        });
        self.entries.insert(
            path.into(),
            Entry {
                key,
                value: span,
                scalar,
            },
        );
    }

    /// A problem that stands at `span`, whatever its path.
    pub(super) fn pin(&mut self, problem: &Problem, span: Range<usize>) {
        self.pinned
            .insert((problem.path.clone(), problem.message.clone()), span);
    }

    /// A problem that is about a field's name, not its value.
    pub(super) fn pin_to_key(&mut self, problem: &Problem) {
        if let Some(key) = self
            .entries
            .get(&problem.path)
            .and_then(|entry| entry.key.clone())
        {
            self.pin(problem, key);
        }
    }

    /// Where a problem stands: its field, or the nearest one around it that the file has.
    pub fn locate(&self, problem: &Problem) -> Location {
        if let Some(span) = self
            .pinned
            .get(&(problem.path.clone(), problem.message.clone()))
        {
            return self.location(span.clone());
        }
        let mut path = problem.path.as_str();
        loop {
            if let Some(entry) = self.entries.get(path) {
                let within = problem.within.filter(|_| path == problem.path);
                return self.location(self.span_of(path, entry, within));
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = &path[..cut],
                None => return self.location(0..self.line_end(0)),
            }
        }
    }

    /// The value of a scalar, else the name of the field, else (an element of a list) the name of its first field.
    fn span_of(&self, path: &str, entry: &Entry, within: Option<(usize, usize)>) -> Range<usize> {
        match (&entry.scalar, &entry.key) {
            (Some(scalar), _) if !entry.value.is_empty() => match within {
                Some((start, end)) => self.part(scalar, &entry.value, start, end),
                None => entry.value.clone(),
            },
            (_, Some(key)) => key.clone(),
            (_, None) => {
                let child = format!("{path}.");
                let inside = self
                    .entries
                    .range(child.clone()..)
                    .take_while(|(path, _)| path.starts_with(&child));
                let first = inside
                    .filter_map(|(_, entry)| entry.key.clone())
                    .min_by_key(|key| key.start);
                first.unwrap_or_else(|| entry.value.clone())
            }
        }
    }

    /// The characters `start..end` of a scalar's value, in the file.
    fn part(&self, scalar: &Scalar, span: &Range<usize>, start: usize, end: usize) -> Range<usize> {
        let column = self.location(span.clone()).column;
        let raw = &self.text[span.start.min(self.text.len())..span.end.min(self.text.len())];
        let positions = positions(&scalar.value, raw, scalar.style, column.saturating_sub(1));
        let last = positions.len().saturating_sub(1);
        let at = |index: usize| span.start + positions.get(index.min(last)).copied().unwrap_or(0);
        // The last character's place and one: behind it may be a line break and its indentation.
        let end = if end > start {
            at(end - 1) + 1
        } else {
            at(start) + 1
        };
        at(start)..end
    }

    fn location(&self, span: Range<usize>) -> Location {
        let index = span.start.min(self.text.len());
        let line = self
            .lines
            .partition_point(|first| *first <= index)
            .saturating_sub(1);
        let first = self.lines.get(line).copied().unwrap_or(0);
        let end = span.end.min(self.line_end(index)).max(index + 1);
        Location {
            line: line + 1,
            column: index - first + 1,
            end: end - first + 1,
        }
    }

    /// Index of the line break that ends the line of `index`.
    fn line_end(&self, index: usize) -> usize {
        let rest = self.text.get(index..).unwrap_or(&[]);
        index
            + rest
                .iter()
                .position(|char| matches!(char, '\n' | '\r'))
                .unwrap_or(rest.len())
    }
}

/// For each character of a scalar's value, and for its end, the index in the raw text that it came from. `indent` is
/// the column (from 0) at which the lines of a block start.
///
/// The inverse of YAML's folding and escapes, without its corner cases: a position may be off by some white space
/// where a scalar has lines that are folded.
fn positions(value: &str, raw: &[char], style: ScalarStyle, indent: usize) -> Vec<usize> {
    let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
    let mut at = usize::from(matches!(
        style,
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted
    ));
    let mut positions = Vec::new();
    for char in value.chars() {
        if !char.is_whitespace() {
            at = skip_blank(raw, at, style);
        }
        positions.push(at.min(raw.len().saturating_sub(1)));
        at = match raw.get(at) {
            Some('\n' | '\r') if block => skip_break(raw, at, indent),
            Some(' ' | '\t' | '\n' | '\r') if !block && char.is_whitespace() => skip_fold(raw, at),
            // A blank of the value that the text has no character for, such as one of several folded lines.
            Some(raw_char) if char.is_whitespace() && *raw_char != char && *raw_char != '\\' => at,
            Some(_) => at + width(&raw[at..], style),
            None => at,
        };
    }
    positions.push(at.min(raw.len()));
    positions
}

/// To the next character that is not white space, nor (in double quotes) an escaped line break.
fn skip_blank(raw: &[char], mut at: usize, style: ScalarStyle) -> usize {
    loop {
        match raw.get(at) {
            Some(char) if char.is_whitespace() => at += 1,
            Some('\\')
                if style == ScalarStyle::DoubleQuoted
                    && matches!(raw.get(at + 1), Some('\n' | '\r')) =>
            {
                at += 2
            }
            _ => return at,
        }
    }
}

/// Past a line break and the indentation of the next line.
fn skip_break(raw: &[char], at: usize, indent: usize) -> usize {
    let next = at
        + if raw[at..].starts_with(&['\r', '\n']) {
            2
        } else {
            1
        };
    let spaces = raw[next..]
        .iter()
        .take(indent)
        .take_while(|char| **char == ' ')
        .count();
    next + spaces
}

/// Past one blank, or past all of them where there is a line break among them.
fn skip_fold(raw: &[char], at: usize) -> usize {
    let blanks = raw[at..]
        .iter()
        .take_while(|char| char.is_whitespace())
        .count();
    if raw[at..at + blanks].contains(&'\n') {
        at + blanks
    } else {
        at + 1
    }
}

/// How many characters of the raw text make the next one of the value.
fn width(raw: &[char], style: ScalarStyle) -> usize {
    match (style, raw) {
        (ScalarStyle::SingleQuoted, ['\'', '\'', ..]) => 2,
        (ScalarStyle::DoubleQuoted, ['\\', 'x', ..]) => 4,
        (ScalarStyle::DoubleQuoted, ['\\', 'u', ..]) => 6,
        (ScalarStyle::DoubleQuoted, ['\\', 'U', ..]) => 10,
        (ScalarStyle::DoubleQuoted, ['\\', ..]) => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests;
