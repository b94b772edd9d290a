//! [`Document`]: an object of a user, as it is stored.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Identifies a document: its kind and its id within the kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The kind, as its front end calls it: `routes`. At most 64 bytes.
    pub kind: Arc<str>,
    /// The id: a UUID in its usual form, or a name where names identify. At most 512 bytes.
    pub id: Arc<str>,
}

impl Key {
    /// The key of a document.
    pub fn new(kind: impl Into<Arc<str>>, id: impl Into<Arc<str>>) -> Self {
        Self { kind: kind.into(), id: id.into() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind, self.id)
    }
}

/// A value that at most one document of a kind has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Unique {
    /// Name of the key: the field, or the fields joined by `,`.
    pub name: Arc<str>,
    /// The value. Whatever limits its scope, like a workspace, is a part of it. Secrets are hashed by the front end.
    pub value: Arc<str>,
}

/// A reference to another document, which must exist.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reference {
    /// The field that holds it; unique in a document.
    pub field: Arc<str>,
    /// The document that is referenced.
    pub to: Key,
    /// What happens when that document is deleted.
    pub on_delete: OnDelete,
}

/// What happens to a document when one that it references is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDelete {
    /// The deletion is refused.
    Restrict,
    /// It is deleted, too.
    Cascade,
}

/// A document to write.
#[derive(Clone, Debug, PartialEq)]
pub struct NewDocument {
    /// What identifies it.
    pub key: Key,
    /// The tenant that it belongs to: a workspace, a mesh. Empty for documents of no tenant.
    pub space: Arc<str>,
    /// What users read back.
    pub value: Value,
    /// Its unique keys.
    pub uniques: Vec<Unique>,
    /// Its references.
    pub references: Vec<Reference>,
    /// Its tags, by which lists are filtered.
    pub tags: Vec<Arc<str>>,
    /// JSON pointers (RFC 6901) to the secrets in `value`, which are encrypted at rest.
    pub secrets: Vec<Arc<str>>,
}

/// A document that is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// What identifies it.
    pub key: Key,
    /// The tenant that it belongs to.
    pub space: Arc<str>,
    /// What the user wrote, completed.
    pub value: Value,
    /// The revision of its last write.
    pub revision: u64,
    /// Its tags.
    pub tags: Vec<Arc<str>>,
}
