//! Many writes as one batch. Each sees those before it, by an [`Overlay`] over the store.

use std::sync::Arc;

use cardinal_kong::entities::Kind;
use cardinal_store::{Batch, CommitError, Store, Violation};
use serde_json::{Value, json};

use super::access::{Dao, Fields, Tenant};
use super::fault::Fault;
use super::overlay::Overlay;
use super::read::Selector;

/// Writes of a batch at most.
const WRITES_MAX: usize = 10_000;
/// How often a batch is tried that other writes overtake.
const ATTEMPTS_MAX: usize = 500;

/// The result of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchDone {
    /// The revision of the store.
    pub revision: u64,
    /// The written entities, in the order of the writes; `None` for deletions.
    pub entities: Vec<Option<Fields>>,
}

impl Dao {
    /// Applies writes `{method, kind, key, body}` in their order, as one revision. `method` is `put`, `patch`, `delete`, or
    /// `post` without a key; `key` is an id or a name.
    ///
    /// # Errors
    /// One of the writes fails, whose index the message has, or the store failed. Nothing is written then.
    pub async fn batch(&self, tenant: &Tenant, writes: Vec<Value>) -> Result<BatchDone, Fault> {
        if writes.len() > WRITES_MAX {
            return Err(Fault::message(413, &format!("a batch has at most {WRITES_MAX} writes")));
        }
        for _ in 0..ATTEMPTS_MAX {
            let overlay = Arc::new(Overlay::new(Arc::clone(self.store())));
            let dao = self.over(Arc::clone(&overlay) as Arc<dyn Store>);
            let mut entities = Vec::with_capacity(writes.len());
            for (at, write) in writes.iter().enumerate() {
                entities.push(dao.apply(tenant, write).await.map_err(|fault| placed(at, fault))?);
            }
            let batch = Batch { author: tenant.author.clone(), writes: overlay.writes(), revision: None };
            match self.store().commit(batch).await {
                Ok(committed) => return Ok(BatchDone { revision: committed.revision, entities }),
                Err(CommitError::Violation { violation: Violation::Expectation { .. }, .. }) => {}
                Err(CommitError::Store(error)) => return Err(error.into()),
                Err(CommitError::Violation { violation, .. }) => {
                    return Err(Fault::message(409, &violation.to_string()));
                }
                Err(error @ CommitError::Stale { .. }) => return Err(Fault::message(409, &error.to_string())),
            }
        }
        Err(Fault::contended())
    }

    async fn apply(&self, tenant: &Tenant, write: &Value) -> Result<Option<Fields>, Fault> {
        let text = |name: &str| write.get(name).and_then(Value::as_str).unwrap_or_default();
        let (method, key) = (text("method").to_ascii_lowercase(), text("key"));
        let kind = self.kind_named(text("kind"))?;
        let body = || match write.get("body") {
            Some(Value::Object(fields)) => Ok(fields.clone()),
            None if method == "put" => Ok(Fields::new()),
            _ => Err(Fault::message(400, "expected an object as body")),
        };
        let selector = Selector::of(key);
        match (method.as_str(), key.is_empty()) {
            ("post", true) => self.insert(tenant, kind, body()?).await.map(Some),
            ("put", false) => self.upsert(tenant, kind, selector, body()?).await.map(Some),
            ("patch", false) => self.update(tenant, kind, selector, body()?).await.map(Some),
            ("delete", false) => self.delete(tenant, kind, selector).await.map(|()| None),
            _ => Err(Fault::message(400, "expected a method put, patch or delete with a key, or post without one")),
        }
    }

    fn kind_named(&self, name: &str) -> Result<&Kind, Fault> {
        let found = self.registry.kinds().find(|kind| kind.name == name || kind.collection == name);
        found.ok_or_else(|| Fault::message(400, &format!("there is no kind '{name}'")))
    }
}

/// The error of a write, with its place.
fn placed(at: usize, mut fault: Fault) -> Fault {
    let message = format!("write {at}: {fault}");
    if let Some(body) = fault.body.as_object_mut() {
        body.insert("message".to_owned(), message.into());
        body.insert("write".to_owned(), json!(at));
    }
    fault
}
