//! The hash chain of the change log: each entry's hash covers the entry before it, so a log that was changed, shortened or
//! added to does not verify.
//!
//! An attacker who can rewrite the whole database can rewrite the chain, too. The hash of the newest entry, written down
//! elsewhere, makes that visible.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

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

    /// Removes the changes of revisions up to this one, and their generations. The newest revision stays.
    ///
    /// Gives the oldest revision that [`Store::changes`](crate::Store::changes) can be asked about afterwards.
    fn prune(&self, up_to: u64) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Removes the changes that were made before this time, in milliseconds since 1970.
    fn prune_before(&self, at_ms: i64) -> BoxFuture<'_, Result<u64, StoreError>>;
}

/// A log whose chain is intact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Number of entries.
    pub entries: u64,
    /// The newest revision.
    pub revision: u64,
    /// The oldest revision that the log reaches back to.
    pub oldest: u64,
    /// The hash of the newest entry.
    pub hash: [u8; 32],
}

/// Why a log does not verify.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// An entry is not as it was written, or entries around it are missing or added.
    #[error("the change log is broken at revision {revision}, position {position}: {why}")]
    At {
        /// The revision.
        revision: u64,
        /// The place in the revision.
        position: u32,
        /// What is wrong.
        why: &'static str,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Entries that are read at a time.
const ENTRIES: usize = 1_000;

/// Verifies the chain from its base to its head. Commits may go on meanwhile.
///
/// # Errors
/// At the first entry that does not fit.
pub async fn verify(log: &dyn Log) -> Result<Verified, Broken> {
    loop {
        let base = log.head().await?;
        match verify_from(log, base).await {
            // The log was shortened meanwhile.
            Err(_) if log.head().await?.oldest != base.oldest => {}
            result => return result,
        }
    }
}

async fn verify_from(log: &dyn Log, base: Head) -> Result<Verified, Broken> {
    let (mut hash, mut at, mut count) = (base.base_hash, (base.oldest, 0), 0);
    loop {
        for entry in log.entries(at.0, ENTRIES).await? {
            check_place(&entry, at, count == 0)?;
            if entry_hash(&hash, &entry) != entry.hash {
                return Err(broken(&entry, "the hash does not match the entry and the one before it"));
            }
            (hash, at) = (entry.hash, (entry.revision, entry.position));
            count += 1;
        }
        let head = log.head().await?;
        let break_here = |why| Err(Broken::At { revision: at.0, position: at.1, why });
        if head.revision > at.0 {
            // More was committed since the entries were read, or they are missing.
            if log.entries(at.0, 1).await?.is_empty() {
                return break_here("the entries after this one are missing");
            }
        } else if head.revision < at.0 || head.hash != hash {
            return break_here("this is not the newest entry, by what the store says of its log");
        } else {
            return Ok(Verified { entries: count, revision: head.revision, oldest: base.oldest, hash });
        }
    }
}

fn check_place(entry: &Entry, (revision, position): (u64, u32), is_first: bool) -> Result<(), Broken> {
    let follows = !is_first && entry.revision == revision && entry.position == position + 1;
    let begins = entry.revision == revision + 1 && entry.position == 0;
    if follows || begins { Ok(()) } else { Err(broken(entry, "an entry before this one is missing or was added")) }
}

fn broken(entry: &Entry, why: &'static str) -> Broken {
    Broken::At { revision: entry.revision, position: entry.position, why }
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
