//! PostgreSQL, which several control planes may share.

use std::sync::Arc;
use std::time::Duration;

use cardinal_base::Clock;
use sqlx::ConnectOptions as _;
use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool};
use tokio::sync::watch;

use super::connection::{Connection, Database, impl_connection};
use super::read::current;
use super::writer::{advance, unavailable};
use crate::StoreError;
use crate::store::BoxFuture;

/// Connections that read at the same time.
const READERS: u32 = 8;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(3);
/// Before the listening connection is made again.
const RECONNECT: Duration = Duration::from_secs(1);
/// In case that a notification was lost.
const POLL: Duration = Duration::from_secs(5);
/// The channel of notifications.
const CHANNEL: &str = "cardinal_store";

/// A store in a database of PostgreSQL 15 or later.
#[derive(Clone)]
pub struct PostgresOptions {
    /// Where it is: `postgres://user:password@host:5432/database?sslmode=verify-full`. The parameters are those of
    /// libpq.
    pub url: String,
}

/// Without the password.
impl std::fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresOptions").finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct Postgres {
    location: String,
    readers: PgPool,
    writer: PgPool,
    listener: PgPool,
}

impl Postgres {
    pub(super) fn open(options: &PostgresOptions) -> Result<Self, StoreError> {
        // The error may quote the URL, which has a password.
        let connect: PgConnectOptions =
            options.url.parse().map_err(|_| unavailable("the URL of the PostgreSQL database is not valid"))?;
        let connect = connect.application_name("cardinal").disable_statement_logging();
        let place = match connect.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => connect.get_host().to_owned(),
        };
        let location = format!(
            "{}@{place}:{}/{}",
            connect.get_username(),
            connect.get_port(),
            connect.get_database().unwrap_or_default()
        );
        let pool =
            |size| PoolOptions::new().max_connections(size).acquire_timeout(CONNECT).connect_lazy_with(connect.clone());
        Ok(Self { location, readers: pool(READERS), writer: pool(1), listener: pool(1) })
    }

    /// Follows the notifications of commits. What was committed while there was no connection is asked for afterwards.
    pub(super) async fn listen(self: Arc<Self>, clock: Arc<dyn Clock>, revision: watch::Sender<u64>) {
        loop {
            let Err(error) = self.follow(&revision).await else { continue };
            tracing::warn!(%error, "notifications of the store are interrupted");
            clock.sleep(RECONNECT).await;
        }
    }

    async fn follow(&self, revision: &watch::Sender<u64>) -> Result<(), StoreError> {
        let mut listener = PgListener::connect_with(&self.listener).await.map_err(error)?;
        listener.ignore_pool_close_event(true);
        listener.listen(CHANNEL).await.map_err(error)?;
        loop {
            // Only now, with the connection listening: a commit before this is seen, and one after it is told.
            advance(revision, current(self).await?);
            while listener.try_recv().await.map_err(error)?.is_some() {
                // Not the payload: stores in other schemas of the database use the same channel.
                advance(revision, current(self).await?);
            }
            // The connection was lost; `try_recv` makes a new one.
            tracing::info!("the connection for notifications of the store was lost");
        }
    }
}

impl Database for Postgres {
    fn engine(&self) -> &'static str {
        "postgres"
    }

    fn location(&self) -> String {
        self.location.clone()
    }

    fn reader(&self) -> BoxFuture<'_, Result<Box<dyn Connection>, StoreError>> {
        Box::pin(async { Ok(Box::new(self.readers.acquire().await.map_err(error)?) as Box<dyn Connection>) })
    }

    fn writer(&self) -> BoxFuture<'_, Result<Box<dyn Connection>, StoreError>> {
        Box::pin(async { Ok(Box::new(self.writer.acquire().await.map_err(error)?) as Box<dyn Connection>) })
    }

    fn bytes_type(&self) -> &'static str {
        "BYTEA"
    }

    fn begin(&self) -> &'static [&'static str] {
        // The lock makes revisions visible in their order and without gaps. Statements after it see all commits before it.
        &["BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", "SELECT pg_advisory_xact_lock(7161120245610843762)"]
    }

    fn notify(&self) -> Option<&'static str> {
        Some("NOTIFY cardinal_store")
    }

    fn poll(&self) -> Duration {
        POLL
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.listener.close().await;
            self.writer.close().await;
            self.readers.close().await;
        })
    }
}

impl_connection!(sqlx::Postgres, error);

/// Codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn error(error: sqlx::Error) -> StoreError {
    let sqlx::Error::Database(database) = &error else { return unavailable(&error.to_string()) };
    let code = database.code().unwrap_or_default().into_owned();
    let text = format!("{} ({code})", database.message());
    match (code.get(..2), &*code) {
        // disk_full; read_only_sql_transaction, which a standby says
        (_, "53100" | "25006") => StoreError::ReadOnly(text),
        // data_corrupted, index_corrupted
        (_, "XX001" | "XX002") => StoreError::Corrupt(text),
        // Program limits
        (Some("54"), _) => StoreError::TooLarge(text),
        _ => StoreError::Unavailable(text),
    }
}
