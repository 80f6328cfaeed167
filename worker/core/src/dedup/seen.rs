//! What went through, by key: the event times of rows that later ones may be copies of.
//!
//! Rows are forgotten in batches of nearby times, so that a row costs one short list entry and no timer of its own. That
//! something is remembered a little longer than it must be is not seen: only rows that are late could be copies of it.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::chunk::Millis;

/// Batches that `within` is cut into.
const BATCHES: Millis = 16;

type KeyId = u32;

#[derive(Debug, Default)]
struct Key {
    bytes: SmallVec<[u8; 23]>,
    /// In order, more than `within` apart. Empty: the place is free.
    times: SmallVec<[Millis; 2]>,
}

#[derive(Debug)]
pub struct Seen {
    within: Millis,
    /// Length of a batch.
    grain: Millis,
    table: HashTable<KeyId>,
    keys: Vec<Key>,
    free: Vec<KeyId>,
    /// Keys that have a time in a batch; also some that no longer have.
    batches: BTreeMap<Millis, Vec<KeyId>>,
    times: usize,
}

fn hash(bytes: &[u8]) -> u64 {
    // The seed is fixed and the order of the table is never used: a hash decides speed only.
    let mut hasher = FixedState::with_seed(0x9e37_79b9_7f4a_7c15).build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

impl Seen {
    pub fn new(within: Millis) -> Self {
        Seen {
            within,
            grain: (within / BATCHES).max(1),
            table: HashTable::new(),
            keys: Vec::new(),
            free: Vec::new(),
            batches: BTreeMap::new(),
            times: 0,
        }
    }

    /// Whether no remembered row of the key lies within reach; if so, this one is remembered.
    pub fn is_first(&mut self, key: &[u8], time: Millis) -> bool {
        let id = self.key(key);
        let times = &mut self.keys[id as usize].times;
        let at = times.partition_point(|other| *other < time);
        let near = |other: &Millis| other.abs_diff(time) <= self.within.unsigned_abs();
        if times[at..].first().is_some_and(near) || times[..at].last().is_some_and(near) {
            return false;
        }
        times.insert(at, time);
        self.times += 1;
        let batch = time.div_euclid(self.grain);
        self.batches.entry(batch).or_default().push(id);
        true
    }

    /// The place of a key. A new one gets its first time at once: nothing is near it.
    fn key(&mut self, bytes: &[u8]) -> KeyId {
        let hashed = hash(bytes);
        let keys = &self.keys;
        let known = self
            .table
            .find(hashed, |id| keys[*id as usize].bytes[..] == *bytes);
        if let Some(id) = known {
            return *id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.keys.push(Key::default());
            (self.keys.len() - 1) as KeyId
        });
        self.keys[id as usize].bytes = SmallVec::from_slice(bytes);
        let keys = &self.keys;
        self.table
            .insert_unique(hashed, id, |id| hash(&keys[*id as usize].bytes));
        id
    }

    /// Forgets times below `limit`, by whole batches.
    pub fn forget_before(&mut self, limit: Millis) {
        let whole = limit.div_euclid(self.grain);
        while let Some(batch) = self
            .batches
            .first_entry()
            .filter(|batch| *batch.key() < whole)
        {
            for id in batch.remove() {
                self.forget(id, limit);
            }
        }
    }

    fn forget(&mut self, id: KeyId, limit: Millis) {
        let key = &mut self.keys[id as usize];
        let before = key.times.len();
        key.times.retain(|time| *time >= limit);
        self.times -= before - key.times.len();
        if before > 0 && key.times.is_empty() {
            let bytes = std::mem::take(&mut key.bytes);
            if let Ok(entry) = self.table.find_entry(hash(&bytes), |other| *other == id) {
                entry.remove();
            }
            self.free.push(id);
        }
    }

    /// Everything remembered, by time, then key.
    pub fn all(&self) -> Vec<(Millis, &[u8])> {
        let of = |key: &Key| key.times.len();
        let mut all = Vec::with_capacity(self.keys.iter().map(of).sum());
        for key in &self.keys {
            all.extend(key.times.iter().map(|time| (*time, &key.bytes[..])));
        }
        all.sort_unstable();
        all
    }

    /// Rows remembered, and their keys.
    pub fn counts(&self) -> (usize, usize) {
        (self.times, self.keys.len() - self.free.len())
    }
}
