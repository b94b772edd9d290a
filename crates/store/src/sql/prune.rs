//! Shortening the change log.
//!
//! What is removed leaves a record of the documents that it made, so that they can still be verified.

use std::collections::BTreeMap;

use super::codec::Codec;
use super::connection::{Cell, Connection, Database, damaged, transaction};
use super::{bulk, rows};
use crate::fingerprint::digest;
use crate::replay::Evidence;
use crate::{Key, StoreError};

/// Revisions that are removed in one transaction at most, so that writers do not wait long.
const REVISIONS: u64 = 500;
/// Entries that are read at a time.
const ENTRIES: u64 = 1_000;

/// How far the log is shortened.
#[derive(Clone, Copy)]
pub(crate) enum UpTo {
    Revision(u64),
    /// What was made before this time.
    Time(i64),
}

/// Removes changes in transactions of a limited size; gives the oldest revision that the log reaches back to.
pub(crate) async fn prune(database: &dyn Database, codec: &Codec, up_to: UpTo) -> Result<u64, StoreError> {
    loop {
        let (oldest, is_done) = transaction!(database, |connection| step(connection, codec, up_to))?;
        if is_done {
            return Ok(oldest);
        }
    }
}

/// A transaction: the oldest revision afterwards, and whether that is all.
async fn step(connection: &mut dyn Connection, codec: &Codec, up_to: UpTo) -> Result<(u64, bool), StoreError> {
    let head = rows::head(connection).await?;
    let wanted = match up_to {
        UpTo::Revision(revision) => revision,
        UpTo::Time(at_ms) => {
            let sql = "SELECT MIN(revision) FROM generations WHERE at_ms >= $1".to_owned();
            let mut rows = connection.query(sql, vec![Cell::Int(at_ms)]).await?;
            let row = rows.first_mut().ok_or_else(|| damaged("no revision"))?;
            if row.is_next_null() { head.revision } else { row.number()?.saturating_sub(1) }
        }
    };
    let wanted = wanted.min(head.revision.saturating_sub(1));
    let target = wanted.min(head.oldest.saturating_add(REVISIONS));
    if target <= head.oldest {
        return Ok((head.oldest, true));
    }
    let cells = || vec![Cell::number(target)];
    let sql = "SELECT hash FROM changes WHERE revision = $1 ORDER BY position DESC LIMIT 1".to_owned();
    let mut found = connection.query(sql, cells()).await?;
    let hash = found.first_mut().ok_or_else(|| damaged("changes are missing in the log"))?.hash()?;
    record(connection, codec, target).await?;
    connection.query("DELETE FROM changes WHERE revision <= $1".to_owned(), cells()).await?;
    connection.query("DELETE FROM generations WHERE revision <= $1".to_owned(), cells()).await?;
    let sql = "UPDATE store_state SET oldest = $1, base_hash = $2 WHERE id = 1".to_owned();
    connection.query(sql, vec![Cell::number(target), Cell::Bytes(hash.to_vec())]).await?;
    Ok((target, target == wanted))
}

/// The newest entry of a document among some.
struct Newest {
    space: std::sync::Arc<str>,
    revision: u64,
    /// Its stored form; `None` if it was deleted.
    bytes: Option<Vec<u8>>,
}

/// Brings the record of documents to this revision. It is made of the log: a document that was changed beside it differs
/// from the record.
async fn record(connection: &mut dyn Connection, codec: &Codec, up_to: u64) -> Result<(), StoreError> {
    let (mut revision, mut position) = (0, -1);
    loop {
        let sql = "SELECT revision, position, kind, id, space, new_value FROM changes WHERE (revision > $1 OR (revision = \
                   $1 AND position > $2)) AND revision <= $3 ORDER BY revision, position LIMIT $4";
        let cells = vec![Cell::number(revision), Cell::Int(position), Cell::number(up_to), Cell::number(ENTRIES)];
        let found = connection.query(sql.to_owned(), cells).await?;
        let is_last = (found.len() as u64) < ENTRIES;
        let mut newest: BTreeMap<Key, Newest> = BTreeMap::new();
        for mut row in found {
            (revision, position) = (row.number()?, row.int()?);
            let (key, space, bytes) = (rows::key(&mut row)?, row.text()?, row.optional()?);
            newest.insert(key, Newest { space, revision, bytes });
        }
        as_encrypted(connection, codec, &mut newest).await?;
        let gone: Vec<Key> = newest.iter().filter(|(_, of)| of.bytes.is_none()).map(|(key, _)| key.clone()).collect();
        bulk::for_keys(connection, "DELETE FROM base_documents WHERE (kind, id)", &gone).await?;
        let made = newest.iter().filter_map(|(key, Newest { space, revision, bytes })| {
            Some(base_row(key, space, *revision, bytes.as_deref()?))
        });
        write(connection, made.collect()).await?;
        if is_last {
            return Ok(());
        }
    }
}

/// Replaces stored forms by those of the documents whose secrets were encrypted again since.
async fn as_encrypted(
    connection: &mut dyn Connection,
    codec: &Codec,
    newest: &mut BTreeMap<Key, Newest>,
) -> Result<(), StoreError> {
    let keys: Vec<Key> = newest.keys().cloned().collect();
    let sql = "SELECT kind, id, revision, value FROM documents WHERE (kind, id)";
    for mut row in bulk::for_keys(connection, sql, &keys).await? {
        let (key, revision, stored) = (rows::key(&mut row)?, row.number()?, row.bytes()?);
        let Some(entry) = newest.get_mut(&key).filter(|entry| entry.revision == revision) else { continue };
        let Some(bytes) = entry.bytes.as_deref().filter(|bytes| **bytes != *stored) else { continue };
        if Evidence::Entry(codec.fingerprint(&key, bytes)).confirms(&codec.fingerprint(&key, &stored)) {
            entry.bytes = Some(stored);
        }
    }
    Ok(())
}

fn base_row(key: &Key, space: &str, revision: u64, bytes: &[u8]) -> Vec<Cell> {
    let mut cells = rows::cells(key);
    cells.extend([Cell::text(space), Cell::number(revision), Cell::Bytes(digest(bytes).to_vec())]);
    cells
}

async fn write(connection: &mut dyn Connection, documents: Vec<Vec<Cell>>) -> Result<(), StoreError> {
    let insert = "INSERT INTO base_documents (kind, id, space, revision, digest)";
    let conflict = " ON CONFLICT (kind, id) DO UPDATE SET space = excluded.space, revision = excluded.revision, digest = \
                    excluded.digest";
    bulk::insert(connection, insert, conflict, documents).await
}

/// Makes the record of a log that an older program has shortened: the documents are taken as they are.
pub(crate) async fn adopt(connection: &mut dyn Connection) -> Result<(), StoreError> {
    let oldest = rows::head(connection).await?.oldest;
    if oldest == 0 {
        return Ok(());
    }
    let sql = "SELECT kind, id, space, revision, value FROM documents WHERE revision <= $1".to_owned();
    let mut documents = Vec::new();
    for mut row in connection.query(sql, vec![Cell::number(oldest)]).await? {
        let (key, space, revision) = (rows::key(&mut row)?, row.text()?, row.number()?);
        documents.push(base_row(&key, &space, revision, &row.bytes()?));
    }
    write(connection, documents).await
}
