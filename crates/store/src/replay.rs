//! [`Replay`]: what the documents should be by the change log, and how they differ from it.
//!
//! A log that was shortened begins with a record of the documents at that point ([`BaseDocument`]). It has digests of
//! stored forms, in which secrets are encrypted, so it tells nobody what a document says.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::chain::{Entry, Log};
use crate::fingerprint::{BaseDocument, Fingerprint, StoredPrint};
use crate::{Key, StoreError};

/// Documents that a report names.
const TAMPERED_MAX: usize = 100;

/// A document that is not what the change log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tampered {
    /// The document.
    pub key: Key,
    /// What differs.
    pub why: &'static str,
}

/// What the log says of a document.
pub(crate) enum Evidence {
    /// The digest of its stored form.
    Base([u8; 32]),
    /// Its newest entry.
    Entry(Fingerprint),
}

struct Expected {
    space: Arc<str>,
    revision: u64,
    evidence: Evidence,
}

/// The documents by the log, as far as it was read.
pub(crate) struct Replay(BTreeMap<Key, Expected>);

impl Replay {
    /// The documents when the log begins. A log that was never shortened begins with none.
    pub(crate) async fn begin(log: &dyn Log, oldest: u64) -> Result<Self, StoreError> {
        let base = if oldest == 0 { Vec::new() } else { log.base().await? };
        let expected = |base: BaseDocument| {
            let BaseDocument { key, space, revision, digest } = base;
            (key, Expected { space, revision, evidence: Evidence::Base(digest) })
        };
        Ok(Self(base.into_iter().map(expected).collect()))
    }

    /// Applies the next entry.
    pub(crate) fn apply(&mut self, log: &dyn Log, entry: Entry) {
        let Entry { key, space, revision, new, .. } = entry;
        match new {
            Some(bytes) => {
                let evidence = Evidence::Entry(log.fingerprint(&key, &bytes));
                self.0.insert(key, Expected { space, revision, evidence });
            }
            None => drop(self.0.remove(&key)),
        }
    }

    /// The documents that differ, in the order of their keys.
    pub(crate) fn compare(mut self, documents: Vec<StoredPrint>) -> Vec<Tampered> {
        let mut tampered = Vec::new();
        for StoredPrint { key, space, revision, print } in documents {
            let why = match self.0.remove(&key) {
                None => Some("the log has no entry that it exists"),
                Some(expected) if expected.revision != revision => Some("its revision is not that of its newest entry"),
                Some(expected) if expected.space != space => Some("it was moved to another workspace"),
                Some(expected) => {
                    (!expected.evidence.confirms(&print)).then_some("its content is not what was written")
                }
            };
            tampered.extend(why.map(|why| Tampered { key, why }));
        }
        tampered.extend(self.0.into_keys().map(|key| Tampered { key, why: "it is missing" }));
        tampered.sort_by(|a, b| a.key.cmp(&b.key));
        tampered.truncate(TAMPERED_MAX);
        tampered
    }
}

impl Evidence {
    /// Secrets may have been encrypted again with another data key since.
    pub(crate) fn confirms(&self, document: &Fingerprint) -> bool {
        match self {
            Self::Base(digest) => *digest == document.stored,
            Self::Entry(entry) if entry.stored == document.stored => true,
            Self::Entry(entry) => match (entry.value, document.value) {
                (Some(entry), Some(document)) => entry == document,
                // The data key of the entry is not there any more.
                (None, Some(_)) => entry.clear == document.clear,
                (_, None) => false,
            },
        }
    }
}
