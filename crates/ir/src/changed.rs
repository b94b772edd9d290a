//! Which records two generations do not share.

use std::sync::Arc;

use crate::{Id, Table};

/// A record that is not the same in two generations. One of `old` and `new` is there at least.
#[derive(Clone, Debug)]
pub struct Changed<T> {
    /// Its id.
    pub id: Id,
    /// What it was.
    pub old: Option<Arc<T>>,
    /// What it is.
    pub new: Option<Arc<T>>,
}

impl<T> Table<T> {
    /// The records that `self` and `newer` do not share, in id order. Equal records that are not the same
    /// allocation count as changed: who wants little work afterwards shares what stays.
    pub fn changed(&self, newer: &Self) -> Vec<Changed<T>> {
        let mut changed = Vec::new();
        self.each_unshared(newer, |id, old, new| {
            changed.push(Changed { id, old: old.map(Arc::clone), new: new.map(Arc::clone) });
        });
        changed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn changes_turn_the_old_table_into_the_new_one(
            a in proptest::collection::btree_map(0_u128..32, 0_u8..4, 0..16),
            b in proptest::collection::btree_map(0_u128..32, 0_u8..4, 0..16),
        ) {
            let old: Table<u8> = a.iter().map(|(id, v)| (Id::from_u128(*id), *v)).collect();
            let mut new = old.clone();
            for id in a.keys().filter(|id| !b.contains_key(id)) {
                new.remove(&Id::from_u128(*id));
            }
            for (id, value) in b.iter().filter(|(id, value)| a.get(id) != Some(value)) {
                new.insert(Id::from_u128(*id), *value);
            }
            let mut made = old.clone();
            let changed = old.changed(&new);
            for change in &changed {
                prop_assert_eq!(old.get(&change.id), change.old.as_ref());
                prop_assert_ne!(change.old.as_ref(), change.new.as_ref());
                match &change.new {
                    Some(record) => made.insert_shared(change.id, Arc::clone(record)),
                    None => made.remove(&change.id),
                };
            }
            prop_assert_eq!(made, new);
        }
    }
}
