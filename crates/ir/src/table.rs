//! [`Table`]: an ordered, cheaply cloned map from id to shared record.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Id;

/// Maximum number of records in a chunk; a full chunk is split.
const CHUNK_MAX: usize = 128;
/// Adjacent chunks with at most this many records together are merged.
const CHUNK_MIN: usize = CHUNK_MAX / 4;

/// Records of one kind by id. Iteration is in id order, so equal tables print and hash equally.
///
/// Stored in chunks that clones share: cloning is cheap, and changing a record copies one chunk and the list of chunks
/// (8 bytes per 128 records).
#[derive(Debug)]
pub struct Table<T> {
    chunks: Arc<Vec<Arc<Chunk<T>>>>,
    len: usize,
}

/// A run of records in id order; never empty. `ids` and `records` are parallel.
#[derive(Debug)]
struct Chunk<T> {
    ids: Vec<Id>,
    records: Vec<Arc<T>>,
}

impl<T> Table<T> {
    /// Creates a table of shared records. Of equal ids, the last one is used.
    pub fn from_shared(mut records: Vec<(Id, Arc<T>)>) -> Self {
        if !records.is_sorted_by(|(a, _), (b, _)| a < b) {
            // The sort is stable, so the last of equal ids stays last.
            records.sort_by_key(|(id, _)| *id);
            records.reverse();
            records.dedup_by_key(|(id, _)| *id);
            records.reverse();
        }
        let len = records.len();
        let mut chunks = Vec::with_capacity(len.div_ceil(CHUNK_MAX));
        let mut records = records.into_iter();
        while let [_, ..] = records.as_slice() {
            let (ids, records) = records.by_ref().take(CHUNK_MAX).unzip();
            let mut chunk = Chunk { ids, records };
            chunk.ids.shrink_to_fit();
            chunk.records.shrink_to_fit();
            chunks.push(Arc::new(chunk));
        }
        Self { chunks: Arc::new(chunks), len }
    }

    /// The record with this id.
    pub fn get(&self, id: &Id) -> Option<&Arc<T>> {
        let chunk = self.chunks.get(self.chunk_of(id))?;
        let at = chunk.ids.binary_search(id).ok()?;
        chunk.records.get(at)
    }

    /// Adds or replaces a record; returns the previous one.
    pub fn insert(&mut self, id: Id, record: T) -> Option<Arc<T>> {
        self.insert_shared(id, Arc::new(record))
    }

    /// Adds a record that may be shared with another table.
    pub fn insert_shared(&mut self, id: Id, record: Arc<T>) -> Option<Arc<T>> {
        let at = self.chunk_of(&id);
        let chunks = Arc::make_mut(&mut self.chunks);
        let last = chunks.len().wrapping_sub(1);
        // A full chunk at the end is not split: tables are usually built in id order.
        let at = if at > last && chunks.get(last).is_some_and(|chunk| chunk.ids.len() < CHUNK_MAX) { last } else { at };
        let Some(shared) = chunks.get_mut(at) else {
            chunks.push(Arc::new(Chunk { ids: vec![id], records: vec![record] }));
            self.len += 1;
            return None;
        };
        let chunk = Arc::make_mut(shared);
        match chunk.ids.binary_search(&id) {
            Ok(found) => chunk.records.get_mut(found).map(|slot| std::mem::replace(slot, record)),
            Err(place) => {
                chunk.ids.insert(place, id);
                chunk.records.insert(place, record);
                if chunk.ids.len() > CHUNK_MAX {
                    let right = chunk.split();
                    chunks.insert(at + 1, Arc::new(right));
                }
                self.len += 1;
                None
            }
        }
    }

    /// Removes a record.
    pub fn remove(&mut self, id: &Id) -> Option<Arc<T>> {
        let at = self.chunk_of(id);
        let found = self.chunks.get(at)?.ids.binary_search(id).ok()?;
        let chunks = Arc::make_mut(&mut self.chunks);
        let chunk = Arc::make_mut(chunks.get_mut(at)?);
        chunk.ids.remove(found);
        let record = chunk.records.remove(found);
        self.len -= 1;
        let left = chunk.ids.len();
        let fits = |n: &Arc<Chunk<T>>| left + n.ids.len() <= CHUNK_MIN;
        if left == 0 {
            chunks.remove(at);
        } else if chunks.get(at + 1).is_some_and(fits) {
            let next = chunks.remove(at + 1);
            if let Some(chunk) = chunks.get_mut(at) {
                Arc::make_mut(chunk).append(&next);
            }
        }
        Some(record)
    }

