//! [`ObservedStore`]: a store with metrics, a bounded check of its state, and traces in its change log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cardinal_base::metrics::{Histogram, MetricSource, MetricText};
use cardinal_base::{Clock, Tick, timeout};
use cardinal_store::{
    Author, Batch, BoxFuture, Change, CommitError, Committed, Contents, Document, Generation, Key, Page, Query, Store,
    StoreError, StoreStatus,
};
use tokio::sync::watch;

use crate::trace::Trace;

/// How long a check of the state may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the result of a check is used.
const CHECK_VALID: Duration = Duration::from_secs(1);

/// What is measured.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Get,
    Find,
    List,
    Commit,
    Snapshot,
    Changes,
    Generations,
    Status,
}

impl Operation {
    const ALL: [Self; 8] = [
        Self::Get,
        Self::Find,
        Self::List,
        Self::Commit,
        Self::Snapshot,
        Self::Changes,
        Self::Generations,
        Self::Status,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Find => "find",
            Self::List => "list",
            Self::Commit => "commit",
            Self::Snapshot => "snapshot",
            Self::Changes => "changes",
            Self::Generations => "revisions",
            Self::Status => "status",
        }
    }
}

#[derive(Debug)]
struct Measured {
    durations: Histogram,
    errors: AtomicU64,
}

/// A store whose operations are measured.
///
/// [`Store::status`] takes at most two seconds, and asks the database at most once a second: clients may call it at any
/// rate. A commit on behalf of a request with a `traceparent` has the trace in [`Author::via`].
#[derive(Debug)]
pub struct ObservedStore {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    operations: [Measured; Operation::ALL.len()],
    /// The last check: when it ended, and its result.
    checked: Mutex<Option<(Tick, Result<StoreStatus, String>)>>,
    /// One check at a time.
    checking: tokio::sync::Mutex<()>,
}

impl ObservedStore {
    /// Measures a store by a clock.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        let measured = |_| Measured { durations: Histogram::of_durations(), errors: AtomicU64::new(0) };
        let operations = Operation::ALL.map(measured);
        Self { store, clock, operations, checked: Mutex::default(), checking: tokio::sync::Mutex::default() }
    }

    async fn measure<T, E>(
        &self,
        operation: Operation,
        is_failure: impl Fn(&E) -> bool,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let start = self.clock.tick();
        let result = future.await;
        let elapsed = self.clock.tick().0.saturating_sub(start.0);
        if let Some(measured) = self.operations.get(operation as usize) {
            measured.durations.observe(elapsed);
            if result.as_ref().is_err_and(is_failure) {
                measured.errors.fetch_add(1, Ordering::Relaxed);
            }
        }
        result
    }

    fn read<'s, T: Send + 's>(
        &'s self,
        operation: Operation,
        future: BoxFuture<'s, Result<T, StoreError>>,
    ) -> BoxFuture<'s, Result<T, StoreError>> {
        // A log that does not reach back that far is no failure of the store.
        let is_failure = |error: &StoreError| !matches!(error, StoreError::TooLarge(_));
        Box::pin(self.measure(operation, is_failure, future))
    }

    /// The result of the last check, if it is recent.
    fn recent(&self) -> Option<Result<StoreStatus, StoreError>> {
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, result) = checked.as_ref()?;
        if self.clock.tick().since(*at) >= CHECK_VALID {
            return None;
        }
        Some(result.clone().map_err(StoreError::Unavailable))
    }

    async fn check(&self) -> Result<StoreStatus, StoreError> {
        if let Some(recent) = self.recent() {
            return recent;
        }
        let _turn = self.checking.lock().await;
        // Another task has made the check meanwhile.
        if let Some(recent) = self.recent() {
            return recent;
        }
        let asked = self.read(Operation::Status, self.store.status());
        let result = match timeout(&*self.clock, CHECK_TIMEOUT, asked).await {
            Ok(result) => result.map_err(|error| match error {
                StoreError::Unavailable(why) => why,
                error => error.to_string(),
            }),
            Err(_) => Err(format!("no response within {} s", CHECK_TIMEOUT.as_secs())),
        };
        let checked = Some((self.clock.tick(), result.clone()));
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner) = checked;
        result.map_err(StoreError::Unavailable)
    }
}

