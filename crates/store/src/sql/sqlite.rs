//! SQLite: one file in the data directory.

use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::pool::PoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous};

use super::connection::{Cell, Connection, Database, impl_connection};
use crate::StoreError;
use crate::store::{BoxFuture, Lead, LocalLead};

/// Connections that read at the same time.
const READERS: u32 = 4;
/// How long a connection waits for another process that writes.
const BUSY: Duration = Duration::from_secs(10);
/// SQLite does not tell of commits of other processes. A look reads one row.
const POLL: Duration = Duration::from_millis(50);

/// A store in a file.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The file. SQLite adds files with the endings `-wal` and `-shm` beside it.
    pub path: PathBuf,
    /// Pages of 4096 bytes that the file may have; without a limit the disk is one. What does not fit is refused like on a
    /// full disk.
    pub pages_max: Option<u32>,
}

#[derive(Debug)]
pub(super) struct Sqlite {
    path: PathBuf,
    readers: SqlitePool,
    writer: SqlitePool,
    lead: LocalLead,
}

impl Sqlite {
    pub(super) fn open(options: &SqliteOptions) -> Result<Self, StoreError> {
        create(&options.path)?;
        let connect = SqliteConnectOptions::new()
            .filename(&options.path)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit that was acknowledged survives a power failure.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
            .pragma("trusted_schema", "OFF")
            .pragma("secure_delete", "ON")
            .disable_statement_logging();
        let connect = match options.pages_max {
            Some(pages) => connect.pragma("max_page_count", pages.to_string()),
            None => connect,
        };
        let pool = |size| {
            let pool = PoolOptions::new().max_connections(size).acquire_timeout(2 * BUSY).test_before_acquire(false);
            pool.idle_timeout(None).max_lifetime(None).connect_lazy_with(connect.clone())
        };
        Ok(Self { path: options.path.clone(), readers: pool(READERS), writer: pool(1), lead: LocalLead::default() })
    }
}

/// Copies a database into a new file, in one consistent view while it is in use.
pub(super) async fn copy(connection: &mut dyn Connection, to: &Path) -> Result<(), StoreError> {
    if to.exists() {
        return Err(StoreError::Unavailable(format!("{} exists", to.display())));
    }
    // SQLite takes an empty file, and leaves its mode.
    create(to)?;
    let name = to.as_os_str().as_encoded_bytes().to_vec();
    let copied = connection.query("VACUUM INTO CAST($1 AS TEXT)".to_owned(), vec![Cell::Bytes(name)]).await;
    if copied.is_err() {
        std::fs::remove_file(to).ok();
    }
    copied.map(drop)
}

/// Creates the file for its owner alone: it holds secrets. SQLite gives the files beside it the same mode.
fn create(path: &Path) -> Result<(), StoreError> {
    let refused = |error: std::io::Error| {
        let text = format!("{}: {error}", path.display());
        match error.kind() {
            std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::StorageFull => StoreError::ReadOnly(text),
            std::io::ErrorKind::PermissionDenied => StoreError::ReadOnly(text),
            _ => StoreError::Unavailable(text),
        }
    };
    let file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(refused)?;
    let mode = file.metadata().map_err(refused)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "the store was readable by others; its mode is now 0600");
        file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(refused)?;
    }
    Ok(())
}

impl Database for Sqlite {
    fn engine(&self) -> &'static str {
        "sqlite"
    }

    fn location(&self) -> String {
        self.path.display().to_string()
    }

    fn reader(&self) -> BoxFuture<'_, Result<Box<dyn Connection>, StoreError>> {
        Box::pin(async { Ok(Box::new(self.readers.acquire().await.map_err(error)?) as Box<dyn Connection>) })
    }

    fn writer(&self) -> BoxFuture<'_, Result<Box<dyn Connection>, StoreError>> {
        Box::pin(async { Ok(Box::new(self.writer.acquire().await.map_err(error)?) as Box<dyn Connection>) })
    }

    fn bytes_type(&self) -> &'static str {
        "BLOB"
    }

    fn begin(&self) -> &'static [&'static str] {
        // Not `BEGIN`: a transaction that reads first cannot begin to write once another process has written.
        &["BEGIN IMMEDIATE"]
    }

    fn notify(&self) -> Option<&'static str> {
        None
    }

    fn poll(&self) -> Duration {
        POLL
    }

    fn try_lead(&self) -> BoxFuture<'_, Result<Option<Box<dyn Lead>>, StoreError>> {
        Box::pin(std::future::ready(Ok(self.lead.take())))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.writer.close().await;
            self.readers.close().await;
        })
    }
}

impl_connection!(sqlx::Sqlite, error);

/// Result codes: <https://www.sqlite.org/rescode.html>. The low byte is the kind.
fn error(error: sqlx::Error) -> StoreError {
    let code = match &error {
        sqlx::Error::Database(error) => error.code().and_then(|code| code.parse::<u32>().ok()),
        _ => None,
    };
    let text = match &error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    };
    match code.map(|code| code & 0xff) {
        // SQLITE_FULL, SQLITE_READONLY
        Some(13 | 8) => StoreError::ReadOnly(text),
        // SQLITE_CORRUPT, SQLITE_NOTADB
        Some(11 | 26) => StoreError::Corrupt(text),
        // SQLITE_TOOBIG
        Some(18) => StoreError::TooLarge(text),
        _ => StoreError::Unavailable(text),
    }
}
