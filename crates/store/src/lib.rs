//! The store of the control plane: documents with unique keys, references, revisions and a change log.
//!
//! A [`Store`] holds [`Document`]s: what users wrote, completed by a front end. A [`Batch`] of writes is one transaction:
//! all of it is applied, at one new revision, or nothing. Unique keys and references are enforced in the transaction, and
//! each change is kept in a log that is audit trail, history and the source of updates at the same time.
//!
//! *Must not know*: what a document means, which kinds there are, HTTP, the engine. The front end computes the keys,
//! references and tags of a document and names its secrets.
//!
//! Start at [`Store`], then [`MemoryStore`], the smallest implementation.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod batch;
mod chain;
mod change;
mod decide;
mod document;
mod error;
mod fingerprint;
mod history;
mod limits;
mod memory;
mod query;
mod replay;
mod secrets;
mod sql;
mod store;
mod verify;

pub use batch::{Batch, Committed, Expect, Write};
pub use chain::{Entry, Head, Log};
pub use change::{Author, Change, Generation};
pub use decide::{Decision, Referrer, Step, Stored, View, decide};
pub use document::{Document, Key, NewDocument, OnDelete, Reference, Unique};
pub use error::{CommitError, StoreError, Violation};
pub use fingerprint::{BaseDocument, Fingerprint, StoredPrint};
pub use history::{Changed, PastDocument, Since, changed_since, documents_at};
pub use limits::{
    AUTHOR_BYTES_MAX, BATCH_BYTES_MAX, DEPTH_MAX, ID_BYTES_MAX, LIST_MAX, NAME_BYTES_MAX, TAG_BYTES_MAX,
    VALUE_BYTES_MAX, check as check_batch,
};
pub use memory::MemoryStore;
pub use query::{Page, Query, TagFilter};
pub use replay::Tampered;
pub use secrets::{KeyEncryptionKey, KeySource, StoreKey};
pub use sql::{PostgresOptions, SqlStore, SqliteOptions};
pub use store::{BoxFuture, Contents, Lead, Store, StoreStatus, Unreadable};
pub use verify::{Broken, Verified, verify};
