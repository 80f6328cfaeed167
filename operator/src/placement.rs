//! Which worker gets which slot. Pure: the placement before and how the workers are, to the placement that should be.
//!
//! - A slot stays where it is as long as its worker is fit and has no more than its share.
//! - Slots of workers that are gone or ending move at once. Those that move only for balance, or because the job scales
//!   down, move one to each receiving worker, and only when nothing else is on its way: the others go on meanwhile.
//! - Every move has a higher term. Terms begin with the clock and never fall behind it, so that a placement that was lost
//!   and made again (or restored from an old backup) still outranks what the journals have seen.

use std::collections::BTreeMap;

use streamjob_crds::{Place, Placement};

/// A worker as the placement sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    pub pod: String,
    pub standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Answers, and is to stay.
    Fit,
    /// Answers, and is one too many: the job scales down.
    Leaving,
    /// Answers, and has been told to end: it lets go of its slots by itself.
    Ending,
}

/// The placement that should be. Workers that are not named are gone.
///
/// `slots`: how many there are, used at the first placement. `settled`: no slot is on its way. `seconds`: the clock.
pub fn place(
    before: &Placement,
    slots: u32,
    workers: &[Worker],
    settled: bool,
    seconds: u64,
) -> Placement {
    let fit: Vec<&str> = of_standing(workers, Standing::Fit);
    if fit.is_empty() {
        return before.clone();
    }
    let mut moves = Moves {
        placement: before.clone(),
        workers,
        seconds,
    };
    let all: Vec<u32> = match before.slots.is_empty() {
        true => (0..slots).collect(),
        false => before.slots.keys().copied().collect(),
    };
    let shares = shares(before, &fit, all.len());
    moves.homeless(&all, &shares);
    if settled && moves.placement == *before {
        moves.balance(&shares);
    }
    moves.placement
}

/// A term above all that the placement has given out, for somebody who takes the slots over for a while.
pub fn above(placement: &Placement, seconds: u64) -> u64 {
    highest(placement).saturating_add(1).max(seconds)
}

/// The placement of a fleet that was stopped and begins again: all slots where they were, with terms above those of whoever had
/// them meanwhile.
pub fn raised(before: &Placement, seconds: u64) -> Placement {
    // Somebody was given `above`, a moment ago or earlier.
    let term = highest(before)
        .saturating_add(2)
        .max(seconds.saturating_add(1));
    let raised = |place: &Place| Place {
        term,
        from: None,
        ..place.clone()
    };
    let slots = before.slots.iter();
    Placement {
        slots: slots.map(|(slot, place)| (*slot, raised(place))).collect(),
    }
}

fn highest(placement: &Placement) -> u64 {
    let terms = placement.slots.values().map(|place| place.term);
    terms.max().unwrap_or(0)
}

/// How many slots each fit worker should have. Who has most now has what does not divide evenly.
fn shares<'a>(before: &Placement, fit: &[&'a str], slots: usize) -> BTreeMap<&'a str, usize> {
    let mut by_load: Vec<&str> = fit.to_vec();
    by_load.sort_by_key(|pod| (std::cmp::Reverse(before.of(pod).count()), ordinal(pod)));
    let (each, more) = (slots / fit.len(), slots % fit.len());
    by_load
        .into_iter()
        .enumerate()
        .map(|(rank, pod)| (pod, each + usize::from(rank < more)))
        .collect()
}

struct Moves<'a> {
    placement: Placement,
    workers: &'a [Worker],
    seconds: u64,
}

impl Moves<'_> {
    /// Gives slots without a living worker to those that are furthest below their share.
    fn homeless(&mut self, all: &[u32], shares: &BTreeMap<&str, usize>) {
        for slot in all {
            let place = self.placement.slots.get(slot);
            let housed = |place: &Place| {
                let standing = self.standing(&place.pod);
                matches!(standing, Some(Standing::Fit | Standing::Leaving))
            };
            if !place.is_some_and(housed) {
                self.house(*slot, shares);
            }
        }
    }

    /// One slot to each worker that is below its share, from one that is above its own or leaving.
    fn balance(&mut self, shares: &BTreeMap<&str, usize>) {
        let load = |moves: &Self, pod: &str| moves.placement.of(pod).count();
        let mut receivers: Vec<&str> = shares
            .iter()
            .filter(|(pod, share)| load(self, pod) < **share)
            .map(|(pod, _)| *pod)
            .collect();
        receivers.sort_by_key(|pod| ordinal(pod));
        for receiver in receivers {
            let surplus = |moves: &Self, pod: &str| {
                load(moves, pod).saturating_sub(shares.get(pod).copied().unwrap_or(0))
            };
            let giver = self
                .workers
                .iter()
                .filter(|worker| worker.standing != Standing::Ending)
                .map(|worker| (surplus(self, &worker.pod), worker.pod.as_str()))
                .filter(|(surplus, _)| *surplus > 0)
                .max_by_key(|(surplus, pod)| (*surplus, ordinal(pod)));
            let Some((_, giver)) = giver else { return };
            if let Some(slot) = self.placement.of(giver).map(|(slot, _)| slot).last() {
                self.assign(slot, receiver);
            }
        }
    }

    fn house(&mut self, slot: u32, shares: &BTreeMap<&str, usize>) {
        let room =
            |pod: &str, share: usize| share as isize - self.placement.of(pod).count() as isize;
        let emptiest = shares
            .iter()
            .max_by_key(|(pod, share)| (room(pod, **share), std::cmp::Reverse(ordinal(pod))));
        if let Some((pod, _)) = emptiest {
            let pod = (*pod).to_owned();
            self.assign(slot, &pod);
        }
    }

    fn assign(&mut self, slot: u32, pod: &str) {
        let before = self.placement.slots.get(&slot);
        let from = before
            .map(|place| place.pod.clone())
            .filter(|pod| self.standing(pod).is_some());
        let term = before.map_or(0, |place| place.term + 1).max(self.seconds);
        let place = Place {
            pod: pod.to_owned(),
            term,
            from,
        };
        self.placement.slots.insert(slot, place);
    }

    fn standing(&self, pod: &str) -> Option<Standing> {
        let worker = self.workers.iter().find(|worker| worker.pod == pod)?;
        Some(worker.standing)
    }
}

fn of_standing(workers: &[Worker], standing: Standing) -> Vec<&str> {
    workers
        .iter()
        .filter(|worker| worker.standing == standing)
        .map(|worker| worker.pod.as_str())
        .collect()
}

/// A StatefulSet's pods are numbered: `clicks-10` comes after `clicks-9`.
pub fn ordinal(pod: &str) -> u32 {
    let number = pod.rsplit_once('-').map(|(_, number)| number.parse());
    match number {
        Some(Ok(number)) => number,
        _ => u32::MAX,
    }
}

#[cfg(test)]
mod tests;
