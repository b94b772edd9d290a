//! [`Fingerprint`]: identifies the content of a document, without telling it.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::Key;

/// Identifies the content of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Of the stored form.
    pub(crate) stored: [u8; 32],
    /// Of the value with its secrets; `None` if they cannot be decrypted.
    pub(crate) value: Option<[u8; 32]>,
    /// Of the value without the secrets that are encrypted.
    pub(crate) clear: [u8; 32],
}

/// A document as it is stored now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPrint {
    /// What identifies it.
    pub key: Key,
    /// Its tenant.
    pub space: Arc<str>,
    /// The revision of its last write.
    pub revision: u64,
    /// Its content.
    pub print: Fingerprint,
}

/// A document as it was when the log begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseDocument {
    /// What identifies it.
    pub key: Key,
    /// Its tenant.
    pub space: Arc<str>,
    /// The revision of its last write.
    pub revision: u64,
    /// SHA-256 over its stored form.
    pub digest: [u8; 32],
}

/// SHA-256 over a stored form.
pub(crate) fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
