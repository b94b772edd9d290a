//! [`Keyring`]: the data keys, and the key that encrypts them.

use std::collections::BTreeMap;

use aws_lc_rs::aead::{AES_256_GCM, RandomizedNonceKey};
use zeroize::Zeroizing;

use super::source::{KeyEncryptionKey, decrypt, encrypt};
use crate::StoreError;

/// A data key as it is stored.
#[derive(Debug)]
pub(crate) struct WrappedKey {
    /// From 1; the greatest one encrypts what is written.
    pub(crate) id: i64,
    /// [`KeyEncryptionKey::id`] of the key that encrypts it.
    pub(crate) wrapped_by: String,
    pub(crate) wrapped: Vec<u8>,
}

pub(crate) struct Keyring {
    keys: BTreeMap<i64, (RandomizedNonceKey, Zeroizing<Vec<u8>>)>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("keys", &self.keys.keys()).finish()
    }
}

impl Keyring {
    /// Decrypts data keys.
    pub(crate) fn unwrap(stored: &[WrappedKey], with: &KeyEncryptionKey) -> Result<Self, StoreError> {
        let mut keys = BTreeMap::new();
        for stored in stored {
            if stored.wrapped_by != with.id() {
                return Err(StoreError::Corrupt(format!(
                    "wrong key: the secrets are encrypted with key {}, and {} has key {}; copy the key from a node that uses \
                     this database, or name it in store_key",
                    stored.wrapped_by,
                    with.source(),
                    with.id()
                )));
            }
            let damaged = || StoreError::Corrupt(format!("data key {} cannot be decrypted", stored.id));
            let bytes = decrypt(with.cipher(), &bound_to(stored.id), &stored.wrapped).ok_or_else(damaged)?;
            let cipher = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| damaged())?;
            keys.insert(stored.id, (cipher, bytes));
        }
        Ok(Self { keys })
    }

    /// The keys, encrypted with another key, and a new one that encrypts what is written from now on.
    pub(crate) fn rewrap(self, with: &KeyEncryptionKey) -> Result<Vec<WrappedKey>, StoreError> {
        let next = self.keys.keys().max().copied().unwrap_or(0) + 1;
        let mut new = Zeroizing::new(vec![0; 32]);
        aws_lc_rs::rand::fill(&mut new).map_err(|_| failed())?;
        let keys = self.keys.into_iter().map(|(id, (_, bytes))| (id, bytes)).chain([(next, new)]);
        let wrap = |(id, bytes): (i64, Zeroizing<Vec<u8>>)| {
            let wrapped = encrypt(with.cipher(), &bound_to(id), bytes.to_vec()).ok_or_else(failed)?;
            Ok(WrappedKey { id, wrapped_by: with.id().to_owned(), wrapped })
        };
        keys.map(wrap).collect()
    }

    /// The key that encrypts what is written.
    pub(crate) fn active(&self) -> Option<(i64, &RandomizedNonceKey)> {
        self.keys.last_key_value().map(|(id, (cipher, _))| (*id, cipher))
    }

    pub(crate) fn get(&self, id: i64) -> Option<&RandomizedNonceKey> {
        self.keys.get(&id).map(|(cipher, _)| cipher)
    }
}

fn bound_to(id: i64) -> Vec<u8> {
    [b"cardinal data key".as_slice(), &id.to_be_bytes()].concat()
}

fn failed() -> StoreError {
    StoreError::Unavailable("a data key cannot be made".to_owned())
}
