//! What changed between two generations, record by record.

use std::sync::Arc;

use crate::{Id, Table};

/// One record's fate.
#[derive(Clone, Debug, PartialEq)]
pub enum Change<T> {
    /// Added or replaced.
    Put(Id, Arc<T>),
    /// Gone.
    Remove(Id),
}

/// The changes of one table, in id order.
#[derive(Clone, Debug, PartialEq)]
pub struct Delta<T>(pub Vec<Change<T>>);

impl<T: PartialEq> Table<T> {
    /// What turns `self` into `newer`. Costs what they do not share.
    pub fn diff(&self, newer: &Self) -> Delta<T> {
        let mut changes = Vec::new();
        self.each_unshared(newer, |id, old, new| match (old, new) {
            (Some(old), Some(new)) if old == new => {}
            (_, Some(new)) => changes.push(Change::Put(id, Arc::clone(new))),
            (_, None) => changes.push(Change::Remove(id)),
        });
        Delta(changes)
    }

    /// Applies changes.
    pub fn apply(&mut self, delta: &Delta<T>) {
        for change in &delta.0 {
            match change {
                Change::Put(id, record) => {
                    self.insert_shared(*id, Arc::clone(record));
                }
                Change::Remove(id) => {
                    self.remove(id);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn applying_the_diff_gives_the_newer_table(
            a in proptest::collection::btree_map(0_u128..32, 0_u8..4, 0..16),
            b in proptest::collection::btree_map(0_u128..32, 0_u8..4, 0..16),
        ) {
            let table = |m: std::collections::BTreeMap<u128, u8>| -> Table<u8> {
                m.into_iter().map(|(id, v)| (Id::from_u128(id), v)).collect()
            };
            let (mut old, newer) = (table(a), table(b));
            let delta = old.diff(&newer);
            old.apply(&delta);
            prop_assert_eq!(&old, &newer);
            prop_assert!(newer.diff(&newer).0.is_empty());
        }
    }
}
