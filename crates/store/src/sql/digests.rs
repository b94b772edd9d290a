//! [`IndexKeys`]: keyed digests of unique values.

use aws_lc_rs::hmac;

use crate::Unique;

/// The keys of the index, in the order that they are applied in.
#[derive(Debug, Default)]
pub(crate) struct IndexKeys(Vec<hmac::Key>);

impl IndexKeys {
    pub(crate) fn new(keys: Vec<hmac::Key>) -> Self {
        Self(keys)
    }

    /// Identifies a unique key of a document.
    pub(crate) fn digest(&self, kind: &str, unique: &Unique) -> Vec<u8> {
        let mut bytes = Vec::new();
        for text in [kind, &unique.name, &unique.value] {
            bytes.extend((text.len() as u64).to_be_bytes());
            bytes.extend(text.as_bytes());
        }
        self.applied(bytes)
    }

    /// The digest of bytes, or of another digest.
    pub(crate) fn applied(&self, bytes: Vec<u8>) -> Vec<u8> {
        self.0.iter().fold(bytes, |bytes, key| hmac::sign(key, &bytes).as_ref().to_vec())
    }

    /// A unique key with its digest as value, which is all that is stored of it.
    pub(crate) fn sealed(&self, kind: &str, unique: &Unique) -> Unique {
        Unique { name: unique.name.clone(), value: hex(&self.digest(kind, unique)).into() }
    }

    /// Number of keys.
    pub(crate) fn count(&self) -> u64 {
        self.0.len() as u64
    }
}

/// The digest of a sealed unique key.
pub(crate) fn digest_of(sealed: &Unique) -> Vec<u8> {
    let digit = |at: usize| sealed.value.get(2 * at..2 * at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..sealed.value.len() / 2).filter_map(digit).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
