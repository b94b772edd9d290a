//! [`SnapshotStore`]: the entities of a loaded configuration as a store that cannot be written.
//!
//! They stay packed as the loader made them, which takes a small part of the room of JSON values, and are unpacked as
//! they are read.

mod index;

use std::sync::{Arc, Mutex, PoisonError};

use cardinal_ir::Id;
use cardinal_kong::entities::Kind;
use cardinal_kong::{Entity, Registry, Snapshot};
use cardinal_store::{
    Batch, BoxFuture, Change, CommitError, Committed, Document, Generation, Key, Page, Query, Store, StoreError,
    StoreStatus, TagFilter,
};
use serde_json::Value;
use tokio::sync::watch;

use crate::dao::document::{space, unique, unique_keys, unique_name};
use crate::dao::{DEFAULT_WORKSPACE, members};
use index::Index;

/// The entities of a loaded configuration, which is replaced as a whole.
#[derive(Debug)]
pub struct SnapshotStore {
    registry: Arc<Registry>,
    contents: Mutex<Arc<Contents>>,
    revision: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Contents {
    snapshot: Arc<Snapshot>,
    index: Index,
    revision: u64,
}

impl SnapshotStore {
    /// An empty store.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry, contents: Mutex::default(), revision: watch::Sender::new(0) }
    }

    /// Replaces everything.
    pub fn replace(&self, snapshot: Arc<Snapshot>) {
        let index = Index::of(&snapshot, &self.registry);
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let revision = contents.revision + 1;
        let old = std::mem::replace(&mut *contents, Arc::new(Contents { snapshot, index, revision }));
        drop(contents);
        self.revision.send_replace(revision);
        drop(old);
    }

    /// What is in the store.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.contents().snapshot)
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

impl Contents {
    fn document(&self, kind: &Kind, entity: Entity) -> Document {
        let tags = entity.texts("tags").map(Into::into).collect();
        let mut value = entity.value;
        if kind.name == "certificates" {
            // They are entities of their own.
            value.shift_remove("snis");
        }
        let (key, space) = (Key::new(kind.name, entity.id.to_string()), space(kind, &DEFAULT_WORKSPACE.into()));
        Document { key, space, value: Value::Object(value), revision: self.revision, tags }
    }

    fn membership(&self, member: &(Id, Id)) -> Document {
        let (group, consumer) = member;
        let value = members::value(&group.to_string(), &consumer.to_string());
        let key = Key::new(members::KIND, member_id(member));
        Document { key, space: DEFAULT_WORKSPACE.into(), value, revision: self.revision, tags: Vec::new() }
    }

    fn members(&self, query: &Query) -> Page {
        let leads = |member: &&(Id, Id)| match &query.reference {
            None => true,
            Some((field, to)) => {
                let own = if &**field == "consumer" { member.1 } else { member.0 };
                to.id.parse() == Ok(own)
            }
        };
        let is_after = |member: &&(Id, Id)| query.after.as_ref().is_none_or(|after| *member_id(member) > **after);
        let mut matching = self.index.members.iter().filter(leads).filter(is_after);
        let taken = matching.by_ref().take(page_size(query));
        let documents: Vec<Document> = taken.map(|member| self.membership(member)).collect();
        let next = matching.next().and_then(|_| documents.last().map(|document| document.key.id.clone()));
        Page { documents, next }
    }

    fn all(&self, registry: &Registry) -> Vec<Document> {
        let entities = registry.kinds().flat_map(|kind| self.snapshot.of(kind.name).map(move |entity| (kind, entity)));
        let entities = entities.map(|(kind, entity)| self.document(kind, entity));
        let mut all: Vec<Document> =
            entities.chain(self.index.members.iter().map(|member| self.membership(member))).collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all
    }
}

fn member_id((group, consumer): &(Id, Id)) -> String {
    members::id(&group.to_string(), &consumer.to_string())
}

fn page_size(query: &Query) -> usize {
    query.limit.clamp(1, Query::LIMIT_MAX)
}

fn has_tags(entity: &Entity, filter: &TagFilter) -> bool {
    let has = |tag: &Arc<str>| entity.texts("tags").any(|own| own == &**tag);
    match filter {
        TagFilter::None => true,
        TagFilter::All(tags) => tags.iter().all(has),
        TagFilter::Any(tags) => tags.iter().any(has),
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

    fn commit(&self, _batch: Batch) -> BoxFuture<'_, Result<Committed, CommitError>> {
        ready(Err(StoreError::ReadOnly("the configuration comes from files".to_owned()).into()))
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