    /// Whether the table has a record with this id.
    pub fn contains(&self, id: &Id) -> bool {
        self.get(id).is_some()
    }

    /// All records in id order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Id, &Arc<T>)> {
        self.chunks.iter().flat_map(|chunk| chunk.ids.iter().zip(&chunk.records))
    }

    /// All records in id order, without their ids.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Arc<T>> {
        self.chunks.iter().flat_map(|chunk| &chunk.records)
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Calls `visit` with each id whose records are not shared between the tables, in id order, and with the record of
    /// either table. Shared chunks are skipped.
    pub(crate) fn each_unshared<'t>(
        &'t self,
        newer: &'t Self,
        mut visit: impl FnMut(Id, Option<&'t Arc<T>>, Option<&'t Arc<T>>),
    ) {
        if Arc::ptr_eq(&self.chunks, &newer.chunks) {
            return;
        }
        let (mut old, mut new) = (Cursor::new(self), Cursor::new(newer));
        loop {
            while old.skips(&new) {
                old.next_chunk();
                new.next_chunk();
            }
            let (a, b) = match (old.peek(), new.peek()) {
                (None, None) => return,
                (Some(a), None) => (Some(a), None),
                (None, Some(b)) => (None, Some(b)),
                (Some(a), Some(b)) => match a.0.cmp(b.0) {
                    Ordering::Less => (Some(a), None),
                    Ordering::Greater => (None, Some(b)),
                    Ordering::Equal => (Some(a), Some(b)),
                },
            };
            if a.is_some() {
                old.step();
            }
            if b.is_some() {
                new.step();
            }
            match (a, b) {
                (Some((_, a)), Some((_, b))) if Arc::ptr_eq(a, b) => {}
                (Some((id, _)), _) | (_, Some((id, _))) => visit(*id, a.map(|a| a.1), b.map(|b| b.1)),
                (None, None) => {}
            }
        }
    }

    /// The index of the chunk that contains the id or would contain it; for an id beyond the last record, one past the
    /// last chunk.
    fn chunk_of(&self, id: &Id) -> usize {
        self.chunks.partition_point(|chunk| chunk.ids.last().is_some_and(|last| last < id))
    }
}

impl<T> Chunk<T> {
    /// Splits off the second half.
    fn split(&mut self) -> Self {
        let half = self.ids.len() / 2;
        Self { ids: self.ids.split_off(half), records: self.records.split_off(half) }
    }

    fn append(&mut self, next: &Self) {
        self.ids.extend_from_slice(&next.ids);
        self.records.extend(next.records.iter().map(Arc::clone));
    }
}

impl<T> Clone for Chunk<T> {
    fn clone(&self) -> Self {
        Self { ids: self.ids.clone(), records: self.records.clone() }
    }
}

/// A position in a table.
struct Cursor<'t, T> {
    chunks: &'t [Arc<Chunk<T>>],
    at: usize,
}

impl<'t, T> Cursor<'t, T> {
    fn new(table: &'t Table<T>) -> Self {
        Self { chunks: &table.chunks, at: 0 }
    }

    fn peek(&self) -> Option<(&'t Id, &'t Arc<T>)> {
        let chunk = self.chunks.first()?;
        Some((chunk.ids.get(self.at)?, chunk.records.get(self.at)?))
    }

    fn step(&mut self) {
        self.at += 1;
        if self.chunks.first().is_some_and(|chunk| self.at >= chunk.ids.len()) {
            self.next_chunk();
        }
    }

    fn next_chunk(&mut self) {
        self.chunks = self.chunks.split_first().map_or(&[], |(_, rest)| rest);
        self.at = 0;
    }

    /// Whether both are at the start of a shared chunk.
    fn skips(&self, other: &Self) -> bool {
        self.at == 0
            && other.at == 0
            && self.chunks.first().zip(other.chunks.first()).is_some_and(|(a, b)| Arc::ptr_eq(a, b))
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { chunks: Arc::default(), len: 0 }
    }
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self { chunks: Arc::clone(&self.chunks), len: self.len }
    }
}

