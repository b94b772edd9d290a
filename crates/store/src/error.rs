//! Why a store cannot do what it is asked to.

use crate::Key;

/// The store failed, whatever the documents are.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached or is shutting down. Whether a commit was applied is unknown.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The disk is full or read-only. Nothing was written.
    #[error("the store cannot write: {0}")]
    ReadOnly(String),
    /// The schema of the store is newer than this program.
    #[error(
        "the schema of the store has version {found}; this program knows versions up to {known}: use a newer program"
    )]
    TooNew {
        /// Version of the store.
        found: u32,
        /// The newest version that this program knows.
        known: u32,
    },
    /// What is stored cannot be read: the file is damaged, or a secret was encrypted with a key that is not there.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// What is stored was changed by something else, or has a form that does not allow the change. Nothing was written.
    #[error("{0}")]
    Conflict(String),
    /// The documents as a whole would be invalid. Nothing was written.
    #[error("{0}")]
    Refused(String),
    /// A limit of the store is exceeded.
    #[error("{0}")]
    TooLarge(String),
}

impl StoreError {
    /// The log does not reach back to this revision.
    pub(crate) fn pruned(after: u64, oldest: u64) -> Self {
        Self::TooLarge(format!("the change log reaches back to revision {oldest}, not to {after}"))
    }
}

/// Why a batch was not applied.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The writes break a rule. Nothing was written.
    #[error("write {at} of the batch: {violation}")]
    Violation {
        /// Index of the write.
        at: usize,
        /// The rule.
        violation: Violation,
    },
    /// The store has another revision than [`Batch::revision`](crate::Batch::revision). Nothing was written.
    #[error("the store is at revision {found}, not {expected}")]
    Stale {
        /// Revision of the store.
        found: u64,
        /// Expected revision.
        expected: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A rule that a write breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The document is not in the expected state.
    #[error("{key} {}", match .found { Some(revision) => format!("exists at revision {revision}"), None => "does not exist".to_owned() })]
    Expectation {
        /// The document.
        key: Key,
        /// The revision of its last write; `None` if it does not exist.
        found: Option<u64>,
    },
    /// Another document has the same unique key.
    #[error("{owner} has the same {name}")]
    Unique {
        /// Name of the unique key.
        name: std::sync::Arc<str>,
        /// The document that has it.
        owner: Key,
    },
    /// A referenced document does not exist.
    #[error("{field} references {to}, which does not exist")]
    Missing {
        /// The field.
        field: std::sync::Arc<str>,
        /// The document that does not exist.
        to: Key,
    },
    /// The document cannot be deleted because another one references it.
    #[error("{by} references {key}")]
    Referenced {
        /// The document to be deleted.
        key: Key,
        /// A document that references it.
        by: Key,
        /// The field of the reference.
        field: std::sync::Arc<str>,
    },
    /// The batch writes a document twice.
    #[error("{key} is written twice")]
    Repeated {
        /// The document.
        key: Key,
    },
}
