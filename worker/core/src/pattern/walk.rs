//! An event and the starts of its group: ways go on, are complete, or end.

use std::collections::VecDeque;

use smallvec::SmallVec;
use streamjob_crds::AfterMatch;

use super::emit::Found;
use super::events::Event;
use super::keys::{Start, Way};
use super::look::{Steps, steps};
use super::nfa::{Element, StateId, Variables};
use super::trail::{NONE, Taken};
use super::{MatchStep, PatternError, Waiting};
use crate::chunk::Millis;

/// What becomes of a way: another state, by taking the event or by skipping it.
#[derive(Clone, Copy)]
struct Step {
    state: StateId,
    before: Taken,
    /// The element that takes the event; `None`: it is skipped.
    by: Option<Element>,
}

/// What an event makes of a start.
enum Outcome {
    /// No way wants it, and it may be skipped.
    Same,
    /// The ways now, the preferred one first; none: the start is over.
    Ways(SmallVec<[Step; 4]>),
    /// The preferred way that is complete: what it had taken, and the element that takes the event.
    Complete(Taken, Element),
}

/// Variables that the event satisfies, for each way of each start, then for a start of its own.
enum Satisfied {
    /// Whatever was taken before.
    All(Variables),
    Each(Vec<Variables>),
}

impl Satisfied {
    fn at(&self, way: usize) -> Variables {
        match self {
            Satisfied::All(variables) => *variables,
            Satisfied::Each(variables) => variables[way],
        }
    }
}

impl MatchStep {
    /// Looks at an event. All before it were looked at, and starts that it is too late for have ended.
    pub(super) fn walk(&mut self, waiting: Waiting) -> Result<(), PatternError> {
        let Waiting { event, key, .. } = waiting;
        let starts = self.keys.take_starts(key);
        let satisfied = match waiting.variables & self.tried {
            0 => Ok(Satisfied::All(waiting.variables)),
            _ => self.try_all(&waiting, &starts)?,
        };
        let starts = match satisfied {
            Ok(satisfied) => self.go_on(&waiting, starts, &satisfied),
            Err(reason) => {
                self.events.retain(event);
                self.failed.push((event, reason));
                starts
            }
        };
        self.keys.put_starts(key, starts);
        self.keys.release(key);
        self.events.release(event);
        Ok(())
    }

    /// The starts of the group behind the event.
    fn go_on(
        &mut self,
        waiting: &Waiting,
        mut starts: VecDeque<Start>,
        satisfied: &Satisfied,
    ) -> VecDeque<Start> {
        let past = self.plan.after == AfterMatch::SkipPastLastEvent;
        let mut way = 0;
        let mut ended = false;
        for at in 0..starts.len() {
            let start = &starts[at];
            let first = way;
            way += start.ways.len();
            match self.outcome(start, first, satisfied) {
                Outcome::Same => {}
                Outcome::Complete(before, element) => {
                    self.complete(waiting, start.time, before, element);
                    if past {
                        return self.drop_all(starts);
                    }
                    self.drop_ways(&mut starts[at]);
                    ended = true;
                }
                Outcome::Ways(steps) => {
                    let ways = steps.iter().map(|step| self.realise(waiting.event, step));
                    let ways = ways.collect();
                    self.drop_ways(&mut starts[at]);
                    ended |= steps.is_empty();
                    starts[at].ways = ways;
                }
            }
        }
        if ended {
            starts.retain(|start| !start.ways.is_empty());
        }
        self.begin(waiting, starts, satisfied.at(way))
    }

    /// The event as a start of its own.
    fn begin(
        &mut self,
        waiting: &Waiting,
        mut starts: VecDeque<Start>,
        satisfied: Variables,
    ) -> VecDeque<Start> {
        let mut begun = Begun::default();
        let nfa = self.states.nfa();
        let takes = |element: &&Element| satisfied & (1 << nfa.variable(**element)) != 0;
        for element in nfa.first.iter().filter(takes) {
            match self.states.after(*element) {
                None => {
                    self.complete(waiting, waiting.time, NONE, *element);
                    return match self.plan.after {
                        AfterMatch::SkipPastLastEvent => self.drop_all(starts),
                        AfterMatch::SkipToNextEvent => starts,
                    };
                }
                Some(state) => begun.add(
                    self.states.get(state).place,
                    Step {
                        state,
                        before: NONE,
                        by: Some(*element),
                    },
                ),
            }
        }
        if begun.steps.is_empty() {
            return starts;
        }
        let Waiting {
            time,
            sequence,
            event,
            key,
            ..
        } = *waiting;
        if starts.len() >= self.plan.most_partial {
            self.events.retain(event);
            self.overflow.push(event);
            return starts;
        }
        let ways = begun.steps.iter().map(|step| self.realise(event, step));
        starts.push_back(Start {
            time,
            sequence,
            ways: ways.collect(),
        });
        if self.plan.within.is_some() {
            self.ends.push_back((time, sequence, key));
        }
        starts
    }

