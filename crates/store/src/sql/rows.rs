//! Rows of the tables as values.

use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::codec::Codec;
use super::connection::{Cell, Connection, Row, damaged};
use super::digests;
use crate::chain::{Entry, Head};
use crate::decide::Stored;
use crate::{Author, Document, Key, NewDocument, Reference, StoreError, Unique, Unreadable};

/// Columns of [`stored`] and [`document`], for a table `d`.
pub(crate) const DOCUMENT: &str = "d.kind, d.id, d.space, d.revision, d.value, d.meta";

/// What belongs to a document beside its value.
#[derive(Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) tags: Vec<Arc<str>>,
    /// With keyed digests as values.
    pub(crate) uniques: Vec<Unique>,
    references: Vec<Reference>,
    pub(crate) secrets: Vec<Arc<str>>,
}

impl Meta {
    pub(crate) fn bytes(document: &NewDocument) -> Result<Vec<u8>, StoreError> {
        let meta = Self {
            tags: document.tags.clone(),
            uniques: document.uniques.clone(),
            references: document.references.clone(),
            secrets: document.secrets.clone(),
        };
        meta.written()
    }

    pub(crate) fn written(&self) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(self).map_err(|_| damaged("a document cannot be written"))
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

pub(crate) fn key(row: &mut Row) -> Result<Key, StoreError> {
    Ok(Key { kind: row.text()?, id: row.text()? })
}

/// A document, and its value as it is stored.
pub(crate) fn stored(row: &mut Row, codec: &Codec) -> Result<(Stored, Vec<u8>), StoreError> {
    let (key, space, revision, bytes) = (key(row)?, row.text()?, row.number()?, row.bytes()?);
    let value = codec.decode(&key, &bytes)?;
    let Meta { tags, uniques, references, secrets } = serde_json::from_slice(&row.bytes()?)
        .map_err(|error| StoreError::Corrupt(format!("{key}: what belongs to it cannot be read: {error}")))?;
    let document = Box::new(NewDocument { key, space, value, uniques, references, tags, secrets });
    Ok((Stored { document, revision }, bytes))
}

pub(crate) fn document(row: &mut Row, codec: &Codec) -> Result<Document, StoreError> {
    let (Stored { document, revision }, _) = stored(row, codec)?;
    let NewDocument { key, space, value, tags, .. } = *document;
    Ok(Document { key, space, value, revision, tags })
}

/// A document, or what can be read of one that is damaged.
pub(crate) fn readable(row: &mut Row, codec: &Codec) -> Result<Result<Document, Unreadable>, StoreError> {
    let (key, space, revision, bytes, meta) = (key(row)?, row.text()?, row.number()?, row.bytes()?, row.bytes()?);
    let meta = Meta::parse(&meta);
    Ok(match codec.decode(&key, &bytes) {
        Ok(value) => {
            let tags = meta.map(|meta| meta.tags).unwrap_or_default();
            Ok(Document { key, space, value, revision, tags })
        }
        Err(StoreError::Corrupt(why)) => {
            Err(Unreadable { key, space, references: meta.map(|meta| meta.references), why })
        }
        Err(error) => return Err(error),
    })
}

/// Columns of [`entry`], for `changes` joined with `generations g`.
pub(crate) const ENTRY: &str = "c.revision, c.position, g.at_ms, g.author, c.kind, c.id, c.space, c.old_value, \
                                c.new_value, c.cascaded, c.hash";

pub(crate) fn entry(row: &mut Row) -> Result<Entry, StoreError> {
    let revision = row.number()?;
    let position = u32::try_from(row.number()?).map_err(|_| damaged("a position is too large"))?;
    // A change whose generation was removed has neither time nor author, so its hash does not match.
    let (at_ms, author) = (row.int().unwrap_or_default(), row.optional()?);
    Ok(Entry {
        revision,
        position,
        at_ms,
        author: author.as_deref().map(parse_author).transpose()?.unwrap_or_default(),
        key: key(row)?,
        space: row.text()?,
        old: row.optional()?,
        new: row.optional()?,
        cascaded: row.int()? != 0,
        hash: row.hash()?,
    })
}

pub(crate) fn parse_author(bytes: &[u8]) -> Result<Author, StoreError> {
    serde_json::from_slice(bytes).map_err(|_| damaged("an author cannot be read"))
}

/// Both ends of the change log.
pub(crate) async fn head(connection: &mut dyn Connection) -> Result<Head, StoreError> {
    let sql = "SELECT revision, hash, oldest, base_hash FROM store_state WHERE id = 1";
    let mut rows = connection.query(sql.to_owned(), Vec::new()).await?;
    let row = rows.first_mut().ok_or_else(|| damaged("the row of store_state is missing"))?;
    Ok(Head { revision: row.number()?, hash: row.hash()?, oldest: row.number()?, base_hash: row.hash()? })
}

/// Inserts rows of [`unique_rows`].
pub(crate) const INSERT_UNIQUES: &str = "INSERT INTO document_uniques (digest, kind, id)";

/// The rows of unique keys, whose values are digests, each once.
pub(crate) fn unique_rows(key: &Key, sealed: &[Unique]) -> Vec<Vec<Cell>> {
    let mut seen = HashSet::new();
    let distinct = sealed.iter().filter(|unique| seen.insert(*unique));
    let row = |unique: &Unique| {
        let mut row = vec![Cell::Bytes(digests::digest_of(unique))];
        row.extend(cells(key));
        row
    };
    distinct.map(row).collect()
}

/// The columns `kind` and `id`.
pub(crate) fn cells(key: &Key) -> Vec<Cell> {
    vec![Cell::text(&key.kind), Cell::text(&key.id)]
}
