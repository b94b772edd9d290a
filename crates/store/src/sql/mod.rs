//! [`SqlStore`]: the store on SQLite or PostgreSQL.
//!
//! Everything but the connections is the same for both. Writes go through one task (`writer`), which decides each batch
//! in a transaction that excludes other control planes; reads are single statements, each a consistent view.

mod bulk;
mod codec;
mod connection;
mod digests;
mod index;
mod keys;
mod postgres;
mod prune;
mod read;
mod rows;
mod schema;
mod sqlite;
mod transaction;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cardinal_base::{Clock, task};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

pub use self::postgres::PostgresOptions;
pub use self::sqlite::SqliteOptions;

use self::codec::Codec;
use self::connection::Database;
use self::keys::SharedKey;
use self::prune::UpTo;
use self::writer::{Job, Writer, advance, unavailable};
use crate::chain::{Entry, Head, Log};
use crate::fingerprint::{BaseDocument, Fingerprint, StoredPrint};
use crate::secrets::{KeyEncryptionKey, StoreKey};
use crate::store::{BoxFuture, Lead};
use crate::{
    Batch, Change, CommitError, Committed, Contents, Document, Generation, Key, Page, Query, Store, StoreError,
    StoreStatus, Unique, limits,
};

/// Batches that wait for the writer at most; more wait for a place.
const JOBS_MAX: usize = 256;

/// Between two looks at the revision while the store cannot be read.
const POLL_AFTER_ERROR: Duration = Duration::from_secs(5);

/// Runs a read. The connection may have been lost since it was used last, so a read that fails gets a second one.
macro_rules! read {
    ($store:expr, |$connection:ident| $read:expr) => {{
        let mut attempts = 0;
        loop {
            attempts += 1;
            let result = match $store.database.reader().await {
                Ok(mut taken) => {
                    let $connection = &mut *taken;
                    let mut result = $read.await;
                    // Another control plane may have made a new data key.
                    if result.is_err() && $store.codec.take_missing() {
                        keys::load($connection, &$store.codec, $store.key.lock().await.as_deref()).await?;
                        result = $read.await;
                    }
                    if matches!(result, Err(StoreError::Unavailable(_))) {
                        taken.discard();
                    }
                    result
                }
                Err(error) => break Err(error),
            };
            match result {
                Err(StoreError::Unavailable(_)) if attempts < 2 => {}
                result => break result,
            }
        }
    }};
}

/// A store in a database. Clones of its tasks end when it is dropped.
#[derive(Debug)]
pub struct SqlStore {
    database: Arc<dyn Database>,
    codec: Arc<Codec>,
    key: SharedKey,
    clock: Arc<dyn Clock>,
    jobs: mpsc::Sender<Job>,
    revision: watch::Sender<u64>,
    tasks: Vec<JoinHandle<()>>,
}

impl SqlStore {
    /// Opens a store in a file of SQLite, which is created if it does not exist. Call it on a runtime.
    ///
    /// # Errors
    /// If the file cannot be opened, is damaged, or was written by a newer program, or if there is no right key.
    pub async fn sqlite(
        options: SqliteOptions,
        key: impl Into<StoreKey>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        Self::open(Arc::new(sqlite::Sqlite::open(&options)?), key.into(), clock).await
    }

    /// Opens a store in a database of PostgreSQL, whose tables are created if they do not exist. Call it on a runtime.
    ///
    /// # Errors
    /// If the database cannot be reached, or was written by a newer program, or if there is no right key.
    pub async fn postgres(
        options: PostgresOptions,
        key: impl Into<StoreKey>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let database = Arc::new(postgres::Postgres::open(&options)?);
        let mut store = Self::open(database.clone(), key.into(), clock.clone()).await?;
        let listening = database.listen(clock, store.revision.clone());
        store.tasks.push(task::spawn("store notifications", listening));
        Ok(store)
    }

