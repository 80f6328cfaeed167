//! Patterns of one task, by the definition: the whole log is sorted first, then every start considers all ways.
//!
//! What may come next is found by walking the pattern itself, loops counted, with what remains of it on a stack. A way
//! keeps, for each event, the rank of its choice among those that it had; ways are compared by these ranks alone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Key, Row};

/// A pattern. Elements and loops are told apart by number.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// Number and variable.
    Take(usize, String),
    Not(String),
    Sequence(Vec<Pattern>),
    Either(Vec<Pattern>),
    Repeat(Box<Loop>),
}

#[derive(Clone, Debug)]
pub struct Loop {
    pub number: usize,
    pub inner: Pattern,
    pub least: usize,
    pub most: Option<usize>,
    pub greedy: bool,
}

/// Whether an event satisfies a variable, given what was taken: the event itself, and all events of a match so far with their
/// variables. Where the variable is tried the event is the last of them.
pub type When = Box<dyn Fn(&Row, &[Taken]) -> bool + Send + Sync>;
/// A measure over what was taken.
pub type Measure = Box<dyn Fn(&[Taken]) -> Value + Send + Sync>;

#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    pub variable: String,
    pub row: Row,
    pub time: i64,
}

pub struct MatchStep {
    pub partition: Vec<String>,
    pub pattern: Pattern,
    pub define: BTreeMap<String, When>,
    pub within: Option<i64>,
    pub strict: bool,
    /// `SkipPastLastEvent`, else `SkipToNextEvent`.
    pub skip_past: bool,
    pub measures: Vec<(String, Measure)>,
    pub most_partial: usize,
}

/// An entry of the task's log.
#[derive(Clone, Debug)]
pub enum Entry {
    /// Event time, and the row.
    Row(i64, Row),
    /// The watermark is at least this, without data.
    Idle(i64),
}

/// What comes out, in order.
#[derive(Debug, Default)]
pub struct Outcome {
    pub matches: Vec<Row>,
    pub timed_out: Vec<Row>,
    pub late: Vec<Row>,
    pub overflow: Vec<Row>,
}

/// Runs the step over a log, then ends the input.
pub fn run(step: &MatchStep, log: &[Entry], max_out_of_orderness: i64) -> Outcome {
    let mut outcome = Outcome::default();
    let mut watermark = i64::MIN;
    let mut events: Vec<(i64, &Row)> = Vec::new();
    for entry in log {
        match entry {
            Entry::Idle(to) => watermark = watermark.max(*to),
            Entry::Row(time, row) => {
                match *time < watermark {
                    true => outcome.late.push(row.clone()),
                    false => events.push((*time, row)),
                }
                watermark = watermark.max(time.saturating_sub(max_out_of_orderness));
            }
        }
    }
    // Stable: ties stay in log order.
    events.sort_by_key(|(time, _)| *time);
    let mut groups: BTreeMap<Key, Group<'_>> = BTreeMap::new();
    for (order, (time, row)) in events.iter().enumerate() {
        let group = groups
            .entry(Key::of(row, &step.partition))
            .or_insert_with(|| Group {
                step,
                starts: Vec::new(),
                ended: Vec::new(),
            });
        group.event(order, *time, row, &mut outcome);
    }
    let mut ended: Vec<Start> = groups
        .into_values()
        .flat_map(|mut group| {
            group.end_before(i64::MAX);
            group.ended.append(&mut group.starts);
            group.ended
        })
        .collect();
    ended.sort_by_key(|start| start.order);
    outcome.timed_out = ended
        .iter()
        .map(|start| step.row(&preferred(&start.ways).taken))
        .collect();
    outcome
}

/// A start: an event and all ways from it.
struct Start {
    /// Place of its event in the sorted log.
    order: usize,
    time: i64,
    ways: Vec<Way>,
}

#[derive(Clone)]
struct Way {
    taken: Vec<Taken>,
    /// For each event since the start, which of its choices.
    ranks: Vec<usize>,
    next: Vec<Next>,
}

/// An element that may come next.
#[derive(Clone, Debug)]
struct Next {
    variable: String,
    /// The element, and the counts of the loops it is in, as far as they limit anything.
    place: (usize, Vec<usize>),
    /// Not if one of these was skipped.
    unless: Vec<String>,
    rest: Vec<Frame>,
}

/// What remains of the pattern, the next last.
#[derive(Clone, Debug)]
enum Frame {
    Pattern(Pattern),
    /// A loop in its turn `count`, in which nothing was taken yet (`empty`) or something was.
    Turn {
        of: Loop,
        count: usize,
        empty: bool,
    },
}

struct Group<'s> {
    step: &'s MatchStep,
    starts: Vec<Start>,
    /// Without a match.
    ended: Vec<Start>,
}

