//! [`Store`]: what a control plane needs of a database.

use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

use crate::{Batch, Change, CommitError, Committed, Document, Generation, Key, Page, Query, StoreError};

/// A future of a store.
pub type BoxFuture<'s, T> = Pin<Box<dyn Future<Output = T> + Send + 's>>;

/// A database of documents.
///
/// Reads see all batches that were committed before them by any control plane. Futures may be dropped: a commit is then
/// applied or not.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// A document.
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Document>, StoreError>>;

    /// The document of a kind with this unique key.
    fn find(
        &self,
        kind: Arc<str>,
        unique: Arc<str>,
        value: Arc<str>,
    ) -> BoxFuture<'_, Result<Option<Document>, StoreError>>;

    /// A page of documents.
    fn list(&self, query: Query) -> BoxFuture<'_, Result<Page, StoreError>>;

    /// Applies a batch.
    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed, CommitError>>;

    /// All documents and the revision they are at, in one consistent view. Ordered by kind and id.
    fn snapshot(&self) -> BoxFuture<'_, Result<(u64, Vec<Document>), StoreError>>;

    /// Changes after a revision, in their order, at most `max`, but all of a revision or none of it (one revision may
    /// exceed `max`). Empty if there are none.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] if the log no longer reaches back to `after`: take a [`Store::snapshot`].
    fn changes(&self, after: u64, max: usize) -> BoxFuture<'_, Result<Vec<Change>, StoreError>>;

    /// Revisions in descending order, below `before` if given, at most `max`.
    fn generations(&self, before: Option<u64>, max: usize) -> BoxFuture<'_, Result<Vec<Generation>, StoreError>>;

    /// The newest revision. It is updated after each commit of this or another control plane; a receiver that lags
    /// sees the last value only.
    fn watch(&self) -> watch::Receiver<u64>;

    /// Its state. An error means that it cannot be reached.
    fn status(&self) -> BoxFuture<'_, Result<StoreStatus, StoreError>>;
}

/// The state of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoreStatus {
    /// `memory`, `sqlite` or `postgres`.
    pub engine: &'static str,
    /// Where it is, without credentials.
    pub location: String,
    /// Version of its schema.
    pub schema: u32,
    /// The newest revision.
    pub revision: u64,
    /// The oldest revision that the change log reaches back to.
    pub oldest: u64,
    /// Number of documents.
    pub documents: u64,
}