    async fn open(database: Arc<dyn Database>, key: StoreKey, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        schema::migrate(&*database).await?;
        let wrapped_by = keys::wrapped_by(&mut *database.reader().await?).await?;
        let (key, made) = key.load(wrapped_by.as_deref()).await?;
        if let Some(key) = &key {
            keys::first(&*database, key, &*clock).await?;
        }
        if let Some((key, made)) = key.as_ref().zip(made.as_deref()) {
            keys::keep_if_first(&mut *database.reader().await?, key, made).await?;
        }
        let codec = Arc::new(Codec::default());
        keys::load(&mut *database.reader().await?, &codec, key.as_ref()).await?;
        index::prepare(&*database, &codec, key.as_ref()).await?;
        let key = Arc::new(Mutex::new(key.map(Arc::new)));
        let revision = watch::Sender::new(read::current(&*database).await?);
        let (jobs, waiting) = mpsc::channel(JOBS_MAX);
        let writer = Writer {
            database: database.clone(),
            codec: codec.clone(),
            key: key.clone(),
            clock: clock.clone(),
            revision: revision.clone(),
        };
        // It ends by itself once no job can come any more, after those that came.
        drop(task::spawn("store writer", writer.run(waiting)));
        let polling = poll(database.clone(), clock.clone(), revision.clone());
        let tasks = vec![task::spawn("store poll", polling)];
        Ok(Self { database, codec, key, clock, jobs, revision, tasks })
    }

    /// Replaces the key of the operator, and makes a new data key for what is written from now on. What was written before
    /// stays readable. Each control plane of the database is to be told of the new key; the first one writes.
    ///
    /// # Errors
    /// If the database fails; then the old key is still that of the store, unless the commit itself was interrupted.
    pub async fn rotate(&self, new: KeyEncryptionKey) -> Result<(), StoreError> {
        // Not under the lock: the writer may need the key while this waits for the writer's connection.
        let old = self.key.lock().await.clone();
        keys::rotate(&*self.database, (old.as_deref(), &new), &*self.clock).await?;
        let mut key = self.key.lock().await;
        let mut reader = self.database.reader().await?;
        keys::load(&mut *reader, &self.codec, Some(&new)).await?;
        index::load(&mut *reader, &self.codec, Some(&new)).await?;
        *key = Some(Arc::new(new));
        Ok(())
    }

    /// Encrypts the secrets of at most `max` documents again that are not encrypted with the newest data key; gives their
    /// number. The change log keeps what it has. After a rotation it is called until it gives 0.
    ///
    /// # Errors
    /// If the database fails, or a secret cannot be read.
    pub async fn reencrypt(&self, max: usize) -> Result<u64, StoreError> {
        keys::reencrypt(&*self.database, &self.codec, max).await
    }

    /// Copies a store of SQLite into a new file, which is a store itself: all of it, in one consistent view, while the
    /// store is in use. Secrets stay encrypted.
    ///
    /// # Errors
    /// If the store is not one of SQLite, or the file exists or cannot be written.
    pub async fn copy_to(&self, file: &Path) -> Result<(), StoreError> {
        if self.database.engine() != "sqlite" {
            return Err(StoreError::ReadOnly("only a store of SQLite can be copied into a file".to_owned()));
        }
        sqlite::copy(&mut *self.database.reader().await?, file).await
    }

    /// Closes all connections. A file of SQLite is complete by itself afterwards, unless another process uses it.
    pub async fn close(&self) {
        for task in &self.tasks {
            task.abort();
        }
        self.database.close().await;
    }

    async fn enqueue(&self, batch: Batch) -> Result<Committed, CommitError> {
        limits::check(&batch)?;
        let (reply, outcome) = oneshot::channel();
        let ended = || CommitError::Store(unavailable("its writer has ended"));
        self.jobs.send(Job { batch, reply }).await.map_err(|_| ended())?;
        outcome.await.map_err(|_| ended())?
    }
}

