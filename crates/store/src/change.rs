//! [`Change`]: an entry of the change log.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Key;

/// Who made a change, and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Author {
    /// The user; empty where there are no users.
    pub name: Arc<str>,
    /// Where the request came from: an address, or `cli`.
    pub from: Arc<str>,
    /// What made the change: `admin-api`, `rollback`, `import`. At most 64 bytes.
    pub via: Arc<str>,
}

/// A change of one document. Those of one batch have the same revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The revision that the change made.
    pub revision: u64,
    /// The place of the change among those of its revision, from 0.
    pub position: u32,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// By whom.
    pub author: Author,
    /// The document.
    pub key: Key,
    /// Its tenant.
    pub space: Arc<str>,
    /// Its value before; `None` if it did not exist.
    pub old: Option<Value>,
    /// Its value afterwards; `None` if it was deleted.
    pub new: Option<Value>,
    /// It was deleted because a document that it references was.
    pub cascaded: bool,
    /// SHA-256 over the hash of the entry before it and the stored form of this one: a changed, removed or inserted entry
    /// breaks the chain.
    pub hash: [u8; 32],
}

/// A revision, without its changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// The revision.
    pub revision: u64,
    /// When it was made, in milliseconds since 1970.
    pub at_ms: i64,
    /// By whom.
    pub author: Author,
    /// Number of changed documents.
    pub changes: u64,
}
