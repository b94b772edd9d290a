//! [`Transaction`]: the view of a batch, and its changes as rows.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::codec::{Codec, Encoded};
use super::connection::{Cell, Connection, damaged};
use super::keys::SharedKey;
use super::{bulk, digests, keys, rows};
use crate::chain::{Entry, Head, entry_hash};
use crate::decide::{Decision, Referrer, Step, Stored, View, decide};
use crate::{Author, Batch, CommitError, Committed, Key, NewDocument, OnDelete, Reference, StoreError, Unique, Write};

/// A batch in a transaction of a database.
pub(crate) struct Transaction<'c> {
    pub(crate) connection: &'c mut dyn Connection,
    pub(crate) codec: &'c Codec,
    key: &'c SharedKey,
    pub(crate) head: Head,
    /// Stored forms of the values that were read.
    values: HashMap<Key, Vec<u8>>,
}

impl<'c> Transaction<'c> {
    pub(crate) fn new(
        connection: &'c mut dyn Connection,
        (codec, key): (&'c Codec, &'c SharedKey),
        head: Head,
    ) -> Self {
        Self { connection, codec, key, head, values: HashMap::new() }
    }

    /// Decides and applies a batch. After an error the transaction is to be rolled back.
    pub(crate) async fn apply(&mut self, batch: Batch, at_ms: i64) -> Result<Committed, CommitError> {
        let author = batch.author.clone();
        let batch = self.sealed(batch);
        let decision = decide(self, batch).await?;
        if !decision.steps.is_empty() {
            self.write(&decision, at_ms, &author).await?;
        }
        Ok(decision.committed())
    }

    /// The batch with digests as values of unique keys.
    fn sealed(&self, mut batch: Batch) -> Batch {
        let index = self.codec.index();
        for write in &mut batch.writes {
            if let Write::Put(document, _) = write {
                let kind = document.key.kind.clone();
                document.uniques.iter_mut().for_each(|unique| *unique = index.sealed(&kind, unique));
            }
        }
        batch
    }

    async fn write(&mut self, decision: &Decision, at_ms: i64, author: &Author) -> Result<(), StoreError> {
        let author_bytes = serde_json::to_vec(author).map_err(|_| damaged("an author cannot be written"))?;
        self.head.revision = decision.revision;
        let (mut changes, mut documents) = (Vec::new(), Vec::new());
        for (step, position) in decision.steps.iter().zip(0..) {
            let new = step.after.as_deref().map(|document| self.codec.encode(document)).transpose()?;
            if let (Some(document), Some(value)) = (&step.after, &new) {
                documents.push(self.document(document, value)?);
            }
            changes.push(self.change(step, new.map(|value| value.bytes), (position, at_ms, author)));
        }
        self.remove_indexes(&decision.steps).await?;
        self.add_indexes(&decision.steps).await?;
        let conflict = " ON CONFLICT (kind, id) DO UPDATE SET space = excluded.space, revision = excluded.revision, value \
                        = excluded.value, meta = excluded.meta, data_key = excluded.data_key";
        let insert = "INSERT INTO documents (kind, id, space, revision, value, meta, data_key)";
        bulk::insert(self.connection, insert, conflict, documents).await?;
        let insert = "INSERT INTO changes (revision, position, kind, id, space, old_value, new_value, cascaded, hash)";
        let count = changes.len() as u64;
        bulk::insert(self.connection, insert, "", changes).await?;
        let insert = "INSERT INTO generations (revision, at_ms, author, changes) VALUES ($1, $2, $3, $4)".to_owned();
        let revision = Cell::number(self.head.revision);
        let generation = vec![revision.clone(), Cell::Int(at_ms), Cell::Bytes(author_bytes), Cell::number(count)];
        self.connection.query(insert, generation).await?;
        let update = "UPDATE store_state SET revision = $1, hash = $2 WHERE id = 1".to_owned();
        self.connection.query(update, vec![revision, Cell::Bytes(self.head.hash.to_vec())]).await?;
        Ok(())
    }

    fn document(&self, document: &NewDocument, value: &Encoded) -> Result<Vec<Cell>, StoreError> {
        let mut row = rows::cells(&document.key);
        row.extend([
            Cell::text(&document.space),
            Cell::number(self.head.revision),
            Cell::Bytes(value.bytes.clone()),
            Cell::Bytes(rows::Meta::bytes(document)?),
            Cell::Int(value.data_key),
        ]);
        Ok(row)
    }

    fn change(
        &mut self,
        step: &Step,
        new: Option<Vec<u8>>,
        (position, at_ms, author): (u32, i64, &Author),
    ) -> Vec<Cell> {
        let document = step.after.as_ref().or(step.before.as_ref().map(|stored| &stored.document));
        let mut entry = Entry {
            revision: self.head.revision,
            position,
            at_ms,
            author: author.clone(),
            key: step.key.clone(),
            space: document.map(|document| document.space.clone()).unwrap_or_default(),
            old: self.values.remove(&step.key),
            new,
            cascaded: step.cascaded,
            hash: [0; 32],
        };
        entry.hash = entry_hash(&self.head.hash, &entry);
        self.head.hash = entry.hash;
        vec![
            Cell::number(entry.revision),
            Cell::Int(i64::from(position)),
            Cell::text(&entry.key.kind),
            Cell::text(&entry.key.id),
            Cell::text(&entry.space),
            Cell::optional(entry.old),
            Cell::optional(entry.new),
            Cell::Int(i64::from(entry.cascaded)),
            Cell::Bytes(entry.hash.to_vec()),
        ]
    }

