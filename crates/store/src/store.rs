//! [`Store`]: what a control plane needs of a database.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use tokio::sync::watch;

use crate::{Batch, Change, CommitError, Committed, Document, Generation, Key, Page, Query, Reference, StoreError};

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

    /// The same, with those apart that cannot be read. [`Store::snapshot`] fails because of one of them.
    fn contents(&self) -> BoxFuture<'_, Result<Contents, StoreError>> {
        Box::pin(async move {
            let (revision, documents) = self.snapshot().await?;
            Ok(Contents { revision, documents, unreadable: Vec::new() })
        })
    }

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

    /// Makes this process the leader of those that use the store, for work that one of them is to do; `None` if another one
    /// is, or if there is no such work.
    fn try_lead(&self) -> BoxFuture<'_, Result<Option<Box<dyn Lead>>, StoreError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Ends its work before the process ends: what is on disk is complete afterwards. It fails from then on.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// All documents of a store, in one consistent view.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The revision.
    pub revision: u64,
    /// The documents, ordered by kind and id.
    pub documents: Vec<Document>,
    /// Those whose value cannot be read.
    pub unreadable: Vec<Unreadable>,
}

/// A document whose value is damaged, or has secrets that cannot be decrypted.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// What identifies it.
    pub key: Key,
    /// The tenant that it belongs to.
    pub space: Arc<str>,
    /// What it references; `None` if that cannot be read either.
    pub references: Option<Vec<Reference>>,
    /// What is wrong with it.
    pub why: String,
}

/// The lead among the processes that use a store. Dropping it gives it up.
pub trait Lead: Send + Sync {
    /// Whether it is still held: it is lost with the connection to a database.
    fn is_held(&mut self) -> BoxFuture<'_, bool>;
}

/// The lead within a process.
#[derive(Debug, Default)]
pub(crate) struct LocalLead(Arc<AtomicBool>);

impl LocalLead {
    pub(crate) fn take(&self) -> Option<Box<dyn Lead>> {
        let is_free = !self.0.swap(true, Ordering::SeqCst);
        is_free.then(|| Box::new(HeldLead(Arc::clone(&self.0))) as Box<dyn Lead>)
    }
}

struct HeldLead(Arc<AtomicBool>);

impl Lead for HeldLead {
    fn is_held(&mut self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(true))
    }
}

impl Drop for HeldLead {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
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
