//! Lists of routes in falling rank.

use std::ops::Deref;

use smallvec::SmallVec;

use crate::checks::{Checks, PathLen};
use crate::slots::Slots;

/// A route at one place of the index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// The weight of its rank, high half first.
    weight: [u64; 2],
    /// Where the route is.
    pub(crate) slot: u32,
    /// What a request that was led here may still not fit.
    pub(crate) checks: Checks,
    /// How much of the path matched, where nothing is left to check about it.
    pub(crate) path_len: PathLen,
}

impl Entry {
    pub(super) fn new(weight: u128, slot: u32, checks: Checks, path_len: PathLen) -> Self {
        Self { weight: [(weight >> 64) as u64, weight as u64], slot, checks, path_len }
    }

    /// Whether this is tried before another one: by weight, and by the order of the routes for equal weights.
    fn is_before(&self, other: &Self, slots: &Slots) -> bool {
        self.weight > other.weight
            || (self.weight == other.weight
                && self.slot != other.slot
                && slots.order(self.slot) > slots.order(other.slot))
    }
}

/// Entries in falling rank; most lists have one.
#[derive(Debug, Default)]
pub(super) struct List(SmallVec<[Entry; 1]>);

impl Clone for List {
    fn clone(&self) -> Self {
        Self(SmallVec::from_slice(&self.0))
    }
}

impl Deref for List {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        &self.0
    }
}

impl List {
    /// Adds an entry, unless its route is here already.
    pub(super) fn insert(&mut self, entry: Entry, slots: &Slots) {
        let at = self.place(&entry, slots);
        if self.0.get(at).is_none_or(|other| other.slot != entry.slot) {
            self.0.insert(at, entry);
        }
    }

    /// Takes out the entry of a route, if it is here.
    pub(super) fn remove(&mut self, entry: &Entry, slots: &Slots) {
        let at = self.place(entry, slots);
        if self.0.get(at).is_some_and(|other| other.slot == entry.slot) {
            self.0.remove(at);
            if self.0.len() < self.0.capacity() / 2 {
                self.0.shrink_to_fit();
            }
        }
    }

    /// Where an entry is or would be.
    fn place(&self, entry: &Entry, slots: &Slots) -> usize {
        // Many routes at once come in falling rank.
        if self.0.last().is_none_or(|last| last.is_before(entry, slots)) {
            return self.0.len();
        }
        self.0.partition_point(|other| other.is_before(entry, slots))
    }
}

/// Takes the first of the first entries of lists, wherever its route is first.
pub(super) fn merge_next<'i>(lists: &mut [&'i [Entry]], slots: &Slots) -> Option<&'i Entry> {
    let mut best: Option<&Entry> = None;
    for first in lists.iter().filter_map(|list| list.first()) {
        if best.is_none_or(|best| first.is_before(best, slots)) {
            best = Some(first);
        }
    }
    let slot = best?.slot;
    for list in lists {
        if let Some((first, rest)) = list.split_first()
            && first.slot == slot
        {
            *list = rest;
        }
    }
    best
}
