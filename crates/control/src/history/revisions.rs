//! Revisions, and what one of them changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use cardinal_base::civil::date_of_day;
use cardinal_store::{Author, Generation, Store, StoreError};
use serde_json::{Value, json};

use super::compare::{EntityChange, Shown};
use super::fault;
use crate::{Dao, Fault};

/// A revision, without its changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// The revision.
    pub revision: u64,
    /// When it was made, in milliseconds since 1970.
    pub at_ms: i64,
    /// By whom.
    pub author: Author,
    /// Number of changed documents.
    pub changes: u64,
    /// Number of changed documents of each kind.
    pub kinds: BTreeMap<Arc<str>, u64>,
    /// The hash of its last change in the log, in hexadecimal. It covers all changes before, too: stores whose revision has
    /// the same hash have the same entities and the same history.
    pub hash: String,
}

/// A revision and its changes.
#[derive(Clone, Debug, PartialEq)]
pub struct RevisionChanges {
    /// The revision.
    pub revision: Revision,
    /// The changes, in their order.
    pub entities: Vec<EntityChange>,
}

impl Revision {
    fn new(generation: Generation) -> Self {
        let Generation { revision, at_ms, author, changes } = generation;
        Self { revision, at_ms, author, changes, kinds: BTreeMap::new(), hash: String::new() }
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let Author { name, from, via } = &self.author;
        let kinds: serde_json::Map<_, _> =
            self.kinds.iter().map(|(kind, count)| (kind.to_string(), (*count).into())).collect();
        json!({ "revision": self.revision, "hash": self.hash, "at": time_text(self.at_ms),
            "author": { "name": &**name, "from": &**from, "via": &**via }, "changes": self.changes, "kinds": kinds })
    }
}

impl RevisionChanges {
    /// As JSON.
    pub fn to_json(&self) -> Value {
        let mut shown = self.revision.to_json();
        if let Some(shown) = shown.as_object_mut() {
            shown.insert("entities".to_owned(), self.entities.iter().map(EntityChange::to_json).collect());
        }
        shown
    }
}

/// Revisions in descending order, below `before` if given, at most `max`.
///
/// # Errors
/// The store failed.
pub async fn revisions(store: &dyn Store, before: Option<u64>, max: usize) -> Result<Vec<Revision>, Fault> {
    let mut out = Vec::new();
    for generation in store.generations(before, max).await? {
        let mut revision = Revision::new(generation);
        let changes = match store.changes(revision.revision.saturating_sub(1), 1).await {
            Ok(changes) => changes,
            // The log was shortened meanwhile.
            Err(StoreError::TooLarge(_)) => break,
            Err(error) => return Err(error.into()),
        };
        for change in changes.iter().filter(|change| change.revision == revision.revision) {
            *revision.kinds.entry(Arc::clone(&change.key.kind)).or_default() += 1;
            revision.hash = change.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        }
        out.push(revision);
    }
    Ok(out)
}

/// What a revision changed.
///
/// # Errors
/// The log does not have the revision, or the store failed.
pub async fn revision_changes(dao: &Dao, revision: u64, reveals: bool) -> Result<RevisionChanges, Fault> {
    let missing = || Fault::message(404, &format!("there is no revision {revision}"));
    let store = &**dao.store();
    let before = revision.checked_sub(1).ok_or_else(missing)?;
    let found = revisions(store, revision.checked_add(1), 1).await?;
    let found = found.into_iter().next().filter(|found| found.revision == revision).ok_or_else(missing)?;
    let shown = Shown { registry: dao.registry(), reveals };
    let changes = store.changes(before, 1).await.map_err(fault)?;
    let entities = changes.into_iter().filter(|change| change.revision == revision).filter_map(|change| {
        let entity = shown.change(&change.key, change.old.as_ref(), change.new.as_ref())?;
        Some(EntityChange { cascaded: change.cascaded, ..entity })
    });
    Ok(RevisionChanges { revision: found, entities: entities.collect() })
}

/// A time in milliseconds since 1970 as text: `2026-01-31T12:00:00.250Z`.
pub fn time_text(at_ms: i64) -> String {
    let ms = u64::try_from(at_ms).unwrap_or(0);
    let (day, of_day) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, date) = date_of_day(day);
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", of_day % 1_000)
}
