//! What ways have taken: lists from the last event back to the first, which share what they have in common.

use super::events::{Event, Events, Moved};
use super::nfa::Element;

/// The last event of a list; `NONE`: nothing was taken yet.
pub type Taken = u32;
pub const NONE: Taken = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    event: Event,
    element: Element,
    before: Taken,
    /// Lists and ways that go on from here; 0: free.
    uses: u32,
}

#[derive(Debug, Default)]
pub struct Trail {
    links: Vec<Link>,
    free: Vec<Taken>,
}

impl Trail {
    /// The list `before` with one more event. `before` stays its owner's.
    pub fn push(
        &mut self,
        event: Event,
        element: Element,
        before: Taken,
        events: &mut Events,
    ) -> Taken {
        events.retain(event);
        self.retain(before);
        let link = Link {
            event,
            element,
            before,
            uses: 1,
        };
        match self.free.pop() {
            Some(at) => {
                self.links[at as usize] = link;
                at
            }
            None => {
                self.links.push(link);
                (self.links.len() - 1) as Taken
            }
        }
    }

    /// One more owner.
    pub fn retain(&mut self, taken: Taken) {
        if let Some(link) = self.links.get_mut(taken as usize) {
            link.uses += 1;
        }
    }

    /// One owner less.
    pub fn release(&mut self, mut taken: Taken, events: &mut Events) {
        while let Some(link) = self.links.get_mut(taken as usize) {
            link.uses -= 1;
            if link.uses > 0 {
                return;
            }
            let Link { event, before, .. } = *link;
            events.release(event);
            self.free.push(taken);
            taken = before;
        }
    }

    /// Events and the elements that took them, from the last to the first.
    pub fn back(&self, taken: Taken) -> impl Iterator<Item = (Event, Element)> + '_ {
        self.links_back(taken).map(|at| {
            (
                self.links[at as usize].event,
                self.links[at as usize].element,
            )
        })
    }

    /// The same, as places of their own.
    pub fn links_back(&self, taken: Taken) -> impl Iterator<Item = Taken> + '_ {
        let there = |at: Taken| (at != NONE).then_some(at);
        std::iter::successors(there(taken), move |at| {
            there(self.links[*at as usize].before)
        })
    }

    /// An event, the element that took it, and what was taken before.
    pub fn link(&self, taken: Taken) -> (Event, Element, Taken) {
        let link = self.links[taken as usize];
        (link.event, link.element, link.before)
    }

    /// Events are elsewhere now.
    pub fn moved(&mut self, moved: &Moved) {
        for link in self.links.iter_mut().filter(|link| link.uses > 0) {
            link.event = moved.of(link.event).unwrap_or(link.event);
        }
    }
}
