//! The pattern as an automaton of elements: what may come next after each of them, in order of preference.
//!
//! Repetitions are written out: `A{2,4} B` is `A A (A A?)? B`. So a way through the pattern stands at a *state*: the
//! element it has taken last, and the negated variables that were skipped since. Two states are the same *place* when the
//! same elements may come next; a written-out count is one of its elements', which is how a loop's count tells places apart
//! while it limits anything, and no longer. (The least count of a loop whose turns may be empty limits nothing: what it is
//! written out to counts as the same elements.) A turn that a loop need not make takes an event, or it is none.
//!
//! What may come next is found by walking a small program (after Thompson; K. Thompson, "Regular Expression Search
//! Algorithm", 1968) in order of preference, as backtracking engines would (R. Cox, "Regular Expression Matching: the
//! Virtual Machine Approach", 2009).

use std::collections::{BTreeMap, BTreeSet};

use super::syntax::{Kind, Node};

/// Number of an element, once repetitions are written out.
pub type Element = u32;
/// A set of variables, a bit for each.
pub type Variables = u64;
/// Variables that a pattern may have.
pub const MOST_VARIABLES: usize = 64;
/// Elements that a pattern may have, repetitions written out.
pub const MOST_ELEMENTS: u64 = 1_000;

/// An element that may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    pub element: Element,
    /// Not if an event was skipped on the way that satisfies one of these.
    pub unless: Variables,
}

/// What may come after an element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct After {
    /// In order of preference.
    pub next: Vec<Next>,
    /// Whether the pattern is complete.
    pub complete: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nfa {
    /// The variable of each element.
    pub variables: Vec<u8>,
    /// Elements of one label are the same when places are compared.
    pub labels: Vec<u32>,
    pub first: Vec<Element>,
    /// By element.
    pub after: Vec<After>,
    /// No event is skipped.
    pub strict: bool,
}

enum Op {
    Take(Element),
    Not(u8),
    /// The first one is preferred.
    Fork(usize, usize),
    Jump(usize),
    /// An optional turn of a loop, of this number, begins and ends. Where turns may be empty.
    Enter(u32),
    Leave(u32),
}

impl Nfa {
    /// Of a pattern that keeps the rules. `number`: the variable of a name.
    pub fn new(pattern: &Node, strict: bool, number: &dyn Fn(&str) -> u8) -> Self {
        let mut program = Program {
            ops: Vec::new(),
            variables: Vec::new(),
            labels: Vec::new(),
            turns: 0,
            number,
        };
        program.write(pattern);
        let after = |op: usize| {
            let mut walk = Walk {
                ops: &program.ops,
                seen: BTreeSet::new(),
                after: After::default(),
            };
            walk.from(op, 0, &[]);
            walk.after
        };
        let takes = program.ops.iter().enumerate();
        let takes = takes.filter(|(_, op)| matches!(op, Op::Take(_)));
        Nfa {
            first: after(0).next.iter().map(|next| next.element).collect(),
            after: takes.map(|(at, _)| after(at + 1)).collect(),
            variables: program.variables,
            labels: program.labels,
            strict,
        }
    }

    pub fn variable(&self, element: Element) -> u8 {
        self.variables[element as usize]
    }
}

struct Program<'a> {
    ops: Vec<Op>,
    variables: Vec<u8>,
    labels: Vec<u32>,
    turns: u32,
    number: &'a dyn Fn(&str) -> u8,
}

impl Program<'_> {
    fn write(&mut self, node: &Node) {
        match &node.kind {
            Kind::Take(name) => {
                self.ops.push(Op::Take(self.variables.len() as Element));
                self.labels.push(self.labels.len() as u32);
                self.variables.push((self.number)(name));
            }
            Kind::Not(name) => self.ops.push(Op::Not((self.number)(name))),
            Kind::Sequence(parts) => parts.iter().for_each(|part| self.write(part)),
            Kind::Either(branches) => self.either(branches),
            Kind::Repeat {
                inner,
                least,
                most,
                greedy,
            } => self.repeat(inner, *least, *most, *greedy),
        }
    }

    fn either(&mut self, branches: &[Node]) {
        let mut ends = Vec::new();
        for (at, branch) in branches.iter().enumerate() {
            let fork = self.ops.len();
            let last = at + 1 == branches.len();
            if !last {
                self.ops.push(Op::Fork(fork + 1, 0));
            }
            self.write(branch);
            if !last {
                ends.push(self.ops.len());
                self.ops.push(Op::Jump(0));
                self.ops[fork] = Op::Fork(fork + 1, self.ops.len());
            }
        }
        for end in ends {
            self.ops[end] = Op::Jump(self.ops.len());
        }
    }

    fn repeat(&mut self, inner: &Node, least: u32, most: Option<u32>, greedy: bool) {
        let fork = |inside, outside| match greedy {
            true => Op::Fork(inside, outside),
            false => Op::Fork(outside, inside),
        };
        let hollow = inner.can_be_empty();
        let Some(most) = most else {
            let first = self.labels.len();
            let mandatory = if hollow {
                least
            } else {
                least.saturating_sub(1)
            };
            (0..mandatory).for_each(|_| self.write(inner));
            let start = self.ops.len();
            if least == 0 || hollow {
                self.ops.push(Op::Jump(0));
                self.turn(inner, hollow);
                self.ops.push(Op::Jump(start));
                self.ops[start] = fork(start + 1, self.ops.len());
            } else {
                self.write(inner);
                let end = self.ops.len() + 1;
                self.ops.push(fork(start, end));
            }
            if hollow {
                let elements = (self.labels.len() - first) / (mandatory as usize + 1);
                for at in first + elements..self.labels.len() {
                    self.labels[at] = self.labels[at - elements];
                }
            }
            return;
        };
        (0..least).for_each(|_| self.write(inner));
        let mut forks = Vec::new();
        for _ in least..most {
            forks.push(self.ops.len());
            self.ops.push(Op::Jump(0));
            self.turn(inner, hollow);
        }
        for at in forks {
            self.ops[at] = fork(at + 1, self.ops.len());
        }
    }

    /// A turn of a loop that it need not make.
    fn turn(&mut self, inner: &Node, hollow: bool) {
        if !hollow {
            return self.write(inner);
        }
        let turn = self.turns;
        self.turns += 1;
        self.ops.push(Op::Enter(turn));
        self.write(inner);
        self.ops.push(Op::Leave(turn));
    }
}

