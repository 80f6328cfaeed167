//! The `file` source: an event a line. Each file, in name order, is a partition; a position is a byte of it.
//!
//! The list of files and their lengths are resolved at the job's first start and journalled: what is appended later is
//! not read, and a file that is gone or shorter than it was is refused, for its rows could not be derived again.
//! Blank lines are skipped, `\r\n` ends a line too, and a last line without a newline counts.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use streamjob_core::chunk::Millis;

use super::{Budget, Input, Row, SourceError};

/// Read at once. A line that is longer makes its own buffer grow.
const BLOCK: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("`{pattern}` is not a file pattern: {error}")]
    Pattern {
        pattern: String,
        error: glob::PatternError,
    },
    #[error("no file matches {pattern}: a relative path starts at the job file's folder")]
    NoneMatches { pattern: PathBuf },
    #[error("cannot read {path}: {error}")]
    Read { path: PathBuf, error: io::Error },
    #[error(
        "{path} is gone, but the job is not done with it: put it back, or start the job anew with --fresh"
    )]
    Gone { path: PathBuf },
    #[error(
        "{path} has {length} bytes, but had at least {expected} when the job first read it: put the old file back, or start the job anew with --fresh"
    )]
    Shrunk {
        path: PathBuf,
        length: u64,
        expected: i64,
    },
}

/// A file as the first start of a job finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFile {
    /// As the pattern names it: relative to the job file's folder, if the pattern is.
    pub path: String,
    /// Length in bytes: the position at which the partition ends.
    pub end: i64,
}

/// The files that `pattern` names, in name order. A pattern without `*` or `?` names one file, which must exist.
pub fn resolve(folder: &Path, pattern: &str) -> Result<Vec<FoundFile>, FileError> {
    let full = folder.join(pattern);
    let bad = |error| FileError::Pattern {
        pattern: pattern.to_owned(),
        error,
    };
    // The folder's own name may hold characters that a pattern gives a meaning to.
    let whole = match Path::new(pattern).is_absolute() {
        true => pattern.to_owned(),
        false => Path::new(&glob::Pattern::escape(&folder.to_string_lossy()))
            .join(pattern)
            .to_string_lossy()
            .into_owned(),
    };
    let mut found = Vec::new();
    for entry in glob::glob(&whole).map_err(bad)? {
        let path = entry.map_err(|error| FileError::Read {
            path: error.path().to_owned(),
            error: error.into(),
        })?;
        let facts = path.metadata().map_err(|error| FileError::Read {
            path: path.clone(),
            error,
        })?;
        if facts.is_file() {
            let name = match Path::new(pattern).is_absolute() {
                true => &path,
                false => path.strip_prefix(folder).unwrap_or(&path),
            };
            found.push(FoundFile {
                path: name.to_string_lossy().into_owned(),
                end: i64::try_from(facts.len()).unwrap_or(i64::MAX),
            });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    match found.is_empty() {
        true => Err(FileError::NoneMatches { pattern: full }),
        false => Ok(found),
    }
}

/// One file, read from a position to its end.
pub struct FilePartition {
    path: PathBuf,
    file: File,
    /// Bytes of the file from `position` on that were read already: `buffer[start..]`.
    buffer: Vec<u8>,
    start: usize,
    position: i64,
    end: i64,
}

impl FilePartition {
    /// Opens the file at `position`, which is the start of a line. `end` is the journalled length.
    pub fn open(path: impl Into<PathBuf>, position: i64, end: i64) -> Result<Self, FileError> {
        let path = path.into();
        let read = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => FileError::Gone { path: path.clone() },
            _ => FileError::Read {
                path: path.clone(),
                error,
            },
        };
        let mut file = File::open(&path).map_err(read)?;
        let length = file.metadata().map_err(read)?.len();
        let expected = end.max(position);
        if i64::try_from(length).unwrap_or(i64::MAX) < expected {
            return Err(FileError::Shrunk {
                path,
                length,
                expected,
            });
        }
        file.seek(SeekFrom::Start(position.max(0) as u64))
            .map_err(read)?;
        Ok(FilePartition {
            path,
            file,
            buffer: Vec::new(),
            start: 0,
            position,
            end,
        })
    }

    /// The length of the line at the position, newline included, reading on as far as needed. `None` at the end.
    fn line(&mut self) -> Result<Option<usize>, FileError> {
        let mut searched = 0;
        loop {
            let ahead = &self.buffer[self.start..];
            if let Some(at) = memchr::memchr(b'\n', &ahead[searched..]) {
                return Ok(Some(searched + at + 1));
            }
            searched = ahead.len();
            if !self.fill()? {
                return Ok((searched > 0).then_some(searched));
            }
        }
    }

    /// Reads another block behind what is in the buffer; `false` at the end.
    fn fill(&mut self) -> Result<bool, FileError> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let ahead = self.buffer.len();
        let left = usize::try_from(self.end.saturating_sub(self.position)).unwrap_or(0);
        let wanted = BLOCK.max(ahead).min(left.saturating_sub(ahead));
        if wanted == 0 {
            return Ok(false);
        }
        self.buffer.resize(ahead + wanted, 0);
        let read = read_some(&mut self.file, &mut self.buffer[ahead..]);
        self.buffer
            .truncate(ahead + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => Err(FileError::Shrunk {
                path: self.path.clone(),
                length: self.position.unsigned_abs() + ahead as u64,
                expected: self.end,
            }),
            Ok(_) => Ok(true),
            Err(error) => Err(FileError::Read {
                path: self.path.clone(),
                error,
            }),
        }
    }
}

fn read_some(file: &mut File, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

impl Input for FilePartition {
    fn poll(
        &mut self,
        _now: Millis,
        mut budget: Budget,
        row: &mut dyn FnMut(Row<'_>),
    ) -> Result<usize, SourceError> {
        let mut rows = 0;
        while !budget.used_up() && self.position < budget.until {
            let Some(length) = self.line()? else { break };
            let line = &self.buffer[self.start..self.start + length];
            let next = self.position + length as i64;
            let text = without_newline(line);
            if !text.trim_ascii().is_empty() {
                row(Row {
                    position: self.position,
                    next,
                    timestamp: None,
                    payload: Some(text),
                });
                rows += 1;
                budget.spend(length);
            }
            self.start += length;
            self.position = next;
        }
        Ok(rows)
    }

    fn position(&self) -> i64 {
        self.position
    }

    fn caught_up(&self) -> bool {
        self.ended()
    }

    fn ended(&self) -> bool {
        self.position >= self.end
    }

    fn lag(&self) -> Option<i64> {
        Some(self.end.saturating_sub(self.position).max(0))
    }
}

fn without_newline(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests;
