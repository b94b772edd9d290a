//! A declarative configuration as writes of one batch.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cardinal_kong::Snapshot;
use cardinal_kong::entities::{Kind, WORKSPACES};
use cardinal_store::{Batch, CommitError, Document, Expect, Key, NewDocument, PastDocument, Unique, Write};
use serde_json::Value;

use super::access::{Dao, Fields, Tenant};
use super::document::space;
use super::fault::Fault;
use super::members;
use crate::history::{EntityChange, Shown};

/// References of references are followed this far.
const DEPTH: usize = 4;

/// What an import changes.
#[derive(Debug)]
pub struct Import {
    /// The changes.
    pub entities: Vec<EntityChange>,
    batch: Batch,
}

/// Entities of a file that take the place of those in the store, which have other ids.
type Adopted = HashMap<(Arc<str>, String), String>;

impl Dao {
    /// What makes the entities of the store those of a configuration; with `merges`, those that it does not have stay.
    ///
    /// An entity of the configuration that has a unique key of one in the store takes its id and its time of creation, so
    /// that it counts as a change.
    ///
    /// # Errors
    /// The store failed.
    pub async fn plan_import(&self, tenant: &Tenant, snapshot: &Snapshot, merges: bool) -> Result<Import, Fault> {
        let (revision, documents) = self.store.snapshot().await?;
        let stored: BTreeMap<Key, Document> =
            documents.into_iter().map(|document| (document.key.clone(), document)).collect();
        let mut new = self.entities_of(tenant, snapshot, &stored)?;
        let shown = Shown { registry: &self.registry, reveals: false };
        let (mut writes, mut entities) = (Vec::new(), Vec::new());
        if !merges {
            // What other workspaces have, and the workspaces themselves, are not the concern of a file.
            let is_own = |key: &Key, document: &Document| {
                let is_here = document.space.is_empty() || document.space == tenant.workspace;
                is_here && &*key.kind != WORKSPACES && self.is_known(key)
            };
            let gone = stored.iter().filter(|(key, document)| !new.contains_key(*key) && is_own(key, document));
            for (key, document) in gone {
                entities.extend(shown.change(key, Some(&document.value), None));
                writes.push(Write::Delete(key.clone(), Expect::Any));
            }
        }
        new.retain(|key, document| stored.get(key).is_none_or(|stored| stored.value != document.value));
        for (key, document) in new {
            if stored.get(&key).is_some_and(|stored| stored.space != document.space) {
                return Err(Fault::message(409, &format!("{key} is an entity of another workspace")));
            }
            entities.extend(shown.change(&key, stored.get(&key).map(|stored| &stored.value), Some(&document.value)));
            writes.push(Write::Put(Box::new(document), Expect::Any));
        }
        let author = cardinal_store::Author { via: "import".into(), ..tenant.author.clone() };
        Ok(Import { entities, batch: Batch { author, writes, revision: Some(revision) } })
    }

    /// Makes the changes of an import, as one revision; gives the revision of the store.
    ///
    /// # Errors
    /// Somebody else wrote since it was planned, entities would break a rule, or the store failed.
    pub async fn import(&self, import: Import) -> Result<u64, Fault> {
        match self.store.commit(import.batch).await {
            Ok(committed) => Ok(committed.revision),
            Err(CommitError::Store(error)) => Err(error.into()),
            Err(CommitError::Violation { violation, .. }) => Err(Fault::message(409, &violation.to_string())),
            Err(error @ CommitError::Stale { .. }) => Err(Fault::message(409, &format!("{error}: try again"))),
        }
    }

    fn is_known(&self, key: &Key) -> bool {
        &*key.kind == members::KIND || self.registry.kind(&key.kind).is_some()
    }

