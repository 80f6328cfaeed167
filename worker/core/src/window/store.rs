//! The windows a step holds: (key, window) → slot, and when each slot is due.
//!
//! This is the interface state sits behind. In memory, keys are interned once; each has a short list of its windows
//! with their slots, and a slot indexes the columnar accumulators. A store on disk would keep the same promises to
//! the step: `find_key`, `windows` and `hold` read and write the list of one key; a slot, once given out, stays the
//! group's handle until `free`, so that accumulators can be cached by it and written back on eviction; `due` hands out
//! timers in order of time; `slots` lists everything for a checkpoint. Nothing depends on the order of the hash table.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::aggregate::Slot;
use crate::chunk::Millis;

pub type KeyId = u32;

/// A window of a key. A key's windows are in order of time: those of a grid by end, sessions do not touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub end: Millis,
    pub slot: Slot,
}

/// A key's list of windows; most keys have one open and one on its way out.
pub type HeldList = SmallVec<[Held; 2]>;

/// What is seldom asked of a key.
#[derive(Debug)]
struct Key {
    hash: u64,
    /// Slots that belong to the key, those no longer among its windows included.
    uses: u32,
}

/// A key's bytes; those of most keys lie here, not behind a pointer.
type Name = SmallVec<[u8; 23]>;

/// One group: a key in a window.
#[derive(Debug)]
pub struct Group {
    pub key: KeyId,
    pub start: Millis,
    pub end: Millis,
    /// Whether its state differs from what was last put out (or never was).
    pub changed: bool,
    /// Whether it stands on a list of changed groups.
    pub listed: bool,
    /// Whether it waits in the emission queue: its state must not change before that is worked off.
    pub queued: bool,
    /// The row last emitted for it, where rows may be emitted again.
    pub emitted: Option<Box<[u8]>>,
    /// Number of its valid timer: others that name the slot are stale.
    timer: u32,
    held: bool,
}

#[derive(Debug, Default)]
pub struct Store {
    table: HashTable<KeyId>,
    /// By key, in columns: finding a key costs cache misses, so what a search reads lies close together.
    names: Vec<Name>,
    windows: Vec<HeldList>,
    keys: Vec<Key>,
    /// How often a key has been forgotten: a `KeyId` found before the last time may be another's.
    forgotten: u64,
    free_keys: Vec<KeyId>,
    groups: Vec<Group>,
    free_slots: Vec<Slot>,
    timers: BTreeMap<Millis, Vec<(Slot, u32)>>,
}

