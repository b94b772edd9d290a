//! [`decide`]: what a batch does, or which rule it breaks. Every store asks here, so that all of them agree.
//!
//! Rules are checked in a fixed order, which decides what a batch that breaks several of them is told: the revision, the
//! expectations, references to deleted documents, unique keys, references to missing documents.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;

use crate::{
    Batch, CommitError, Document, Expect, Key, NewDocument, OnDelete, Reference, StoreError, Unique, Violation, Write,
};

/// A document with everything that belongs to it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The document.
    pub document: Box<NewDocument>,
    /// The revision of its last write.
    pub revision: u64,
}

/// A document that references another one.
#[derive(Clone, Debug)]
pub struct Referrer {
    /// The document.
    pub by: Key,
    /// Its reference.
    pub reference: Reference,
}

/// The state before a batch, as far as the decision needs it. Each method takes many keys, because a database answers
/// many in one query.
pub trait View: Send {
    /// The newest revision.
    fn revision(&mut self) -> impl Future<Output = Result<u64, StoreError>> + Send;
    /// The documents among these that exist.
    fn stored(&mut self, keys: &[Key]) -> impl Future<Output = Result<HashMap<Key, Stored>, StoreError>> + Send;
    /// Those among these keys that exist.
    fn existing(&mut self, keys: &[Key]) -> impl Future<Output = Result<HashSet<Key>, StoreError>> + Send;
    /// The documents that have these unique keys, in the order of the question.
    fn owners(
        &mut self,
        uniques: &[(Arc<str>, Unique)],
    ) -> impl Future<Output = Result<Vec<Option<Key>>, StoreError>> + Send;
    /// The references that lead to these documents.
    fn referrers(&mut self, keys: &[Key]) -> impl Future<Output = Result<Vec<Referrer>, StoreError>> + Send;
}

/// What a batch does.
#[derive(Debug)]
pub struct Decision {
    /// The revision after it.
    pub revision: u64,
    /// The changes: in the order of the writes, then what is deleted by cascade in the order of the keys.
    pub steps: Vec<Step>,
    /// [`Committed::documents`](crate::Committed::documents).
    pub documents: Vec<Option<Document>>,
}

/// A change of one document.
#[derive(Debug)]
pub struct Step {
    /// The document.
    pub key: Key,
    /// Its state before; `None` if it did not exist.
    pub before: Option<Stored>,
    /// Its state afterwards; `None` if it is deleted.
    pub after: Option<Box<NewDocument>>,
    /// It is deleted because a document that it references is.
    pub cascaded: bool,
}

impl Decision {
    /// The result of the batch once its changes are applied.
    pub fn committed(self) -> crate::Committed {
        let written: HashSet<&Key> =
            self.steps.iter().filter(|step| step.after.is_some()).map(|step| &step.key).collect();
        let deleted = self.steps.iter().filter(|step| step.after.is_none() && !written.contains(&step.key));
        let deleted = deleted.map(|step| step.key.clone()).collect();
        let changed = !self.steps.is_empty();
        crate::Committed { revision: self.revision, changed, documents: self.documents, deleted }
    }
}

impl Stored {
    /// What readers see.
    pub fn read(&self) -> Document {
        read(&self.document, self.revision)
    }
}

fn read(document: &NewDocument, revision: u64) -> Document {
    Document {
        key: document.key.clone(),
        space: document.space.clone(),
        value: document.value.clone(),
        revision,
        tags: document.tags.clone(),
    }
}