impl Store for ObservedStore {
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Document>, StoreError>> {
        self.read(Operation::Get, self.store.get(key))
    }

    fn find(
        &self,
        kind: Arc<str>,
        unique: Arc<str>,
        value: Arc<str>,
    ) -> BoxFuture<'_, Result<Option<Document>, StoreError>> {
        self.read(Operation::Find, self.store.find(kind, unique, value))
    }

    fn list(&self, query: Query) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.read(Operation::List, self.store.list(query))
    }

    fn commit(&self, mut batch: Batch) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(async move {
            let trace = Trace::current();
            if let Some(trace) = trace {
                let via = format!("{}, trace {trace}", batch.author.via).into();
                batch.author = Author { via, ..batch.author };
            }
            let (via, writes) = (Arc::clone(&batch.author.via), batch.writes.len());
            let is_failure = |error: &CommitError| matches!(error, CommitError::Store(_));
            let committed = self.measure(Operation::Commit, is_failure, self.store.commit(batch)).await?;
            let (revision, trace) = (committed.revision, trace.map(tracing::field::display));
            tracing::debug!(revision, writes, via = &*via, trace_id = trace, "committed revision {revision}");
            Ok(committed)
        })
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<(u64, Vec<Document>), StoreError>> {
        self.read(Operation::Snapshot, self.store.snapshot())
    }

    fn contents(&self) -> BoxFuture<'_, Result<Contents, StoreError>> {
        self.read(Operation::Snapshot, self.store.contents())
    }

    fn changes(&self, after: u64, max: usize) -> BoxFuture<'_, Result<Vec<Change>, StoreError>> {
        self.read(Operation::Changes, self.store.changes(after, max))
    }

    fn generations(&self, before: Option<u64>, max: usize) -> BoxFuture<'_, Result<Vec<Generation>, StoreError>> {
        self.read(Operation::Generations, self.store.generations(before, max))
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.store.watch()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.store.close()
    }

    fn status(&self) -> BoxFuture<'_, Result<StoreStatus, StoreError>> {
        Box::pin(async move {
            let mut status = self.check().await?;
            // It may have been written since the check.
            status.revision = status.revision.max(*self.store.watch().borrow());
            Ok(status)
        })
    }
}

impl MetricSource for ObservedStore {
    fn write(&self, text: &mut MetricText) {
        let revision = *self.store.watch().borrow();
        text.one(
            "store_revision",
            "gauge",
            "The newest revision of the database, as far as this node knows.",
            revision,
        );
        let name = "store_operation_duration_seconds";
        text.head(name, "histogram", "Duration of operations on the database, by operation.");
        for (operation, measured) in Operation::ALL.iter().zip(&self.operations) {
            text.histogram(name, &[("operation", operation.label())], &measured.durations);
        }
        let name = "store_operation_errors_total";
        text.head(name, "counter", "Operations that failed because of the database, by operation.");
        for (operation, measured) in Operation::ALL.iter().zip(&self.operations) {
            text.line(name, &[("operation", operation.label())], measured.errors.load(Ordering::Relaxed));
        }
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some((_, result)) = checked else { return };
        let help = "Whether the last check of the database, which is made every few seconds, was successful.";
        text.one("store_reachable", "gauge", help, u8::from(result.is_ok()));
        if let Ok(status) = result {
            text.one(
                "store_documents",
                "gauge",
                "Documents in the database: entities and memberships.",
                status.documents,
            );
            let help = "Revisions that the change log has.";
            text.one("store_log_revisions", "gauge", help, status.revision.saturating_sub(status.oldest));
        }
    }
}

#[cfg(test)]
mod tests {
    use cardinal_base::{ManualClock, SystemClock};
    use cardinal_store::{Expect, MemoryStore, NewDocument, Write};