impl Drop for SqlStore {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Looks at the revision from time to time.
async fn poll(database: Arc<dyn Database>, clock: Arc<dyn Clock>, revision: watch::Sender<u64>) {
    let mut pause = database.poll();
    loop {
        clock.sleep(pause).await;
        pause = match read::current(&*database).await {
            Ok(current) => {
                advance(&revision, current);
                database.poll()
            }
            Err(error) => {
                tracing::warn!(%error, "the store cannot be asked for its revision");
                POLL_AFTER_ERROR
            }
        };
    }
}

impl Store for SqlStore {
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Document>, StoreError>> {
        Box::pin(async move { read!(self, |connection| read::get(connection, &self.codec, &key)) })
    }

    fn find(
        &self,
        kind: Arc<str>,
        unique: Arc<str>,
        value: Arc<str>,
    ) -> BoxFuture<'_, Result<Option<Document>, StoreError>> {
        let unique = Unique { name: unique, value };
        Box::pin(async move { read!(self, |connection| read::find(connection, &self.codec, (&kind, &unique))) })
    }

    fn list(&self, query: Query) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(async move { read!(self, |connection| read::list(connection, &self.codec, &query)) })
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(self.enqueue(batch))
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<(u64, Vec<Document>), StoreError>> {
        Box::pin(async move { read!(self, |connection| read::snapshot(connection, &self.codec)) })
    }

    fn contents(&self) -> BoxFuture<'_, Result<Contents, StoreError>> {
        Box::pin(async move {
            // A data key of another control plane is loaded by this attempt, so that it is not missing in the second one.
            match self.snapshot().await {
                Ok((revision, documents)) => Ok(Contents { revision, documents, unreadable: Vec::new() }),
                Err(StoreError::Corrupt(_)) => read!(self, |connection| read::contents(connection, &self.codec)),
                Err(error) => Err(error),
            }
        })
    }

    fn changes(&self, after: u64, max: usize) -> BoxFuture<'_, Result<Vec<Change>, StoreError>> {
        Box::pin(async move { read!(self, |connection| read::changes(connection, &self.codec, after, max)) })
    }

    fn generations(&self, before: Option<u64>, max: usize) -> BoxFuture<'_, Result<Vec<Generation>, StoreError>> {
        Box::pin(async move { read!(self, |connection| read::generations(connection, before, max)) })
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    fn status(&self) -> BoxFuture<'_, Result<StoreStatus, StoreError>> {
        Box::pin(async move {
            let (head, documents) = read!(self, |connection| read::status(connection))?;
            Ok(StoreStatus {
                engine: self.database.engine(),
                location: self.database.location(),
                schema: schema::VERSION,
                revision: head.revision,
                oldest: head.oldest,
                documents,
            })
        })
    }

    fn try_lead(&self) -> BoxFuture<'_, Result<Option<Box<dyn Lead>>, StoreError>> {
        self.database.try_lead()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(Self::close(self))
    }
}

impl Log for SqlStore {
    fn head(&self) -> BoxFuture<'_, Result<Head, StoreError>> {
        Box::pin(async move { read!(self, |connection| rows::head(connection)) })
    }

    fn entries(&self, after: u64, max: usize) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        Box::pin(async move { read!(self, |connection| read::entries(connection, after, max)) })
    }

    fn base(&self) -> BoxFuture<'_, Result<Vec<BaseDocument>, StoreError>> {
        Box::pin(async move { read!(self, |connection| read::base(connection)) })
    }

    fn stored(&self) -> BoxFuture<'_, Result<(u64, Vec<StoredPrint>), StoreError>> {
        Box::pin(async move { read!(self, |connection| read::stored(connection, &self.codec)) })
    }

    fn fingerprint(&self, key: &Key, bytes: &[u8]) -> Fingerprint {
        self.codec.fingerprint(key, bytes)
    }

    fn prune(&self, up_to: u64) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(prune::prune(&*self.database, &self.codec, UpTo::Revision(up_to)))
    }

    fn prune_before(&self, at_ms: i64) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(prune::prune(&*self.database, &self.codec, UpTo::Time(at_ms)))
    }
}
