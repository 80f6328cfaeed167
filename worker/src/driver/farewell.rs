//! When a slot makes a checkpoint: now and then, and a last one before another worker takes it over.
//!
//! That one is made while the slot still runs: its rows stand still only from the last commit here to the first one there.

use std::time::{Duration, Instant};

use crate::checkpoint::{CheckpointError, Upload, Uploaded};

/// How long a slot that another worker waits for goes on here for the sake of its checkpoint.
const LONGEST: Duration = Duration::from_secs(15);

pub struct CheckpointClock {
    interval: Duration,
    last: Instant,
    upload: Option<Upload>,
    /// Whether anything changed since the last one.
    dirty: bool,
    /// Whether the next one is due whatever the time.
    forced: bool,
    farewell: Option<Farewell>,
}

/// The checkpoint from which another worker is to go on.
struct Farewell {
    since: Instant,
    /// There, or failed: another one would hardly do better.
    came: bool,
}

impl CheckpointClock {
    pub fn new(interval: Duration) -> Self {
        CheckpointClock {
            interval,
            last: Instant::now(),
            upload: None,
            dirty: true,
            forced: false,
            farewell: None,
        }
    }

    /// The state is another one than that of the last checkpoint.
    pub fn changed(&mut self) {
        self.dirty = true;
    }

    /// It is time for one.
    pub fn is_due(&self) -> bool {
        let time = self.dirty && self.last.elapsed() >= self.interval;
        self.upload.is_none() && (self.forced || time)
    }

    pub fn force(&mut self) {
        self.forced = true;
    }

    pub fn begun(&mut self, upload: Upload) {
        self.upload = Some(upload);
        self.last = Instant::now();
        (self.dirty, self.forced) = (false, false);
    }

    pub fn is_on_its_way(&self) -> bool {
        self.upload.is_some()
    }

    /// What has become of the one on its way, once.
    pub fn outcome(&mut self) -> Option<Result<Uploaded, CheckpointError>> {
        let outcome = self.upload.as_ref()?.outcome()?;
        self.upload = None;
        if let Some(farewell) = &mut self.farewell {
            farewell.came = true;
        }
        Some(outcome)
    }

    /// Nobody waits for the one on its way any more, and none is made but by force.
    pub fn give_up(&mut self) {
        self.upload = None;
        self.interval = Duration::MAX;
    }

    /// Begins the farewell; true once its checkpoint has come. One on its way is recent enough.
    pub fn has_bid_farewell(&mut self) -> bool {
        match &self.farewell {
            Some(farewell) => farewell.came || farewell.since.elapsed() > LONGEST,
            None => {
                self.forced = self.upload.is_none();
                self.farewell = Some(Farewell {
                    since: Instant::now(),
                    came: false,
                });
                false
            }
        }
    }
}
