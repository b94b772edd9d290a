//! The documents of a [`MemoryStore`](crate::MemoryStore), their indexes and the change log.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use crate::chain::{Entry, Head, entry_hash};
use crate::decide::{Decision, Referrer, Step, Stored, View};
use crate::fingerprint::{BaseDocument, Fingerprint, StoredPrint, digest};
use crate::{Author, Change, Document, Generation, Key, NewDocument, Page, Query, StoreError, TagFilter, Unique};

#[derive(Debug, Default)]
pub(super) struct Documents {
    by_key: BTreeMap<Key, Stored>,
    owners: HashMap<(Arc<str>, Unique), Key>,
    referrers: HashMap<Key, BTreeSet<(Key, Arc<str>)>>,
    /// Revisions after [`Head::oldest`], in their order.
    log: Vec<Revision>,
    /// The documents at [`Head::oldest`].
    base: BTreeMap<Key, BaseDocument>,
    head: Head,
}

#[derive(Debug)]
struct Revision {
    at_ms: i64,
    author: Author,
    changes: Vec<Change>,
}

impl Documents {
    pub(super) fn head(&self) -> Head {
        self.head
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn get(&self, key: &Key) -> Option<Document> {
        self.by_key.get(key).map(Stored::read)
    }

    pub(super) fn find(&self, kind: Arc<str>, unique: Unique) -> Option<Document> {
        self.get(self.owners.get(&(kind, unique))?)
    }

    pub(super) fn all(&self) -> Vec<Document> {
        self.by_key.values().map(Stored::read).collect()
    }

    pub(super) fn list(&self, query: &Query) -> Page {
        let first = Key { kind: query.kind.clone(), id: query.after.clone().unwrap_or_default() };
        let same_kind = self.by_key.range(first..).take_while(|(key, _)| key.kind == query.kind);
        let rest = same_kind.filter(|(key, _)| query.after.as_ref().is_none_or(|after| key.id > *after));
        let mut matching = rest.map(|(_, stored)| stored).filter(|stored| matches(query, &stored.document));
        let documents: Vec<Document> = matching.by_ref().take(query.page_size()).map(Stored::read).collect();
        let next = matching.next().and_then(|_| documents.last().map(|document| document.key.id.clone()));
        Page { documents, next }
    }

    pub(super) fn base(&self) -> Vec<BaseDocument> {
        self.base.values().cloned().collect()
    }

    pub(super) fn stored_prints(&self) -> Vec<StoredPrint> {
        let print = |stored: &Stored| {
            let NewDocument { key, space, value, .. } = &*stored.document;
            let (key, space, print) = (key.clone(), space.clone(), fingerprint(value.to_string().as_bytes()));
            StoredPrint { key, space, revision: stored.revision, print }
        };
        self.by_key.values().map(print).collect()
    }

    pub(super) fn changes(&self, after: u64, max: usize) -> Result<Vec<Change>, StoreError> {
        if after < self.head.oldest {
            return Err(StoreError::pruned(after, self.head.oldest));
        }
        let mut changes = Vec::new();
        for revision in self.revisions_after(after) {
            if !changes.is_empty() && changes.len() + revision.changes.len() > max {
                break;
            }
            changes.extend(revision.changes.iter().cloned());
        }
        Ok(changes)
    }

    pub(super) fn generations(&self, before: Option<u64>, max: usize) -> Vec<Generation> {
        let numbered = (self.head.oldest + 1..=self.head.revision).rev().zip(self.log.iter().rev());
        let older = numbered.filter(|(revision, _)| before.is_none_or(|before| *revision < before));
        let generation = |(revision, made): (u64, &Revision)| Generation {
            revision,
            at_ms: made.at_ms,
            author: made.author.clone(),
            changes: made.changes.len() as u64,
        };
        older.take(max).map(generation).collect()
    }

    /// The newest revision that was made before this time.
    pub(super) fn revision_before(&self, at_ms: i64) -> u64 {
        self.head.oldest + self.log.iter().take_while(|made| made.at_ms < at_ms).count() as u64
    }

    pub(super) fn prune(&mut self, up_to: u64) -> u64 {
        let up_to = up_to.min(self.head.revision.saturating_sub(1));
        let count = usize::try_from(up_to.saturating_sub(self.head.oldest)).unwrap_or(usize::MAX).min(self.log.len());
        for change in self.log.drain(..count).flat_map(|made| made.changes) {
            (self.head.oldest, self.head.base_hash) = (change.revision, change.hash);
            let entry = entry(&change);
            let Entry { key, space, revision, new, .. } = entry;
            match new {
                Some(bytes) => {
                    let document = BaseDocument { key: key.clone(), space, revision, digest: digest(&bytes) };
                    self.base.insert(key, document);
                }
                None => drop(self.base.remove(&key)),
            }
        }
        self.head.oldest
    }

    fn revisions_after(&self, after: u64) -> impl Iterator<Item = &Revision> {
        let skipped = usize::try_from(after.saturating_sub(self.head.oldest)).unwrap_or(usize::MAX);
        self.log.iter().skip(skipped)
    }

    pub(super) fn apply(&mut self, decision: &Decision, at_ms: i64, author: &Author) {
        if decision.steps.is_empty() {
            return;
        }
        self.head.revision = decision.revision;
        let mut changes = Vec::with_capacity(decision.steps.len());
        for (step, position) in decision.steps.iter().zip(0..) {
            changes.push(self.change(step, position, (at_ms, author)));
        }
        self.log.push(Revision { at_ms, author: author.clone(), changes });
        // All of the old state goes first: documents of a batch may exchange unique keys.
        for step in &decision.steps {
            if let Some(before) = &step.before {
                self.remove(&before.document);
            }
        }
        for document in decision.steps.iter().filter_map(|step| step.after.as_ref()) {
            self.add(document);
        }
    }

    fn change(&mut self, step: &Step, position: u32, (at_ms, author): (i64, &Author)) -> Change {
        let old = step.before.as_ref().map(|stored| &stored.document);
        let space = step.after.as_ref().or(old).map(|document| document.space.clone()).unwrap_or_default();
        let mut change = Change {
            revision: self.head.revision,
            position,
            at_ms,
            author: author.clone(),
            key: step.key.clone(),
            space,
            old: old.map(|document| document.value.clone()),
            new: step.after.as_ref().map(|document| document.value.clone()),
            cascaded: step.cascaded,
            hash: [0; 32],
        };
        change.hash = entry_hash(&self.head.hash, &entry(&change));
        self.head.hash = change.hash;
        change
    }

    fn remove(&mut self, document: &NewDocument) {
        self.by_key.remove(&document.key);
        for unique in &document.uniques {
            self.owners.remove(&(document.key.kind.clone(), unique.clone()));
        }
        for reference in &document.references {
            if let Some(referrers) = self.referrers.get_mut(&reference.to) {
                referrers.remove(&(document.key.clone(), reference.field.clone()));
                if referrers.is_empty() {
                    self.referrers.remove(&reference.to);
                }
            }
        }
    }

    fn add(&mut self, document: &NewDocument) {
        for unique in &document.uniques {
            self.owners.insert((document.key.kind.clone(), unique.clone()), document.key.clone());
        }
        for reference in &document.references {
            let referrer = (document.key.clone(), reference.field.clone());
            self.referrers.entry(reference.to.clone()).or_default().insert(referrer);
        }
        let stored = Stored { document: Box::new(document.clone()), revision: self.head.revision };
        self.by_key.insert(document.key.clone(), stored);
    }
}

impl View for Documents {
    async fn revision(&mut self) -> Result<u64, StoreError> {
        Ok(self.head.revision)
    }

