//! How many workers a job should have. Pure: what was observed, to a decision and its reason.
//!
//! ```text
//!  lag > target a worker, for a while ──► ceil((input rate + lag / catchUpWithin) / capacity of a worker)
//!      but: nothing moves (slow sink), one slot lags alone (skew), the last step did not help ──► stay, and say so
//!  lag < target / 2 a worker, and the rate would fit fewer, for the whole stabilization window ──► the most it wanted in it
//! ```
//!
//! The capacity of a worker is measured while workers are busy: what each got done while there was a backlog.

use std::collections::VecDeque;

/// What the job asks for. Times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub least: u32,
    pub most: u32,
    /// Records that a worker may lag behind.
    pub target_lag: u64,
    pub catch_up_within: i64,
    pub stabilization: i64,
}

/// How the job is, over all its workers.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Epoch ms.
    pub now: i64,
    pub workers: u32,
    /// By slot; slots that do not tell theirs are left out.
    pub lags: Vec<u64>,
    /// Records that were processed a second.
    pub processed: f64,
    /// Nothing is on its way: every slot runs where it should.
    pub settled: bool,
}

/// What is remembered from one observation to the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Records a second that one worker got done while busy.
    capacity: Option<f64>,
    /// Of the last while, oldest first: time, lag, processed.
    trace: VecDeque<(i64, f64, f64)>,
    /// What the load would have needed, oldest first.
    wanted: VecDeque<(i64, u32)>,
    lagging_since: Option<i64>,
    last_step: Option<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    at: i64,
    from: u32,
    /// Processed a second before it.
    before: f64,
}

/// What to do, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub workers: u32,
    pub reason: Reason,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// All is well.
    Steady,
    /// A backlog is being worked off, or has just come up.
    CatchingUp,
    /// More workers.
    Lagging,
    /// Fewer workers.
    LowLoad,
    /// It lags, and there may be no more workers.
    AtMaximum,
    /// It lags in one slot, which more workers cannot share.
    Skew,
    /// It lags, and nothing gets done: a sink or the cluster is stuck.
    Stuck,
    /// It lags, and the last step up did not help: something else is slow.
    NoEffect,
}

impl Reason {
    /// Whether a user should know that the job would need more and does not get it.
    pub fn is_limit(self) -> bool {
        matches!(
            self,
            Reason::AtMaximum | Reason::Skew | Reason::Stuck | Reason::NoEffect
        )
    }
}

/// Rates are means over this long.
const SMOOTH: i64 = 10_000;
/// A backlog must last this long to count.
const PATIENCE: i64 = 5_000;
/// After a step its effect is waited for this long.
const COOL_DOWN: i64 = 20_000;
/// Workers that are left must carry the rate with this much to spare.
const HEADROOM: f64 = 1.25;
/// A share of the lag in one slot that makes it skewed.
const SKEW: f64 = 0.8;
/// A step up that raises what gets done by less than this share of what it should is no help.
const HELP: f64 = 0.2;

/// Decides, and remembers what the next decision needs.
pub fn decide(policy: &Policy, memory: &mut Memory, seen: &Observation) -> Decision {
    let lag: u64 = seen.lags.iter().sum();
    memory.observe(seen, lag);
    let load = Load {
        lag,
        rate: memory.input_rate(),
        processed: memory.processed(),
        lags_behind: lag > policy.target_lag * u64::from(seen.workers.max(1)),
        is_low: lag < policy.target_lag * u64::from(seen.workers.max(1)) / 2,
    };
    memory.learn(&load, seen);
    let needed = needed(policy, memory, &load, seen);
    memory.want(policy, seen.now, needed);
    let within = |workers: u32| workers.clamp(policy.least, policy.most.max(policy.least));
    let (workers, reason) = if seen.workers != within(seen.workers) {
        (within(seen.workers), Reason::Steady)
    } else if load.lags_behind {
        up(policy, memory, &load, seen, needed)
    } else {
        down(policy, memory, &load, seen)
    };
    if workers != seen.workers {
        memory.step(seen, load.processed);
    }
    Decision {
        workers,
        reason,
        message: message(memory, &load, seen, workers, reason),
    }
}

struct Load {
    lag: u64,
    rate: f64,
    processed: f64,
    lags_behind: bool,
    is_low: bool,
}

/// Workers that the load needs, by what one of them is known to get done.
fn needed(policy: &Policy, memory: &Memory, load: &Load, seen: &Observation) -> u32 {
    let Some(capacity) = memory.capacity.filter(|capacity| *capacity > 0.0) else {
        // Nothing is known: one step up at a time, and none down on a guess.
        return match (load.lags_behind, load.rate < 1.0) {
            (true, _) => seen.workers + 1,
            (false, false) => seen.workers,
            (false, true) => 1,
        };
    };
    let backlog = load.lag as f64 / (policy.catch_up_within as f64 / 1000.0).max(1.0);
    let workers = match load.lags_behind {
        true => (load.rate + backlog) / capacity,
        false => load.rate * HEADROOM / capacity,
    };
    (workers.ceil() as u32).max(1)
}

