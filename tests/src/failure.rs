//! The error of a scenario. Made by `?`, at which moment the test's folders and logs are marked to be kept: a test that
//! returns an error does not unwind, so what it drops could not know otherwise.

use std::cell::Cell;
use std::fmt;
use std::thread;

pub type Result<T = ()> = std::result::Result<T, Failure>;

pub struct Failure(anyhow::Error);

thread_local! {
    static FAILED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread's test is failing: it panics, or an error is on its way out.
pub fn failing() -> bool {
    thread::panicking() || FAILED.get()
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        FAILED.set(true);
        Failure(error.into())
    }
}

/// As a test prints it: the whole chain of causes.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}