    /// Removes what the changed documents had, before anything is added: documents of a batch may exchange unique keys.
    async fn remove_indexes(&mut self, steps: &[Step]) -> Result<(), StoreError> {
        let changed = |had: fn(&NewDocument, Option<&NewDocument>) -> bool| -> Vec<Key> {
            let had = |step: &&Step| step.before.as_ref().is_some_and(|one| had(&one.document, step.after.as_deref()));
            steps.iter().filter(had).map(|step| step.key.clone()).collect()
        };
        let keys = changed(|one, after| !one.uniques.is_empty() && after.is_none_or(|two| two.uniques != one.uniques));
        bulk::for_keys(self.connection, "DELETE FROM document_uniques WHERE (kind, id)", &keys).await?;
        let keys = changed(|one, after| {
            !one.references.is_empty() && after.is_none_or(|two| two.references != one.references)
        });
        bulk::for_keys(self.connection, "DELETE FROM document_references WHERE (kind, id)", &keys).await?;
        let keys = changed(|one, after| !one.tags.is_empty() && after.is_none_or(|two| two.tags != one.tags));
        bulk::for_keys(self.connection, "DELETE FROM document_tags WHERE (kind, id)", &keys).await?;
        let keys = changed(|_, after| after.is_none());
        bulk::for_keys(self.connection, "DELETE FROM documents WHERE (kind, id)", &keys).await?;
        Ok(())
    }

    async fn add_indexes(&mut self, steps: &[Step]) -> Result<(), StoreError> {
        let (mut uniques, mut references, mut tags) = (Vec::new(), Vec::new(), Vec::new());
        for (step, after) in steps.iter().filter_map(|step| Some((step, step.after.as_deref()?))) {
            let before = step.before.as_ref().map(|stored| &*stored.document);
            if before.is_none_or(|before| before.uniques != after.uniques) {
                uniques.extend(rows::unique_rows(&after.key, &after.uniques));
            }
            if before.is_none_or(|before| before.references != after.references) {
                references.extend(reference_rows(after));
            }
            if before.is_none_or(|before| before.tags != after.tags) {
                tags.extend(tag_rows(after));
            }
        }
        bulk::insert(self.connection, rows::INSERT_UNIQUES, "", uniques).await?;
        let insert = "INSERT INTO document_references (kind, id, field, to_kind, to_id, cascades)";
        bulk::insert(self.connection, insert, "", references).await?;
        bulk::insert(self.connection, "INSERT INTO document_tags (kind, id, tag)", "", tags).await
    }
}

fn reference_rows(document: &NewDocument) -> Vec<Vec<Cell>> {
    let row = |reference: &Reference| {
        let mut row = rows::cells(&document.key);
        row.push(Cell::text(&reference.field));
        row.extend(rows::cells(&reference.to));
        row.push(Cell::Int(i64::from(reference.on_delete == OnDelete::Cascade)));
        row
    };
    document.references.iter().map(row).collect()
}

fn tag_rows(document: &NewDocument) -> Vec<Vec<Cell>> {
    let mut seen = HashSet::new();
    let distinct = document.tags.iter().filter(|tag| seen.insert(*tag));
    let row = |tag: &Arc<str>| {
        let mut row = rows::cells(&document.key);
        row.push(Cell::text(tag));
        row
    };
    distinct.map(row).collect()
}

impl View for Transaction<'_> {
    async fn revision(&mut self) -> Result<u64, StoreError> {
        Ok(self.head.revision)
    }

    async fn stored(&mut self, keys: &[Key]) -> Result<HashMap<Key, Stored>, StoreError> {
        let sql = format!("SELECT {} FROM documents d WHERE (kind, id)", rows::DOCUMENT);
        let mut found = HashMap::new();
        for row in bulk::for_keys(self.connection, &sql, keys).await? {
            let mut result = rows::stored(&mut row.clone(), self.codec);
            // Another control plane may have made a new data key.
            if result.is_err() && self.codec.take_missing() {
                keys::load(self.connection, self.codec, self.key.lock().await.as_deref()).await?;
                result = rows::stored(&mut row.clone(), self.codec);
            }
            let (stored, value) = result?;
            self.values.insert(stored.document.key.clone(), value);
            found.insert(stored.document.key.clone(), stored);
        }
        Ok(found)
    }

    async fn existing(&mut self, keys: &[Key]) -> Result<HashSet<Key>, StoreError> {
        let rows = bulk::for_keys(self.connection, "SELECT kind, id FROM documents WHERE (kind, id)", keys).await?;
        rows.into_iter().map(|mut row| rows::key(&mut row)).collect()
    }

    async fn owners(&mut self, uniques: &[(Arc<str>, Unique)]) -> Result<Vec<Option<Key>>, StoreError> {
        let digests: Vec<Vec<u8>> = uniques.iter().map(|(_, sealed)| digests::digest_of(sealed)).collect();
        let sql = "SELECT digest, kind, id FROM document_uniques WHERE digest";
        let mut owners = HashMap::new();
        for mut row in bulk::for_values(self.connection, sql, &digests).await? {
            owners.insert(row.bytes()?, rows::key(&mut row)?);
        }
        Ok(digests.iter().map(|digest| owners.get(digest).cloned()).collect())
    }

    async fn referrers(&mut self, keys: &[Key]) -> Result<Vec<Referrer>, StoreError> {
        let sql = "SELECT kind, id, field, to_kind, to_id, cascades FROM document_references WHERE (to_kind, to_id)";
        let mut referrers = Vec::new();
        for mut row in bulk::for_keys(self.connection, sql, keys).await? {
            let (by, field, to) = (rows::key(&mut row)?, row.text()?, rows::key(&mut row)?);
            let on_delete = if row.int()? == 0 { OnDelete::Restrict } else { OnDelete::Cascade };
            referrers.push(Referrer { by, reference: Reference { field, to, on_delete } });
        }
        Ok(referrers)
    }
}
