//! The hash chain of the change log: each entry's hash covers the entry before it, so a log that was changed, shortened or
//! added to does not verify.
//!
//! The documents are compared with the log, too: a document that was changed beside the log does not verify either.
//!
//! An attacker who can rewrite the whole database can rewrite the chain, too. The hash of the newest entry, written down
//! elsewhere, makes that visible.

use sha2::{Digest as _, Sha256};

use crate::fingerprint::{BaseDocument, Fingerprint, StoredPrint};
use crate::store::BoxFuture;
use crate::{Author, Key, StoreError};

/// A change in the form that it is stored in, with encrypted secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// [`Change::revision`](crate::Change::revision).
    pub revision: u64,
    /// [`Change::position`](crate::Change::position).
    pub position: u32,
    /// [`Change::at_ms`](crate::Change::at_ms).
    pub at_ms: i64,
    /// By whom.
    pub author: Author,
    /// The document.
    pub key: Key,
    /// Its tenant.
    pub space: std::sync::Arc<str>,
    /// The stored form of its value before.
    pub old: Option<Vec<u8>>,
    /// The stored form of its value afterwards.
    pub new: Option<Vec<u8>>,
    /// See [`Change::cascaded`](crate::Change::cascaded).
    pub cascaded: bool,
    /// See [`Change::hash`](crate::Change::hash).
    pub hash: [u8; 32],
}

/// Both ends of the change log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The newest revision.
    pub revision: u64,
    /// The hash of the newest entry; [`Head::base_hash`] if there is none.
    pub hash: [u8; 32],
    /// The revision whose changes are the newest that were removed from the log; 0 if none were.
    pub oldest: u64,
    /// The hash before the oldest entry: zeros, or that of the newest entry that was removed.
    pub base_hash: [u8; 32],
}

/// A change log that can be verified and shortened.
pub trait Log: Send + Sync {
    /// Both ends.
    fn head(&self) -> BoxFuture<'_, Result<Head, StoreError>>;

    /// Entries after a revision, at most about `max`, but all of a revision or none of it. Revisions that were added to
    /// the database by something else are among them.
    fn entries(&self, after: u64, max: usize) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>>;

    /// The documents when the log begins, at [`Head::oldest`].
    fn base(&self) -> BoxFuture<'_, Result<Vec<BaseDocument>, StoreError>>;

    /// The documents as they are stored now, and the revision they are at, in one consistent view. Ordered by kind and id.
    fn stored(&self) -> BoxFuture<'_, Result<(u64, Vec<StoredPrint>), StoreError>>;

    /// Identifies the content of a stored form of a document.
    fn fingerprint(&self, key: &Key, bytes: &[u8]) -> Fingerprint;

    /// Removes the changes of revisions up to this one, and their generations. The newest revision stays.
    ///
    /// Gives the oldest revision that [`Store::changes`](crate::Store::changes) can be asked about afterwards.
    fn prune(&self, up_to: u64) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Removes the changes that were made before this time, in milliseconds since 1970.
    fn prune_before(&self, at_ms: i64) -> BoxFuture<'_, Result<u64, StoreError>>;
}

/// The hash of an entry after one with the hash `before`.
pub(crate) fn entry_hash(before: &[u8; 32], entry: &Entry) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(before);
    hasher.update(entry.revision.to_be_bytes());
    hasher.update(entry.position.to_be_bytes());
    hasher.update(entry.at_ms.to_be_bytes());
    hasher.update([u8::from(entry.cascaded)]);
    let Author { name, from, via } = &entry.author;
    let texts = [name, from, via, &entry.key.kind, &entry.key.id, &entry.space];
    for text in texts {
        add(&mut hasher, Some(text.as_bytes()));
    }
    add(&mut hasher, entry.old.as_deref());
    add(&mut hasher, entry.new.as_deref());
    hasher.finalize().into()
}

/// Adds bytes so that no two sequences of them are hashed alike.
fn add(hasher: &mut Sha256, bytes: Option<&[u8]>) {
    match bytes {
        None => hasher.update([0]),
        Some(bytes) => {
            hasher.update([1]);
            hasher.update((bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        }
    }
}
