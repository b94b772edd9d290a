//! The table of keys of the index of unique values, which make its digests ([`IndexKeys`]).
//!
//! The index has keyed digests, so that nobody who reads the database can test guesses of an API key against it. A key is
//! encrypted with that of the operator; without one it is a random salt beside the documents. A store that gets a key
//! later applies both, one after the other, since values cannot be read back from digests.

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::codec::Codec;
use super::connection::{Cell, Connection, Database, Row, damaged, transaction};
use super::digests::{IndexKeys, digest_of, hex};
use super::{bulk, rows};
use crate::secrets::KeyEncryptionKey;
use crate::{StoreError, Unique};

/// Documents that are read at a time while digests are made anew.
const DOCUMENTS: u64 = 1_000;
/// What the ciphertext of a key is bound to.
const BOUND_TO: &[u8] = b"cardinal index key";

/// A key as it is stored.
struct StoredKey {
    id: i64,
    /// [`KeyEncryptionKey::id`] of the key that encrypts it; empty if none does.
    wrapped_by: String,
    secret: Vec<u8>,
}

impl StoredKey {
    fn unwrap(&self, with: Option<&KeyEncryptionKey>) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        if self.wrapped_by.is_empty() {
            return Ok(Zeroizing::new(self.secret.clone()));
        }
        let with = with.filter(|key| key.id() == self.wrapped_by);
        let opened = with.and_then(|key| key.unwrap(BOUND_TO, &self.secret));
        opened.ok_or_else(|| {
            let text = format!("the key of unique values is encrypted with key {}: provide that key", self.wrapped_by);
            StoreError::Corrupt(text)
        })
    }
}

async fn stored(connection: &mut dyn Connection) -> Result<Vec<StoredKey>, StoreError> {
    let sql = "SELECT id, wrapped_by, secret FROM index_keys ORDER BY id".to_owned();
    let key =
        |mut row: Row| Ok(StoredKey { id: row.int()?, wrapped_by: row.text()?.to_string(), secret: row.bytes()? });
    connection.query(sql, Vec::new()).await?.into_iter().map(key).collect()
}

/// Reads the keys.
pub(crate) async fn load(
    connection: &mut dyn Connection,
    codec: &Codec,
    key: Option<&KeyEncryptionKey>,
) -> Result<(), StoreError> {
    let mut keys = Vec::new();
    for stored in stored(connection).await? {
        keys.push(hmac::Key::new(hmac::HMAC_SHA256, &stored.unwrap(key)?));
    }
    codec.set_index(IndexKeys::new(keys));
    Ok(())
}

/// Reads the keys again if another process has added one.
pub(crate) async fn refresh(
    connection: &mut dyn Connection,
    codec: &Codec,
    key: Option<&KeyEncryptionKey>,
) -> Result<(), StoreError> {
    let sql = "SELECT COUNT(*) FROM index_keys".to_owned();
    let mut found = connection.query(sql, Vec::new()).await?;
    let count = found.first_mut().ok_or_else(|| damaged("no count"))?.number()?;
    if count == codec.index().count() { Ok(()) } else { load(connection, codec, key).await }
}

/// Makes the first key of a store, or the first that is encrypted, and all digests anew with it.
pub(crate) async fn prepare(
    database: &dyn Database,
    codec: &Codec,
    key: Option<&KeyEncryptionKey>,
) -> Result<(), StoreError> {
    transaction!(database, |connection| async {
        let found = stored(connection).await?;
        let is_plain = found.iter().all(|key| key.wrapped_by.is_empty());
        if found.is_empty() || (is_plain && key.is_some()) {
            let id = found.last().map_or(1, |key| key.id + 1);
            add(connection, id, key).await?;
        }
        load(connection, codec, key).await
    })
}

