//! Checkpoint storage in a local folder: for one machine, or a disk that all workers share.
//!
//! An object is written to a temporary file, synced, and linked to its name, which fails if the name is taken; then the folder is
//! synced. After a crash there may be temporary files, which nobody reads.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::{Answer, Storage, StorageError};

pub(super) struct Local {
    root: Arc<PathBuf>,
}

impl Local {
    pub fn new(root: PathBuf) -> Self {
        Local {
            root: Arc::new(root),
        }
    }

    /// Runs file work where it may block.
    fn run<'a, T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&Path, &Path) -> Result<T, StorageError> + Send + 'static,
    ) -> Answer<'a, T> {
        let (root, path) = (self.root.clone(), self.root.join(name));
        Box::pin(async move {
            let place = root.display().to_string();
            let done = tokio::task::spawn_blocking(move || work(&root, &path)).await;
            done.unwrap_or_else(|ended| {
                Err(StorageError::Unreachable {
                    place,
                    why: ended.to_string(),
                })
            })
        })
    }
}

impl Storage for Local {
    fn create<'a>(&'a self, name: &'a str, body: Bytes) -> Answer<'a, ()> {
        self.run(name, move |root, path| create(root, path, &body))
    }

    fn read<'a>(&'a self, name: &'a str) -> Answer<'a, Bytes> {
        let name = name.to_owned();
        self.run(&name.clone(), move |root, path| match fs::read(path) {
            Ok(bytes) => Ok(Bytes::from(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StorageError::Missing {
                place: root.display().to_string(),
                name,
            }),
            Err(error) => Err(io_error("read", path)(error)),
        })
    }

    fn delete<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        self.run(name, |_, path| match fs::remove_file(path) {
            Ok(()) => {
                // Succeeds when it was the folder's last object.
                let _ = path.parent().map(fs::remove_dir);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io_error("delete", path)(error)),
        })
    }

    fn delete_all<'a>(&'a self, folder: &'a str) -> Answer<'a, usize> {
        self.run(folder, |_, path| {
            let objects = count(path).map_err(io_error("list", path))?;
            match fs::remove_dir_all(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(io_error("delete", path)(error))
                }
                _ => Ok(objects),
            }
        })
    }
}

/// Files in a folder and those below it.
fn count(folder: &Path) -> io::Result<usize> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut files = 0;
    for entry in entries {
        let entry = entry?;
        files += match entry.file_type()?.is_dir() {
            true => count(&entry.path())?,
            false => 1,
        };
    }
    Ok(files)
}

fn create(root: &Path, path: &Path, body: &[u8]) -> Result<(), StorageError> {
    let folder = path.parent().unwrap_or(root);
    create_folders(folder)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    write(&temporary, body).map_err(io_error("write", &temporary))?;
    let placed = match fs::hard_link(&temporary, path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => same(root, path, body),
        // A file system without links. Names are this attempt's own, so nobody can come between.
        Err(_) if !path.exists() => fs::rename(&temporary, path).map_err(io_error("write", path)),
        Err(error) => Err(io_error("write", path)(error)),
    };
    // The object is there under its name; what is left of the temporary file harms nobody.
    let _ = fs::remove_file(&temporary);
    placed?;
    sync_folder(folder)
}

fn write(path: &Path, body: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(body)?;
    file.sync_all()
}

fn same(root: &Path, path: &Path, body: &[u8]) -> Result<(), StorageError> {
    match fs::read(path).map_err(io_error("read", path))? == body {
        true => Ok(()),
        false => Err(StorageError::Taken {
            place: root.display().to_string(),
            name: path.display().to_string(),
        }),
    }
}

/// Creates the folder and those above it so that their names last.
fn create_folders(folder: &Path) -> Result<(), StorageError> {
    if folder.is_dir() {
        return Ok(());
    }
    let missing: Vec<&Path> = folder
        .ancestors()
        .take_while(|above| !above.is_dir())
        .collect();
    fs::create_dir_all(folder).map_err(io_error("create the folder", folder))?;
    for created in missing {
        match created.parent() {
            Some(above) if above.as_os_str().is_empty() => sync_folder(Path::new("."))?,
            Some(above) => sync_folder(above)?,
            None => {}
        }
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> Result<(), StorageError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io_error("sync the folder", folder))
}

fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> StorageError + use<'a> {
    move |error| StorageError::Io {
        action,
        path: path.to_owned(),
        error,
    }
}
