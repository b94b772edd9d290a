//! The table of data keys: loading, rotation, and encrypting documents again.

use std::path::Path;
use std::sync::Arc;

use cardinal_base::Clock;
use tokio::sync::Mutex;

use super::codec::{Codec, Encoded, NO_SECRETS};
use super::connection::{Cell, Connection, Database, damaged, transaction};
use super::{index, rows};
use crate::StoreError;
use crate::fingerprint::digest;
use crate::secrets::{KeyEncryptionKey, Keyring, WrappedKey};

/// The key of the operator, which a rotation replaces.
pub(crate) type SharedKey = Arc<Mutex<Option<Arc<KeyEncryptionKey>>>>;

/// Reads the data keys. Without a key encryption key there must be none.
pub(crate) async fn load(
    connection: &mut dyn Connection,
    codec: &Codec,
    key: Option<&KeyEncryptionKey>,
) -> Result<(), StoreError> {
    let stored = stored(connection).await?;
    match (key, stored.first()) {
        (_, None) => Ok(()),
        (Some(key), Some(_)) => {
            codec.set(Keyring::unwrap(&stored, key)?);
            Ok(())
        }
        (None, Some(first)) => Err(StoreError::Corrupt(format!(
            "its secrets are encrypted with key {}, and no key is configured: provide that key",
            first.wrapped_by
        ))),
    }
}

/// Whether the store has data keys, and the key that they are encrypted with.
pub(crate) async fn wrapped_by(connection: &mut dyn Connection) -> Result<Option<String>, StoreError> {
    Ok(stored(connection).await?.into_iter().next().map(|key| key.wrapped_by))
}

async fn stored(connection: &mut dyn Connection) -> Result<Vec<WrappedKey>, StoreError> {
    let sql = "SELECT id, wrapped_by, wrapped FROM data_keys ORDER BY id".to_owned();
    let mut keys = Vec::new();
    for mut row in connection.query(sql, Vec::new()).await? {
        keys.push(WrappedKey { id: row.int()?, wrapped_by: row.text()?.to_string(), wrapped: row.bytes()? });
    }
    Ok(keys)
}

/// Makes the first data key of a store that has none.
pub(crate) async fn first(
    database: &dyn Database,
    key: &KeyEncryptionKey,
    clock: &dyn Clock,
) -> Result<(), StoreError> {
    transaction!(database, |connection| async {
        if stored(connection).await?.is_empty() {
            replace(connection, Keyring::unwrap(&[], key)?.rewrap(key)?, clock).await?;
        }
        Ok(())
    })
}

/// Removes the file of a key that was made for a store without one, if another control plane has made one at the same time:
/// the file would be taken for the key of the store.
pub(crate) async fn keep_if_first(
    connection: &mut dyn Connection,
    key: &KeyEncryptionKey,
    file: &Path,
) -> Result<(), StoreError> {
    let Some(other) = wrapped_by(connection).await?.filter(|id| id != key.id()) else { return Ok(()) };
    let place = file.display();
    let left = match std::fs::remove_file(file) {
        Ok(()) => format!("the one in {place} was removed"),
        Err(error) => format!("remove {place} ({error})"),
    };
    Err(StoreError::Unavailable(format!(
        "two nodes made a key for the new database at the same time, and its secrets are encrypted with key {other} of the \
         other node; {left}: copy the key file of the other node to {place}, and start again"
    )))
}

/// Encrypts the data keys with another key, and makes a new one. If another control plane has done so, nothing is written.
pub(crate) async fn rotate(
    database: &dyn Database,
    (old, new): (Option<&KeyEncryptionKey>, &KeyEncryptionKey),
    clock: &dyn Clock,
) -> Result<(), StoreError> {
    transaction!(database, |connection| async {
        let stored = stored(connection).await?;
        if !stored.is_empty() && stored.iter().all(|key| key.wrapped_by == new.id()) {
            return Ok(());
        }
        let keyring = match (old, stored.first()) {
            (Some(old), _) => Keyring::unwrap(&stored, old)?,
            (None, None) => Keyring::unwrap(&[], new)?,
            (None, Some(_)) => return Err(damaged("there are data keys, and no key to read them")),
        };
        index::rewrap(connection, old, new).await?;
        replace(connection, keyring.rewrap(new)?, clock).await
    })
}

async fn replace(connection: &mut dyn Connection, keys: Vec<WrappedKey>, clock: &dyn Clock) -> Result<(), StoreError> {
    let at_ms = i64::try_from(clock.unix().0).unwrap_or(i64::MAX);
    for WrappedKey { id, wrapped_by, wrapped } in keys {
        let sql = "INSERT INTO data_keys (id, wrapped_by, wrapped, at_ms) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO \
                   UPDATE SET wrapped_by = excluded.wrapped_by, wrapped = excluded.wrapped"
            .to_owned();
        let row = vec![Cell::Int(id), Cell::text(&wrapped_by), Cell::Bytes(wrapped), Cell::Int(at_ms)];
        connection.query(sql, row).await?;
    }
    Ok(())
}

/// Encrypts secrets again that are not encrypted with the newest data key; gives the number of documents.
pub(crate) async fn reencrypt(database: &dyn Database, codec: &Codec, max: usize) -> Result<u64, StoreError> {
    transaction!(database, |connection| async {
        let sql =
            format!("SELECT {} FROM documents d WHERE d.data_key <> $1 AND d.data_key <> $2 LIMIT $3", rows::DOCUMENT);
        let cells = vec![Cell::Int(codec.active()), Cell::Int(NO_SECRETS), Cell::number(max as u64)];
        let found = connection.query(sql, cells).await?;
        let count = found.len() as u64;
        for mut row in found {
            let (stored, before) = rows::stored(&mut row, codec)?;
            let Encoded { bytes, data_key } = codec.encode(&stored.document)?;
            let sql = "UPDATE documents SET value = $3, data_key = $4 WHERE kind = $1 AND id = $2".to_owned();
            let mut cells = rows::cells(&stored.document.key);
            cells.extend([Cell::Bytes(bytes.clone()), Cell::Int(data_key)]);
            connection.query(sql, cells).await?;
            // The record of a document that the log no longer has. One that differs stays, so that it is found.
            let sql = "UPDATE base_documents SET digest = $3 WHERE kind = $1 AND id = $2 AND digest = $4".to_owned();
            let mut cells = rows::cells(&stored.document.key);
            cells.extend([&bytes, &before].map(|bytes| Cell::Bytes(digest(bytes).to_vec())));
            connection.query(sql, cells).await?;
        }
        Ok(count)
    })
}
