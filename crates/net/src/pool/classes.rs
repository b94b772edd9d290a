//! [`Classes`]: classes of connections, with LRU eviction when the table is full.

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// Class numbers below this are for clear text, which has no server name.
pub(super) const FIXED: u32 = 16;

/// Identifies a class of connections. It stays valid until the class is evicted, and is never reused for another class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Class {
    slot: u32,
    /// How many times the slot was used before.
    generation: u32,
}

/// No slot.
const NONE: u32 = u32::MAX;

/// A value for each pair of settings number and name, in the order of use.
#[derive(Debug)]
pub(super) struct Classes<T> {
    slots: Vec<Slot<T>>,
    /// Slots in use, by number and name.
    by_name: HashTable<u32>,
    hasher: RandomState,
    newest: u32,
    oldest: u32,
    /// The first unused slot; unused slots are linked by `older`.
    free: u32,
}

#[derive(Debug)]
struct Slot<T> {
    settings: u64,
    name: Box<str>,
    generation: u32,
    newer: u32,
    older: u32,
    value: T,
}

impl<T> Default for Classes<T> {
    fn default() -> Self {
        let (by_name, hasher) = (HashTable::new(), RandomState::default());
        Self { slots: Vec::new(), by_name, hasher, newest: NONE, oldest: NONE, free: NONE }
    }
}

impl<T: Default> Classes<T> {
    /// Number of classes in use.
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// The class of a number and a name; it becomes the most recently used one. If a new class exceeds `max`, the value
    /// of the evicted class is returned.
    pub(super) fn class(&mut self, settings: u64, name: &str, max: usize) -> (Class, Option<T>) {
        let hash = self.hasher.hash_one((settings, name));
        let slots = &self.slots;
        let is_it = |at: &u32| slots.get(*at as usize).is_some_and(|s| s.settings == settings && *s.name == *name);
        if let Some(&at) = self.by_name.find(hash, is_it) {
            if at != self.newest {
                self.unlink(at);
                self.link(at);
            }
            return (self.named(at), None);
        }
        let evicted = if self.len() >= max.max(1) { self.evict() } else { None };
        let at = self.take_slot(settings, name);
        let (slots, hasher) = (&self.slots, &self.hasher);
        let rehash = |at: &u32| slots.get(*at as usize).map_or(0, |s| hasher.hash_one((s.settings, &*s.name)));
        self.by_name.insert_unique(hash, at, rehash);
        self.link(at);
        (self.named(at), evicted)
    }

    /// The value of a class; `None` if it was evicted.
    pub(super) fn get_mut(&mut self, class: Class) -> Option<&mut T> {
        let at = class.slot.checked_sub(FIXED)?;
        let slot = self.slots.get_mut(at as usize)?;
        (slot.generation == class.generation).then_some(&mut slot.value)
    }

    /// The values of all classes.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().map(|slot| &slot.value)
    }

    /// The values of all classes.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().map(|slot| &mut slot.value)
    }

    /// Evicts the least recently used class.
    pub(super) fn evict(&mut self) -> Option<T> {
        let at = self.oldest;
        let slot = self.slots.get(at as usize)?;
        let hash = self.hasher.hash_one((slot.settings, &*slot.name));
        if let Ok(found) = self.by_name.find_entry(hash, |other| *other == at) {
            found.remove();
        }
        self.unlink(at);
        let free = self.free;
        let slot = self.slots.get_mut(at as usize)?;
        slot.generation = slot.generation.wrapping_add(1);
        slot.older = free;
        self.free = at;
        Some(std::mem::take(&mut slot.value))
    }

    fn named(&self, at: u32) -> Class {
        let generation = self.slots.get(at as usize).map_or(0, |slot| slot.generation);
        Class { slot: at.saturating_add(FIXED), generation }
    }

    fn take_slot(&mut self, settings: u64, name: &str) -> u32 {
        if let Some(slot) = self.slots.get_mut(self.free as usize) {
            let at = std::mem::replace(&mut self.free, slot.older);
            (slot.settings, slot.name) = (settings, name.into());
            return at;
        }
        self.slots.push(Slot {
            settings,
            name: name.into(),
            generation: 0,
            newer: NONE,
            older: NONE,
            value: T::default(),
        });
        self.slots.len() as u32 - 1
    }

    /// Links an unlinked slot as the most recently used.
    fn link(&mut self, at: u32) {
        let newest = std::mem::replace(&mut self.newest, at);
        if let Some(slot) = self.slots.get_mut(at as usize) {
            (slot.newer, slot.older) = (NONE, newest);
        }
        match self.slots.get_mut(newest as usize) {
            Some(slot) => slot.newer = at,
            None => self.oldest = at,
        }
    }

    /// Unlinks a slot.
    fn unlink(&mut self, at: u32) {
        let Some(slot) = self.slots.get(at as usize) else { return };
        let (newer, older) = (slot.newer, slot.older);
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
    }
}

impl Class {
    /// The class for clear text, which has no name and always exists.
    pub(super) fn fixed(settings: u64) -> Option<Self> {
        let slot = u32::try_from(settings).ok().filter(|slot| *slot < FIXED)?;
        Some(Self { slot, generation: 0 })
    }

    /// The index of a class that always exists.
    pub(super) fn fixed_place(self) -> Option<usize> {
        (self.slot < FIXED).then_some(self.slot as usize)
    }
}
