//! A worker in a pod: takes the slots that the job's placement gives it, and lets go of those that it takes away, one by
//! one, while the others go on.
//!
//! A slot that fails does not end the others: it is told on the board and tried again, more and more rarely.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use crossbeam_channel::{Receiver, Sender, after, never, select, unbounded};
use streamjob_core::commit::{StopReason, Term};
use streamjob_crds::{Place, Placement};

use crate::cli::args::ServeArgs;
use crate::cli::job::Job;
use crate::cli::{ExitCode, Failure};
use crate::driver::{DriverError, Ended};
use crate::fleet::{Fleet, Gone};
use crate::handover::Handover;
use crate::placed;
use crate::progress::{Progress, Show};
use crate::run::{Host, SETTLE, failure, stop_signal};
use crate::setup::refused;
use crate::status::Board;

/// Before a slot that failed is tried again, and the longest that this grows to.
const RETRY: Duration = Duration::from_secs(2);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Serves until a signal.
pub fn serve(job: &Job, args: &ServeArgs) -> Result<ExitCode, Failure> {
    let stopped = stop_signal()?;
    let pod = std::env::var("POD_NAME").map_err(|_| {
        Failure::new(
            ExitCode::Usage,
            anyhow!("POD_NAME is not set: `serve` runs in a pod; on a laptop use `run`"),
        )
    })?;
    let host = Host::open(job, &args.host, false)?;
    let placements = placed::watch(&job.namespace, &job.name).map_err(refused)?;
    let (handed_over, arrivals) = unbounded();
    let mut service = Service {
        fleet: Fleet::new(&host, false)?,
        board: host.board.clone(),
        pod,
        address_of: format!(
            "{}.{}.svc:{}",
            args.service,
            job.namespace,
            args.host.listen.port()
        ),
        wanted: BTreeMap::new(),
        slots: BTreeMap::new(),
        handed_over,
    };
    service.board.expect(0);
    let _progress = Progress::start(host.board.clone(), Show::Log).map_err(refused)?;
    service.go_on(&placements, &arrivals, &stopped)?;
    service.end()?;
    host.checkpoints.settle(SETTLE);
    Ok(ExitCode::Done)
}

struct Service<'a> {
    fleet: Fleet<'a>,
    board: Arc<Board>,
    pod: String,
    /// Behind a pod's name.
    address_of: String,
    /// The slots that are ours.
    wanted: BTreeMap<u32, Place>,
    /// Those that we have something to do with.
    slots: BTreeMap<u32, Slot>,
    handed_over: Sender<Arrival>,
}

/// A slot that another worker has let go of.
struct Arrival {
    slot: u32,
    term: u64,
    since: Instant,
}

struct Slot {
    term: u64,
    state: State,
    failures: u32,
}

enum State {
    /// Another worker is letting go of it.
    Coming { given_up: Arc<AtomicBool> },
    /// It has a thread.
    Here,
    /// Its thread is ending.
    Leaving,
    /// Nothing is left to do in this term: its input has ended, or another worker has it.
    Over,
    /// It is tried again then.
    Failed { at: Instant },
}