    /// The documents of a configuration, with the ids that their entities have in the store.
    fn entities_of(
        &self,
        tenant: &Tenant,
        snapshot: &Snapshot,
        stored: &BTreeMap<Key, Document>,
    ) -> Result<BTreeMap<Key, NewDocument>, Fault> {
        let mut owners: HashMap<(Arc<str>, Unique), Arc<str>> = HashMap::new();
        for (key, Document { space, value, .. }) in stored.iter().filter(|(key, _)| self.is_known(key)) {
            let form = self.stored_form(key, PastDocument { space: space.clone(), value: value.clone() })?;
            owners.extend(form.uniques.into_iter().map(|unique| ((key.kind.clone(), unique), key.id.clone())));
        }
        let mut adopted = Adopted::new();
        let mut out = BTreeMap::new();
        for _ in 0..DEPTH {
            let before = adopted.len();
            out.clear();
            for kind in snapshot.kinds().filter_map(|kind| self.registry.kind(kind)) {
                for entity in snapshot.of(kind.name) {
                    let given = entity.id.to_string();
                    let document = self.document_of(tenant, kind, (&given, entity.value), &adopted)?;
                    let owner = |unique: &Unique| owners.get(&(document.key.kind.clone(), unique.clone()));
                    let is_stored = stored.contains_key(&document.key);
                    if let (false, Some(owner)) = (is_stored, document.uniques.iter().find_map(owner)) {
                        adopted.insert((document.key.kind.clone(), given), owner.to_string());
                    }
                    drop(out.insert(document.key.clone(), document));
                }
            }
            if adopted.len() == before {
                break;
            }
        }
        for document in out.values_mut() {
            if let Some(stored) = stored.get(&document.key) {
                keep_times(&mut document.value, &stored.value);
            }
        }
        out.extend(self.memberships_of(tenant, snapshot, &adopted));
        Ok(out)
    }

    fn document_of(
        &self,
        tenant: &Tenant,
        kind: &Kind,
        (id, mut fields): (&str, Fields),
        adopted: &Adopted,
    ) -> Result<NewDocument, Fault> {
        let id = adopted_id(adopted, kind.name, id);
        fields.insert(kind.primary_key.to_owned(), id.as_str().into());
        for (field, target) in kind.references() {
            if let Some(Value::String(id)) = fields.get_mut(field).and_then(|value| value.get_mut("id")) {
                *id = adopted_id(adopted, target, id);
            }
        }
        for id in fields.get_mut("ca_certificates").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Value::String(id) = id {
                *id = adopted_id(adopted, "ca_certificates", id);
            }
        }
        let past = PastDocument { space: space(kind, &tenant.workspace), value: Value::Object(fields) };
        self.stored_form(&Key::new(kind.name, id), past)
    }

    fn memberships_of(&self, tenant: &Tenant, snapshot: &Snapshot, adopted: &Adopted) -> Vec<(Key, NewDocument)> {
        let mut out = Vec::new();
        for consumer in snapshot.of("consumers") {
            let id = adopted_id(adopted, "consumers", &consumer.id.to_string());
            for group in snapshot.groups_of(&consumer.id) {
                let group = adopted_id(adopted, "consumer_groups", &group.to_string());
                let document = members::document(&tenant.workspace, &group, &id);
                out.push((document.key.clone(), document));
            }
        }
        out
    }
}

/// The id that an entity of a file has in the store.
fn adopted_id(adopted: &Adopted, kind: &str, id: &str) -> String {
    adopted.get(&(Arc::from(kind), id.to_owned())).cloned().unwrap_or_else(|| id.to_owned())
}

/// The time of creation is that in the store; that of the last change, too, if nothing else differs.
fn keep_times(new: &mut Value, stored: &Value) {
    let (Value::Object(new), Value::Object(stored)) = (new, stored) else { return };
    let keep = |fields: &mut Fields, field: &str| {
        if let (Some(time), true) = (stored.get(field), fields.contains_key(field)) {
            fields.insert(field.to_owned(), time.clone());
        }
    };
    keep(new, "created_at");
    let mut same = new.clone();
    keep(&mut same, "updated_at");
    if same == *stored {
        *new = same;
    }
}