impl<T: PartialEq> PartialEq for Table<T> {
    fn eq(&self, other: &Self) -> bool {
        let mut equal = self.len == other.len;
        if equal {
            self.each_unshared(other, |_, a, b| equal &= a.zip(b).is_some_and(|(a, b)| equal && a == b));
        }
        equal
    }
}

impl<T> FromIterator<(Id, T)> for Table<T> {
    fn from_iter<I: IntoIterator<Item = (Id, T)>>(records: I) -> Self {
        Self::from_shared(records.into_iter().map(|(id, record)| (id, Arc::new(record))).collect())
    }
}

impl<T: Serialize> Serialize for Table<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let records: BTreeMap<Id, Arc<T>> = BTreeMap::deserialize(deserializer)?;
        Ok(Self::from_shared(records.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Inserts and removals; every intermediate table is kept, so that chunks are shared.
    fn steps() -> impl Strategy<Value = Vec<(u128, Option<u8>)>> {
        proptest::collection::vec((0_u128..700, proptest::option::weighted(0.7, any::<u8>())), 0..2000)
    }

    fn check(table: &Table<u8>, model: &BTreeMap<Id, u8>) {
        assert_eq!(table.len(), model.len());
        assert!(table.iter().map(|(id, v)| (*id, **v)).eq(model.iter().map(|(id, v)| (*id, *v))));
        assert!(table.values().rev().map(|v| **v).eq(model.values().rev().copied()));
        assert!(table.chunks.iter().all(|c| !c.ids.is_empty() && c.ids.len() <= CHUNK_MAX));
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in steps()) {
            let (mut table, mut model) = (Table::default(), BTreeMap::new());
            let mut kept: Vec<(Table<u8>, BTreeMap<Id, u8>)> = Vec::new();
            for (n, (id, value)) in steps.into_iter().enumerate() {
                let id = Id::from_u128(id);
                let (was, expected) = match value {
                    Some(value) => (table.insert(id, value), model.insert(id, value)),
                    None => (table.remove(&id), model.remove(&id)),
                };
                prop_assert_eq!(was.as_deref().copied(), expected);
                prop_assert_eq!(table.get(&id).map(|v| **v), model.get(&id).copied());
                if n % 256 == 0 {
                    kept.push((table.clone(), model.clone()));
                }
            }
            check(&table, &model);
            for (old, old_model) in &kept {
                check(old, old_model);
                let mut seen = BTreeMap::new();
                old.each_unshared(&table, |id, a, b| { seen.insert(id, (a.copied_value(), b.copied_value())); });
                // A record that is not reported is unchanged; a changed record is reported exactly once.
                for id in old_model.keys().chain(model.keys()) {
                    match seen.get(id) {
                        Some((a, b)) => prop_assert_eq!((*a, *b), (old_model.get(id).copied(), model.get(id).copied())),
                        None => prop_assert!(old.get(id).zip(table.get(id)).is_some_and(|(a, b)| Arc::ptr_eq(a, b))),
                    }
                }
                prop_assert_eq!(old == &table, old_model == &model);
            }
            let rebuilt: Table<u8> = model.iter().map(|(id, v)| (*id, *v)).collect();
            check(&rebuilt, &model);
            prop_assert_eq!(&rebuilt, &table);
        }

        #[test]
        fn of_equal_ids_the_last_one_counts(list in proptest::collection::vec((0_u128..50, any::<u8>()), 0..300)) {
            let table: Table<u8> = list.iter().map(|(id, v)| (Id::from_u128(*id), *v)).collect();
            check(&table, &list.iter().map(|(id, v)| (Id::from_u128(*id), *v)).collect());
        }
    }

    trait Copied {
        fn copied_value(&self) -> Option<u8>;
    }

    impl Copied for Option<&Arc<u8>> {
        fn copied_value(&self) -> Option<u8> {
            self.map(|v| **v)
        }
    }

    #[test]
    fn a_change_of_one_record_leaves_the_others_shared() {
        let old: Table<u32> = (0..10_000_u32).map(|n| (Id::from_u128(n.into()), n)).collect();
        let mut new = old.clone();
        new.insert(Id::from_u128(5_000), 0);
        let mut looked_at = Vec::new();
        old.each_unshared(&new, |id, _, _| looked_at.push(id.as_u128()));
        assert_eq!(looked_at, [5_000]);
        let shared = old.chunks.iter().zip(new.chunks.iter()).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert_eq!(shared, old.chunks.len() - 1);
    }
}