    async fn stored(&mut self, keys: &[Key]) -> Result<HashMap<Key, Stored>, StoreError> {
        Ok(keys.iter().filter_map(|key| Some((key.clone(), self.by_key.get(key)?.clone()))).collect())
    }

    async fn existing(&mut self, keys: &[Key]) -> Result<HashSet<Key>, StoreError> {
        Ok(keys.iter().filter(|key| self.by_key.contains_key(*key)).cloned().collect())
    }

    async fn owners(&mut self, uniques: &[(Arc<str>, Unique)]) -> Result<Vec<Option<Key>>, StoreError> {
        Ok(uniques.iter().map(|unique| self.owners.get(unique).cloned()).collect())
    }

    async fn referrers(&mut self, keys: &[Key]) -> Result<Vec<Referrer>, StoreError> {
        let leading = keys.iter().flat_map(|key| self.referrers.get(key).into_iter().flatten());
        let referrer = |(by, field): &(Key, Arc<str>)| {
            let document = &self.by_key.get(by)?.document;
            let reference = document.references.iter().find(|reference| reference.field == *field)?.clone();
            Some(Referrer { by: by.clone(), reference })
        };
        Ok(leading.filter_map(referrer).collect())
    }
}

/// Nothing is encrypted here.
pub(super) fn fingerprint(bytes: &[u8]) -> Fingerprint {
    let digest = digest(bytes);
    Fingerprint { stored: digest, value: Some(digest), clear: digest }
}

/// A change in its stored form.
pub(super) fn entry(change: &Change) -> Entry {
    let bytes = |value: &Option<Value>| value.as_ref().map(|value| value.to_string().into_bytes());
    Entry {
        revision: change.revision,
        position: change.position,
        at_ms: change.at_ms,
        author: change.author.clone(),
        key: change.key.clone(),
        space: change.space.clone(),
        old: bytes(&change.old),
        new: bytes(&change.new),
        cascaded: change.cascaded,
        hash: change.hash,
    }
}

fn matches(query: &Query, document: &NewDocument) -> bool {
    let tagged = match &query.tags {
        TagFilter::None => true,
        TagFilter::All(tags) => tags.iter().all(|tag| document.tags.contains(tag)),
        TagFilter::Any(tags) => tags.iter().any(|tag| document.tags.contains(tag)),
    };
    let leads =
        |(field, to): &(Arc<str>, Key)| document.references.iter().any(|one| one.field == *field && one.to == *to);
    tagged
        && query.space.as_ref().is_none_or(|space| document.space == *space)
        && query.reference.as_ref().is_none_or(leads)
}
