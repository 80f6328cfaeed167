//! The journal of a job without Kafka: one file of records, in the order in which they were committed.
//!
//! `<state-dir>/<uid>/journal`, a line a record: length of the JSON (8 hexadecimal digits), first 8 bytes of its SHA-256
//! (16 digits), the JSON. All slots of such a job commit as one, as slot 0.
//!
//! Fencing is compare-and-set: under the lock of `journal.lock` a record is appended only if the file ends where we
//! saw it end. Else somebody else wrote, the append is refused as `Fenced`, and the protocol reads again to find out
//! who owns the job. The lock is held for one operation, not for a run, so that a second start can take over.
//!
//! A crash in the middle of an append leaves a torn last line: it was never acknowledged, so the next reader cuts it.
//! Damage anywhere else is refused, never skipped.
//!
//! Owns: the file. Does not own: which record to write, who may, and output files (flushed before `append`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use streamjob_core::commit::record::JournalRecord;
use streamjob_core::commit::{Fact, Failure, StopReason};

const NAME: &str = "journal";
/// Length, space, checksum, space.
const PREFIX: usize = 8 + 1 + 16 + 1;

pub struct FileJournal {
    directory: PathBuf,
    lock: File,
    /// The file as of our last reading or append. Open, so that its inode number stays taken.
    seen: Option<Seen>,
}

struct Seen {
    file: File,
    length: u64,
}

impl FileJournal {
    /// Makes the directory and an empty journal if they are not there. `directory` is the job's own.
    pub fn open(directory: &Path) -> io::Result<FileJournal> {
        let in_context = |error: io::Error| named(error, directory);
        fs::create_dir_all(directory).map_err(in_context)?;
        let all = || {
            OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .to_owned()
        };
        let lock = all()
            .open(directory.join("journal.lock"))
            .map_err(in_context)?;
        all().open(directory.join(NAME)).map_err(in_context)?;
        sync_directory(directory).map_err(in_context)?;
        Ok(FileJournal {
            directory: directory.to_path_buf(),
            lock,
            seen: None,
        })
    }

    /// Answers `Decision::ReadJournal`.
    pub fn read(&mut self) -> Fact {
        self.locked(Self::read_locked)
            .unwrap_or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Fact::JournalMissing,
                io::ErrorKind::InvalidData => Fact::Refused(StopReason::JournalConflict {
                    slot: 0,
                    what: error.to_string(),
                }),
                _ => Fact::Refused(StopReason::CommitImpossible {
                    slot: 0,
                    what: error.to_string(),
                }),
            })
    }

    /// Answers `Decision::Commit`: the record is on disk, or it is not in the file.
    pub fn append(&mut self, record: &JournalRecord) -> Fact {
        match self.locked(|journal| journal.append_locked(record)) {
            Ok(true) => Fact::Committed,
            Ok(false) => Fact::CommitFailed(Failure::Fenced),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Fact::JournalMissing,
            Err(error) => Fact::CommitFailed(Failure::Fatal(error.to_string())),
        }
    }

    /// Carries out `Decision::TrimJournal`: drops what is before the first record of a later epoch. Nothing
    /// happens if somebody else wrote since.
    pub fn trim(&mut self, through: u64) -> io::Result<()> {
        self.locked(|journal| journal.trim_locked(through))
    }

    fn locked<T>(&mut self, work: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        let path = self.path();
        self.lock.lock().map_err(|error| named(error, &path))?;
        let result = work(self).map_err(|error| named(error, &path));
        self.lock.unlock().map_err(|error| named(error, &path))?;
        result
    }

    fn read_locked(&mut self) -> io::Result<Fact> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .open(self.path())?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (records, end) = parse(&bytes)?;
        if end < bytes.len() {
            file.set_len(end as u64)?;
            file.sync_all()?;
        }
        self.seen = Some(Seen {
            file,
            length: end as u64,
        });
        Ok(Fact::JournalRead {
            records,
            trimmed: false,
        })
    }

    /// `false`: the file does not end where we saw it end.
    fn append_locked(&mut self, record: &JournalRecord) -> io::Result<bool> {
        let line = line_of(record)?;
        let path = self.path();
        let Some(seen) = self.seen.as_mut() else {
            return Ok(false);
        };
        if !seen.is_current(&path)? {
            return Ok(false);
        }
        if let Err(error) = seen
            .file
            .write_all(&line)
            .and_then(|()| seen.file.sync_data())
        {
            // Leave no torn line if that is still possible; if it is not, the next reader cuts it.
            let _ = seen.file.set_len(seen.length);
            return Err(error);
        }
        seen.length += line.len() as u64;
        Ok(true)
    }

    fn trim_locked(&mut self, through: u64) -> io::Result<()> {
        let path = self.path();
        let Some(seen) = self.seen.as_mut() else {
            return Ok(());
        };
        if !seen.is_current(&path)? {
            return Ok(());
        }
        seen.file.seek(SeekFrom::Start(0))?;
        let mut bytes = Vec::new();
        seen.file.read_to_end(&mut bytes)?;
        let kept = parse(&bytes)?
            .0
            .into_iter()
            .skip_while(|record| record.epoch <= through);
        let mut lines = Vec::new();
        for record in kept {
            lines.extend(line_of(&record)?);
        }
        if lines.is_empty() {
            return Ok(());
        }
        let fresh = self.directory.join("journal.new");
        fs::write(&fresh, &lines)?;
        let file = OpenOptions::new().read(true).append(true).open(&fresh)?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        sync_directory(&self.directory)?;
        self.seen = Some(Seen {
            file,
            length: lines.len() as u64,
        });
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.directory.join(NAME)
    }
}

impl Seen {
    /// Whether the journal is still this file, at this length.
    fn is_current(&self, path: &Path) -> io::Result<bool> {
        let (ours, now) = (self.file.metadata()?, fs::metadata(path)?);
        Ok(ours.ino() == now.ino() && ours.dev() == now.dev() && now.len() == self.length)
    }
}

/// The records, and where the last one ends: behind it is nothing or a torn line.
fn parse(bytes: &[u8]) -> io::Result<(Vec<JournalRecord>, usize)> {
    let mut records = Vec::new();
    let mut end = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(json) = checked(line) else { break };
        let record = serde_json::from_slice(json).map_err(|error| {
            damaged(format!(
                "the record at byte {end} is of another version or damaged: {error}"
            ))
        })?;
        records.push(record);
        end += line.len();
    }
    let rest = bytes.get(end..).unwrap_or_default();
    if rest
        .split_inclusive(|byte| *byte == b'\n')
        .any(|line| checked(line).is_some())
    {
        return Err(damaged(format!(
            "the line at byte {end} is damaged and others follow"
        )));
    }
    Ok((records, end))
}

/// The JSON of a line whose length and checksum are right.
fn checked(line: &[u8]) -> Option<&[u8]> {
    let json = line.get(PREFIX..)?.strip_suffix(b"\n")?;
    line.starts_with(prefix(json).as_bytes()).then_some(json)
}

fn line_of(record: &JournalRecord) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(record)?;
    let mut line = prefix(&json).into_bytes();
    line.extend(json);
    line.push(b'\n');
    Ok(line)
}

fn prefix(json: &[u8]) -> String {
    let sum = Sha256::digest(json);
    let sum = sum
        .iter()
        .take(8)
        .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    format!("{:08x} {sum:016x} ", json.len())
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn damaged(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn named(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
