//! [`Delta`]: the changes of one table.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Id, Row, SecretRef, Table};

/// The change of one record. Without a new record, the change is a removal.
#[derive(Clone, Debug, PartialEq)]
pub struct Change<T> {
    /// The record's id.
    pub id: Id,
    /// The record before the change; `None` for an addition, and if it is unknown ([`Table::apply`] fills it in).
    pub old: Option<Arc<T>>,
    /// The record after the change.
    pub new: Option<Arc<T>>,
}

/// The changes of one table, in the order of ids.
///
/// The serial form is a map from id to the new record, or to `null` for a removal.
#[derive(Clone, Debug, PartialEq)]
pub struct Delta<T>(Vec<Change<T>>);

impl<T> Delta<T> {
    /// Whether there are no changes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of changed records.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The changes.
    pub fn iter(&self) -> std::slice::Iter<'_, Change<T>> {
        self.0.iter()
    }

    /// The added and changed records.
    pub fn put(&self) -> impl Iterator<Item = (Id, &Arc<T>)> {
        self.0.iter().filter_map(|change| Some((change.id, change.new.as_ref()?)))
    }

    /// The ids of removed records.
    pub fn removed(&self) -> impl Iterator<Item = Id> {
        self.0.iter().filter(|change| change.new.is_none()).map(|change| change.id)
    }
}

impl<T> Default for Delta<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, C: Into<Change<T>>> FromIterator<C> for Delta<T> {
    /// If a record is changed several times, the last change is used.
    fn from_iter<I: IntoIterator<Item = C>>(changes: I) -> Self {
        let mut changes: Vec<Change<T>> = changes.into_iter().map(Into::into).collect();
        // The sort is stable, so the last of equal ids stays last.
        changes.sort_by_key(|change| change.id);
        changes.reverse();
        changes.dedup_by_key(|change| change.id);
        changes.reverse();
        Self(changes)
    }
}

impl<'d, T> IntoIterator for &'d Delta<T> {
    type Item = &'d Change<T>;
    type IntoIter = std::slice::Iter<'d, Change<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Serialize> Serialize for Delta<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|change| (change.id, &change.new)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Delta<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let changes = std::collections::BTreeMap::<Id, Option<Arc<T>>>::deserialize(deserializer)?;
        Ok(Self(changes.into_iter().map(|(id, new)| Change { id, old: None, new }).collect()))
    }
}

/// The changes, plus the unchanged records that refer to a secret for which `is_affected` returns true.
pub(crate) fn with_affected<T: Row>(
    table: &Table<T>,
    delta: Delta<T>,
    is_affected: &dyn Fn(SecretRef) -> bool,
) -> Delta<T> {
    let mut affected = Vec::new();
    for (id, record) in table.iter() {
        let mut found = false;
        record.secrets(&mut |reference| found |= is_affected(reference));
        if found {
            affected.push(Change { id: *id, old: Some(Arc::clone(record)), new: Some(Arc::clone(record)) });
        }
    }
    // If a record is changed twice, the second change is used.
    if affected.is_empty() { delta } else { affected.into_iter().chain(delta.0).collect() }
}

/// Above this share of changed records, a table is rebuilt: so many single changes would leave chunks half empty.
const REBUILD_SHARE: usize = 4;

impl<T: PartialEq> Table<T> {
    /// The changes from `self` to `newer`. The cost depends on the parts that they do not share.
    pub fn diff(&self, newer: &Self) -> Delta<T> {
        let mut changes = Vec::new();
        self.each_unshared(newer, |id, old, new| {
            if old.zip(new).is_none_or(|(old, new)| old != new) {
                changes.push(Change { id, old: old.map(Arc::clone), new: new.map(Arc::clone) });
            }
        });
        Delta(changes)
    }

    /// Applies the changes, and returns the effective ones together with the previous records. Unchanged records stay
    /// shared with clones of the table.
    pub fn apply(&mut self, delta: Delta<T>) -> Delta<T> {
        let mut changes = delta.0;
        changes.retain_mut(|change| {
            change.old = self.get(&change.id).map(Arc::clone);
            change.old != change.new
        });
        if changes.len() > self.len() / REBUILD_SHARE {
            *self = self.rebuilt(&changes);
        } else {
            for change in &changes {
                match &change.new {
                    Some(record) => drop(self.insert_shared(change.id, Arc::clone(record))),
                    None => drop(self.remove(&change.id)),
                }
            }
        }
        Delta(changes)
    }

    /// The table after these changes, built with full chunks.
    fn rebuilt(&self, changes: &[Change<T>]) -> Self {
        let mut records = Vec::with_capacity(self.len() + changes.len());
        let mut changes = changes.iter().peekable();
        let put = |change: &Change<T>| change.new.as_ref().map(|record| (change.id, Arc::clone(record)));
        for (id, record) in self.iter() {
            while let Some(added) = changes.next_if(|change| change.id < *id) {
                records.extend(put(added));
            }
            match changes.next_if(|change| change.id == *id) {
                Some(change) => records.extend(put(change)),
                None => records.push((*id, Arc::clone(record))),
            }
        }
        records.extend(changes.filter_map(put));
        Self::from_shared(records)
    }
}
