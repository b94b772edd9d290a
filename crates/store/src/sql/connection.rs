//! What the stores on SQL need of a database: statements with numbers and bytes. Texts are bytes, too, because PostgreSQL's
//! `text` takes no NUL and orders by locale.

use std::sync::Arc;
use std::time::Duration;

use crate::StoreError;
use crate::store::{BoxFuture, Lead};

/// A parameter, or a column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Bytes(Vec<u8>),
}

impl Cell {
    pub(crate) fn text(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }

    /// Revisions and counts; none reaches 2^63.
    pub(crate) fn number(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }

    pub(crate) fn optional(bytes: Option<Vec<u8>>) -> Self {
        bytes.map_or(Self::Null, Self::Bytes)
    }
}

/// A row of a result. Columns are taken in their order.
#[derive(Clone, Debug)]
pub(crate) struct Row(std::vec::IntoIter<Cell>);

impl Row {
    pub(crate) fn new(cells: Vec<Cell>) -> Self {
        Self(cells.into_iter())
    }

    /// Whether the next column has no value.
    pub(crate) fn is_next_null(&self) -> bool {
        matches!(self.0.as_slice().first(), Some(Cell::Null))
    }

    pub(crate) fn int(&mut self) -> Result<i64, StoreError> {
        match self.0.next() {
            Some(Cell::Int(number)) => Ok(number),
            _ => Err(damaged("a number is missing")),
        }
    }

    pub(crate) fn number(&mut self) -> Result<u64, StoreError> {
        u64::try_from(self.int()?).map_err(|_| damaged("a number is negative"))
    }

    pub(crate) fn optional(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        match self.0.next() {
            Some(Cell::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Cell::Null) => Ok(None),
            _ => Err(damaged("a column of bytes is missing")),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, StoreError> {
        self.optional()?.ok_or_else(|| damaged("a column is empty"))
    }

    pub(crate) fn text(&mut self) -> Result<Arc<str>, StoreError> {
        let text = String::from_utf8(self.bytes()?).map_err(|_| damaged("a text is not UTF-8"))?;
        Ok(text.into())
    }

    pub(crate) fn hash(&mut self) -> Result<[u8; 32], StoreError> {
        self.bytes()?.try_into().map_err(|_| damaged("a hash does not have 32 bytes"))
    }
}

pub(crate) fn damaged(what: &str) -> StoreError {
    StoreError::Corrupt(what.to_owned())
}

/// A connection.
pub(crate) trait Connection: Send {
    /// Executes a statement; gives the rows of its result.
    fn query<'c>(&'c mut self, sql: String, cells: Vec<Cell>) -> BoxFuture<'c, Result<Vec<Row>, StoreError>>;

    /// Closes the connection instead of using it again.
    fn discard(&mut self);
}

/// A database.
pub(crate) trait Database: Send + Sync + std::fmt::Debug + 'static {
    /// [`StoreStatus::engine`](crate::StoreStatus::engine).
    fn engine(&self) -> &'static str;
    /// [`StoreStatus::location`](crate::StoreStatus::location).
    fn location(&self) -> String;
    /// A connection for reads.
    fn reader(&self) -> BoxFuture<'_, Result<Box<dyn Connection>, StoreError>>;
    /// The connection for writes.
    fn writer(&self) -> BoxFuture<'_, Result<Box<dyn Connection>, StoreError>>;
    /// The type of columns of bytes.
    fn bytes_type(&self) -> &'static str;
    /// Statements that begin a transaction which excludes other writers.
    fn begin(&self) -> &'static [&'static str];
    /// A statement that tells other control planes of a commit.
    fn notify(&self) -> Option<&'static str>;
    /// Between two looks at the revision, for commits of other processes.
    fn poll(&self) -> Duration;
    /// [`Store::try_lead`](crate::Store::try_lead).
    fn try_lead(&self) -> BoxFuture<'_, Result<Option<Box<dyn Lead>>, StoreError>>;
    /// Closes all connections.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Runs a future in a transaction that excludes other writers: commits it, or rolls it back if it fails.
