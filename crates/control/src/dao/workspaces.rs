//! Workspaces: `default`, which is always there, and those that the store has. Kong has more than one of them in its
//! Enterprise edition only.
//!
//! Each entity in another workspace than `default` references its workspace, so that the store itself refuses to create
//! entities in a workspace that is gone, and to delete a workspace that has entities.

use std::sync::Arc;

use cardinal_kong::Registry;
use cardinal_kong::entities::{Kind, WORKSPACES};
use cardinal_store::{Batch, CommitError, Document, Expect, Query, Write};
use serde_json::Value;

use super::access::{DEFAULT_WORKSPACE, Dao, Fields, Tenant};
use super::default_workspace::DEFAULT_NAME;
use super::fault::Fault;
use super::members;
use super::read::{Selector, fields_of};
use crate::permissions::Action;
use crate::rbac;

/// How often a deletion is tried that other writes overtake.
const ATTEMPTS_MAX: usize = 500;

/// Words that paths of the Admin API begin with, other than the collections of entities: those of this program, and those
/// of Kong Enterprise.
const WORDS: [&str; 27] = [
    "admins",
    "application_instances",
    "applications",
    "audit",
    "auth",
    "cache",
    "cardinal",
    "clustering",
    "config",
    "debug",
    "developers",
    "endpoints",
    "event-hooks",
    "event_hooks",
    "files",
    "groups",
    "keyring",
    "kong",
    "licenses",
    "metrics",
    "partials",
    "rbac",
    "schemas",
    "status",
    "tags",
    "timers",
    "userinfo",
];

/// Whether paths of the Admin API begin with this word, so that no workspace may be named so.
pub(crate) fn is_reserved(registry: &Registry, word: &str) -> bool {
    WORDS.contains(&word) || registry.kinds().any(|kind| kind.collection == word || kind.name == word)
}

impl Dao {
    /// The id of the workspace with this name.
    ///
    /// # Errors
    /// The store failed.
    pub async fn workspace_named(&self, name: &str) -> Result<Option<Arc<str>>, Fault> {
        if name == DEFAULT_NAME {
            return Ok(Some(DEFAULT_WORKSPACE.into()));
        }
        let Some(kind) = self.registry.kind(WORKSPACES) else { return Ok(None) };
        let everywhere = Tenant::new(cardinal_store::Author::default());
        match self.find(&everywhere, kind, "name", &Value::from(name)).await {
            Ok(found) => Ok(found.map(|document| document.key.id)),
            // A text that cannot be a name names nothing.
            Err(fault) if fault.status == 400 => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Rules of workspaces besides the schema.
    pub(super) fn check_workspace(&self, old: Option<&Fields>, new: &Fields) -> Result<(), Fault> {
        let text = |name: &str| new.get(name).and_then(Value::as_str).unwrap_or_default();
        let name = text("name");
        if let Some(old) = old {
            let is_same = old.get("name").and_then(Value::as_str) == Some(name);
            return if is_same { Ok(()) } else { Err(Fault::message(400, "Cannot rename a workspace")) };
        }
        if name == DEFAULT_NAME {
            return Err(Fault::unique(&[("name", &Value::from(name))]));
        }
        if text("id") == DEFAULT_WORKSPACE {
            return Err(Fault::primary_key_taken(("id", &Value::from(DEFAULT_WORKSPACE))));
        }
        if is_reserved(&self.registry, name) {
            return Err(Fault::field("name", format!("'{name}' is reserved: paths of the Admin API begin with it")));
        }
        Ok(())
    }

    /// Deletes a workspace with all its entities. Deleting what does not exist is no error.
    ///
    /// # Errors
    /// It is the workspace `default`, an entity of another workspace depends on one of its entities, or the store failed.
    pub async fn delete_workspace(&self, tenant: &Tenant, kind: &Kind, selector: Selector<'_>) -> Result<(), Fault> {
        for _ in 0..ATTEMPTS_MAX {
            let revision = self.store.status().await?.revision;
            let Some(workspace) = self.select_document(tenant, kind, selector).await? else { return Ok(()) };
            if let Some(fault) = self.forbids_deletion(kind, &fields_of(workspace.clone())).await? {
                return Err(fault);
            }
            tenant.check(&workspace.key.id, Action::Delete)?;
            let mut writes = self.deletions_in(tenant, &workspace.key.id).await?;
            let name = workspace.value.get("name").and_then(Value::as_str).unwrap_or_default();
            // A later workspace of this name is another one.
            writes.extend(self.rules_about(name).await?);
            writes.push(Write::Delete(workspace.key, Expect::Any));
            let batch = Batch { author: tenant.author.clone(), writes, revision: Some(revision) };
            match self.store.commit(batch).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Stale { .. }) => {}
                Err(CommitError::Store(error)) => return Err(error.into()),
                Err(CommitError::Violation { violation, .. }) => {
                    return Err(Fault::message(400, &format!("the workspace cannot be deleted: {violation}")));
                }
            }
        }
        Err(Fault::contended())
    }

    /// What deletes the rules of roles that name a workspace.
    pub(super) async fn rules_about(&self, workspace: &str) -> Result<Vec<Write>, Fault> {
        let mut writes = Vec::new();
        let mut query = Query::all(rbac::kinds().endpoints.name);
        loop {
            let page = self.store.list(query.clone()).await?;
            let is_about = |rule: &Document| rule.value.get("workspace").and_then(Value::as_str) == Some(workspace);
            let rules = page.documents.into_iter().filter(is_about);
            writes.extend(rules.map(|rule| Write::Delete(rule.key, Expect::Any)));
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(writes),
            }
        }
    }

    /// What deletes all entities of a workspace.
    async fn deletions_in(&self, tenant: &Tenant, workspace: &Arc<str>) -> Result<Vec<Write>, Fault> {
        let mut writes = Vec::new();
        for kind in self.registry.kinds().map(|kind| kind.name).chain([members::KIND]) {
            let mut query = Query::all(kind);
            query.space = Some(Arc::clone(workspace));
            loop {
                let page = self.store.list(query.clone()).await?;
                for document in &page.documents {
                    tenant.check(&document.key.id, Action::Delete)?;
                }
                writes.extend(page.documents.into_iter().map(|document| Write::Delete(document.key, Expect::Any)));
                match page.next {
                    Some(next) => query.after = Some(next),
                    None => break,
                }
            }
        }
        Ok(writes)
    }
}
