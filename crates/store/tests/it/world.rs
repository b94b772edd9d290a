//! Stores to test, and short forms for documents and batches.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use cardinal_base::ManualClock;
use cardinal_store::{
    Author, Batch, CommitError, Committed, Document, Expect, Key, Log, NewDocument, OnDelete, Query, Reference, Store,
    Unique, Violation, Write,
};
use serde_json::Value;

/// What a control plane uses.
pub(crate) trait Full: Store + Log {
    fn store(&self) -> &dyn Store;
    fn log(&self) -> &dyn Log;
}

impl<S: Store + Log> Full for S {
    fn store(&self) -> &dyn Store {
        self
    }

    fn log(&self) -> &dyn Log {
        self
    }
}

/// An empty store, and what it needs to live.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) store: Arc<dyn Full>,
    pub(crate) clock: Arc<ManualClock>,
    _keep: Arc<dyn Any + Send + Sync>,
}

pub(crate) fn clock() -> Arc<ManualClock> {
    let clock = Arc::new(ManualClock::default());
    clock.advance(Duration::from_secs(1_000_000));
    clock
}

impl Subject {
    pub(crate) fn new(store: Arc<dyn Full>, clock: Arc<ManualClock>, keep: impl Any + Send + Sync) -> Self {
        Self { store, clock, _keep: Arc::new(keep) }
    }

    pub(crate) async fn commit(&self, writes: Vec<Write>) -> Result<Committed, CommitError> {
        self.store.commit(batch(writes)).await
    }

    /// Commits what must succeed; gives the revision.
    pub(crate) async fn ok(&self, writes: Vec<Write>) -> u64 {
        self.commit(writes).await.unwrap().revision
    }

    /// Commits what must break a rule, and change nothing.
    pub(crate) async fn violation(&self, writes: Vec<Write>) -> (usize, Violation) {
        let before = self.everything().await;
        let result = self.commit(writes).await;
        assert_eq!(self.everything().await, before, "a refused batch changed something");
        match result {
            Err(CommitError::Violation { at, violation }) => (at, violation),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn get(&self, id: &str) -> Option<Document> {
        self.store.get(key(id)).await.unwrap()
    }

    pub(crate) async fn ids(&self, query: Query) -> Vec<String> {
        self.store.list(query).await.unwrap().documents.into_iter().map(|one| one.key.id.to_string()).collect()
    }

    pub(crate) async fn find(&self, kind: &str, unique: &str, value: &str) -> Option<String> {
        let found = self.store.find(kind.into(), unique.into(), value.into()).await.unwrap();
        found.map(|document| document.key.id.to_string())
    }

    pub(crate) async fn revision(&self) -> u64 {
        self.store.status().await.unwrap().revision
    }

    /// All that can be read.
    pub(crate) async fn everything(&self) -> String {
        let snapshot = self.store.snapshot().await.unwrap();
        let oldest = self.store.status().await.unwrap().oldest;
        let changes = self.store.changes(oldest, usize::MAX >> 1).await.unwrap();
        let generations = self.store.generations(None, 1_000).await.unwrap();
        format!("{snapshot:#?} {changes:#?} {generations:#?} {:?}", self.store.status().await.unwrap())
    }
}

pub(crate) fn batch(writes: Vec<Write>) -> Batch {
    let author = Author { name: "ann".into(), from: "127.0.0.1".into(), via: "test".into() };
    Batch { author, writes, revision: None }
}

/// `kind/id`; without a kind that of things.
pub(crate) fn key(text: &str) -> Key {
    let (kind, id) = text.split_once('/').unwrap_or(("things", text));
    Key::new(kind, id)
}

pub(crate) fn document(id: &str, value: Value) -> NewDocument {
    NewDocument {
        key: key(id),
        space: "".into(),
        value,
        uniques: Vec::new(),
        references: Vec::new(),
        tags: Vec::new(),
        secrets: Vec::new(),
    }
}

pub(crate) fn thing(id: &str) -> NewDocument {
    document(id, serde_json::json!({ "id": id }))
}

/// Short forms that add to a document.
pub(crate) trait With: Sized {
    fn named(self, name: &str) -> Self;
    fn restricted_by(self, to: &str) -> Self;
    fn below(self, to: &str) -> Self;
    fn tagged(self, tags: &[&str]) -> Self;
    fn within(self, space: &str) -> Self;
    fn secret(self, pointer: &str) -> Self;
    fn put(self) -> Write;
    fn put_if(self, expect: Expect) -> Write;
}

impl With for NewDocument {
    fn named(mut self, name: &str) -> Self {
        self.uniques.push(Unique { name: "name".into(), value: name.into() });
        self
    }

    fn restricted_by(mut self, to: &str) -> Self {
        let field = format!("restrict{}", self.references.len()).into();
        self.references.push(Reference { field, to: key(to), on_delete: OnDelete::Restrict });
        self
    }

    fn below(mut self, to: &str) -> Self {
        let field = format!("cascade{}", self.references.len()).into();
        self.references.push(Reference { field, to: key(to), on_delete: OnDelete::Cascade });
        self
    }

    fn tagged(mut self, tags: &[&str]) -> Self {
        self.tags.extend(tags.iter().map(|tag| (*tag).into()));
        self
    }

    fn within(mut self, space: &str) -> Self {
        self.space = space.into();
        self
    }

    fn secret(mut self, pointer: &str) -> Self {
        self.secrets.push(pointer.into());
        self
    }

    fn put(self) -> Write {
        self.put_if(Expect::Any)
    }

    fn put_if(self, expect: Expect) -> Write {
        Write::Put(Box::new(self), expect)
    }
}

pub(crate) fn delete(id: &str) -> Write {
    Write::Delete(key(id), Expect::Any)
}
