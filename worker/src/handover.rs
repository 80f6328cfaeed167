//! Waits until another worker has let go of a slot, so that there is little to replay. Only a courtesy: the slot's term
//! fences whoever still holds it.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use streamjob_crds::{Phase, WorkerStatus};

/// Between two questions.
const LOOK: Duration = Duration::from_millis(40);
const ANSWER: Duration = Duration::from_secs(1);
/// A worker that does not answer so many times in a row holds nothing back.
const MOST_FAILURES: u32 = 3;
/// Longer than a drain may take.
const LONGEST: Duration = Duration::from_secs(30);

/// A slot that is to come from another worker.
#[derive(Clone, Debug)]
pub struct Handover {
    pub slot: u32,
    pub term: u64,
    /// `host:port` of the worker that has it.
    pub from: String,
}

impl Handover {
    /// Waits on a thread of its own; `done` hears since when the slot stands still. `given_up`: nobody wants it any more.
    pub fn start(
        self,
        given_up: Arc<AtomicBool>,
        done: impl FnOnce(Instant) + Send + 'static,
    ) -> std::io::Result<()> {
        let thread = std::thread::Builder::new().name(format!("handover-{}", self.slot));
        thread.spawn(move || {
            let since = self.wait(|| given_up.load(Ordering::Acquire), ask);
            done(since);
        })?;
        Ok(())
    }

    fn wait(
        &self,
        given_up: impl Fn() -> bool,
        ask: impl Fn(&str) -> std::io::Result<WorkerStatus>,
    ) -> Instant {
        let begun = Instant::now();
        // When it was last seen to go on: it runs while it makes its checkpoint.
        let mut running = begun;
        let mut failures = 0;
        while !given_up() && failures < MOST_FAILURES && begun.elapsed() < LONGEST {
            match ask(&self.from) {
                Ok(status) => {
                    failures = 0;
                    match self.phase(&status) {
                        None => return running,
                        Some(Phase::Draining) => {}
                        Some(_) => running = Instant::now(),
                    }
                }
                Err(error) => {
                    failures += 1;
                    tracing::debug!(slot = self.slot, from = self.from, %error, "the worker that has the slot does not answer");
                }
            }
            std::thread::sleep(LOOK);
        }
        running
    }

    /// What the other worker still does with the slot; `None`: it has let go.
    fn phase(&self, status: &WorkerStatus) -> Option<Phase> {
        let mut slots = status.slots.iter();
        slots
            .find(|slot| slot.slot == self.slot && slot.term < self.term)
            .map(|slot| slot.phase)
    }
}

fn ask(address: &str) -> std::io::Result<WorkerStatus> {
    let bad = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    let resolved = address.to_socket_addrs()?.next();
    let resolved = resolved.ok_or_else(|| bad("it has no address"))?;
    let mut stream = TcpStream::connect_timeout(&resolved, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    // HTTP/1.0: the answer ends with the connection.
    write!(stream, "GET /status HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| bad("it speaks no HTTP"))?;
    if head.split(' ').nth(1) != Some("200") {
        return Err(bad(head.lines().next().unwrap_or_default()));
    }
    Ok(serde_json::from_str(body)?)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use streamjob_crds::SlotStatus;

    use super::*;

    fn holding(term: u64, phase: Phase) -> std::io::Result<WorkerStatus> {
        Ok(WorkerStatus {
            slots: vec![SlotStatus {
                slot: 3,
                term,
                phase,
                ..SlotStatus::default()
            }],
            ..WorkerStatus::default()
        })
    }

    fn silent() -> std::io::Result<WorkerStatus> {
        Err(std::io::ErrorKind::TimedOut.into())
    }

    /// How many answers of the list it takes; the last one is repeated.
    fn asked(answers: Vec<std::io::Result<WorkerStatus>>) -> usize {
        let handover = Handover {
            slot: 3,
            term: 7,
            from: "nowhere".into(),
        };
        let (left, asked) = (RefCell::new(answers), RefCell::new(0));
        handover.wait(
            || false,
            |_| {
                *asked.borrow_mut() += 1;
                let mut left = left.borrow_mut();
                left.remove(0)
            },
        );
        asked.into_inner()
    }

    #[test]
    fn waits_until_the_slot_is_let_go() {
        let nothing = || Ok(WorkerStatus::default());
        assert_eq!(
            asked(vec![
                holding(6, Phase::Running),
                holding(6, Phase::Draining),
                silent(),
                nothing(),
            ]),
            4
        );
        // It has taken the slot back meanwhile: nothing to wait for.
        assert_eq!(asked(vec![holding(8, Phase::Running)]), 1);
    }

    #[test]
    fn rows_stand_still_from_when_it_was_last_seen_running() {
        let handover = Handover {
            slot: 3,
            term: 7,
            from: "nowhere".into(),
        };
        let begun = Instant::now();
        let answers = RefCell::new(vec![
            Ok(WorkerStatus::default()),
            holding(6, Phase::Draining),
            holding(6, Phase::Running),
            holding(6, Phase::Running),
        ]);
        let answer = |_: &str| answers.borrow_mut().pop().unwrap_or_else(silent);
        let since = handover.wait(|| false, answer);
        assert!(since >= begun + LOOK, "not from when it was first asked");
        assert!(since.elapsed() >= 2 * LOOK, "nor from when it was gone");
    }

    #[test]
    fn a_silent_worker_holds_nothing_back() {
        assert_eq!(asked(vec![silent(), silent(), silent()]), 3);
    }
}
