//! The `file` sink: rows as lines, exactly once, also when several slots and processes append to one file.
//!
//! Beside the output `rows.ndjson` lies the sidecar `.rows.ndjson.streamjob`, which says how far the output is valid and which
//! epoch of each slot is in it. To apply an epoch, under an exclusive lock on the output:
//!
//! 1. read what others have added to the sidecar; skip the epoch if it is in there;
//! 2. cut the output to the length that the sidecar's last record gives: what is behind it was written by someone who died;
//! 3. append the rows and sync them to the disk;
//! 4. append a record to the sidecar, and sync that too: the journal may say from now on that the epoch is applied.
//!
//! A crash between 3 and 4 leaves rows that nobody has heard of, and the next writer cuts them off.

mod sidecar;

use std::cmp::Ordering;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use streamjob_core::output::TargetOutput;

use self::sidecar::{Record, Sidecar};
use super::{ExternalSink, SinkError, lines};

#[derive(Debug, thiserror::Error)]
pub enum FileSinkError {
    #[error(
        "{path} is not empty, and this job did not write it: move it away, or allow its replacement with `overwrite: true` under `file`"
    )]
    Foreign { path: PathBuf },
    #[error(
        "{path} was written by the job `{owner}`: move it away with {sidecar}, or allow its replacement with `overwrite: true` under `file`"
    )]
    OtherJob {
        path: PathBuf,
        sidecar: PathBuf,
        owner: String,
    },
    #[error(
        "{path} has {length} bytes, but this job has written {expected}: put the file back as it was, or start the job anew with --fresh"
    )]
    Shorter {
        path: PathBuf,
        length: u64,
        expected: u64,
    },
    #[error(
        "the last rows in {path} are not those that this job wrote there: put the file back as it was, or start the job anew with --fresh"
    )]
    Changed { path: PathBuf },
    #[error("{path} was started anew by another run of this job")]
    TakenOver { path: PathBuf },
    #[error(
        "{path} is not a sidecar that this version of Streamjob knows: use the version that wrote it, or move it away together with its output"
    )]
    UnknownSidecar { path: PathBuf },
    #[error("cannot {action} {path}: {error}")]
    Io {
        action: &'static str,
        path: PathBuf,
        error: io::Error,
    },
}

/// What may happen to an output that exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Existing {
    /// A file that this job did not write may be replaced.
    pub overwrite: bool,
    /// The job starts anew: its own file is emptied.
    pub fresh: bool,
}

/// A handle; clones share the file. Open it once a process, and give each slot a clone.
#[derive(Clone, Debug)]
pub struct FileSink {
    output: Arc<Mutex<Output>>,
}

#[derive(Debug)]
struct Output {
    path: PathBuf,
    file: File,
    sidecar: Sidecar,
    lines: Vec<u8>,
}

impl FileSink {
    /// Opens or creates the output of the job `uid`, cut to what the job has recorded. After it the file exists.
    pub fn open(path: &Path, uid: &str, existing: Existing) -> Result<Self, FileSinkError> {
        let file = create(path)?;
        let locked = Locked::new(&file, path)?;
        let length = length(&file, path)?;
        let (sidecar_path, found) = (sidecar::path_of(path), sidecar::load(path)?);
        let sidecar = match found {
            Some(sidecar) if sidecar.job() == uid && !existing.fresh => {
                check_unchanged(&file, path, length, &sidecar)?;
                sidecar
            }
            Some(sidecar) if sidecar.job() != uid && length > 0 && !existing.overwrite => {
                return Err(FileSinkError::OtherJob {
                    path: path.to_owned(),
                    sidecar: sidecar_path,
                    owner: sidecar.job().to_owned(),
                });
            }
            None if length > 0 && !existing.overwrite => {
                return Err(FileSinkError::Foreign {
                    path: path.to_owned(),
                });
            }
            // The new sidecar comes first: a crash before the cut leaves an output that the sidecar says is to be cut.
            _ => Sidecar::create(path, uid)?,
        };
        cut(&file, path, sidecar.length())?;
        drop(locked);
        Ok(FileSink {
            output: Arc::new(Mutex::new(Output {
                path: path.to_owned(),
                file,
                sidecar,
                lines: Vec::new(),
            })),
        })
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&mut Output) -> Result<T, FileSinkError>,
    ) -> Result<T, SinkError> {
        // What is in memory is re-read or cut before it is used: a panic elsewhere leaves nothing half-done that matters.
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(work(&mut output)?)
    }
}

