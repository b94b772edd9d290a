//! [`LateStore`]: a store that is opened after the node has started, because its database could not be reached.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cardinal_store::{
    Batch, BoxFuture, Change, CommitError, Committed, Contents, Document, Generation, Key, Lead, Page, Query, Store,
    StoreError, StoreStatus,
};
use tokio::sync::watch;

/// A store that is opened later. Until then, everything fails with the reason, and the revision is 0.
#[derive(Debug)]
pub struct LateStore {
    opened: OnceLock<Arc<dyn Store>>,
    why: Mutex<String>,
    revision: watch::Sender<u64>,
}

impl LateStore {
    /// A store that is not open for this reason.
    pub fn new(why: String) -> Self {
        Self { opened: OnceLock::new(), why: Mutex::new(why), revision: watch::Sender::new(0) }
    }

    /// Opening failed again.
    pub fn failed(&self, why: String) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Uses this store from now on. The future follows its revisions for as long as it is polled.
    pub async fn open(&self, store: Arc<dyn Store>) {
        let mut revisions = store.watch();
        if self.opened.set(store).is_err() {
            return;
        }
        loop {
            // The first one tells that the store is open, whatever it is.
            let newest = *revisions.borrow_and_update();
            self.revision.send_replace(newest);
            if revisions.changed().await.is_err() {
                return;
            }
        }
    }

    fn ask<'s, T, E, F>(&'s self, ask: F) -> BoxFuture<'s, Result<T, E>>
    where
        T: Send + 's,
        E: From<StoreError> + Send + 's,
        F: FnOnce(&'s dyn Store) -> BoxFuture<'s, Result<T, E>>,
    {
        if let Some(store) = self.opened.get() {
            return ask(&**store);
        }
        let why = self.why.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(std::future::ready(Err(StoreError::Unavailable(why).into())))
    }
}

impl Store for LateStore {
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Document>, StoreError>> {
        self.ask(|store| store.get(key))
    }

    fn find(
        &self,
        kind: Arc<str>,
        unique: Arc<str>,
        value: Arc<str>,
    ) -> BoxFuture<'_, Result<Option<Document>, StoreError>> {
        self.ask(|store| store.find(kind, unique, value))
    }

    fn list(&self, query: Query) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.ask(|store| store.list(query))
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed, CommitError>> {
        self.ask(|store| store.commit(batch))
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<(u64, Vec<Document>), StoreError>> {
        self.ask(|store| store.snapshot())
    }

    fn contents(&self) -> BoxFuture<'_, Result<Contents, StoreError>> {
        self.ask(|store| store.contents())
    }

    fn changes(&self, after: u64, max: usize) -> BoxFuture<'_, Result<Vec<Change>, StoreError>> {
        self.ask(move |store| store.changes(after, max))
    }

    fn generations(&self, before: Option<u64>, max: usize) -> BoxFuture<'_, Result<Vec<Generation>, StoreError>> {
        self.ask(move |store| store.generations(before, max))
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    fn status(&self) -> BoxFuture<'_, Result<StoreStatus, StoreError>> {
        self.ask(|store| store.status())
    }

    fn try_lead(&self) -> BoxFuture<'_, Result<Option<Box<dyn Lead>>, StoreError>> {
        self.ask(|store| store.try_lead())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        match self.opened.get() {
            Some(store) => store.close(),
            None => Box::pin(std::future::ready(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use cardinal_base::SystemClock;
    use cardinal_store::{Author, MemoryStore};

    use super::*;

    #[tokio::test]
    async fn a_store_is_opened_later() {
        let late = LateStore::new("no route".to_owned());
        let mut revisions = late.watch();
        revisions.mark_unchanged();
        let key = Key::new("a", "1");
        assert_eq!(late.get(key.clone()).await.unwrap_err().to_string(), "the store is unavailable: no route");
        late.failed("refused".to_owned());
        let batch = || Batch { author: Author::default(), writes: Vec::new(), revision: None };
        let refused = late.commit(batch()).await.unwrap_err();
        assert_eq!(refused.to_string(), "the store is unavailable: refused");
        late.close().await;

        let store = Arc::new(MemoryStore::new(Arc::new(SystemClock::new())));
        tokio::select! {
            () = late.open(store) => panic!("the store has ended"),
            // Although the revision is 0 as before.
            changed = revisions.changed() => changed.unwrap(),
        }
        assert!(late.get(key).await.unwrap().is_none());
        assert_eq!(late.status().await.unwrap().engine, "memory");
    }
}
