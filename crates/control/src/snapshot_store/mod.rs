//! [`SnapshotStore`]: the entities of a loaded configuration as a store. It can be written if there is something that
//! writes changes to where the configuration was loaded from: a [`Writer`].
//!
//! They stay packed as the loader made them, which takes a small part of the room of JSON values, and are unpacked as
//! they are read.

mod below;
mod contents;
mod index;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::{Arc, Mutex, PoisonError};

use cardinal_ir::Id;
use cardinal_kong::declarative::Change as EntityChange;
use cardinal_kong::{Entity, Registry, Snapshot};
use cardinal_store::{
    Batch, BoxFuture, Change, CommitError, Committed, Document, Generation, Key, Page, Query, Store, StoreError,
    StoreStatus, check_batch, decide,
};
use tokio::sync::watch;

use crate::dao::document::{space, unique, unique_keys, unique_name};
use crate::dao::{DEFAULT_WORKSPACE, members};
use below::Below;
use contents::{Contents, Times, has_tags, member_id, note_times, page_size};
use index::Index;
use writer::change_of;
pub use writer::{WriteError, Writer};

/// How often a batch is decided: again after the configuration was loaded anew.
const ATTEMPTS: usize = 2;

/// The entities of a loaded configuration, which is replaced as a whole.
#[derive(Debug)]
pub struct SnapshotStore {
    registry: Arc<Registry>,
    contents: Mutex<Arc<Contents>>,
    revision: watch::Sender<u64>,
    writer: Option<Arc<dyn Writer>>,
    /// One batch is written at a time.
    turn: tokio::sync::Mutex<()>,
}

impl SnapshotStore {
    /// An empty store.
    pub fn new(registry: Arc<Registry>) -> Self {
        let (contents, revision) = (Mutex::default(), watch::Sender::new(0));
        Self { registry, contents, revision, writer: None, turn: tokio::sync::Mutex::default() }
    }

    /// An empty store that is written through this.
    pub fn written_by(registry: Arc<Registry>, writer: Arc<dyn Writer>) -> Self {
        Self { writer: Some(writer), ..Self::new(registry) }
    }

    /// The revision: it grows with each replacement.
    pub fn revision(&self) -> u64 {
        self.contents().revision
    }

    /// Replaces everything.
    pub fn replace(&self, snapshot: Arc<Snapshot>) {
        self.replace_with(snapshot, Arc::default());
    }

    /// Replaces everything with what a [`Writer`] has written. Changed entities have the times of the changes.
    pub fn replace_written(&self, snapshot: Arc<Snapshot>, changes: &[EntityChange]) {
        let mut times = Times::clone(&self.contents().times);
        note_times(&mut times, changes);
        self.replace_with(snapshot, Arc::new(times));
    }

    fn replace_with(&self, snapshot: Arc<Snapshot>, times: Arc<Times>) {
        let index = Index::of(&snapshot, &self.registry);
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let revision = contents.revision + 1;
        let old = std::mem::replace(&mut *contents, Arc::new(Contents { snapshot, index, revision, times }));
        drop(contents);
        self.revision.send_replace(revision);
        drop(old);
    }

