//! Decisions over synthetic traces: a job whose workers get a known amount done, and whose input is a curve.

use super::*;

const CAPACITY: f64 = 1_000.0;

fn policy() -> Policy {
    Policy {
        least: 1,
        most: 8,
        target_lag: 5_000,
        catch_up_within: 60_000,
        stabilization: 120_000,
    }
}

/// What may go wrong in a simulated job.
#[derive(Clone, Copy, Default)]
struct World {
    /// From this second on nothing gets done.
    stuck_from: Option<u32>,
    /// All workers together get no more done than this.
    shared_limit: Option<f64>,
    /// All input goes to slot 0.
    hot: bool,
}

struct Trace {
    /// Second, workers from, workers to, why.
    steps: Vec<(u32, u32, u32, Reason)>,
    reasons: Vec<Reason>,
    lags: Vec<f64>,
    workers: u32,
}

impl Trace {
    fn reversals(&self) -> usize {
        let ups: Vec<bool> = self
            .steps
            .iter()
            .map(|(_, from, to, _)| to > from)
            .collect();
        ups.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }
}

fn simulate(seconds: u32, workers: u32, world: World, input: impl Fn(u32) -> f64) -> Trace {
    let slots = 8;
    let (mut memory, mut workers) = (Memory::default(), workers);
    let mut lags = vec![0.0f64; slots];
    let mut trace = Trace {
        steps: Vec::new(),
        reasons: Vec::new(),
        lags: Vec::new(),
        workers,
    };
    // A step takes a while: until then the old workers work.
    let mut arriving: Option<(u32, u32)> = None;
    for second in 0..seconds {
        if let Some((at, count)) = arriving
            && second >= at
        {
            (workers, arriving) = (count, None);
        }
        let mut done = 0.0;
        let whole = world.shared_limit.unwrap_or(f64::INFINITY);
        let whole = whole.min(CAPACITY * f64::from(workers));
        let stuck = world.stuck_from.is_some_and(|from| second >= from);
        for (slot, lag) in lags.iter_mut().enumerate() {
            *lag += match (world.hot, slot) {
                (true, 0) => input(second),
                (true, _) => 0.0,
                (false, _) => input(second) / slots as f64,
            };
            let share = match world.hot {
                true => CAPACITY,
                false => whole / slots as f64,
            };
            let can = if stuck { 0.0 } else { share.min(*lag) };
            *lag -= can;
            done += can;
        }
        let seen = Observation {
            now: i64::from(second) * 1000,
            workers,
            lags: lags.iter().map(|lag| *lag as u64).collect(),
            processed: done,
            settled: arriving.is_none(),
        };
        let decision = decide(&policy(), &mut memory, &seen);
        trace.reasons.push(decision.reason);
        trace.lags.push(lags.iter().sum());
        if decision.workers != workers && arriving.is_none() {
            trace
                .steps
                .push((second, workers, decision.workers, decision.reason));
            arriving = Some((second + 5, decision.workers));
        }
    }
    trace.workers = workers;
    trace
}

#[test]
fn steady_load_stays() {
    let trace = simulate(900, 2, World::default(), |_| 1_700.0);
    assert!(trace.steps.is_empty(), "{:?}", trace.steps);
    assert!(trace.reasons.iter().all(|reason| *reason == Reason::Steady));
}

#[test]
fn a_step_up_is_met_with_enough_and_kept() {
    let trace = simulate(1200, 1, World::default(), |second| {
        if second < 60 { 600.0 } else { 3_200.0 }
    });
    assert_eq!(trace.workers, 4, "{:?}", trace.steps);
    assert!(trace.reversals() <= 1, "{:?}", trace.steps);
    let (at, from, to, reason) = trace.steps[0];
    assert_eq!((from, reason), (1, Reason::Lagging));
    assert!(at < 90 && to >= 4, "{:?}", trace.steps);
    // Gone within what it was given, after the time a step takes.
    let gone = trace.lags[at as usize..]
        .iter()
        .position(|lag| *lag < 5_000.0);
    assert!(gone.is_some_and(|seconds| seconds < 90), "{gone:?}");
}

#[test]
fn a_spike_is_worked_off_then_left() {
    let trace = simulate(900, 1, World::default(), |second| {
        if (60..120).contains(&second) {
            5_000.0
        } else {
            500.0
        }
    });
    assert_eq!(trace.workers, 1, "{:?}", trace.steps);
    assert_eq!(trace.reversals(), 1, "{:?}", trace.steps);
    assert!(trace.lags[899] < 100.0);
}

#[test]
fn a_day_is_followed_without_flapping() {
    let day = 3600.0;
    let trace = simulate(7200, 1, World::default(), |second| {
        let phase = f64::from(second) / day * std::f64::consts::TAU;
        2_000.0 - 1_600.0 * phase.cos()
    });
    assert!(trace.reversals() <= 4, "{:?}", trace.steps);
    assert!(trace.steps.len() <= 20, "{:?}", trace.steps);
    let worst = trace.lags.iter().copied().fold(0.0, f64::max);
    assert!(worst < 60_000.0, "{worst}");
}

#[test]
fn a_stuck_sink_is_no_reason_for_workers() {
    let world = World {
        stuck_from: Some(100),
        ..World::default()
    };
    let trace = simulate(600, 2, world, |_| 1_500.0);
    assert!(trace.steps.is_empty(), "{:?}", trace.steps);
    assert_eq!(trace.reasons.last(), Some(&Reason::Stuck));
}

#[test]
fn a_hot_slot_is_not_divided() {
    let world = World {
        hot: true,
        ..World::default()
    };
    let trace = simulate(600, 2, world, |_| 1_500.0);
    assert!(trace.steps.is_empty(), "{:?}", trace.steps);
    assert_eq!(trace.reasons.last(), Some(&Reason::Skew));
}

#[test]
fn what_does_not_help_is_not_done_twice() {
    let world = World {
        shared_limit: Some(900.0),
        ..World::default()
    };
    let trace = simulate(400, 1, world, |_| 1_500.0);
    assert_eq!(trace.steps.len(), 1, "{:?}", trace.steps);
    assert_eq!(trace.reasons.last(), Some(&Reason::NoEffect));
}

#[test]
fn bounds_are_kept() {
    let trace = simulate(300, 1, World::default(), |_| 20_000.0);
    assert_eq!(trace.workers, 8, "{:?}", trace.steps);
    assert_eq!(trace.reasons.last(), Some(&Reason::AtMaximum));
    let few = Policy {
        least: 3,
        ..policy()
    };
    let seen = Observation {
        now: 0,
        workers: 1,
        lags: vec![0],
        processed: 0.0,
        settled: true,
    };
    assert_eq!(decide(&few, &mut Memory::default(), &seen).workers, 3);
}
