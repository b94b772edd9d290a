//! What documents were at an older revision, for comparisons and rollbacks.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use serde_json::Value;

use crate::{Key, Store, StoreError};

/// Changes that are read at a time.
const CHANGES: usize = 10_000;

/// A document as it was.
#[derive(Clone, Debug, PartialEq)]
pub struct PastDocument {
    /// The tenant that it belonged to.
    pub space: Arc<str>,
    /// What users read back.
    pub value: Value,
}

/// What was changed after a revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Since {
    /// The revision that the changes reach up to: that of the store.
    pub revision: u64,
    /// The documents that changed, whether or not they are as before again.
    pub documents: BTreeMap<Key, Changed>,
}

/// Both states of a document that changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// As it was; `None` if it did not exist.
    pub before: Option<PastDocument>,
    /// As it is; `None` if it does not exist.
    pub now: Option<Value>,
}

/// What was changed after a revision. The cost depends on the changes, not on the documents.
///
/// # Errors
/// [`StoreError::TooLarge`] if the log does not reach back to this revision, or not yet to it.
pub async fn changed_since(store: &dyn Store, revision: u64) -> Result<Since, StoreError> {
    let mut since = Since { revision, documents: BTreeMap::new() };
    loop {
        let changes = store.changes(since.revision, CHANGES).await?;
        let Some(last) = changes.last().map(|change| change.revision) else { break };
        for change in changes {
            match since.documents.entry(change.key) {
                // The first change of a document after the revision says what it was.
                Entry::Vacant(place) => {
                    let before = change.old.map(|value| PastDocument { space: change.space, value });
                    place.insert(Changed { before, now: change.new });
                }
                Entry::Occupied(mut found) => found.get_mut().now = change.new,
            }
        }
        since.revision = last;
    }
    if since.documents.is_empty() {
        let newest = store.status().await?.revision;
        if revision > newest {
            return Err(StoreError::TooLarge(format!("there is no revision {revision} yet: the newest is {newest}")));
        }
    }
    Ok(since)
}

/// All documents at a revision: those of now, with the changes after it undone.
///
/// # Errors
/// [`StoreError::TooLarge`] if the log does not reach back to this revision, or not yet to it.
pub async fn documents_at(store: &dyn Store, revision: u64) -> Result<BTreeMap<Key, PastDocument>, StoreError> {
    let (_, documents) = store.snapshot().await?;
    let mut all: BTreeMap<Key, PastDocument> = documents
        .into_iter()
        .map(|document| (document.key, PastDocument { space: document.space, value: document.value }))
        .collect();
    // Changes after the snapshot are undone as well: all that matters is what came first after the revision.
    for (key, changed) in changed_since(store, revision).await?.documents {
        match changed.before {
            Some(document) => all.insert(key, document),
            None => all.remove(&key),
        };
    }
    Ok(all)
}
