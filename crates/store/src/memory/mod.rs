//! [`MemoryStore`]: nothing outlives the process.

mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cardinal_base::Clock;
use futures_util::FutureExt as _;
use tokio::sync::watch;

use self::state::Documents;
use crate::chain::{Entry, Head, Log};
use crate::decide::decide;
use crate::fingerprint::{BaseDocument, Fingerprint, StoredPrint};
use crate::store::{BoxFuture, Lead, LocalLead};
use crate::{
    Batch, Change, CommitError, Committed, Document, Generation, Key, Page, Query, Store, StoreError, StoreStatus,
    Unique, limits,
};

/// A store in memory, for tests and for configurations whose source is a file.
#[derive(Debug)]
pub struct MemoryStore {
    documents: Mutex<Documents>,
    revision: watch::Sender<u64>,
    clock: Arc<dyn Clock>,
    lead: LocalLead,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { documents: Mutex::default(), revision: watch::Sender::new(0), clock, lead: LocalLead::default() }
    }

    /// The documents. No panic leaves them half-changed: a decision is complete before it is applied.
    fn lock(&self) -> MutexGuard<'_, Documents> {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, batch: Batch) -> Result<Committed, CommitError> {
        limits::check(&batch)?;
        let author = batch.author.clone();
        let mut documents = self.lock();
        // The view answers at once, so the decision is made in the first poll.
        let decision = decide(&mut *documents, batch).now_or_never();
        let decision =
            decision.unwrap_or_else(|| Err(StoreError::Unavailable("the memory waits".to_owned()).into()))?;
        let at_ms = i64::try_from(self.clock.unix().0).unwrap_or(i64::MAX);
        documents.apply(&decision, at_ms, &author);
        self.revision.send_if_modified(|revision| std::mem::replace(revision, decision.revision) != decision.revision);
        Ok(decision.committed())
    }
}

fn ready<'s, T: Send + 's>(value: T) -> BoxFuture<'s, T> {
    Box::pin(std::future::ready(value))
}

impl Store for MemoryStore {
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Document>, StoreError>> {
        ready(Ok(self.lock().get(&key)))
    }

    fn find(
        &self,
        kind: Arc<str>,
        unique: Arc<str>,
        value: Arc<str>,
    ) -> BoxFuture<'_, Result<Option<Document>, StoreError>> {
        ready(Ok(self.lock().find(kind, Unique { name: unique, value })))
    }

    fn list(&self, query: Query) -> BoxFuture<'_, Result<Page, StoreError>> {
        ready(Ok(self.lock().list(&query)))
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed, CommitError>> {
        // Not before it is polled: a commit whose future is dropped unpolled is not applied.
        Box::pin(async move { self.apply(batch) })
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<(u64, Vec<Document>), StoreError>> {
        let documents = self.lock();
        ready(Ok((documents.head().revision, documents.all())))
    }

    fn changes(&self, after: u64, max: usize) -> BoxFuture<'_, Result<Vec<Change>, StoreError>> {
        ready(self.lock().changes(after, max))
    }

    fn generations(&self, before: Option<u64>, max: usize) -> BoxFuture<'_, Result<Vec<Generation>, StoreError>> {
        ready(Ok(self.lock().generations(before, max)))
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    fn status(&self) -> BoxFuture<'_, Result<StoreStatus, StoreError>> {
        let documents = self.lock();
        let head = documents.head();
        ready(Ok(StoreStatus {
            engine: "memory",
            location: "memory".to_owned(),
            schema: 0,
            revision: head.revision,
            oldest: head.oldest,
            documents: documents.len() as u64,
        }))
    }

    fn try_lead(&self) -> BoxFuture<'_, Result<Option<Box<dyn Lead>>, StoreError>> {
        ready(Ok(self.lead.take()))
    }
}

impl Log for MemoryStore {
    fn head(&self) -> BoxFuture<'_, Result<Head, StoreError>> {
        ready(Ok(self.lock().head()))
    }

    fn entries(&self, after: u64, max: usize) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        ready(self.lock().changes(after, max).map(|changes| changes.iter().map(state::entry).collect()))
    }

    fn base(&self) -> BoxFuture<'_, Result<Vec<BaseDocument>, StoreError>> {
        ready(Ok(self.lock().base()))
    }

    fn stored(&self) -> BoxFuture<'_, Result<(u64, Vec<StoredPrint>), StoreError>> {
        let documents = self.lock();
        ready(Ok((documents.head().revision, documents.stored_prints())))
    }

    fn fingerprint(&self, _key: &Key, bytes: &[u8]) -> Fingerprint {
        state::fingerprint(bytes)
    }

    fn prune(&self, up_to: u64) -> BoxFuture<'_, Result<u64, StoreError>> {
        ready(Ok(self.lock().prune(up_to)))
    }

    fn prune_before(&self, at_ms: i64) -> BoxFuture<'_, Result<u64, StoreError>> {
        let mut documents = self.lock();
        let up_to = documents.revision_before(at_ms);
        ready(Ok(documents.prune(up_to)))
    }
}