/// What this batch does. A store that is kept elsewhere asks here, too, so that it follows the same rules.
/// [`check_batch`](crate::check_batch) comes first.
///
/// # Errors
/// The batch breaks a rule, or the view failed.
pub async fn decide(view: &mut impl View, batch: Batch) -> Result<Decision, CommitError> {
    let revision = view.revision().await?;
    if let Some(expected) = batch.revision.filter(|expected| *expected != revision) {
        return Err(CommitError::Stale { found: revision, expected });
    }
    let keys: Vec<Key> = batch.writes.iter().map(|write| key_of(write).clone()).collect();
    let mut before = view.stored(&keys).await?;
    let mut deleted = HashSet::new();
    for (at, (write, key)) in batch.writes.iter().zip(&keys).enumerate() {
        // A document that is written again after its deletion does not exist for that write.
        let found = before.get(key).filter(|_| !deleted.contains(key)).map(|stored| stored.revision);
        expect(write, key, found).map_err(|violation| broken(at, violation))?;
        if matches!(write, Write::Delete(..)) {
            deleted.insert(key);
        }
    }
    drop(deleted);
    let puts: Vec<(usize, &NewDocument)> = puts(&batch).collect();
    let written: HashSet<&Key> = puts.iter().map(|(_, document)| &document.key).collect();
    let cascaded = cascade(view, &batch, &before, &written).await?;
    let gone: HashSet<&Key> = deletes(&batch).map(|(_, key)| key).chain(&cascaded).collect();
    check_uniques(view, &puts, &written, &gone).await?;
    check_references(view, &puts, &written, &gone).await?;
    drop(written);
    drop(gone);

    let also: Vec<Key> = cascaded.into_iter().collect();
    let mut also_before = view.stored(&also).await?;
    let next = revision + 1;
    let (mut steps, mut documents) = (Vec::new(), Vec::with_capacity(batch.writes.len()));
    for write in batch.writes {
        let (step, document) = step(write, &mut before, next);
        steps.extend(step);
        documents.push(document);
    }
    for key in also {
        let before = also_before.remove(&key);
        steps.push(Step { key, before, after: None, cascaded: true });
    }
    let revision = if steps.is_empty() { revision } else { next };
    Ok(Decision { revision, steps, documents })
}

fn key_of(write: &Write) -> &Key {
    match write {
        Write::Put(document, _) => &document.key,
        Write::Delete(key, _) => key,
    }
}

fn puts(batch: &Batch) -> impl Iterator<Item = (usize, &NewDocument)> {
    batch.writes.iter().enumerate().filter_map(|(at, write)| match write {
        Write::Put(document, _) => Some((at, &**document)),
        Write::Delete(..) => None,
    })
}

fn deletes(batch: &Batch) -> impl Iterator<Item = (usize, &Key)> {
    batch.writes.iter().enumerate().filter_map(|(at, write)| match write {
        Write::Delete(key, _) => Some((at, key)),
        Write::Put(..) => None,
    })
}

fn broken(at: usize, violation: Violation) -> CommitError {
    CommitError::Violation { at, violation }
}

fn expect(write: &Write, key: &Key, found: Option<u64>) -> Result<(), Violation> {
    let (Write::Put(_, expected) | Write::Delete(_, expected)) = write;
    let met = match expected {
        Expect::Any => true,
        Expect::Absent => found.is_none(),
        Expect::Present => found.is_some(),
        Expect::Revision(revision) => found == Some(*revision),
    };
    if met { Ok(()) } else { Err(Violation::Expectation { key: key.clone(), found }) }
}

/// The documents that are deleted because those that they reference are. What the batch writes is not among them.
async fn cascade(
    view: &mut impl View,
    batch: &Batch,
    before: &HashMap<Key, Stored>,
    written: &HashSet<&Key>,
) -> Result<BTreeSet<Key>, CommitError> {
    let deleted: Vec<(usize, &Key)> = deletes(batch).filter(|(_, key)| before.contains_key(*key)).collect();
    let mut gone: HashSet<Key> = deleted.iter().map(|(_, key)| (*key).clone()).collect();
    let mut level: Vec<Key> = gone.iter().cloned().collect();
    let mut restricted: Vec<Referrer> = Vec::new();
    let mut cascades: HashMap<Key, Vec<Key>> = HashMap::new();
    while !level.is_empty() {
        let mut below = Vec::new();
        for referrer in view.referrers(&level).await? {
            if written.contains(&referrer.by) {
                continue;
            }
            if referrer.reference.on_delete == OnDelete::Restrict {
                restricted.push(referrer);
                continue;
            }
            if gone.insert(referrer.by.clone()) {
                below.push(referrer.by.clone());
            }
            cascades.entry(referrer.reference.to).or_default().push(referrer.by);
        }
        level = below;
    }
    restricted.retain(|referrer| !gone.contains(&referrer.by));
    if !restricted.is_empty() {
        return Err(first_restriction(&deleted, &cascades, restricted));
    }
    for (_, key) in deleted {
        gone.remove(key);
    }
    Ok(gone.into_iter().collect())
}