impl Group<'_> {
    fn end_before(&mut self, time: i64) {
        let Some(within) = self.step.within else {
            return;
        };
        let (over, open): (Vec<Start>, Vec<Start>) = self
            .starts
            .drain(..)
            .partition(|start| start.time.saturating_add(within) < time);
        self.starts = open;
        self.ended.extend(over);
    }

    fn event(&mut self, order: usize, time: i64, row: &Row, outcome: &mut Outcome) {
        let step = self.step;
        self.end_before(time);
        let mut open = Vec::new();
        let mut matched = false;
        for mut start in self.starts.drain(..) {
            match step.go_on(&start.ways, time, row) {
                Ok(ways) if ways.is_empty() => {}
                Ok(ways) => {
                    start.ways = ways;
                    open.push(start);
                }
                Err(taken) => {
                    outcome.matches.push(step.row(&taken));
                    matched = true;
                    if step.skip_past {
                        break;
                    }
                }
            }
        }
        if matched && step.skip_past {
            return;
        }
        self.starts = open;
        let before = Way {
            taken: Vec::new(),
            ranks: Vec::new(),
            next: nexts(vec![Frame::Pattern(step.pattern.clone())]),
        };
        // A start does not skip its own event.
        match step.choices(&before, time, row, true) {
            Err(taken) => {
                outcome.matches.push(step.row(&taken));
                if step.skip_past {
                    self.starts.clear();
                }
            }
            Ok(ways) if ways.is_empty() => {}
            Ok(_) if self.starts.len() >= step.most_partial => outcome.overflow.push(row.clone()),
            Ok(ways) => self.starts.push(Start {
                order,
                time,
                ways: one_a_place(ways),
            }),
        }
    }
}

impl MatchStep {
    /// All ways behind an event, one a place; or what the first complete one has taken.
    fn go_on(&self, ways: &[Way], time: i64, row: &Row) -> Result<Vec<Way>, Vec<Taken>> {
        let mut all = Vec::new();
        let mut complete: Vec<Way> = Vec::new();
        for way in ways {
            let (open, done) = self.choices_and_complete(way, time, row, self.strict);
            all.extend(open);
            complete.extend(done);
        }
        match complete.is_empty() {
            true => Ok(one_a_place(all)),
            false => Err(preferred(&complete).taken.clone()),
        }
    }

    fn choices(
        &self,
        way: &Way,
        time: i64,
        row: &Row,
        must_take: bool,
    ) -> Result<Vec<Way>, Vec<Taken>> {
        let (open, complete) = self.choices_and_complete(way, time, row, must_take);
        match complete.is_empty() {
            true => Ok(open),
            false => Err(preferred(&complete).taken.clone()),
        }
    }

    /// Everything that a way may do with an event: ways that go on, and ways that are complete.
    fn choices_and_complete(
        &self,
        way: &Way,
        time: i64,
        row: &Row,
        must_take: bool,
    ) -> (Vec<Way>, Vec<Way>) {
        let (mut open, mut complete) = (Vec::new(), Vec::new());
        let ranked = |rank: usize| way.ranks.iter().copied().chain([rank]).collect::<Vec<_>>();
        for (rank, next) in way.next.iter().enumerate() {
            let Some(taken) = self.satisfies(&next.variable, &way.taken, time, row) else {
                continue;
            };
            let is_complete = can_end(&next.rest);
            let taken = Way {
                taken,
                ranks: ranked(rank),
                next: if is_complete {
                    Vec::new()
                } else {
                    nexts(begun(&next.rest))
                },
            };
            match is_complete {
                true => complete.push(taken),
                false => open.push(taken),
            }
        }
        if !must_take {
            let hit: BTreeSet<&String> = way
                .next
                .iter()
                .flat_map(|next| &next.unless)
                .filter(|variable| self.satisfies(variable, &way.taken, time, row).is_some())
                .collect();
            let left = way.next.iter();
            let left: Vec<Next> = left
                .filter(|next| !next.unless.iter().any(|variable| hit.contains(variable)))
                .cloned()
                .collect();
            if !left.is_empty() {
                open.push(Way {
                    taken: way.taken.clone(),
                    ranks: ranked(usize::MAX),
                    next: left,
                });
            }
        }
        (open, complete)
    }

    /// What would be taken then, if it may.
    fn satisfies(
        &self,
        variable: &str,
        before: &[Taken],
        time: i64,
        row: &Row,
    ) -> Option<Vec<Taken>> {
        let mut taken = before.to_vec();
        taken.push(Taken {
            variable: variable.into(),
            row: row.clone(),
            time,
        });
        self.define[variable](row, &taken).then_some(taken)
    }

    fn row(&self, taken: &[Taken]) -> Row {
        let (first, last) = (&taken[0], &taken[taken.len() - 1]);
        let names = self.partition.iter();
        let mut row: Row = names
            .map(|name| (name.clone(), first.row[name].clone()))
            .collect();
        row.insert("match_start".into(), first.time.into());
        row.insert("match_end".into(), last.time.into());
        for (name, measure) in &self.measures {
            row.insert(name.clone(), measure(taken));
        }
        row
    }
}

