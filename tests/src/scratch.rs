//! Folders of a test run: removed when all went well, kept and named when a test failed.
//!
//! `<cache>/runs/<process id>/<n>-<name>`. The cache folder is `$STREAMJOB_CACHE`, else `~/.cache/streamjob`; servers
//! are installed there too (see `servers::install`).

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime};
use std::{env, fs, process};

use crate::failure::failing;
use crate::process::kill_all_children;

/// Kept folders of failed runs are removed after this long.
const KEEP_FAILED: Duration = Duration::from_secs(2 * 24 * 3600);

static FAILED: AtomicBool = AtomicBool::new(false);
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A folder that goes with its value, unless the test is failing.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = run_folder().join(format!("{}-{name}", NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&path)
            .unwrap_or_else(|error| panic!("creating {}: {error}", path.display()));
        Scratch { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file and says where it is.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .unwrap_or_else(|error| panic!("creating {}: {error}", folder.display()));
        }
        fs::write(&path, content)
            .unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if failing() {
            FAILED.store(true, Ordering::SeqCst);
            eprintln!("kept for you to look at: {}", self.path.display());
        } else if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("removing {}: {error}", self.path.display());
        }
    }
}

/// `$STREAMJOB_CACHE`, else `~/.cache/streamjob`.
pub fn cache_folder() -> PathBuf {
    match (env::var_os("STREAMJOB_CACHE"), env::var_os("HOME")) {
        (Some(folder), _) => PathBuf::from(folder),
        (None, Some(home)) => PathBuf::from(home).join(".cache/streamjob"),
        (None, None) => env::temp_dir().join("streamjob"),
    }
}

fn run_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let runs = cache_folder().join("runs");
        remove_old(&runs);
        // SAFETY: a handler without arguments, registered once, that does not unwind.
        unsafe { libc::atexit(at_exit) };
        runs.join(process::id().to_string())
    })
}

/// Shared servers live in statics, which are never dropped: they end here.
extern "C" fn at_exit() {
    kill_all_children();
    if !FAILED.load(Ordering::SeqCst) {
        // What cannot be removed now is removed by a later run.
        let _ = fs::remove_dir_all(run_folder());
    }
}

/// Folders of processes that are gone: those that ended without their handler, and old failures.
fn remove_old(runs: &Path) {
    for entry in fs::read_dir(runs).into_iter().flatten().flatten() {
        let age = entry
            .metadata()
            .and_then(|meta| meta.modified())
            .map(|at| SystemTime::now().duration_since(at));
        let old = matches!(age, Ok(Ok(age)) if age > KEEP_FAILED);
        let alive = Path::new("/proc").join(entry.file_name()).exists();
        if old && !alive {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
