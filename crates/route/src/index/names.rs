//! Values by patterns of names.

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use crate::keys::NameKey;

/// Values by patterns of names.
#[derive(Clone, Debug, Default)]
pub(super) struct NameIndex<T> {
    exact: Names<T>,
    /// By texts that start with a dot.
    suffixes: Names<T>,
    /// By texts that end with a dot.
    prefixes: Names<T>,
    /// Of all names, and of patterns that do not end at a dot.
    any: T,
    /// No text is longer; what was removed still counts.
    suffix_len_max: usize,
    prefix_len_max: usize,
}

/// What may hold nothing.
pub(super) trait Vacant {
    fn is_vacant(&self) -> bool;
}

impl<T: Clone + Default + Vacant> NameIndex<T> {
    /// Edits the values for a list of patterns, and returns whether each was found by a name. To insert, values that
    /// are missing are made; otherwise those that become vacant are dropped.
    pub(super) fn each_of(&mut self, patterns: &[NameKey<'_>], insert: bool, mut edit: impl FnMut(&mut T, bool)) {
        if patterns.is_empty() {
            return edit(&mut self.any, false);
        }
        for pattern in patterns {
            match pattern {
                NameKey::Exact(text) => self.exact.edit(text, insert, |value| edit(value, true)),
                NameKey::Suffix(text) if text.starts_with('.') => {
                    self.suffix_len_max = self.suffix_len_max.max(text.len());
                    self.suffixes.edit(text, insert, |value| edit(value, true));
                }
                NameKey::Prefix(text) if text.ends_with('.') => {
                    self.prefix_len_max = self.prefix_len_max.max(text.len());
                    self.prefixes.edit(text, insert, |value| edit(value, true));
                }
                NameKey::Suffix(_) | NameKey::Prefix(_) => edit(&mut self.any, false),
            }
        }
    }
}

impl<T> NameIndex<T> {
    #[inline]
    pub(super) fn lookup<'i>(&'i self, name: Option<&str>, visit: &mut impl FnMut(&'i T)) {
        visit(&self.any);
        let Some(name) = name else { return };
        if let Some(value) = self.exact.get(name) {
            visit(value);
        }
        if self.suffixes.len > 0 || self.prefixes.len > 0 {
            self.lookup_families(name, visit);
        }
    }

    fn lookup_families<'i>(&'i self, name: &str, visit: &mut impl FnMut(&'i T)) {
        for dot in memchr::memchr_iter(b'.', name.as_bytes()) {
            if name.len() - dot <= self.suffix_len_max
                && let Some(value) = name.get(dot..).and_then(|suffix| self.suffixes.get(suffix))
            {
                visit(value);
            }
            if dot < self.prefix_len_max
                && let Some(value) = name.get(..=dot).and_then(|prefix| self.prefixes.get(prefix))
            {
                visit(value);
            }
        }
    }
}

impl<T: Vacant> Vacant for NameIndex<T> {
    fn is_vacant(&self) -> bool {
        self.exact.len == 0 && self.suffixes.len == 0 && self.prefixes.len == 0 && self.any.is_vacant()
    }
}

/// A hash table in parts, of which an edit copies one.
#[derive(Clone, Debug)]
struct Names<T> {
    /// None, or a power of two.
    shards: Vec<Shard<T>>,
    len: usize,
}

/// A table with linear probing. At most three of four places are taken.
#[derive(Clone, Debug)]
struct Shard<T> {
    len: usize,
    /// None, or a power of two.
    places: Arc<[Place<T>]>,
}

/// A hash with the value it is of.
type Place<T> = Option<(u64, Arc<Named<T>>)>;

#[derive(Clone, Debug)]
struct Named<T> {
    name: SmallVec<[u8; 24]>,
    value: T,
}

/// Names of a part, on average; more are spread over more parts.
const SHARD_LEN_MAX: usize = 64;

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { shards: Vec::new(), len: 0 }
    }
}

impl<T> Default for Shard<T> {
    fn default() -> Self {
        Self { len: 0, places: Arc::default() }
    }
}

/// Requests only look up, and the keys are the operator's, so the hash needs no secret.
fn hash(name: &str) -> u64 {
    let mut hasher = FixedState::with_seed(0).build_hasher();
    hasher.write(name.as_bytes());
    hasher.finish()
}

/// The bits of a hash that choose a part; places within it are chosen by the lowest.
fn shard_of(hash: u64, shards: usize) -> usize {
    (hash >> 32) as usize & shards.wrapping_sub(1)
}

impl<T> Names<T> {
    #[inline]
    fn get(&self, name: &str) -> Option<&T> {
        if self.len == 0 {
            return None;
        }
        let hash = hash(name);
        let shard = self.shards.get(shard_of(hash, self.shards.len()))?;
        let (_, named) = shard.places.get(shard.find(hash, name)?)?.as_ref()?;
        Some(&named.value)
    }
}

