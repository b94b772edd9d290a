//! Which consumers are in which groups: documents of their own, which reference both.

use std::sync::Arc;

use cardinal_store::{Batch, Expect, Key, NewDocument, OnDelete, Query, Reference, Write};
use serde_json::{Value, json};

use super::access::{Dao, Tenant};
use super::document::workspace_reference;
use super::fault::Fault;
use crate::permissions::Action;

/// The kind of the documents.
pub(crate) const KIND: &str = "consumer_group_consumers";

impl Dao {
    /// The consumers of a group, or the groups of a consumer, in ascending order of their ids.
    pub(crate) async fn memberships(&self, of_group: bool, id: &str) -> Result<Vec<String>, Fault> {
        let (field, kind, other) = if of_group {
            ("consumer_group", "consumer_groups", "consumer")
        } else {
            ("consumer", "consumers", "consumer_group")
        };
        let mut query = Query::all(KIND);
        query.reference = Some((field.into(), Key::new(kind, id)));
        let mut out = Vec::new();
        loop {
            let page = self.store.list(query.clone()).await?;
            let others = page.documents.iter().filter_map(|document| document.value.get(other)?.get("id")?.as_str());
            out.extend(others.map(str::to_owned));
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
        out.sort();
        Ok(out)
    }

    /// Adds a consumer to a group or removes it.
    pub(crate) async fn set_membership(
        &self,
        tenant: &Tenant,
        group: &str,
        consumer: &str,
        is_member: bool,
    ) -> Result<(), Fault> {
        tenant.check(group, Action::Update)?;
        let key = Key::new(KIND, id(group, consumer));
        let write = if is_member {
            Write::Put(Box::new(document(&tenant.workspace, group, consumer)), Expect::Any)
        } else {
            Write::Delete(key, Expect::Any)
        };
        let batch = Batch { author: tenant.author.clone(), writes: vec![write], revision: None };
        match self.store.commit(batch).await {
            Ok(_) => Ok(()),
            Err(cardinal_store::CommitError::Store(error)) => Err(error.into()),
            // Group or consumer were deleted meanwhile.
            Err(_) => Err(Fault::not_found()),
        }
    }
}

/// The document of a membership.
pub(crate) fn document(workspace: &Arc<str>, group: &str, consumer: &str) -> NewDocument {
    let reference = |field: &str, kind: &str, id: &str| Reference {
        field: field.into(),
        to: Key::new(kind, id),
        on_delete: OnDelete::Cascade,
    };
    let entities =
        [reference("consumer_group", "consumer_groups", group), reference("consumer", "consumers", consumer)];
    NewDocument {
        key: Key::new(KIND, id(group, consumer)),
        space: Arc::clone(workspace),
        value: value(group, consumer),
        uniques: Vec::new(),
        references: entities.into_iter().chain(workspace_reference(workspace)).collect(),
        tags: Vec::new(),
        secrets: Vec::new(),
    }
}

/// The id of a document.
pub(crate) fn id(group: &str, consumer: &str) -> String {
    format!("{group}:{consumer}")
}

/// The value of a document.
pub(crate) fn value(group: &str, consumer: &str) -> Value {
    json!({ "consumer_group": { "id": group }, "consumer": { "id": consumer } })
}
