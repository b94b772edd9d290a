//! Values as they are stored.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;

use super::digests::IndexKeys;
use crate::fingerprint::{Fingerprint, digest};
use crate::secrets::{self, Keyring};
use crate::{Key, NewDocument, StoreError};

/// Writes and reads values.
#[derive(Debug, Default)]
pub(crate) struct Codec {
    keyring: RwLock<Option<Arc<Keyring>>>,
    index: RwLock<Arc<IndexKeys>>,
    /// A value was read whose data key is not known.
    is_key_missing: AtomicBool,
}

/// [`Encoded::data_key`] of a value without secrets.
pub(crate) const NO_SECRETS: i64 = 0;
/// That of a value whose secrets are not encrypted.
pub(crate) const PLAIN: i64 = -1;

/// A value in its stored form.
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    /// The data key that encrypts its secrets.
    pub(crate) data_key: i64,
}

impl Codec {
    pub(crate) fn set(&self, keyring: Keyring) {
        *self.keyring.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(keyring));
    }

    pub(crate) fn set_index(&self, keys: IndexKeys) {
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// The keys of the index of unique values.
    pub(crate) fn index(&self) -> Arc<IndexKeys> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The data key that encrypts what is written.
    pub(crate) fn active(&self) -> i64 {
        self.keyring().and_then(|keyring| Some(keyring.active()?.0)).unwrap_or(PLAIN)
    }

    /// Whether the data keys are to be read again, since the last call.
    pub(crate) fn take_missing(&self) -> bool {
        self.is_key_missing.swap(false, Ordering::Relaxed)
    }

    fn keyring(&self) -> Option<Arc<Keyring>> {
        self.keyring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn encode(&self, document: &NewDocument) -> Result<Encoded, StoreError> {
        let keyring = self.keyring().filter(|_| !document.secrets.is_empty());
        let failed = || StoreError::Unavailable(format!("the secrets of {} cannot be encrypted", document.key));
        if let Some(keyring) = keyring {
            let (bytes, data_key) = secrets::seal(document, &keyring).ok_or_else(failed)?;
            return Ok(Encoded { bytes, data_key });
        }
        let bytes = serde_json::to_vec(&document.value);
        let bytes = bytes.map_err(|error| StoreError::TooLarge(format!("{}: {error}", document.key)))?;
        Ok(Encoded { bytes, data_key: if document.secrets.is_empty() { NO_SECRETS } else { PLAIN } })
    }

    /// Identifies the content of a stored form.
    pub(crate) fn fingerprint(&self, key: &Key, bytes: &[u8]) -> Fingerprint {
        let stored = digest(bytes);
        if !secrets::is_sealed(bytes) {
            let value = self.decode(key, bytes).ok().map(|value| digest(value.to_string().as_bytes()));
            return Fingerprint { stored, value, clear: value.unwrap_or(stored) };
        }
        let clear = secrets::clear(bytes).map_or(stored, |clear| digest(&clear));
        let value = secrets::open(key, bytes, self.keyring().as_deref()).ok();
        Fingerprint { stored, value: value.map(|value| digest(value.to_string().as_bytes())), clear }
    }

    pub(crate) fn decode(&self, key: &Key, bytes: &[u8]) -> Result<Value, StoreError> {
        if !secrets::is_sealed(bytes) {
            return serde_json::from_slice(bytes)
                .map_err(|error| StoreError::Corrupt(format!("{key} cannot be read: {error}")));
        }
        secrets::open(key, bytes, self.keyring().as_deref()).map_err(|error| match error {
            secrets::OpenError::Store(error) => error,
            secrets::OpenError::UnknownKey(id) => {
                self.is_key_missing.store(true, Ordering::Relaxed);
                StoreError::Corrupt(format!(
                    "{key} has secrets that are encrypted with data key {id}, which is not there"
                ))
            }
        })
    }
}