    /// What is in the store.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.contents().snapshot)
    }

    async fn write(&self, batch: Batch) -> Result<Committed, CommitError> {
        let Some(writer) = &self.writer else {
            return Err(StoreError::ReadOnly("the configuration comes from files".to_owned()).into());
        };
        check_batch(&batch)?;
        let _turn = self.turn.lock().await;
        for _ in 0..ATTEMPTS {
            let contents = self.contents();
            let revision = contents.revision;
            let decision = decide(&mut Below { contents, registry: &self.registry }, batch.clone()).await?;
            let changes: Vec<EntityChange> =
                decision.steps.iter().filter_map(|step| change_of(step, &self.registry)).collect();
            if changes.is_empty() {
                return Ok(decision.committed());
            }
            match writer.write(revision, changes).await {
                Ok(()) => return Ok(Committed { revision: self.revision(), ..decision.committed() }),
                Err(WriteError::Reloaded) => {}
                Err(WriteError::Conflict(why)) => return Err(StoreError::Conflict(why).into()),
                Err(WriteError::Refused(why)) => return Err(StoreError::Refused(why).into()),
                Err(WriteError::Unwritable(why)) => return Err(StoreError::ReadOnly(why).into()),
                Err(error @ WriteError::Ending) => return Err(StoreError::Unavailable(error.to_string()).into()),
            }
        }
        Err(StoreError::Conflict("the files are being changed by something else: try again".to_owned()).into())
    }

    fn contents(&self) -> Arc<Contents> {
        Arc::clone(&self.contents.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn found(&self, key: &Key) -> Option<Document> {
        let contents = self.contents();
        if &*key.kind == members::KIND {
            let member = contents.index.members.iter().find(|member| member_id(member) == *key.id)?;
            return Some(contents.membership(member));
        }
        let kind = self.registry.kind(&key.kind)?;
        let entity = contents.snapshot.get(kind.name, &key.id.parse().ok()?)?;
        Some(contents.document(kind, entity))
    }

    fn with_unique(&self, kind: &str, name: &str, value: &str) -> Option<Document> {
        let contents = self.contents();
        let kind = self.registry.kind(kind)?;
        let entity = contents.snapshot.get(kind.name, &contents.index.owner(kind.name, name, value)?)?;
        let schema = self.registry.schema_of(kind, &entity.value).ok()?;
        let keys = unique_keys(kind, schema);
        let fields = keys.iter().find(|fields| *unique_name(fields) == *name)?;
        let own = unique(kind, schema, &DEFAULT_WORKSPACE.into(), fields, &entity.value)?;
        (*own.value == *value).then(|| contents.document(kind, entity))
    }

    fn page(&self, query: &Query) -> Page {
        let contents = self.contents();
        if &*query.kind == members::KIND {
            return contents.members(query);
        }
        let Some(kind) = self.registry.kind(&query.kind) else { return Page::default() };
        if query.space.as_ref().is_some_and(|wanted| *wanted != space(kind, &DEFAULT_WORKSPACE.into())) {
            return Page::default();
        }
        let Ok(after) = query.after.as_deref().map(str::parse::<Id>).transpose() else { return Page::default() };
        let snapshot = &contents.snapshot;
        let candidates: Box<dyn Iterator<Item = Entity>> = match &query.reference {
            Some((field, to)) => {
                let ids = contents.index.referrers(kind.name, field, to).iter();
                let ids = ids.filter(|id| after.is_none_or(|after| **id > after));
                Box::new(ids.filter_map(|id| snapshot.get(kind.name, id)))
            }
            None => Box::new(snapshot.after(kind.name, after)),
        };
        let mut matching = candidates.filter(|entity| has_tags(entity, &query.tags));
        let taken = matching.by_ref().take(page_size(query));
        let documents: Vec<Document> = taken.map(|entity| contents.document(kind, entity)).collect();
        let next = matching.next().and_then(|_| documents.last().map(|document| document.key.id.clone()));
        Page { documents, next }
    }
}

fn ready<'s, T: Send + 's>(value: T) -> BoxFuture<'s, T> {
    Box::pin(std::future::ready(value))
}

impl Store for SnapshotStore {
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Document>, StoreError>> {
        ready(Ok(self.found(&key)))
    }

    fn find(
        &self,
        kind: Arc<str>,
        unique: Arc<str>,
        value: Arc<str>,
    ) -> BoxFuture<'_, Result<Option<Document>, StoreError>> {
        ready(Ok(self.with_unique(&kind, &unique, &value)))
    }

    fn list(&self, query: Query) -> BoxFuture<'_, Result<Page, StoreError>> {
        ready(Ok(self.page(&query)))
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(self.write(batch))
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<(u64, Vec<Document>), StoreError>> {
        let contents = self.contents();
        ready(Ok((contents.revision, contents.all(&self.registry))))
    }

    fn changes(&self, _after: u64, _max: usize) -> BoxFuture<'_, Result<Vec<Change>, StoreError>> {
        ready(Err(StoreError::TooLarge("there is no log of changes: take a snapshot".to_owned())))
    }

    fn generations(&self, _before: Option<u64>, _max: usize) -> BoxFuture<'_, Result<Vec<Generation>, StoreError>> {
        ready(Ok(Vec::new()))
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    fn status(&self) -> BoxFuture<'_, Result<StoreStatus, StoreError>> {
        let contents = self.contents();
        ready(Ok(StoreStatus {
            engine: "files",
            location: "memory".to_owned(),
            schema: 0,
            revision: contents.revision,
            oldest: contents.revision,
            documents: contents.snapshot.len() as u64,
        }))
    }
}
