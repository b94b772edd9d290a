//! [`Overlay`]: writes that are not committed yet, as a store that shows them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cardinal_store::{
    Batch, BoxFuture, Change, CommitError, Committed, Document, Expect, Generation, Key, NewDocument, OnDelete, Page,
    Query, Store, StoreError, StoreStatus, TagFilter, Violation, Write,
};
use tokio::sync::watch;

/// Pending writes over a store. Rules that need more than one document are left to the store below.
#[derive(Debug)]
pub(super) struct Overlay {
    below: Arc<dyn Store>,
    pending: Mutex<BTreeMap<Key, Pending>>,
}

/// The last write of a document.
#[derive(Clone, Debug)]
struct Pending {
    /// The state below that the first write of the document was made for.
    expect: Expect,
    /// The document below was deleted: what is written afterwards is a new one.
    is_deleted: bool,
    document: Option<NewDocument>,
}

impl Overlay {
    pub(super) fn new(below: Arc<dyn Store>) -> Self {
        Self { below, pending: Mutex::default() }
    }

    /// The writes that make the store below what this one shows.
    pub(super) fn writes(&self) -> Vec<Write> {
        let pending = std::mem::take(&mut *self.lock());
        let mut writes = Vec::new();
        for (key, Pending { expect, is_deleted, document }) in pending {
            match document {
                Some(document) if is_deleted => {
                    writes.push(Write::Delete(key, expect));
                    writes.push(Write::Put(Box::new(document), Expect::Absent));
                }
                Some(document) => writes.push(Write::Put(Box::new(document), expect)),
                // It was created and deleted here.
                None if expect == Expect::Absent => {}
                None => writes.push(Write::Delete(key, expect)),
            }
        }
        writes
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pending state of a document, if there is one.
    fn pending(&self, key: &Key) -> Option<Option<Document>> {
        self.lock().get(key).map(|pending| pending.document.as_ref().map(shown))
    }

    async fn current(&self, key: Key) -> Result<Option<Document>, StoreError> {
        match self.pending(&key) {
            Some(document) => Ok(document),
            None => self.below.get(key).await,
        }
    }

    async fn page(&self, query: Query) -> Result<Page, StoreError> {
        let mut page = self.below.list(query.clone()).await?;
        let pending = self.lock();
        page.documents.retain(|document| !pending.contains_key(&document.key));
        let new = pending.values().filter_map(|pending| pending.document.as_ref()).filter(|new| is_listed(&query, new));
        // Those beyond the page belong to a later one.
        let new = new.filter(|new| page.next.as_ref().is_none_or(|next| new.key.id <= *next));
        page.documents.extend(new.map(shown));
        page.documents.sort_by(|a, b| a.key.id.cmp(&b.key.id));
        Ok(page)
    }

    async fn apply(&self, batch: Batch) -> Result<Committed, CommitError> {
        let (mut documents, mut deleted) = (Vec::new(), Vec::new());
        for (at, write) in batch.writes.into_iter().enumerate() {
            let (key, expect, document) = match write {
                Write::Put(document, expect) => (document.key.clone(), expect, Some(*document)),
                Write::Delete(key, expect) => (key, expect, None),
            };
            let current = self.current(key.clone()).await?;
            let found = current.as_ref().map(|current| current.revision);
            let is_met = match expect {
                Expect::Any => true,
                Expect::Absent => found.is_none(),
                Expect::Present => found.is_some(),
                Expect::Revision(revision) => found == Some(revision),
            };
            if !is_met {
                return Err(CommitError::Violation { at, violation: Violation::Expectation { key, found } });
            }
            documents.push(document.as_ref().map(shown));
            if document.is_none() && current.is_some() {
                self.delete_dependents(&key);
                deleted.push(key.clone());
            }
            let first = found.map_or(Expect::Absent, Expect::Revision);
            let mut pending = self.lock();
            let pending = pending.entry(key).or_insert(Pending { expect: first, is_deleted: false, document: None });
            pending.is_deleted |= document.is_none() && pending.expect != Expect::Absent;
            pending.document = document;
        }
        Ok(Committed { revision: 0, changed: true, documents, deleted })
    }

    /// What was written here and goes with a deleted document. The store below sees to its own.
    fn delete_dependents(&self, key: &Key) {
        let goes = |document: &NewDocument| {
            document.references.iter().any(|reference| reference.to == *key && reference.on_delete == OnDelete::Cascade)
        };
        for pending in self.lock().values_mut() {
            pending.document.take_if(|document| goes(document));
        }
    }
}

/// A document that is not stored yet has the revision 0.
fn shown(new: &NewDocument) -> Document {
    let NewDocument { key, space, value, tags, .. } = new;
    Document { key: key.clone(), space: space.clone(), value: value.clone(), revision: 0, tags: tags.clone() }
}

fn is_listed(query: &Query, new: &NewDocument) -> bool {
    let has = |tag: &Arc<str>| new.tags.contains(tag);
    let is_tagged = match &query.tags {
        TagFilter::None => true,
        TagFilter::All(tags) => tags.iter().all(has),
        TagFilter::Any(tags) => tags.iter().any(has),
    };
    let refers = |(field, to): &(Arc<str>, Key)| new.references.iter().any(|of| of.field == *field && of.to == *to);
    new.key.kind == query.kind
        && is_tagged
        && query.space.as_ref().is_none_or(|space| new.space == *space)
        && query.reference.as_ref().is_none_or(refers)
        && query.after.as_ref().is_none_or(|after| new.key.id > *after)
}

impl Store for Overlay {
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Document>, StoreError>> {
        Box::pin(self.current(key))
    }

    fn find(
        &self,
        kind: Arc<str>,
        unique: Arc<str>,
        value: Arc<str>,
    ) -> BoxFuture<'_, Result<Option<Document>, StoreError>> {
        Box::pin(async move {
            let has = |new: &&NewDocument| {
                let same = |key: &cardinal_store::Unique| key.name == unique && key.value == value;
                new.key.kind == kind && new.uniques.iter().any(same)
            };
            let new = self.lock().values().filter_map(|pending| pending.document.as_ref()).find(has).map(shown);
            if new.is_some() {
                return Ok(new);
            }
            let found = self.below.find(kind.clone(), unique.clone(), value.clone()).await?;
            Ok(found.filter(|document| self.pending(&document.key).is_none()))
        })
    }

    fn list(&self, query: Query) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(self.page(query))
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(self.apply(batch))
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<(u64, Vec<Document>), StoreError>> {
        self.below.snapshot()
    }

    fn changes(&self, after: u64, max: usize) -> BoxFuture<'_, Result<Vec<Change>, StoreError>> {
        self.below.changes(after, max)
    }

    fn generations(&self, before: Option<u64>, max: usize) -> BoxFuture<'_, Result<Vec<Generation>, StoreError>> {
        self.below.generations(before, max)
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.below.watch()
    }

    fn status(&self) -> BoxFuture<'_, Result<StoreStatus, StoreError>> {
        self.below.status()
    }
}
