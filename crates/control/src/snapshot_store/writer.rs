//! [`Writer`]: what writes changes to where a configuration was loaded from.

use cardinal_kong::Registry;
use cardinal_kong::declarative::Change;
use cardinal_store::Step;
use serde_json::Value;

use crate::dao::{FutureOf, members};

/// Writes changes to where a configuration was loaded from.
pub trait Writer: Send + Sync + std::fmt::Debug {
    /// Writes changes of the entities of the store at this revision, all of them or none. When it is done, the changes are
    /// served, and the store has been replaced with what was written.
    fn write(&self, revision: u64, changes: Vec<Change>) -> FutureOf<'_, Result<(), WriteError>>;
}

/// Why changes are not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The configuration was loaded anew meanwhile: the changes are to be decided again.
    #[error("the configuration was changed by something else")]
    Reloaded,
    /// What is stored does not allow the change.
    #[error("{0}")]
    Conflict(String),
    /// The configuration would be invalid.
    #[error("{0}")]
    Refused(String),
    /// The disk cannot be written.
    #[error("{0}")]
    Unwritable(String),
    /// The process is ending.
    #[error("the process is ending")]
    Ending,
}

/// A step as a change of entities.
pub(super) fn change_of(step: &Step, registry: &Registry) -> Option<Change> {
    let before = step.before.as_ref().map(|stored| &stored.document);
    if &*step.key.kind == members::KIND {
        let document = step.after.as_ref().or(before)?;
        let id = |field: &str| document.value.get(field)?.get("id")?.as_str()?.parse().ok();
        let (consumer, group) = (id("consumer")?, id("consumer_group")?);
        return Some(match step.after {
            Some(_) => Change::Join { consumer, group },
            None => Change::Leave { consumer, group },
        });
    }
    let kind = registry.kind(&step.key.kind)?.name;
    let id = step.key.id.parse().ok()?;
    match step.after.as_ref().map(|document| &document.value) {
        Some(Value::Object(value)) => Some(Change::Put { kind, id, value: value.clone() }),
        _ => Some(Change::Delete { kind, id }),
    }
}