fn up(
    policy: &Policy,
    memory: &Memory,
    load: &Load,
    seen: &Observation,
    needed: u32,
) -> (u32, Reason) {
    let since = memory.lagging_since.unwrap_or(seen.now);
    let cooling = memory
        .last_step
        .is_some_and(|step| seen.now - step.at < COOL_DOWN);
    let stay = |reason| (seen.workers, reason);
    if seen.now - since < PATIENCE || cooling || !seen.settled {
        return stay(Reason::CatchingUp);
    }
    if load.processed < 1.0 {
        return stay(Reason::Stuck);
    }
    if is_skewed(seen, load.lag) {
        return stay(Reason::Skew);
    }
    if needed <= seen.workers {
        return stay(Reason::CatchingUp);
    }
    if memory.last_step_was_useless(seen, load) {
        return stay(Reason::NoEffect);
    }
    match needed.min(policy.most) {
        wanted if wanted > seen.workers => (wanted, Reason::Lagging),
        _ => stay(Reason::AtMaximum),
    }
}

fn down(policy: &Policy, memory: &Memory, load: &Load, seen: &Observation) -> (u32, Reason) {
    let stay = (seen.workers, Reason::Steady);
    let full = memory
        .wanted
        .front()
        .is_some_and(|(at, _)| seen.now - at >= policy.stabilization);
    let cooling = memory
        .last_step
        .is_some_and(|step| seen.now - step.at < policy.stabilization);
    if !load.is_low || !full || cooling || !seen.settled {
        return stay;
    }
    let most = memory.wanted.iter().map(|(_, wanted)| *wanted).max();
    let wanted = most.unwrap_or(seen.workers).max(policy.least);
    match wanted < seen.workers {
        true => (wanted, Reason::LowLoad),
        false => stay,
    }
}

fn is_skewed(seen: &Observation, lag: u64) -> bool {
    let most = seen.lags.iter().max().copied().unwrap_or(0);
    seen.lags.len() > 1 && most as f64 >= SKEW * lag as f64
}

impl Memory {
    fn observe(&mut self, seen: &Observation, lag: u64) {
        self.trace.push_back((seen.now, lag as f64, seen.processed));
        // The oldest that is kept is the first at or beyond the edge.
        while self
            .trace
            .get(1)
            .is_some_and(|(at, ..)| seen.now - at >= SMOOTH)
        {
            self.trace.pop_front();
        }
    }

    fn processed(&self) -> f64 {
        let sum: f64 = self.trace.iter().map(|(_, _, processed)| processed).sum();
        sum / self.trace.len().max(1) as f64
    }

    /// What is processed and what piles up.
    fn input_rate(&self) -> f64 {
        let growth = match (self.trace.front(), self.trace.back()) {
            (Some(first), Some(last)) if last.0 > first.0 => {
                (last.1 - first.1) * 1000.0 / (last.0 - first.0) as f64
            }
            _ => 0.0,
        };
        (self.processed() + growth).max(0.0)
    }

    /// Busy workers show what they can; others at least what they do.
    fn learn(&mut self, load: &Load, seen: &Observation) {
        self.lagging_since = match load.lags_behind {
            true => self.lagging_since.or(Some(seen.now)),
            false => None,
        };
        if seen.workers == 0 || !seen.settled {
            return;
        }
        let each = load.processed / f64::from(seen.workers);
        let busy = self
            .lagging_since
            .is_some_and(|since| seen.now - since >= SMOOTH / 2);
        self.capacity = match self.capacity {
            Some(known) if busy && each > 0.0 => Some(known + (each - known) * 0.2),
            Some(known) => Some(known.max(each)),
            None if busy && each > 0.0 => Some(each),
            None => None,
        };
    }

    fn want(&mut self, policy: &Policy, now: i64, needed: u32) {
        self.wanted.push_back((now, needed));
        while self
            .wanted
            .get(1)
            .is_some_and(|(at, _)| now - at >= policy.stabilization)
        {
            self.wanted.pop_front();
        }
    }

    fn step(&mut self, seen: &Observation, processed: f64) {
        self.last_step = Some(Step {
            at: seen.now,
            from: seen.workers,
            before: processed,
        });
        self.trace.clear();
        self.wanted.clear();
    }

    /// Whether more workers, since the last step, get hardly more done.
    fn last_step_was_useless(&self, seen: &Observation, load: &Load) -> bool {
        self.last_step.is_some_and(|step| {
            let more = f64::from(seen.workers) / f64::from(step.from.max(1)) - 1.0;
            more > 0.0 && load.processed < step.before * (1.0 + HELP * more)
        })
    }
}

fn message(
    memory: &Memory,
    load: &Load,
    seen: &Observation,
    workers: u32,
    reason: Reason,
) -> String {
    let capacity = match memory.capacity {
        Some(capacity) => format!("{capacity:.0}/s a worker"),
        None => "not known yet".to_owned(),
    };
    let figures = format!(
        "lag {}, input {:.0}/s, processed {:.0}/s, capacity {capacity}",
        load.lag, load.rate, load.processed
    );
    let told = match reason {
        Reason::Steady if workers != seen.workers => "outside of minReplicas and maxReplicas",
        Reason::Steady => "the lag is within its target",
        Reason::CatchingUp => "working off a backlog",
        Reason::Lagging => "the backlog would not be gone in time",
        Reason::LowLoad => "fewer workers can carry the load",
        Reason::AtMaximum => "the job lags and has all the workers it may have: raise maxReplicas",
        Reason::Skew => {
            "one slot has nearly all of the lag, and a slot is not divided: spread the keys better, or raise the partitions in a new job"
        }
        Reason::Stuck => "nothing gets done: look at the sinks and the workers' logs",
        Reason::NoEffect => {
            "the last step up did not help: something that workers share is slow, such as a sink"
        }
    };
    format!("{told} ({figures})")
}

#[cfg(test)]
mod tests;