    /// `first`: number of the start's first way.
    fn outcome(&mut self, start: &Start, first: usize, satisfied: &Satisfied) -> Outcome {
        let strict = self.states.nfa().strict;
        let concerned = |(at, way): (usize, &Way)| {
            let state = self.states.get(way.state);
            (state.wanted | state.unless) & satisfied.at(first + at) != 0
        };
        if !strict && !start.ways.iter().enumerate().any(concerned) {
            return Outcome::Same;
        }
        let mut begun = Begun::default();
        for (at, way) in start.ways.iter().enumerate() {
            let satisfied = satisfied.at(first + at);
            let state = self.states.get(way.state);
            for next in &state.next {
                if satisfied & (1 << self.states.nfa().variable(next.element)) == 0 {
                    continue;
                }
                let Some(state) = self.states.after(next.element) else {
                    return Outcome::Complete(way.taken, next.element);
                };
                let step = Step {
                    state,
                    before: way.taken,
                    by: Some(next.element),
                };
                begun.add(self.states.get(state).place, step);
            }
            let skipped = match strict {
                true => None,
                false => self.states.skip(way.state, satisfied),
            };
            if let Some(state) = skipped {
                let step = Step {
                    state,
                    before: way.taken,
                    by: None,
                };
                begun.add(self.states.get(state).place, step);
            }
        }
        Outcome::Ways(begun.steps)
    }

    fn realise(&mut self, event: Event, step: &Step) -> Way {
        let taken = match step.by {
            Some(element) => self
                .trail
                .push(event, element, step.before, &mut self.events),
            None => {
                self.trail.retain(step.before);
                step.before
            }
        };
        Way {
            state: step.state,
            taken,
        }
    }

    fn complete(&mut self, waiting: &Waiting, start: Millis, before: Taken, element: Element) {
        let taken = self
            .trail
            .push(waiting.event, element, before, &mut self.events);
        self.keys.retain(waiting.key);
        self.found.push(Found {
            key: waiting.key,
            start,
            taken,
        });
    }

    fn drop_ways(&mut self, start: &mut Start) {
        for way in start.ways.drain(..) {
            self.trail.release(way.taken, &mut self.events);
        }
    }

    fn drop_all(&mut self, mut starts: VecDeque<Start>) -> VecDeque<Start> {
        starts.iter_mut().for_each(|start| self.drop_ways(start));
        starts.clear();
        starts
    }

    /// Ends starts whose last moment has `passed`.
    pub(super) fn end_starts(&mut self, passed: impl Fn(Millis) -> bool) {
        let Some(within) = self.plan.within else {
            return;
        };
        let is_over = |(time, ..): &mut (Millis, u64, u32)| passed(time.saturating_add(within));
        while let Some((_, sequence, key)) = self.ends.pop_front_if(is_over) {
            if let Some(start) = self.keys.end_first(key, sequence) {
                self.end(key, start);
            }
        }
    }

    /// Ends all starts: the input has ended.
    pub(super) fn end_all(&mut self) {
        let starts: Vec<_> = self.keys.all_starts();
        let starts: Vec<_> = starts
            .into_iter()
            .map(|(key, start)| (key, start.sequence))
            .collect();
        for (key, sequence) in starts {
            if let Some(start) = self.keys.end_first(key, sequence) {
                self.end(key, start);
            }
        }
    }

    /// A start that has ended without a match is told of by its preferred way. Comes with a use of the key.
    fn end(&mut self, key: u32, mut start: Start) {
        let preferred = start.ways.remove(0);
        self.drop_ways(&mut start);
        self.timed_out.push(Found {
            key,
            start: start.time,
            taken: preferred.taken,
        });
    }

    /// Tries the conditions that look back, for all ways that stand before them; or why one cannot be told.
    fn try_all(
        &self,
        waiting: &Waiting,
        starts: &VecDeque<Start>,
    ) -> Result<Result<Satisfied, String>, PatternError> {
        let may = waiting.variables;
        let ways = starts.iter().flat_map(|start| &start.ways);
        let mut asked: Vec<(Variables, Taken)> = ways
            .map(|way| {
                let state = self.states.get(way.state);
                (may & (state.wanted | state.unless), way.taken)
            })
            .collect();
        let nfa = self.states.nfa();
        let first = nfa.first.iter().map(|element| 1 << nfa.variable(*element));
        asked.push((may & first.fold(0, |all, one: Variables| all | one), NONE));
        let mut satisfied: Vec<Variables> =
            asked.iter().map(|(asked, _)| asked & !self.tried).collect();
        for (variable, trial) in self.trials.iter().enumerate() {
            let (bit, Some(trial)) = (1 << variable, trial) else {
                continue;
            };
            let places: Vec<usize> = (0..asked.len())
                .filter(|at| asked[*at].0 & bit != 0)
                .collect();
            if places.is_empty() {
                continue;
            }
            let hand = Some((waiting.event, variable as u8));
            let ways: Vec<Steps> = places
                .iter()
                .map(|at| steps(&self.trail, nfa, asked[*at].1, hand))
                .collect();
            match trial.tell(&self.events, waiting.event, &ways)? {
                Err(reason) => return Ok(Err(reason)),
                Ok(told) => places
                    .into_iter()
                    .zip(told)
                    .filter(|(_, told)| *told)
                    .for_each(|(at, _)| satisfied[at] |= bit),
            }
        }
        Ok(Ok(Satisfied::Each(satisfied)))
    }
}

/// Steps so far, at most one a place.
#[derive(Default)]
struct Begun {
    steps: SmallVec<[Step; 4]>,
    places: SmallVec<[u32; 4]>,
}

impl Begun {
    fn add(&mut self, place: u32, step: Step) {
        if !self.places.contains(&place) {
            self.places.push(place);
            self.steps.push(step);
        }
    }
}