#[inline]
fn hash(bytes: &[u8]) -> u64 {
    // Seeds are fixed and the order of the table is never used: a hash decides speed only.
    let mut hasher = FixedState::with_seed(0x9e37_79b9_7f4a_7c15).build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

impl Store {
    #[inline]
    pub fn find_key(&self, bytes: &[u8]) -> Option<KeyId> {
        let names = &self.names;
        self.table
            .find(hash(bytes), |id| names[*id as usize][..] == *bytes)
            .copied()
    }

    /// The keys of many rows that are known already. One after the other, so that their cache misses overlap. The
    /// answers hold until `forgotten` changes.
    pub fn find_keys<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Vec<Option<KeyId>> {
        keys.map(|key| self.find_key(key)).collect()
    }

    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The key, interned where it is new. A new key must get a window (`hold`) before anything else happens.
    #[inline]
    pub fn key(&mut self, bytes: &[u8]) -> KeyId {
        let hash = hash(bytes);
        let names = &self.names;
        match self
            .table
            .find(hash, |id| names[*id as usize][..] == *bytes)
        {
            Some(id) => *id,
            None => self.intern(hash, bytes),
        }
    }

    #[cold]
    fn intern(&mut self, hash: u64, bytes: &[u8]) -> KeyId {
        let key = Key { hash, uses: 0 };
        let name = Name::from_slice(bytes);
        let id = match self.free_keys.pop() {
            Some(id) => {
                self.keys[id as usize] = key;
                self.names[id as usize] = name;
                id
            }
            None => {
                self.keys.push(key);
                self.names.push(name);
                self.windows.push(HeldList::new());
                (self.keys.len() - 1) as KeyId
            }
        };
        let keys = &self.keys;
        self.table
            .insert_unique(hash, id, |id| keys[*id as usize].hash);
        id
    }

    /// The windows of a key, in order of time.
    #[inline]
    pub fn windows(&self, key: KeyId) -> &[Held] {
        &self.windows[key as usize]
    }

    #[inline]
    pub fn key_bytes(&self, key: KeyId) -> &[u8] {
        &self.names[key as usize]
    }

    #[inline]
    pub fn group(&self, slot: Slot) -> &Group {
        &self.groups[slot as usize]
    }

    #[inline]
    pub fn group_mut(&mut self, slot: Slot) -> &mut Group {
        &mut self.groups[slot as usize]
    }

    /// A new window of the key at place `at` of its list, with no timer yet.
    pub fn hold(&mut self, key: KeyId, at: usize, start: Millis, end: Millis) -> Slot {
        let slot = self.free_slots.pop().unwrap_or(self.groups.len() as Slot);
        let timer = self
            .groups
            .get(slot as usize)
            .map_or(0, |group| group.timer);
        let group = Group {
            key,
            start,
            end,
            changed: true,
            listed: false,
            queued: false,
            emitted: None,
            timer,
            held: true,
        };
        match self.groups.get_mut(slot as usize) {
            Some(place) => *place = group,
            None => self.groups.push(group),
        }
        self.windows[key as usize].insert(at, Held { end, slot });
        let key = &mut self.keys[key as usize];
        key.uses += 1;
        slot
    }

    /// Moves the bounds of a window that stays at its place among the key's windows.
    pub fn resize(&mut self, slot: Slot, start: Millis, end: Millis) {
        let group = &mut self.groups[slot as usize];
        (group.start, group.end) = (start, end);
        if let Some(held) = self.windows[group.key as usize]
            .iter_mut()
            .find(|held| held.slot == slot)
        {
            held.end = end;
        }
    }

    /// Takes a window from its key: no row finds it any more. Its state stays until `free`.
    pub fn let_go(&mut self, slot: Slot) {
        let group = &mut self.groups[slot as usize];
        if std::mem::take(&mut group.held) {
            group.timer = group.timer.wrapping_add(1);
            self.windows[group.key as usize].retain(|held| held.slot != slot);
        }
    }

    /// Gives back the slot of a window let go; the last one takes its key along.
    pub fn free(&mut self, slot: Slot) {
        let group = &mut self.groups[slot as usize];
        group.emitted = None;
        (group.changed, group.listed, group.queued) = (false, false, false);
        let id = group.key;
        self.free_slots.push(slot);
        let key = &mut self.keys[id as usize];
        key.uses -= 1;
        if key.uses == 0 {
            self.names[id as usize] = Name::new();
            self.forgotten += 1;
            if let Ok(entry) = self.table.find_entry(key.hash, |held| *held == id) {
                entry.remove();
            }
            self.free_keys.push(id);
        }
    }

    /// Sets the slot's timer; one set before no longer counts.
    pub fn set_timer(&mut self, slot: Slot, at: Millis) {
        let group = &mut self.groups[slot as usize];
        group.timer = group.timer.wrapping_add(1);
        self.timers.entry(at).or_default().push((slot, group.timer));
    }

    /// Time of the first timer; stale ones count too.
    pub fn next_timer(&self) -> Option<Millis> {
        self.timers.first_key_value().map(|(at, _)| *at)
    }

    /// Takes out all timers up to `w`, into `due`.
    pub fn due(&mut self, w: Millis, due: &mut Vec<Slot>) {
        while let Some(entry) = self.timers.first_entry().filter(|entry| *entry.key() <= w) {
            let groups = &self.groups;
            let valid = |(slot, timer): &(Slot, u32)| groups[*slot as usize].timer == *timer;
            due.extend(
                entry
                    .remove()
                    .into_iter()
                    .filter(valid)
                    .map(|(slot, _)| slot),
            );
        }
    }

    /// Number of slots ever in use at one time: what accumulators must have room for.
    pub fn capacity(&self) -> usize {
        self.groups.len()
    }

    /// Windows held, and keys.
    pub fn counts(&self) -> (usize, usize) {
        (
            self.groups.len() - self.free_slots.len(),
            self.keys.len() - self.free_keys.len(),
        )
    }

    /// All windows held.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        (0..self.groups.len() as Slot).filter(|slot| self.groups[*slot as usize].held)
    }

    /// Order in which windows that fire together come out: by end, then key.
    pub fn sort(&self, slots: &mut Vec<Slot>) {
        let shared = self.shared_prefix(slots);
        let mut order: Vec<(Millis, u64, Slot)> = slots
            .iter()
            .map(|slot| {
                let group = self.group(*slot);
                (group.end, word(self.key_bytes(group.key), shared), *slot)
            })
            .collect();
        order.sort_unstable_by(|a, b| {
            (a.0, a.1)
                .cmp(&(b.0, b.1))
                .then_with(|| self.by_key(a.2, b.2))
        });
        slots.clear();
        slots.extend(order.into_iter().map(|(_, _, slot)| slot));
    }

    fn by_key(&self, a: Slot, b: Slot) -> std::cmp::Ordering {
        let (a, b) = (self.group(a), self.group(b));
        self.key_bytes(a.key)
            .cmp(self.key_bytes(b.key))
            .then(a.start.cmp(&b.start))
    }

    /// Length of what all keys begin with: behind it a few bytes tell most keys apart.
    fn shared_prefix(&self, slots: &[Slot]) -> usize {
        let key = |slot: Slot| self.key_bytes(self.group(slot).key);
        let Some((first, rest)) = slots.split_first() else {
            return 0;
        };
        let first = key(*first);
        rest.iter().fold(first.len(), |shared, slot| {
            let same = first[..shared]
                .iter()
                .zip(key(*slot))
                .take_while(|(a, b)| a == b);
            same.count()
        })
    }
}

/// Eight bytes of a key from `from` on, as a number that compares as they do; a shorter key compares as if zeros followed.
fn word(bytes: &[u8], from: usize) -> u64 {
    let mut word = [0; 8];
    let rest = bytes.get(from..).unwrap_or_default();
    let length = rest.len().min(8);
    word[..length].copy_from_slice(&rest[..length]);
    u64::from_be_bytes(word)
}