async fn add(connection: &mut dyn Connection, id: i64, with: Option<&KeyEncryptionKey>) -> Result<(), StoreError> {
    let failed = || StoreError::Unavailable("a key of unique values cannot be made".to_owned());
    let mut secret = Zeroizing::new(vec![0; 32]);
    aws_lc_rs::rand::fill(&mut secret).map_err(|_| failed())?;
    let (wrapped_by, wrapped) = match with {
        Some(with) => (with.id(), with.wrap(BOUND_TO, &secret).ok_or_else(failed)?),
        None => ("", secret.to_vec()),
    };
    let sql = "INSERT INTO index_keys (id, wrapped_by, secret) VALUES ($1, $2, $3)".to_owned();
    connection.query(sql, vec![Cell::Int(id), Cell::text(wrapped_by), Cell::Bytes(wrapped)]).await?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    make_anew(connection, &IndexKeys::new(vec![key]), id == 1).await
}

/// Makes the digests of all documents anew: of values, or of the digests before.
async fn make_anew(connection: &mut dyn Connection, keys: &IndexKeys, of_values: bool) -> Result<(), StoreError> {
    connection.query("DELETE FROM document_uniques".to_owned(), Vec::new()).await?;
    let (mut kind, mut id) = (Vec::new(), None::<Vec<u8>>);
    loop {
        let sql = "SELECT d.kind, d.id, d.meta FROM documents d WHERE d.kind > $1 OR (d.kind = $1 AND d.id > $2) OR $3 = 1 \
                   ORDER BY d.kind, d.id LIMIT $4";
        let is_first = Cell::Int(i64::from(id.is_none()));
        let cells = vec![Cell::Bytes(kind), Cell::Bytes(id.unwrap_or_default()), is_first, Cell::number(DOCUMENTS)];
        let found = connection.query(sql.to_owned(), cells).await?;
        let is_last = (found.len() as u64) < DOCUMENTS;
        (kind, id) = (Vec::new(), Some(Vec::new()));
        let mut uniques = Vec::new();
        for mut row in found {
            let (key, meta) = (rows::key(&mut row)?, row.bytes()?);
            (kind, id) = (key.kind.as_bytes().to_vec(), Some(key.id.as_bytes().to_vec()));
            // Nothing is known of a document whose row is damaged.
            let Some(mut meta) = rows::Meta::parse(&meta).filter(|meta| !meta.uniques.is_empty()) else { continue };
            for unique in &mut meta.uniques {
                *unique = if of_values {
                    keys.sealed(&key.kind, unique)
                } else {
                    let again = keys.applied(digest_of(unique));
                    Unique { name: unique.name.clone(), value: hex(&again).into() }
                };
            }
            uniques.extend(rows::unique_rows(&key, &meta.uniques));
            let sql = "UPDATE documents SET meta = $3 WHERE kind = $1 AND id = $2".to_owned();
            let mut cells = rows::cells(&key);
            cells.push(Cell::Bytes(meta.written()?));
            connection.query(sql, cells).await?;
        }
        bulk::insert(connection, rows::INSERT_UNIQUES, "", uniques).await?;
        if is_last {
            return Ok(());
        }
    }
}

/// Encrypts the keys with another key of the operator.
pub(crate) async fn rewrap(
    connection: &mut dyn Connection,
    old: Option<&KeyEncryptionKey>,
    new: &KeyEncryptionKey,
) -> Result<(), StoreError> {
    for key in stored(connection).await?.into_iter().filter(|key| !key.wrapped_by.is_empty()) {
        let failed = || StoreError::Unavailable("the key of unique values cannot be encrypted".to_owned());
        let wrapped = new.wrap(BOUND_TO, &key.unwrap(old)?).ok_or_else(failed)?;
        let sql = "UPDATE index_keys SET wrapped_by = $2, secret = $3 WHERE id = $1".to_owned();
        connection.query(sql, vec![Cell::Int(key.id), Cell::text(new.id()), Cell::Bytes(wrapped)]).await?;
    }
    Ok(())
}