    use super::*;

    /// A store that does not answer questions about its state, and counts them.
    #[derive(Debug)]
    struct Silent {
        store: MemoryStore,
        asked: AtomicU64,
    }

    impl Store for Silent {
        fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Document>, StoreError>> {
            self.store.get(key)
        }

        fn find(
            &self,
            kind: Arc<str>,
            unique: Arc<str>,
            value: Arc<str>,
        ) -> BoxFuture<'_, Result<Option<Document>, StoreError>> {
            self.store.find(kind, unique, value)
        }

        fn list(&self, query: Query) -> BoxFuture<'_, Result<Page, StoreError>> {
            self.store.list(query)
        }

        fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed, CommitError>> {
            self.store.commit(batch)
        }

        fn snapshot(&self) -> BoxFuture<'_, Result<(u64, Vec<Document>), StoreError>> {
            self.store.snapshot()
        }

        fn changes(&self, after: u64, max: usize) -> BoxFuture<'_, Result<Vec<Change>, StoreError>> {
            self.store.changes(after, max)
        }

        fn generations(&self, before: Option<u64>, max: usize) -> BoxFuture<'_, Result<Vec<Generation>, StoreError>> {
            self.store.generations(before, max)
        }

        fn watch(&self) -> watch::Receiver<u64> {
            self.store.watch()
        }

        fn status(&self) -> BoxFuture<'_, Result<StoreStatus, StoreError>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test]
    async fn a_check_is_bounded_and_made_once() {
        let clock = Arc::new(ManualClock::default());
        let silent =
            Arc::new(Silent { store: MemoryStore::new(Arc::new(SystemClock::new())), asked: AtomicU64::new(0) });
        let store = ObservedStore::new(Arc::clone(&silent) as _, Arc::clone(&clock) as _);
        let both = async { tokio::join!(store.status(), store.status()) };
        let (first, second) = clock.pass_until(both).await;
        for result in [first, second] {
            assert_eq!(result.unwrap_err().to_string(), "the store is unavailable: no response within 2 s");
        }
        assert_eq!(silent.asked.load(Ordering::Relaxed), 1, "the second one waits for the first one");
        let mut text = MetricText::default();
        store.write(&mut text);
        assert!(text.0.contains("cardinal_store_reachable 0\n"), "{}", text.0);
        clock.advance(CHECK_VALID);
        clock.pass_until(store.status()).await.unwrap_err();
        assert_eq!(silent.asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn operations_are_measured_and_traced() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let store = ObservedStore::new(Arc::new(MemoryStore::new(Arc::clone(&clock))), clock);
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let trace = Trace::parse(&format!("00-{id}-00f067aa0ba902b7-01"));
        let document = NewDocument {
            key: Key::new("services", "1"),
            space: "default".into(),
            value: serde_json::json!({}),
            uniques: Vec::new(),
            references: Vec::new(),
            tags: Vec::new(),
            secrets: Vec::new(),
        };
        let author = Author { via: "admin-api".into(), ..Author::default() };
        let put = Batch { author, writes: vec![Write::Put(Box::new(document), Expect::Absent)], revision: None };
        Trace::cover(trace, store.commit(put.clone())).await.unwrap();
        // Outside of a trace; the entity exists already, which is no failure of the store.
        store.commit(put).await.unwrap_err();
        let changes = store.changes(0, 10).await.unwrap();
        assert_eq!(&*changes[0].author.via, &format!("admin-api, trace {id}"));
        let mut text = MetricText::default();
        store.write(&mut text);
        for line in [
            "cardinal_store_revision 1\n",
            "cardinal_store_operation_duration_seconds_count{operation=\"commit\"} 2\n",
            "cardinal_store_operation_duration_seconds_count{operation=\"changes\"} 1\n",
            "cardinal_store_operation_errors_total{operation=\"commit\"} 0\n",
        ] {
            assert!(text.0.contains(line), "{line} {}", text.0);
        }
    }
}
