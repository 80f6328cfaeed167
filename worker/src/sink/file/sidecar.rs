//! The sidecar of an output file: who writes it, how far it is valid, and which epoch of each slot is in it.
//!
//! Lines of JSON: a header `{streamjob, job, life}`, then a record an epoch. A line that was not finished is not there. Callers hold the
//! lock of the output. A sidecar that has grown long is replaced by one with the last records only, so a path may
//! come to mean another file: `refresh` notices.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{FileSinkError, folder_of, io_error, sync_folder};

const VERSION: u32 = 1;
/// Compacted when it is longer than this.
const LONG: u64 = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    /// Version of the sidecar's format.
    streamjob: u32,
    /// Uid of the job.
    job: String,
    /// Tells a file that was started anew from the one before it.
    life: String,
}

/// An epoch in the output: its bytes are `from..length`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub slot: u32,
    pub epoch: u64,
    pub from: u64,
    /// Length of the output with it.
    pub length: u64,
    /// XXH3-64 of the bytes, hexadecimal.
    checksum: String,
}

impl Record {
    pub fn of(slot: u32, epoch: u64, from: u64, bytes: &[u8]) -> Self {
        Record {
            slot,
            epoch,
            from,
            length: from + bytes.len() as u64,
            checksum: checksum(bytes),
        }
    }

    pub fn fits(&self, bytes: &[u8]) -> bool {
        self.checksum == checksum(bytes)
    }
}

fn checksum(bytes: &[u8]) -> String {
    format!("{:016x}", xxh3_64(bytes))
}

#[derive(Debug)]
pub(super) struct Sidecar {
    path: PathBuf,
    file: File,
    header: Header,
    /// Bytes of the sidecar that are header and whole records.
    valid: u64,
    /// The last record of each slot.
    last: BTreeMap<u32, Record>,
    /// The last record of all.
    newest: Option<Record>,
}

/// `out/rows.ndjson` → `out/.rows.ndjson.streamjob`.
pub(super) fn path_of(output: &Path) -> PathBuf {
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    folder_of(output).join(format!(".{name}.streamjob"))
}

/// The sidecar of `output`, if there is one.
pub(super) fn load(output: &Path) -> Result<Option<Sidecar>, FileSinkError> {
    open(&path_of(output))
}

fn open(path: &Path) -> Result<Option<Sidecar>, FileSinkError> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("open", path)(error)),
    };
    let text = read_from(&file, 0, path)?;
    let Some(line) = text.split_inclusive(|byte| *byte == b'\n').next() else {
        return Ok(None);
    };
    let unknown = || FileSinkError::UnknownSidecar {
        path: path.to_owned(),
    };
    let header: Header = serde_json::from_slice(line).map_err(|_| unknown())?;
    if header.streamjob != VERSION {
        return Err(unknown());
    }
    let mut sidecar = Sidecar {
        path: path.to_owned(),
        file,
        header,
        valid: line.len() as u64,
        last: BTreeMap::new(),
        newest: None,
    };
    sidecar.take_records(&text[line.len()..]);
    Ok(Some(sidecar))
}

fn read_from(file: &File, from: u64, path: &Path) -> Result<Vec<u8>, FileSinkError> {
    let length = file.metadata().map_err(io_error("look at", path))?.len();
    let mut text = vec![0; usize::try_from(length.saturating_sub(from)).unwrap_or(0)];
    file.read_exact_at(&mut text, from)
        .map_err(io_error("read", path))?;
    Ok(text)
}

impl Sidecar {
    /// A new one that says: nothing is in the output. It replaces the old one at once or not at all.
    pub fn create(output: &Path, job: &str) -> Result<Self, FileSinkError> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let life = format!(
            "{:x}-{:x}",
            since.unwrap_or_default().as_nanos(),
            std::process::id()
        );
        let header = Header {
            streamjob: VERSION,
            job: job.to_owned(),
            life,
        };
        write_new(&path_of(output), &header, &[])
    }

    pub fn job(&self) -> &str {
        &self.header.job
    }

    /// How much of the output is valid.
    pub fn length(&self) -> u64 {
        self.newest.as_ref().map_or(0, |record| record.length)
    }

    pub fn applied(&self, slot: u32) -> u64 {
        self.last.get(&slot).map_or(0, |record| record.epoch)
    }

    pub fn newest(&self) -> Option<&Record> {
        self.newest.as_ref()
    }

    /// Takes in what other processes have written.
    pub fn refresh(&mut self) -> Result<(), FileSinkError> {
        let ours = self
            .file
            .metadata()
            .map_err(io_error("look at", &self.path))?;
        let same = std::fs::metadata(&self.path)
            .is_ok_and(|there| (there.ino(), there.dev()) == (ours.ino(), ours.dev()));
        if same {
            let text = read_from(&self.file, self.valid, &self.path)?;
            self.take_records(&text);
            return Ok(());
        }
        match open(&self.path)? {
            Some(there) if there.header == self.header => {
                *self = there;
                Ok(())
            }
            _ => Err(FileSinkError::TakenOver {
                path: self.path.clone(),
            }),
        }
    }

    /// Appends a record over whatever an unfinished write has left.
    pub fn append(&mut self, record: Record) -> Result<(), FileSinkError> {
        let line = line_of(&record);
        self.file
            .set_len(self.valid)
            .and_then(|()| self.file.write_all_at(&line, self.valid))
            .map_err(io_error("write", &self.path))?;
        self.valid += line.len() as u64;
        self.note(record);
        if self.valid > LONG {
            self.compact()?;
        }
        Ok(())
    }

    pub fn sync(&self) -> Result<(), FileSinkError> {
        self.file.sync_data().map_err(io_error("sync", &self.path))
    }

    pub fn compact(&mut self) -> Result<(), FileSinkError> {
        let mut records: Vec<Record> = self.last.values().cloned().collect();
        // The newest of all stays the last.
        records.sort_by_key(|record| record.length);
        *self = write_new(&self.path, &self.header, &records)?;
        Ok(())
    }

    fn take_records(&mut self, text: &[u8]) {
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            match serde_json::from_slice::<Record>(line) {
                Ok(record) if line.ends_with(b"\n") => {
                    self.valid += line.len() as u64;
                    self.note(record);
                }
                _ => return,
            }
        }
    }

    fn note(&mut self, record: Record) {
        self.last.insert(record.slot, record.clone());
        self.newest = Some(record);
    }
}

fn line_of(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Writes a whole sidecar beside the place, syncs it and puts it there.
fn write_new(path: &Path, header: &Header, records: &[Record]) -> Result<Sidecar, FileSinkError> {
    let temporary = path.with_extension("streamjob-new");
    let mut text = line_of(header);
    for record in records {
        text.extend(line_of(record));
    }
    File::create(&temporary)
        .and_then(|file| {
            file.write_all_at(&text, 0)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(io_error("write", path))?;
    sync_folder(path)?;
    open(path)?.ok_or_else(|| FileSinkError::UnknownSidecar {
        path: path.to_owned(),
    })
}
