//! Certificates, authorities, principals and their credentials.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Id, Origin};

/// A certificate with its key, and the names it serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// The user's object.
    pub origin: Origin,
    /// Chain and key, one or two of them with different key types.
    pub pairs: Vec<KeyPair>,
    /// Server names, exact, `*.x` or `x.*`, lower-case. `*` is the default certificate.
    pub server_names: Vec<Box<str>>,
}

/// A chain and its key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPair {
    /// PEM, leaf first.
    pub chain: Box<str>,
    /// PEM.
    pub key: Box<str>,
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair").field("chain", &self.chain).field("key", &"REDACTED").finish()
    }
}

/// A certificate authority.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trust {
    /// The user's object.
    pub origin: Origin,
    /// PEM, exactly one certificate.
    pub certificate: Box<str>,
}

/// Who may call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Principal {
    /// The user's object.
    pub origin: Origin,
    /// The name (Kong: `username`).
    pub name: Option<Box<str>>,
    /// The name in somebody else's books.
    pub custom_id: Option<Box<str>>,
    /// Groups it is a member of.
    pub groups: Vec<Id>,
    /// The user's object as compact JSON, for log records.
    pub document: Arc<str>,
}

/// A group that filter sets may be scoped to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrincipalGroup {
    /// The user's object.
    pub origin: Origin,
    /// The name. Where a principal is in several groups, the alphabetically first one with a set wins.
    pub name: Box<str>,
}

/// What a principal proves itself with, or what is attached to it (an ACL group is a credential of kind `acl`).
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Credential {
    /// The user's object.
    pub origin: Origin,
    /// The plugin that reads it.
    pub kind: Box<str>,
    /// Whose it is.
    pub principal: Id,
    /// What requests name it by: the key, the user name, the issuer. Unique within the kind unless the kind is an
    /// attachment that only its principal leads to.
    pub lookup: Box<str>,
    /// The rest, as its plugin's schema describes it.
    pub data: Value,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("origin", &self.origin)
            .field("kind", &self.kind)
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}