struct Walk<'a> {
    ops: &'a [Op],
    seen: BTreeSet<(usize, Variables, Vec<u32>)>,
    after: After,
}

impl Walk<'_> {
    /// `turns`: those of loops that begin on this walk.
    fn from(&mut self, op: usize, unless: Variables, turns: &[u32]) {
        if !self.seen.insert((op, unless, turns.to_vec())) {
            return;
        }
        match self.ops.get(op) {
            None => self.after.complete = true,
            Some(Op::Jump(to)) => self.from(*to, unless, turns),
            Some(Op::Not(variable)) => self.from(op + 1, unless | 1 << variable, turns),
            Some(Op::Fork(first, second)) => {
                self.from(*first, unless, turns);
                self.from(*second, unless, turns);
            }
            Some(Op::Enter(turn)) => self.from(op + 1, unless, &[turns, &[*turn]].concat()),
            Some(Op::Leave(turn)) if turns.last() == Some(turn) => {}
            Some(Op::Leave(_)) => self.from(op + 1, unless, turns),
            Some(Op::Take(element)) => {
                let next = Next {
                    element: *element,
                    unless,
                };
                let known = |other: &Next| {
                    other.element == next.element && other.unless & next.unless == other.unless
                };
                if !self.after.next.iter().any(known) {
                    self.after.next.push(next);
                }
            }
        }
    }
}

/// Number of a state, in this run of the engine only.
pub type StateId = u32;

/// Where a way stands.
#[derive(Clone, Debug)]
pub struct State {
    /// Taken last.
    pub element: Element,
    /// Negated variables of which an event was skipped since.
    pub skipped: Variables,
    /// What may still come next, in order of preference.
    pub next: Vec<Next>,
    /// Variables of `next`.
    pub wanted: Variables,
    /// Variables whose events cannot be skipped without losing some of `next`.
    pub unless: Variables,
    /// States where the same elements may come next are one place.
    pub place: u32,
}

/// The states met so far. A state without blocked elements has the number of its element.
#[derive(Debug)]
pub struct States {
    nfa: Nfa,
    states: Vec<State>,
    numbers: BTreeMap<(Element, Variables), StateId>,
    places: BTreeMap<Vec<u32>, u32>,
}

impl States {
    pub fn new(nfa: Nfa) -> Self {
        let mut states = States {
            states: Vec::new(),
            numbers: BTreeMap::new(),
            places: BTreeMap::new(),
            nfa,
        };
        for element in 0..states.nfa.variables.len() as Element {
            states.number(element, 0);
        }
        states
    }

    pub fn nfa(&self) -> &Nfa {
        &self.nfa
    }

    #[inline]
    pub fn get(&self, id: StateId) -> &State {
        &self.states[id as usize]
    }

    /// The state of a way that has just taken an element; `None`: it is complete.
    #[inline]
    pub fn after(&self, element: Element) -> Option<StateId> {
        (!self.nfa.after[element as usize].complete).then_some(element)
    }

    /// The state behind a skipped event that satisfies `satisfied`; `None`: nothing may come next any more.
    #[inline]
    pub fn skip(&mut self, id: StateId, satisfied: Variables) -> Option<StateId> {
        let state = &self.states[id as usize];
        let hit = state.unless & satisfied;
        if hit == 0 {
            return Some(id);
        }
        let id = self.number(state.element, state.skipped | hit);
        (!self.states[id as usize].next.is_empty()).then_some(id)
    }

    /// The number of a state, which may be new.
    pub fn number(&mut self, element: Element, skipped: Variables) -> StateId {
        if let Some(id) = self.numbers.get(&(element, skipped)) {
            return *id;
        }
        let all = self.nfa.after[element as usize].next.iter();
        let next: Vec<Next> = all
            .filter(|next| next.unless & skipped == 0)
            .copied()
            .collect();
        let label = |next: &Next| self.nfa.labels[next.element as usize];
        let mut labels: Vec<u32> = next.iter().map(label).collect();
        labels.sort_unstable();
        labels.dedup();
        let bit = |next: &Next| 1 << self.nfa.variables[next.element as usize];
        let new_place = self.places.len() as u32;
        let state = State {
            element,
            skipped,
            wanted: next.iter().map(bit).fold(0, |all, one: u64| all | one),
            unless: next.iter().fold(0, |all, next| all | next.unless),
            next,
            place: *self.places.entry(labels).or_insert(new_place),
        };
        let id = self.states.len() as StateId;
        self.states.push(state);
        self.numbers.insert((element, skipped), id);
        id
    }

    /// Whether a saved state can be one of this pattern's.
    pub fn is_possible(&self, element: Element, skipped: Variables) -> bool {
        let Some(after) = self.nfa.after.get(element as usize) else {
            return false;
        };
        let next = &after.next;
        let all = next.iter().fold(0, |all, next| all | next.unless);
        skipped & !all == 0 && next.iter().any(|next| next.unless & skipped == 0)
    }
}