impl ExternalSink for FileSink {
    fn applied(&mut self, slot: u32) -> Result<Option<u64>, SinkError> {
        self.with(|output| output.applied(slot)).map(Some)
    }

    fn apply(
        &mut self,
        slot: u32,
        epoch: u64,
        _sink_timestamp: i64,
        rows: &[&TargetOutput],
    ) -> Result<(), SinkError> {
        self.with(|output| output.apply(slot, epoch, rows))
    }
}

impl Output {
    fn applied(&mut self, slot: u32) -> Result<u64, FileSinkError> {
        let Output {
            path,
            file,
            sidecar,
            ..
        } = self;
        let _locked = Locked::new(file, path)?;
        sidecar.refresh()?;
        Ok(sidecar.applied(slot))
    }

    fn apply(
        &mut self,
        slot: u32,
        epoch: u64,
        rows: &[&TargetOutput],
    ) -> Result<(), FileSinkError> {
        lines(rows, &mut self.lines);
        if self.lines.is_empty() {
            return Ok(());
        }
        let Output {
            path,
            file,
            sidecar,
            lines,
            ..
        } = self;
        let _locked = Locked::new(file, path)?;
        sidecar.refresh()?;
        if epoch <= sidecar.applied(slot) {
            return Ok(());
        }
        let at = sidecar.length();
        cut(file, path, at)?;
        file.write_all_at(lines, at)
            .and_then(|()| file.sync_data())
            .map_err(io_error("write", path))?;
        sidecar.append(Record::of(slot, epoch, at, lines))?;
        sidecar.sync()
    }
}

/// Exclusive use of the output, among processes and within ours, until dropped.
struct Locked<'a>(&'a File);

impl<'a> Locked<'a> {
    fn new(file: &'a File, path: &Path) -> Result<Self, FileSinkError> {
        const COMPLAIN: Duration = Duration::from_secs(5);
        let (mut since, mut pause) = (Instant::now(), Duration::from_millis(1));
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Locked(file)),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(io_error("lock", path)(error)),
            }
            if since.elapsed() > COMPLAIN {
                since = Instant::now();
                tracing::warn!(path = %path.display(), "waiting for another process that holds the lock of this output file");
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // It cannot fail for an open file, and closing it unlocks as well.
        let _ = self.0.unlock();
    }
}

fn create(path: &Path) -> Result<File, FileSinkError> {
    let folder = folder_of(path);
    std::fs::create_dir_all(folder).map_err(io_error("create the folder", folder))?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(io_error("open", path))?;
    sync_folder(path)?;
    Ok(file)
}

/// Cuts off what is behind `valid`. A shorter file is left to `check_unchanged`.
fn cut(file: &File, path: &Path, valid: u64) -> Result<(), FileSinkError> {
    match length(file, path)?.cmp(&valid) {
        Ordering::Equal => Ok(()),
        Ordering::Greater => file.set_len(valid).map_err(io_error("truncate", path)),
        Ordering::Less => Err(FileSinkError::Shorter {
            path: path.to_owned(),
            length: length(file, path)?,
            expected: valid,
        }),
    }
}

/// Whether the output is still what the sidecar says, as far as the last record can tell.
fn check_unchanged(
    file: &File,
    path: &Path,
    length: u64,
    sidecar: &Sidecar,
) -> Result<(), FileSinkError> {
    let expected = sidecar.length();
    if length < expected {
        return Err(FileSinkError::Shorter {
            path: path.to_owned(),
            length,
            expected,
        });
    }
    let Some(last) = sidecar.newest() else {
        return Ok(());
    };
    let mut bytes = vec![0; usize::try_from(last.length.saturating_sub(last.from)).unwrap_or(0)];
    file.read_exact_at(&mut bytes, last.from)
        .map_err(io_error("read", path))?;
    match last.fits(&bytes) {
        true => Ok(()),
        false => Err(FileSinkError::Changed {
            path: path.to_owned(),
        }),
    }
}

fn length(file: &File, path: &Path) -> Result<u64, FileSinkError> {
    let facts = file.metadata().map_err(io_error("look at", path))?;
    Ok(facts.len())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes a created or renamed file's name last.
fn sync_folder(path: &Path) -> Result<(), FileSinkError> {
    let folder = folder_of(path);
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io_error("sync the folder", folder))
}

fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> FileSinkError + use<'a> {
    move |error| FileSinkError::Io {
        action,
        path: path.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests;