/// The first in order of preference: the smallest rank at the first event at which they differ.
fn preferred(ways: &[Way]) -> &Way {
    ways.iter()
        .min_by_key(|way| &way.ranks)
        .expect("there are ways")
}

/// Of the ways at a place the preferred one.
fn one_a_place(ways: Vec<Way>) -> Vec<Way> {
    let mut places: BTreeMap<BTreeSet<(usize, Vec<usize>)>, Way> = BTreeMap::new();
    for way in ways {
        let place = way.next.iter().map(|next| next.place.clone()).collect();
        let is_better = |other: &Way| way.ranks < other.ranks;
        if places.get(&place).is_none_or(is_better) {
            places.insert(place, way);
        }
    }
    places.into_values().collect()
}

/// The turns that are under way have taken something.
fn begun(rest: &[Frame]) -> Vec<Frame> {
    let mark = |frame: &Frame| match frame.clone() {
        Frame::Turn { of, count, .. } => Frame::Turn {
            of,
            count,
            empty: false,
        },
        pattern => pattern,
    };
    rest.iter().map(mark).collect()
}

/// Whether nothing more has to come.
fn can_end(rest: &[Frame]) -> bool {
    rest.iter().all(|frame| match frame {
        Frame::Pattern(pattern) => is_empty(pattern),
        Frame::Turn { of, count, .. } => *count >= of.least || is_empty(&of.inner),
    })
}

fn is_empty(pattern: &Pattern) -> bool {
    match pattern {
        Pattern::Take(..) => false,
        Pattern::Not(_) => true,
        Pattern::Sequence(parts) => parts.iter().all(is_empty),
        Pattern::Either(branches) => branches.iter().any(is_empty),
        Pattern::Repeat(of) => of.least == 0 || is_empty(&of.inner),
    }
}

/// What may come next, in order of preference.
fn nexts(stack: Vec<Frame>) -> Vec<Next> {
    let mut all: Vec<Next> = Vec::new();
    walk(stack, Vec::new(), &mut all);
    let mut distinct: Vec<Next> = Vec::new();
    for next in all {
        let known = |other: &Next| {
            other.place == next.place
                && other
                    .unless
                    .iter()
                    .all(|variable| next.unless.contains(variable))
        };
        if !distinct.iter().any(known) {
            distinct.push(next);
        }
    }
    distinct
}

fn walk(mut stack: Vec<Frame>, unless: Vec<String>, all: &mut Vec<Next>) {
    match stack.pop() {
        None => {}
        Some(Frame::Pattern(Pattern::Take(number, variable))) => all.push(Next {
            variable,
            place: (number, limits(&stack)),
            unless,
            rest: stack,
        }),
        Some(Frame::Pattern(Pattern::Not(variable))) => {
            walk(stack, [unless, vec![variable]].concat(), all);
        }
        Some(Frame::Pattern(Pattern::Sequence(parts))) => {
            stack.extend(parts.into_iter().rev().map(Frame::Pattern));
            walk(stack, unless, all);
        }
        Some(Frame::Pattern(Pattern::Either(branches))) => {
            for branch in branches {
                let mut stack = stack.clone();
                stack.push(Frame::Pattern(branch));
                walk(stack, unless.clone(), all);
            }
        }
        Some(Frame::Pattern(Pattern::Repeat(of))) => turn(stack, *of, 0, unless, all),
        // A turn that need not be made takes something.
        Some(Frame::Turn { of, count, empty }) if empty && count > of.least => {}
        Some(Frame::Turn { of, count, .. }) => turn(stack, of, count, unless, all),
    }
}

/// After `count` turns of a loop: one more, or what follows.
fn turn(stack: Vec<Frame>, of: Loop, count: usize, unless: Vec<String>, all: &mut Vec<Next>) {
    let more = |all: &mut Vec<Next>| {
        if of.most.is_none_or(|most| count < most) {
            let mut stack = stack.clone();
            stack.push(Frame::Turn {
                of: of.clone(),
                count: count + 1,
                empty: true,
            });
            stack.push(Frame::Pattern(of.inner.clone()));
            walk(stack, unless.clone(), all);
        }
    };
    let leave = |all: &mut Vec<Next>| {
        if count >= of.least {
            walk(stack.clone(), unless.clone(), all);
        }
    };
    match of.greedy {
        true => {
            more(all);
            leave(all);
        }
        false => {
            leave(all);
            more(all);
        }
    }
}

/// Counts of the loops on the stack, as far as they limit what may come.
fn limits(stack: &[Frame]) -> Vec<usize> {
    let counts = stack.iter().filter_map(|frame| match frame {
        Frame::Pattern(_) => None,
        Frame::Turn { of, count, .. } => Some(match of.most {
            Some(_) => *count,
            None if is_empty(&of.inner) => 0,
            None => (*count).min(of.least),
        }),
    });
    counts.collect()
}
