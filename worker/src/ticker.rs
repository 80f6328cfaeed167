//! Work that is done again and again at an even pace, on a thread of its own, until the ticker is dropped.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

/// Dropping it waits for the work in hand; there is none afterwards.
#[derive(Debug)]
pub struct Ticker {
    name: String,
    /// Dropped to end the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Calls `tick` whenever `every` has passed since the last call was over, for the first time after one `every`.
    pub fn start(
        name: impl Into<String>,
        every: Duration,
        mut tick: impl FnMut() + Send + 'static,
    ) -> io::Result<Self> {
        let name = name.into();
        let (stop, stopped) = bounded::<()>(0);
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                    tick();
                }
            })?;
        Ok(Ticker {
            name,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop = None;
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("thread `{}` had panicked", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_until_it_is_dropped() {
        let (ticks, ticked) = bounded(0);
        let ticker = Ticker::start("test", Duration::from_millis(1), move || {
            // Nobody listens any more while the ticker is being dropped.
            let _ = ticks.send(());
        });
        ticked.recv().unwrap();
        ticked.recv().unwrap();
        let listener = std::thread::spawn(move || ticked.iter().count());
        drop(ticker.unwrap());
        // It ends: the thread and its end of the channel are gone.
        listener.join().unwrap();
    }
}
