//! [`SecretRef`]: the placeholder of a secret in records. [`Secrets`]: the secrets themselves, stored separately from
//! the records.
//!
//! Records are stored, sent and displayed; secrets are private keys, passwords and tokens, which only the node that
//! uses them may read. A reference is a keyed hash of the secret: a changed secret has another reference, so that
//! everything that depends on it is planned again, and without the [`SecretKey`], a weak secret cannot be found by
//! trying candidates.
//!
//! In free-form values, such as the parameters of a plugin, a text that begins with [`SecretRef::PREFIX`] is a
//! reference. Front ends store literal texts with this prefix as secrets, so that users cannot write references.

mod store;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroize as _;

pub(crate) use store::references_in;
pub use store::{Secrets, UnresolvedSecret};

use crate::Id;

/// The placeholder of a secret in a record. Displayed and serialized as `secret:` and 32 hexadecimal digits.
///
/// The default refers to no secret and is never resolved.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretRef(Id);

/// A text is not a reference to a secret. The error does not contain the text, which may be the secret itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSecretRef;

/// A secret. It is never displayed, and its memory is overwritten when it is freed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

/// The key for deriving references. It belongs to an installation and is itself a secret: with the key, guesses of the
/// secrets behind references can be verified. Nodes with the same key have the same references for the same secrets.
///
/// The default is public. It is for tests, and for configurations that do not leave the process.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretKey([u8; 32]);

impl SecretRef {
    /// The prefix of its text.
    pub const PREFIX: &str = "secret:";

    /// Whether a text has the prefix of references, well-formed or not.
    pub fn is_meant_by(text: &str) -> bool {
        text.starts_with(Self::PREFIX)
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.0.simple())
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SecretRef {
    type Err = NoSecretRef;

    /// Parses exactly the displayed form of a [`SecretRef`].
    fn from_str(text: &str) -> Result<Self, NoSecretRef> {
        let digits = text.strip_prefix(Self::PREFIX).ok_or(NoSecretRef)?;
        let is_canonical = digits.len() == 32 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let number = is_canonical.then(|| u128::from_str_radix(digits, 16).ok()).flatten().ok_or(NoSecretRef)?;
        Ok(Self(Id::from_u128(number)))
    }
}

impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl fmt::Display for NoSecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected a reference to a secret: {:?} and 32 hexadecimal digits", SecretRef::PREFIX)
    }
}

impl std::error::Error for NoSecretRef {}

impl Secret {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Block size of SHA-256, bytes.
const BLOCK: usize = 64;

impl SecretKey {
    /// A key with these bytes, which must be random.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Derives a key from a text, which must be as hard to guess as a key.
    pub fn of_text(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// The reference to a secret: the first 16 bytes of its HMAC-SHA256 ([RFC 2104](https://www.rfc-editor.org/rfc/rfc2104)).
    pub fn reference(&self, secret: &str) -> SecretRef {
        let mut short = [0; 16];
        short.iter_mut().zip(self.hmac(secret.as_bytes())).for_each(|(short, byte)| *short = byte);
        SecretRef(Id::from_bytes(short))
    }

    /// A code that shows that a holder of the key has made a message: its HMAC-SHA256, apart from references and from other uses
    /// of the key. `purpose` names the use.
    pub fn authenticate(&self, purpose: &str, message: &[u8]) -> [u8; 32] {
        self.hmac(&[b"cardinal ", purpose.as_bytes(), b"\0", message].concat())
    }

    fn hmac(&self, message: &[u8]) -> [u8; 32] {
        let padded = |with: u8| {
            let mut block = [with; BLOCK];
            block.iter_mut().zip(self.0).for_each(|(to, key)| *to ^= key);
            let hash = Sha256::new_with_prefix(block);
            block.zeroize();
            hash
        };
        let inner = padded(0x36).chain_update(message).finalize();
        padded(0x5c).chain_update(inner).finalize().into()
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}
