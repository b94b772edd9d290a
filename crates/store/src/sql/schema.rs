//! The tables, and the steps from older ones to them.

use super::connection::{Cell, Connection, Database, transaction};
use super::prune;
use crate::StoreError;

/// Steps of the schema: step `n` leads from version `n` to `n + 1`. A step that was released is never changed. `BYTES` is
/// the type of columns of bytes.
const STEPS: &[&[&str]] = &[FIRST, SECOND];

const FIRST: &[&str] = &[
    // One row: both ends of the change log.
    "CREATE TABLE store_state (id BIGINT PRIMARY KEY, revision BIGINT NOT NULL, hash BYTES NOT NULL, oldest BIGINT NOT \
     NULL, base_hash BYTES NOT NULL)",
    "CREATE TABLE documents (kind BYTES NOT NULL, id BYTES NOT NULL, space BYTES NOT NULL, revision BIGINT NOT NULL, value \
     BYTES NOT NULL, meta BYTES NOT NULL, data_key BIGINT NOT NULL, PRIMARY KEY (kind, id))",
    "CREATE INDEX documents_space ON documents (kind, space, id)",
    "CREATE INDEX documents_data_key ON documents (data_key)",
    // The digest covers kind, name and value, which may be longer than an index takes.
    "CREATE TABLE document_keys (digest BYTES PRIMARY KEY, kind BYTES NOT NULL, id BYTES NOT NULL)",
    "CREATE INDEX document_keys_document ON document_keys (kind, id)",
    "CREATE TABLE document_references (kind BYTES NOT NULL, id BYTES NOT NULL, field BYTES NOT NULL, to_kind BYTES NOT \
     NULL, to_id BYTES NOT NULL, cascades BIGINT NOT NULL, PRIMARY KEY (kind, id, field))",
    "CREATE INDEX document_references_to ON document_references (to_kind, to_id, kind, field, id)",
    "CREATE TABLE document_tags (kind BYTES NOT NULL, tag BYTES NOT NULL, id BYTES NOT NULL, PRIMARY KEY (kind, tag, id))",
    "CREATE INDEX document_tags_document ON document_tags (kind, id)",
    "CREATE TABLE generations (revision BIGINT PRIMARY KEY, at_ms BIGINT NOT NULL, author BYTES NOT NULL, changes BIGINT \
     NOT NULL)",
    "CREATE INDEX generations_at ON generations (at_ms)",
    "CREATE TABLE changes (revision BIGINT NOT NULL, position BIGINT NOT NULL, kind BYTES NOT NULL, id BYTES NOT NULL, space \
     BYTES NOT NULL, old_value BYTES, new_value BYTES, cascaded BIGINT NOT NULL, hash BYTES NOT NULL, PRIMARY KEY \
     (revision, position))",
    // Keys that encrypt secrets, encrypted themselves with the key of the operator.
    "CREATE TABLE data_keys (id BIGINT PRIMARY KEY, wrapped_by BYTES NOT NULL, wrapped BYTES NOT NULL, at_ms BIGINT NOT \
     NULL)",
];

const SECOND: &[&str] = &[
    // The documents at the revision that the change log begins with.
    "CREATE TABLE base_documents (kind BYTES NOT NULL, id BYTES NOT NULL, space BYTES NOT NULL, revision BIGINT NOT NULL, \
     digest BYTES NOT NULL, PRIMARY KEY (kind, id))",
    // Digests are keyed from now on. With another name, an older program that still runs writes none without key.
    "ALTER TABLE document_keys RENAME TO document_uniques",
    "CREATE TABLE index_keys (id BIGINT PRIMARY KEY, wrapped_by BYTES NOT NULL, secret BYTES NOT NULL)",
];

/// The version that this program knows.
pub(crate) const VERSION: u32 = STEPS.len() as u32;

/// Brings the tables to the newest version, in one transaction that excludes others.
///
/// # Errors
/// [`StoreError::TooNew`] if they are newer than this program; nothing is changed then.
pub(crate) async fn migrate(database: &dyn Database) -> Result<(), StoreError> {
    transaction!(database, |connection| steps(connection, database.bytes_type()))
}

async fn steps(connection: &mut dyn Connection, bytes: &str) -> Result<(), StoreError> {
    let table = "CREATE TABLE IF NOT EXISTS store_schema (version BIGINT NOT NULL)";
    connection.query(table.to_owned(), Vec::new()).await?;
    let rows = connection.query("SELECT version FROM store_schema".to_owned(), Vec::new()).await?;
    let found = rows.into_iter().next().map(|mut row| row.number()).transpose()?;
    let version = u32::try_from(found.unwrap_or(0)).unwrap_or(u32::MAX);
    if version > VERSION {
        return Err(StoreError::TooNew { found: version, known: VERSION });
    }
    for step in STEPS.iter().skip(version as usize) {
        for statement in *step {
            connection.query(statement.replace("BYTES", bytes), Vec::new()).await?;
        }
    }
    if version == 0 {
        let zeros = || Cell::Bytes(vec![0; 32]);
        let state = "INSERT INTO store_state (id, revision, hash, oldest, base_hash) VALUES (1, 0, $1, 0, $2)";
        connection.query(state.to_owned(), vec![zeros(), zeros()]).await?;
    }
    if version == 1 {
        prune::adopt(connection).await?;
    }
    if version < VERSION {
        let set = if found.is_none() {
            "INSERT INTO store_schema (version) VALUES ($1)"
        } else {
            "UPDATE store_schema SET version = $1"
        };
        connection.query(set.to_owned(), vec![Cell::Int(i64::from(VERSION))]).await?;
    }
    Ok(())
}
