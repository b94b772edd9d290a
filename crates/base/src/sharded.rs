//! [`Sharded`]: a hash table whose copies share their unchanged parts.

use std::fmt;
use std::hash::{BuildHasher as _, Hash};
use std::sync::Arc;

use foldhash::quality::RandomState;
use hashbrown::HashTable;

/// Parts of a table. A change copies one of them.
const SHARDS: usize = 256;

/// What a [`Sharded`] finds its values by. The key stays within the value, so that the table holds no text twice.
pub trait Keyed {
    /// The key.
    type Key: ?Sized + Hash + Eq;

    /// The key of this value; it never changes.
    fn key(&self) -> &Self::Key;
}

/// A hash table for values of many generations: a clone shares all parts with its original, and a change copies the
/// part that it is in, a 256th, unless that part is not shared.
///
/// Values are handles, say an `Arc`: copying a part clones each of its values.
#[derive(Clone)]
pub struct Sharded<T> {
    shards: Arc<[Arc<HashTable<T>>]>,
    len: usize,
    hasher: RandomState,
}

impl<T> Default for Sharded<T> {
    fn default() -> Self {
        let empty = Arc::new(HashTable::new());
        Self { shards: (0..SHARDS).map(|_| Arc::clone(&empty)).collect(), len: 0, hasher: RandomState::default() }
    }
}

impl<T: Keyed + Clone> Sharded<T> {
    /// The value of this key.
    pub fn find(&self, key: &T::Key) -> Option<&T> {
        let hash = self.hasher.hash_one(key);
        self.shards.get(shard(hash))?.find(hash, |value| value.key() == key)
    }

    /// Adds a value; returns the one that had its key.
    pub fn insert(&mut self, value: T) -> Option<T> {
        let hash = self.hasher.hash_one(value.key());
        let hasher = &self.hasher;
        let table = Arc::make_mut(Arc::make_mut(&mut self.shards).get_mut(shard(hash))?);
        if let Some(place) = table.find_mut(hash, |other| other.key() == value.key()) {
            return Some(std::mem::replace(place, value));
        }
        table.insert_unique(hash, value, |value| hasher.hash_one(value.key()));
        self.len += 1;
        None
    }

    /// Takes the value of this key out.
    pub fn remove(&mut self, key: &T::Key) -> Option<T> {
        self.find(key)?;
        let hash = self.hasher.hash_one(key);
        let table = Arc::make_mut(Arc::make_mut(&mut self.shards).get_mut(shard(hash))?);
        let (value, _) = table.find_entry(hash, |value| value.key() == key).ok()?.remove();
        self.len -= 1;
        Some(value)
    }

    /// All values, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.shards.iter().flat_map(|table| table.iter())
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<T: Keyed + Clone> FromIterator<T> for Sharded<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut table = Self::default();
        for value in values {
            table.insert(value);
        }
        table
    }
}

impl<T> fmt::Debug for Sharded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharded").field("len", &self.len).finish_non_exhaustive()
    }
}

/// The tables within the shards use the low bits and the highest ones; these are in between.
const fn shard(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Pair(Arc<(String, u32)>);

    impl Keyed for Pair {
        type Key = str;

        fn key(&self) -> &str {
            &self.0.0
        }
    }

    fn pair(key: u32, value: u32) -> Pair {
        Pair(Arc::new((format!("key {key}"), value)))
    }

    #[test]
    fn keeps_one_value_for_each_key() {
        let mut table: Sharded<Pair> = (0..2_000).map(|n| pair(n, n)).collect();
        assert_eq!(table.len(), 2_000);
        assert_eq!(table.insert(pair(7, 70)), Some(pair(7, 7)));
        assert_eq!(table.find("key 7"), Some(&pair(7, 70)));
        assert_eq!(table.remove("key 7"), Some(pair(7, 70)));
        assert_eq!((table.find("key 7"), table.len()), (None, 1_999));
        assert_eq!(table.remove("key 7"), None);
        assert_eq!(table.iter().map(|pair| pair.0.1).sum::<u32>(), (0..2_000).sum::<u32>() - 7);
    }

    #[test]
    fn a_change_is_not_seen_by_copies_and_copies_one_part() {
        let old: Sharded<Pair> = (0..2_000).map(|n| pair(n, n)).collect();
        let mut new = old.clone();
        new.insert(pair(7, 70));
        new.insert(pair(7, 71));
        assert_eq!((old.find("key 7"), new.find("key 7")), (Some(&pair(7, 7)), Some(&pair(7, 71))));
        let shared = old.shards.iter().zip(new.shards.iter()).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert_eq!(shared, SHARDS - 1);
        let mut same = old.clone();
        assert_eq!(same.remove("no such key"), None);
        assert!(Arc::ptr_eq(&same.shards, &old.shards), "what changes nothing copies nothing");
    }
}