impl<T: Clone + Default + Vacant> Names<T> {
    fn edit(&mut self, name: &str, insert: bool, edit: impl FnOnce(&mut T)) {
        let hash = hash(name);
        let find = |names: &Self| names.shards.get(shard_of(hash, names.shards.len()))?.find(hash, name);
        let mut at = find(self);
        if at.is_none() {
            if !insert {
                return;
            }
            self.len += 1;
            self.spread();
            let named = Named { name: SmallVec::from_slice(name.as_bytes()), value: T::default() };
            let count = self.shards.len();
            if let Some(shard) = self.shards.get_mut(shard_of(hash, count)) {
                shard.add(hash, Arc::new(named));
            }
            at = find(self);
        }
        let count = self.shards.len();
        let (Some(at), Some(shard)) = (at, self.shards.get_mut(shard_of(hash, count))) else { return };
        let Some(Some((_, named))) = Arc::make_mut(&mut shard.places).get_mut(at) else { return };
        let value = &mut Arc::make_mut(named).value;
        edit(value);
        if value.is_vacant() {
            self.len -= 1;
            shard.remove(at);
        }
    }

    /// Doubles the number of parts where they are full.
    fn spread(&mut self) {
        if self.len <= self.shards.len() * SHARD_LEN_MAX {
            return;
        }
        let count = (self.shards.len() * 2).max(1);
        let mut shards: Vec<Shard<T>> = (0..count).map(|_| Shard::default()).collect();
        for (hash, named) in self.shards.iter().flat_map(|shard| shard.places.iter()).flatten() {
            if let Some(shard) = shards.get_mut(shard_of(*hash, count)) {
                shard.add(*hash, Arc::clone(named));
            }
        }
        self.shards = shards;
    }
}

impl<T> Shard<T> {
    #[inline]
    fn find(&self, hash: u64, name: &str) -> Option<usize> {
        let mut at = hash as usize;
        loop {
            at &= self.places.len().wrapping_sub(1);
            let (other, named) = self.places.get(at)?.as_ref()?;
            if *other == hash && *named.name == *name.as_bytes() {
                return Some(at);
            }
            at += 1;
        }
    }

    /// Adds a name that is not here.
    fn add(&mut self, hash: u64, named: Arc<Named<T>>) {
        if (self.len + 1) * 4 > self.places.len() * 3 {
            let twice = vacant((self.places.len() * 2).max(2));
            let places = std::mem::replace(&mut self.places, twice);
            self.len = 0;
            for (hash, named) in places.iter().flatten() {
                self.add(*hash, Arc::clone(named));
            }
        }
        let places = Arc::make_mut(&mut self.places);
        let mask = places.len().wrapping_sub(1);
        let mut at = hash as usize;
        while let Some(place) = places.get_mut(at & mask) {
            if place.is_none() {
                *place = Some((hash, named));
                self.len += 1;
                return;
            }
            at = at.wrapping_add(1);
        }
    }

    /// Builds the part anew without what is at a place.
    fn remove(&mut self, at: usize) {
        let Self { places, .. } = std::mem::take(self);
        let others = places.iter().enumerate().filter(|(place, _)| *place != at);
        for (hash, named) in others.filter_map(|(_, place)| place.as_ref()) {
            self.add(*hash, Arc::clone(named));
        }
    }
}

fn vacant<T>(len: usize) -> Arc<[Place<T>]> {
    (0..len).map(|_| None).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Vacant for Vec<u32> {
        fn is_vacant(&self) -> bool {
            self.is_empty()
        }
    }

    #[test]
    fn copies_keep_what_they_had_and_share_the_rest() {
        let mut names = Names::<Vec<u32>>::default();
        for number in 0..5000 {
            names.edit(&format!("n{number}.example.com"), true, |value| value.push(number));
        }
        let old = names.clone();
        names.edit("n7.example.com", true, |value| value.push(0));
        names.edit("n8.example.com", false, Vec::clear);
        names.edit("n9.example.com.", false, Vec::clear);
        assert_eq!((names.len, old.len), (4999, 5000));
        assert_eq!(names.get("n7.example.com"), Some(&vec![7, 0]));
        assert_eq!(old.get("n7.example.com"), Some(&vec![7]));
        assert_eq!((names.get("n8.example.com"), old.get("n8.example.com")), (None, Some(&vec![8])));
        let shared = names.shards.iter().zip(&old.shards).filter(|(a, b)| Arc::ptr_eq(&a.places, &b.places)).count();
        assert!(shared >= names.shards.len() - 2 && names.shards.len() > 64);
        for number in 0..5000 {
            names.edit(&format!("n{number}.example.com"), false, Vec::clear);
        }
        assert!(names.len == 0 && names.shards.iter().all(|shard| shard.len == 0));
    }
}