impl Service<'_> {
    fn go_on(
        &mut self,
        placements: &Receiver<Placement>,
        arrivals: &Receiver<Arrival>,
        stopped: &Receiver<()>,
    ) -> Result<(), Failure> {
        loop {
            let ended = self.fleet.ended();
            let retry = self.next_retry().map_or_else(never, after);
            select! {
                recv(stopped) -> _ => return Ok(()),
                recv(placements) -> placement => match placement {
                    Ok(placement) => self.placed(&placement),
                    Err(_) => return Err(refused(anyhow!("the watch of the placement has ended"))),
                },
                recv(ended) -> gone => if let Ok(gone) = gone { self.gone(gone) },
                recv(arrivals) -> arrival => if let Ok(arrival) = arrival { self.arrived(&arrival)? },
                recv(retry) -> _ => {}
            }
            self.steer()?;
        }
    }

    /// Lets go of all slots, in good order.
    fn end(&mut self) -> Result<(), Failure> {
        self.wanted.clear();
        self.steer()?;
        while self.fleet.hosts_any() {
            if let Ok(gone) = self.fleet.ended().recv() {
                self.gone(gone);
            }
        }
        Ok(())
    }

    fn placed(&mut self, placement: &Placement) {
        let ours = placement.of(&self.pod);
        self.wanted = ours.map(|(slot, place)| (slot, place.clone())).collect();
        self.board.expect(self.wanted.len());
        tracing::info!(slots = ?self.wanted.keys().collect::<Vec<_>>(), "placed");
    }

    /// Brings the slots here to what is wanted: one step for each, the next when that has happened.
    fn steer(&mut self) -> Result<(), Failure> {
        let known: Vec<u32> = self.slots.keys().copied().collect();
        for slot in known {
            self.release_unwanted(slot);
        }
        for (slot, place) in self.wanted.clone() {
            match self.slots.get(&slot) {
                None => self.take(slot, &place, 0)?,
                Some(Slot {
                    state: State::Failed { at },
                    failures,
                    ..
                }) if *at <= Instant::now() => self.take(slot, &place, *failures)?,
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// A slot that is not ours, or not in this term, goes.
    fn release_unwanted(&mut self, number: u32) {
        let Some(slot) = self.slots.get_mut(&number) else {
            return;
        };
        if self
            .wanted
            .get(&number)
            .is_some_and(|place| place.term == slot.term)
        {
            return;
        }
        match &slot.state {
            State::Here => {
                slot.state = State::Leaving;
                self.fleet.let_go(number);
            }
            State::Leaving => {}
            State::Coming { given_up } => {
                given_up.store(true, Ordering::Release);
                self.slots.remove(&number);
            }
            State::Over | State::Failed { .. } => {
                self.board.remove(number);
                self.slots.remove(&number);
            }
        }
    }

    fn take(&mut self, number: u32, place: &Place, failures: u32) -> Result<(), Failure> {
        let term = place.term;
        let from = place
            .from
            .as_ref()
            .filter(|from| **from != self.pod && failures == 0);
        let state = match from {
            Some(from) => {
                let handover = Handover {
                    slot: number,
                    term,
                    from: format!("{from}.{}", self.address_of),
                };
                let given_up = Arc::new(AtomicBool::new(false));
                let arrivals = self.handed_over.clone();
                // Nobody listens any more when the worker ends.
                let done = move |since| {
                    _ = arrivals.send(Arrival {
                        slot: number,
                        term,
                        since,
                    })
                };
                handover.start(given_up.clone(), done).map_err(refused)?;
                State::Coming { given_up }
            }
            None => {
                self.fleet.start(number, Term::Given(term), None)?;
                State::Here
            }
        };
        let slot = Slot {
            term,
            state,
            failures,
        };
        self.slots.insert(number, slot);
        Ok(())
    }

    fn arrived(&mut self, arrival: &Arrival) -> Result<(), Failure> {
        let Some(slot) = self.slots.get_mut(&arrival.slot) else {
            return Ok(());
        };
        if slot.term == arrival.term && matches!(slot.state, State::Coming { .. }) {
            slot.state = State::Here;
            let term = Term::Given(arrival.term);
            self.fleet.start(arrival.slot, term, Some(arrival.since))?;
        }
        Ok(())
    }

    fn gone(&mut self, gone: Gone) {
        let number = gone.slot;
        let outcome = self.fleet.gone(gone);
        let Some(slot) = self.slots.get_mut(&number) else {
            return;
        };
        match outcome {
            // It stays on the board: there is nothing left to do for anybody.
            Ok(Ended::Done) if matches!(slot.state, State::Here) => slot.state = State::Over,
            Ok(_) => {
                self.board.remove(number);
                self.slots.remove(&number);
            }
            Err(DriverError::Stopped(StopReason::TakenOver { .. })) => {
                tracing::info!(
                    slot = number,
                    term = slot.term,
                    "another worker has the slot"
                );
                self.board.remove(number);
                slot.state = State::Over;
            }
            Err(error) => {
                let wait = (RETRY * 2u32.saturating_pow(slot.failures)).min(LONGEST_RETRY);
                slot.failures += 1;
                slot.state = State::Failed {
                    at: Instant::now() + wait,
                };
                let failure = failure(error);
                tracing::error!(slot = number, "{failure}");
                self.board.fail(number, slot.term, &failure.to_string());
            }
        }
    }

    fn next_retry(&self) -> Option<Duration> {
        let times = self.slots.values().filter_map(|slot| match slot.state {
            State::Failed { at } => Some(at),
            _ => None,
        });
        let next = times.min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }
}
