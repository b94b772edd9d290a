//! Values whose secrets are encrypted.
//!
//! The stored form begins with `S`, which no JSON does. A ciphertext is bound to its document and its place, so it cannot
//! be moved to where it would be shown.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::keyring::Keyring;
use super::source::{decrypt, encrypt};
use crate::{Key, NewDocument, StoreError};

#[derive(Serialize, Deserialize)]
struct Sealed {
    /// The data key.
    key: i64,
    /// The value with `null` in the places of the secrets.
    value: Value,
    /// JSON pointers and ciphertexts, in the order of the encryption.
    secrets: Vec<(String, String)>,
}

/// Whether this is a stored form with encrypted secrets.
pub(crate) fn is_sealed(bytes: &[u8]) -> bool {
    bytes.first() == Some(&b'S')
}

/// The stored form of a value, and the number of the data key.
pub(crate) fn seal(document: &NewDocument, keyring: &Keyring) -> Option<(Vec<u8>, i64)> {
    let (id, cipher) = keyring.active()?;
    let (mut value, mut secrets) = (document.value.clone(), Vec::new());
    for pointer in &document.secrets {
        let Some(place) = value.pointer_mut(pointer).filter(|place| !place.is_null()) else { continue };
        let plain = serde_json::to_vec(&place.take()).ok()?;
        let ciphertext = encrypt(cipher, &bound_to(&document.key, pointer), plain)?;
        secrets.push((pointer.to_string(), BASE64_STANDARD.encode(ciphertext)));
    }
    let mut bytes = vec![b'S'];
    serde_json::to_writer(&mut bytes, &Sealed { key: id, value, secrets }).ok()?;
    Some((bytes, id))
}

/// What is not secret of a stored form: its value without the secrets, and their places.
pub(crate) fn clear(bytes: &[u8]) -> Option<Vec<u8>> {
    let Sealed { value, secrets, .. } = serde_json::from_slice(bytes.strip_prefix(b"S")?).ok()?;
    let places: Vec<&String> = secrets.iter().map(|(pointer, _)| pointer).collect();
    serde_json::to_vec(&(value, places)).ok()
}

/// The data key of a stored form, and what reads its value.
pub(crate) fn open(key: &Key, bytes: &[u8], keyring: Option<&Keyring>) -> Result<Value, OpenError> {
    let damaged = |why: &str| OpenError::Store(StoreError::Corrupt(format!("{key}: {why}")));
    let sealed = bytes.strip_prefix(b"S").and_then(|json| serde_json::from_slice::<Sealed>(json).ok());
    let Sealed { key: id, mut value, secrets } = sealed.ok_or_else(|| damaged("its value cannot be read"))?;
    let cipher = keyring.and_then(|keyring| keyring.get(id)).ok_or(OpenError::UnknownKey(id))?;
    // The last was encrypted within what the ones before it had left.
    for (pointer, ciphertext) in secrets.into_iter().rev() {
        let wrong = || damaged(&format!("the secret at {pointer} cannot be decrypted"));
        let ciphertext = BASE64_STANDARD.decode(ciphertext).map_err(|_| wrong())?;
        let plain: Zeroizing<Vec<u8>> = decrypt(cipher, &bound_to(key, &pointer), &ciphertext).ok_or_else(wrong)?;
        *value.pointer_mut(&pointer).ok_or_else(wrong)? = serde_json::from_slice(&plain).map_err(|_| wrong())?;
    }
    Ok(value)
}

/// Why a value cannot be read.
pub(crate) enum OpenError {
    /// It is encrypted with a data key that is not known, yet.
    UnknownKey(i64),
    Store(StoreError),
}

fn bound_to(key: &Key, pointer: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in [&*key.kind, &key.id, pointer] {
        bytes.extend((text.len() as u64).to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}
