//! Encryption of secrets at rest.
//!
//! Secrets are encrypted with a data key, which is stored beside the documents, encrypted itself with the key of the
//! operator (the key encryption key). So that key can be changed without writing a document.

mod keyring;
mod sealed;
mod source;

pub(crate) use keyring::{Keyring, WrappedKey};
pub(crate) use sealed::{OpenError, clear, is_sealed, open, seal};
pub use source::{KeyEncryptionKey, KeySource, StoreKey};
