//! What operators say about the health of targets, in the store: so every control plane and node of the store learns of it, and
//! the change log says who said it. It is no entity.

use cardinal_store::{Batch, CommitError, Expect, Key, NewDocument, OnDelete, Reference, Write};
use cardinal_sync::stream::TargetHealth;
use serde_json::{Value, json};

use super::access::{Dao, Tenant};
use super::fault::Fault;

/// The kind of the documents.
pub(crate) const KIND: &str = "target_health";

impl Dao {
    /// Whether others follow the store: not if entities are in files.
    pub(crate) fn tells_others(&self) -> bool {
        !self.has_files
    }

    /// Tells all that follow the store. `node` is the one that knows already, `target` the id of the target.
    pub(crate) async fn tell_health(
        &self,
        tenant: &Tenant,
        node: &str,
        target: &str,
        said: &TargetHealth,
    ) -> Result<(), Fault> {
        let reference =
            Reference { field: "target".into(), to: Key::new("targets", target), on_delete: OnDelete::Cascade };
        let address = said.address.map(|address| address.to_string());
        let id =
            format!("{target}{}{}", if address.is_some() { "@" } else { "" }, address.as_deref().unwrap_or_default());
        let value = json!({
            "upstream": said.upstream, "target": said.target, "address": address, "healthy": said.is_healthy,
            "node": node, "at": cardinal_schema::Auto::now(self), "nonce": self.random(),
        });
        let document = NewDocument {
            key: Key::new(KIND, id),
            space: tenant.workspace.clone(),
            value,
            uniques: Vec::new(),
            references: vec![reference],
            tags: Vec::new(),
            secrets: Vec::new(),
        };
        let write = Write::Put(Box::new(document), Expect::Any);
        match self.store.commit(Batch { author: tenant.author.clone(), writes: vec![write], revision: None }).await {
            Ok(_) => Ok(()),
            Err(CommitError::Store(error)) => Err(error.into()),
            // The target was deleted meanwhile.
            Err(_) => Err(Fault::not_found()),
        }
    }
}

/// What a document says, unless this node said it.
pub(crate) fn of_document(value: &Value, node: &str) -> Option<TargetHealth> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    if text("node") == Some(node) {
        return None;
    }
    let address = match text("address") {
        Some(address) => Some(address.parse().ok()?),
        None => None,
    };
    Some(TargetHealth {
        upstream: text("upstream")?.to_owned(),
        target: text("target")?.to_owned(),
        address,
        is_healthy: value.get("healthy")?.as_bool()?,
    })
}
