//! The groups that have open starts or events that wait. Nothing depends on the order of the hash table.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use super::nfa::StateId;
use super::trail::Taken;
use crate::chunk::Millis;

pub type KeyId = u32;

/// A way through the pattern: where it stands, and what it has taken.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub state: StateId,
    pub taken: Taken,
}

/// An event that may begin a match, and its ways, the preferred one first.
#[derive(Clone, Debug)]
pub struct Start {
    pub time: Millis,
    pub sequence: u64,
    pub ways: SmallVec<[Way; 2]>,
}

#[derive(Debug, Default)]
struct Key {
    hash: u64,
    name: SmallVec<[u8; 23]>,
    /// In the order of their events.
    starts: VecDeque<Start>,
    /// Events that wait, and rows to be put out.
    uses: u32,
}

#[derive(Debug, Default)]
pub struct Keys {
    table: HashTable<KeyId>,
    keys: Vec<Key>,
    free: Vec<KeyId>,
    starts: usize,
}

#[inline]
fn hash(bytes: &[u8]) -> u64 {
    // Seeds are fixed and the order of the table is never used: a hash decides speed only.
    let mut hasher = FixedState::with_seed(0x9e37_79b9_7f4a_7c15).build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

impl Keys {
    /// The key, which gets one more use.
    pub fn hold(&mut self, name: &[u8]) -> KeyId {
        let hash = hash(name);
        let keys = &self.keys;
        let found = self
            .table
            .find(hash, |id| keys[*id as usize].name[..] == *name);
        let id = match found {
            Some(id) => *id,
            None => self.intern(hash, name),
        };
        self.keys[id as usize].uses += 1;
        id
    }

    #[cold]
    fn intern(&mut self, hash: u64, name: &[u8]) -> KeyId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.keys.push(Key::default());
            (self.keys.len() - 1) as KeyId
        });
        let key = &mut self.keys[id as usize];
        (key.hash, key.name) = (hash, SmallVec::from_slice(name));
        let keys = &self.keys;
        self.table
            .insert_unique(hash, id, |id| keys[*id as usize].hash);
        id
    }

    /// One more use.
    pub fn retain(&mut self, id: KeyId) {
        self.keys[id as usize].uses += 1;
    }

    /// One use less. A key without uses and starts is forgotten.
    pub fn release(&mut self, id: KeyId) {
        let key = &mut self.keys[id as usize];
        key.uses -= 1;
        if key.uses > 0 || !key.starts.is_empty() {
            return;
        }
        key.name = SmallVec::new();
        if let Ok(entry) = self.table.find_entry(key.hash, |held| *held == id) {
            entry.remove();
        }
        self.free.push(id);
    }

    pub fn name(&self, id: KeyId) -> &[u8] {
        &self.keys[id as usize].name
    }

    /// Takes the starts out; the caller holds the key, and puts back what is left.
    pub fn take_starts(&mut self, id: KeyId) -> VecDeque<Start> {
        let starts = std::mem::take(&mut self.keys[id as usize].starts);
        self.starts -= starts.len();
        starts
    }

    pub fn put_starts(&mut self, id: KeyId, starts: VecDeque<Start>) {
        self.starts += starts.len();
        self.keys[id as usize].starts = starts;
    }

    /// Takes out the first start, if it is this one. The caller holds the key, or releases a use that it gets with it.
    pub fn end_first(&mut self, id: KeyId, sequence: u64) -> Option<Start> {
        let key = self.keys.get_mut(id as usize)?;
        let first = key
            .starts
            .pop_front_if(|start| start.sequence == sequence)?;
        key.uses += 1;
        self.starts -= 1;
        Some(first)
    }

    /// Keys, and starts of all keys.
    pub fn counts(&self) -> (usize, usize) {
        (self.keys.len() - self.free.len(), self.starts)
    }

    /// All starts, in the order of their events.
    pub fn all_starts(&self) -> Vec<(KeyId, &Start)> {
        let keys = self.keys.iter().enumerate();
        let mut starts: Vec<_> = keys
            .flat_map(|(id, key)| key.starts.iter().map(move |start| (id as KeyId, start)))
            .collect();
        starts.sort_unstable_by_key(|(_, start)| (start.time, start.sequence));
        starts
    }
}
