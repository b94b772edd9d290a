//! PostgreSQL, which several control planes may share.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cardinal_base::Clock;
use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPool};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::watch;

use super::connection::{Connection, Database, impl_connection};
use super::read::current;
use super::writer::{advance, unavailable};
use crate::StoreError;
use crate::store::{BoxFuture, Lead};

/// Connections that read at the same time.
const READERS: u32 = 8;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(3);
/// For finding out why there is no connection.
const PROBE: Duration = Duration::from_secs(1);
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
    connect: PgConnectOptions,
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
        let (readers, writer, listener) = (pool(READERS), pool(1), pool(1));
        Ok(Self { location, connect, readers, writer, listener })
    }

    async fn acquire(&self, pool: &PgPool) -> Result<Box<dyn Connection>, StoreError> {
        match pool.acquire().await {
            Ok(connection) => Ok(Box::new(connection)),
            Err(sqlx::Error::PoolTimedOut) => Err(unavailable(&self.timeout_reason().await)),
            Err(failed) => Err(self.failed(failed)),
        }
    }

    /// Why no connection was to be had in time: a pool tries again until then, and does not tell why.
    async fn timeout_reason(&self) -> String {
        match tokio::time::timeout(PROBE, self.connect.connect()).await {
            Ok(Ok(connection)) => {
                // It ends anyway.
                connection.close().await.ok();
                let seconds = CONNECT.as_secs();
                format!("all connections to {} were in use for {seconds} s", self.location)
            }
            Ok(Err(failed)) => self.failed(failed).to_string().replace("the store is unavailable: ", ""),
            Err(_elapsed) => format!("{} does not answer", self.location),
        }
    }

    /// An error with the address. No error of a connection has the password.
    fn failed(&self, failed: sqlx::Error) -> StoreError {
        match failed {
            failed @ sqlx::Error::Database(_) => match error(failed) {
                StoreError::Unavailable(text) => unavailable(&format!("{}: {text}", self.location)),
                other => other,
            },
            failed => unavailable(&format!("cannot connect to {}: {}", self.location, chain(&failed))),
        }
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
        let mut listener = PgListener::connect_with(&self.listener).await.map_err(|failed| self.failed(failed))?;
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
        Box::pin(self.acquire(&self.readers))
    }

    fn writer(&self) -> BoxFuture<'_, Result<Box<dyn Connection>, StoreError>> {
        Box::pin(self.acquire(&self.writer))
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

    fn try_lead(&self) -> BoxFuture<'_, Result<Option<Box<dyn Lead>>, StoreError>> {
        Box::pin(async {
            let connected = tokio::time::timeout(CONNECT, self.connect.connect()).await;
            let connected = connected.map_err(|_| unavailable(&format!("{} does not answer", self.location)))?;
            let mut connection = connected.map_err(|failed| self.failed(failed))?;
            let asked = sqlx::query_scalar("SELECT pg_try_advisory_lock(7161120245610843763)");
            let is_leader: bool = asked.fetch_one(&mut connection).await.map_err(error)?;
            if is_leader {
                return Ok(Some(Box::new(PostgresLead(Mutex::new(connection))) as Box<dyn Lead>));
            }
            connection.close().await.ok();
            Ok(None)
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.listener.close().await;
            self.writer.close().await;
            self.readers.close().await;
        })
    }
}

/// A connection with the lock of the leader, which ends with it. It is never shared; the mutex says so.
struct PostgresLead(Mutex<PgConnection>);

impl Lead for PostgresLead {
    fn is_held(&mut self) -> BoxFuture<'_, bool> {
        let connection = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        Box::pin(async { matches!(tokio::time::timeout(CONNECT, connection.ping()).await, Ok(Ok(()))) })
    }
}

impl_connection!(sqlx::Postgres, error);

/// An error with its causes, each once.
fn chain(error: &sqlx::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    text
}

/// Codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn error(error: sqlx::Error) -> StoreError {
    let sqlx::Error::Database(database) = &error else { return unavailable(&chain(&error)) };
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
