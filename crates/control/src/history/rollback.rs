//! The way back to an older revision.

use cardinal_store::{Author, Batch, CommitError, Expect, Write, changed_since};
use serde_json::{Value, json};

use super::compare::{EntityChange, Shown};
use super::fault;
use crate::dao::health;
use crate::{Dao, Fault, cluster, rbac};

/// How often a rollback is tried that other writes overtake.
const ATTEMPTS_MAX: usize = 500;

/// A rollback.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollback {
    /// The revision whose entities are restored.
    pub to: u64,
    /// The revision of the store: that of the rollback, or the one before if nothing was to be changed.
    pub revision: u64,
    /// What the rollback changes.
    pub entities: Vec<EntityChange>,
}

impl Rollback {
    /// As JSON.
    pub fn to_json(&self) -> Value {
        let entities: Vec<Value> = self.entities.iter().map(EntityChange::to_json).collect();
        json!({ "rolled_back_to": self.to, "revision": self.revision, "entities": entities })
    }
}

/// Restores exactly the entities of a revision, in one batch; as a trial, only says what would change.
///
/// # Errors
/// The log does not have the revision, the entities cannot be restored, or the store failed.
pub async fn rollback(dao: &Dao, author: &Author, to: u64, is_trial: bool) -> Result<Rollback, Fault> {
    let author = Author { via: "rollback".into(), ..author.clone() };
    for _ in 0..ATTEMPTS_MAX {
        let since = changed_since(&**dao.store(), to).await.map_err(fault)?;
        let shown = Shown { registry: dao.registry(), reveals: false };
        let (mut writes, mut entities) = (Vec::new(), Vec::new());
        for (key, changed) in since.documents {
            let before = changed.before.as_ref().map(|document| &document.value);
            // What control planes share, and what was said about targets, is no entity. Users and roles stay: an older token, or
            // a role that was taken away, must not come back with a configuration.
            let is_kept = [cluster::KIND, health::KIND].contains(&&*key.kind) || rbac::kind(&key.kind).is_some();
            if before == changed.now.as_ref() || is_kept {
                continue;
            }
            entities.extend(shown.change(&key, changed.now.as_ref(), before));
            writes.push(match changed.before {
                Some(document) => Write::Put(Box::new(dao.stored_form(&key, document)?), Expect::Any),
                None => Write::Delete(key, Expect::Any),
            });
        }
        if is_trial || writes.is_empty() {
            return Ok(Rollback { to, revision: since.revision, entities });
        }
        let batch = Batch { author: author.clone(), writes, revision: Some(since.revision) };
        match dao.store().commit(batch).await {
            Ok(committed) => return Ok(Rollback { to, revision: committed.revision, entities }),
            // Somebody else wrote meanwhile.
            Err(CommitError::Stale { .. }) => {}
            Err(CommitError::Store(error)) => return Err(error.into()),
            Err(CommitError::Violation { violation, .. }) => {
                return Err(Fault::message(409, &format!("revision {to} cannot be restored: {violation}")));
            }
        }
    }
    Err(Fault::message(409, "the entities are being changed by others: try again"))
}
