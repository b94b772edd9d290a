//! [`Table`]: an ordered, cheaply cloned map from id to shared record.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Id;

/// Records of one kind by id. Iteration is in id order, so equal tables print and hash equally.
#[derive(Debug)]
pub struct Table<T>(BTreeMap<Id, Arc<T>>);

impl<T> Table<T> {
    /// The record with this id.
    pub fn get(&self, id: &Id) -> Option<&Arc<T>> {
        self.0.get(id)
    }

    /// Adds or replaces a record; returns the one replaced.
    pub fn insert(&mut self, id: Id, record: T) -> Option<Arc<T>> {
        self.0.insert(id, Arc::new(record))
    }

    /// Adds a record that another table may share.
    pub fn insert_shared(&mut self, id: Id, record: Arc<T>) -> Option<Arc<T>> {
        self.0.insert(id, record)
    }

    /// Takes a record out.
    pub fn remove(&mut self, id: &Id) -> Option<Arc<T>> {
        self.0.remove(id)
    }

    /// Whether a record has this id.
    pub fn contains(&self, id: &Id) -> bool {
        self.0.contains_key(id)
    }

    /// All records in id order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Id, &Arc<T>)> {
        self.0.iter()
    }

    /// All records in id order, without their ids.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Arc<T>> {
        self.0.values()
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: PartialEq> PartialEq for Table<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|((a, x), (b, y))| a == b && (Arc::ptr_eq(x, y) || x == y))
    }
}

impl<T> FromIterator<(Id, T)> for Table<T> {
    fn from_iter<I: IntoIterator<Item = (Id, T)>>(records: I) -> Self {
        Self(records.into_iter().map(|(id, record)| (id, Arc::new(record))).collect())
    }
}

impl<T: Serialize> Serialize for Table<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(Self)
    }
}