/// The violation of the first write that leads to one, whatever order the view answers in.
fn first_restriction(
    deleted: &[(usize, &Key)],
    cascades: &HashMap<Key, Vec<Key>>,
    restricted: Vec<Referrer>,
) -> CommitError {
    let mut origins: HashMap<&Key, usize> = HashMap::new();
    for (at, key) in deleted {
        let mut open = vec![*key];
        while let Some(key) = open.pop() {
            if origins.contains_key(key) {
                continue;
            }
            origins.insert(key, *at);
            open.extend(cascades.get(key).into_iter().flatten());
        }
    }
    let origin = |referrer: &Referrer| origins.get(&referrer.reference.to).copied().unwrap_or_default();
    let all = restricted.into_iter().map(|referrer| {
        let at = origin(&referrer);
        (at, referrer.reference.to, referrer.by, referrer.reference.field)
    });
    match all.min() {
        Some((at, key, by, field)) => broken(at, Violation::Referenced { key, by, field }),
        None => StoreError::Corrupt("a reference without a target".to_owned()).into(),
    }
}

async fn check_uniques(
    view: &mut impl View,
    puts: &[(usize, &NewDocument)],
    written: &HashSet<&Key>,
    gone: &HashSet<&Key>,
) -> Result<(), CommitError> {
    let claims: Vec<(usize, &NewDocument, &Unique)> =
        puts.iter().flat_map(|(at, document)| document.uniques.iter().map(|unique| (*at, *document, unique))).collect();
    let asked: Vec<(Arc<str>, Unique)> =
        claims.iter().map(|(_, document, unique)| (document.key.kind.clone(), (*unique).clone())).collect();
    let owners = view.owners(&asked).await?;
    let mut claimed: HashMap<(&str, &Unique), &Key> = HashMap::new();
    for ((at, document, unique), owner) in claims.into_iter().zip(owners) {
        let violation = |owner: Key| broken(at, Violation::Unique { name: unique.name.clone(), owner });
        if let Some(owner) = owner.filter(|owner| !written.contains(owner) && !gone.contains(owner)) {
            return Err(violation(owner));
        }
        let first = *claimed.entry((&*document.key.kind, unique)).or_insert(&document.key);
        if *first != document.key {
            return Err(violation(first.clone()));
        }
    }
    Ok(())
}

async fn check_references(
    view: &mut impl View,
    puts: &[(usize, &NewDocument)],
    written: &HashSet<&Key>,
    gone: &HashSet<&Key>,
) -> Result<(), CommitError> {
    let mut targets: Vec<Key> = puts
        .iter()
        .flat_map(|(_, document)| document.references.iter().map(|reference| reference.to.clone()))
        .collect();
    targets.sort();
    targets.dedup();
    targets.retain(|key| !written.contains(key) && !gone.contains(key));
    let existing = view.existing(&targets).await?;
    for (at, document) in puts {
        for Reference { field, to, .. } in &document.references {
            if !written.contains(to) && !existing.contains(to) {
                return Err(broken(*at, Violation::Missing { field: field.clone(), to: to.clone() }));
            }
        }
    }
    Ok(())
}

/// What a write changes, and the document afterwards.
fn step(write: Write, before: &mut HashMap<Key, Stored>, next: u64) -> (Option<Step>, Option<Document>) {
    match write {
        Write::Put(document, _) => match before.remove(&document.key) {
            Some(stored) if stored.document == document => (None, Some(stored.read())),
            stored => {
                let after = read(&document, next);
                let key = document.key.clone();
                (Some(Step { key, before: stored, after: Some(document), cascaded: false }), Some(after))
            }
        },
        Write::Delete(key, _) => {
            let stored = before.remove(&key);
            (stored.map(|stored| Step { key, before: Some(stored), after: None, cascaded: false }), None)
        }
    }
}