macro_rules! transaction {
    ($database:expr, |$connection:ident| $body:expr) => {{
        let mut taken = $crate::sql::connection::Taken::new($database.writer().await?);
        let result = {
            let $connection = taken.connection();
            match $crate::sql::connection::begin($database, $connection).await {
                Ok(()) => $body.await,
                Err(error) => Err(error),
            }
        };
        taken.end(result).await
    }};
}

pub(super) use transaction;

pub(crate) async fn begin(database: &dyn Database, connection: &mut dyn Connection) -> Result<(), StoreError> {
    for statement in database.begin() {
        connection.query((*statement).to_owned(), Vec::new()).await?;
    }
    Ok(())
}

/// A connection with a transaction. If its future is dropped, the connection is closed, and with it the transaction.
pub(crate) struct Taken {
    connection: Box<dyn Connection>,
    is_ended: bool,
}

impl Taken {
    pub(crate) fn new(connection: Box<dyn Connection>) -> Self {
        Self { connection, is_ended: false }
    }

    pub(crate) fn connection(&mut self) -> &mut dyn Connection {
        &mut *self.connection
    }

    /// Commits, or rolls back after an error.
    pub(crate) async fn end<T>(mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        let committed = match result {
            Ok(value) => self.connection.query("COMMIT".to_owned(), Vec::new()).await.map(|_| value),
            Err(error) => Err(error),
        };
        self.is_ended = committed.is_ok();
        if !self.is_ended {
            // The connection may be lost, and with it the transaction.
            let _rolled_back = self.connection.query("ROLLBACK".to_owned(), Vec::new()).await;
        }
        committed
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if !self.is_ended {
            self.connection.discard();
        }
    }
}

/// Implements [`Connection`] for pooled connections of a database.
macro_rules! impl_connection {
    ($database:ty, $error:path) => {
        impl $crate::sql::connection::Connection for sqlx::pool::PoolConnection<$database> {
            fn query<'c>(
                &'c mut self,
                sql: String,
                cells: Vec<$crate::sql::connection::Cell>,
            ) -> $crate::store::BoxFuture<'c, Result<Vec<$crate::sql::connection::Row>, $crate::StoreError>> {
                use $crate::sql::connection::Cell;
                Box::pin(async move {
                    // Statements are built from constants of this crate; all values are parameters.
                    let mut query = sqlx::query::<$database>(sqlx::AssertSqlSafe(sql));
                    for cell in cells {
                        query = match cell {
                            Cell::Null => query.bind(None::<Vec<u8>>),
                            Cell::Int(number) => query.bind(number),
                            Cell::Bytes(bytes) => query.bind(bytes),
                        };
                    }
                    let rows = query.fetch_all(&mut **self).await.map_err($error)?;
                    rows.iter().map(|row| row_of(row).map_err($error)).collect()
                })
            }

            fn discard(&mut self) {
                self.close_on_drop();
            }
        }

        fn row_of(row: &<$database as sqlx::Database>::Row) -> Result<$crate::sql::connection::Row, sqlx::Error> {
            use sqlx::{Row as _, TypeInfo as _, ValueRef as _};
            use $crate::sql::connection::Cell;
            let cell = |column: usize| {
                let value = row.try_get_raw(column)?;
                let is_null = value.is_null();
                Ok(match value.type_info().name() {
                    "BLOB" | "BYTEA" if !is_null => Cell::Bytes(row.try_get(column)?),
                    "INTEGER" | "INT8" if !is_null => Cell::Int(row.try_get(column)?),
                    _ => Cell::Null,
                })
            };
            Ok($crate::sql::connection::Row::new((0..row.len()).map(cell).collect::<Result<_, sqlx::Error>>()?))
        }
    };
}

pub(super) use impl_connection;
