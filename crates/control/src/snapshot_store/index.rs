//! [`Index`]: finds entities by unique values and by what they reference.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use cardinal_ir::Id;
use cardinal_kong::{Registry, Snapshot};
use cardinal_store::Key;

use crate::dao::DEFAULT_WORKSPACE;
use crate::dao::document::{references, unique, unique_keys, unique_name};

/// Where entities are found by something else than their ids. Keys are hashes, so that no text is held twice.
#[derive(Debug, Default)]
pub(super) struct Index {
    hashers: [RandomState; 2],
    owners: HashMap<u128, Id>,
    referrers: HashMap<u128, Vec<Id>>,
    /// Groups with their consumers, in the order of both.
    pub(super) members: Vec<(Id, Id)>,
}

impl Index {
    pub(super) fn of(snapshot: &Snapshot, registry: &Registry) -> Self {
        let mut index = Self::default();
        let workspace = DEFAULT_WORKSPACE.into();
        for kind in registry.kinds() {
            for entity in snapshot.of(kind.name) {
                let schema = registry.schema_of(kind, &entity.value).unwrap_or(&kind.schema);
                for names in unique_keys(kind, schema) {
                    if let Some(own) = unique(kind, schema, &workspace, &names, &entity.value) {
                        let hash = index.hash(&[kind.name, &unique_name(&names), &own.value]);
                        index.owners.insert(hash, entity.id);
                    }
                }
                for reference in references(kind, &entity.value) {
                    let hash = index.hash(&[kind.name, &reference.field, &reference.to.kind, &reference.to.id]);
                    index.referrers.entry(hash).or_default().push(entity.id);
                }
            }
        }
        let pairs = snapshot.memberships().iter();
        index.members = pairs.flat_map(|(consumer, groups)| groups.iter().map(|group| (*group, *consumer))).collect();
        index.members.sort_unstable();
        index
    }

    /// The entity that has this unique value, unless another value has the same hash.
    pub(super) fn owner(&self, kind: &str, name: &str, value: &str) -> Option<Id> {
        self.owners.get(&self.hash(&[kind, name, value])).copied()
    }

    /// The entities of a kind that reference this one, in the order of their ids.
    pub(super) fn referrers(&self, kind: &str, field: &str, to: &Key) -> &[Id] {
        self.referrers.get(&self.hash(&[kind, field, &to.kind, &to.id])).map_or(&[], Vec::as_slice)
    }

    fn hash(&self, parts: &[&str]) -> u128 {
        let [high, low] = self.hashers.each_ref().map(|state| state.hash_one(parts));
        (u128::from(high) << 64) | u128::from(low)
    }
}
