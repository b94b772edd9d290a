//! Shortening the change log.

use super::connection::{Cell, Connection, Database, damaged, transaction};
use super::rows;
use crate::StoreError;

/// How far the log is shortened.
#[derive(Clone, Copy)]
pub(crate) enum UpTo {
    Revision(u64),
    /// What was made before this time.
    Time(i64),
}

/// Removes changes in a transaction; gives the oldest revision that the log reaches back to.
pub(crate) async fn prune(database: &dyn Database, up_to: UpTo) -> Result<u64, StoreError> {
    transaction!(database, |connection| statements(connection, up_to))
}

async fn statements(connection: &mut dyn Connection, up_to: UpTo) -> Result<u64, StoreError> {
    let head = rows::head(connection).await?;
    let up_to = match up_to {
        UpTo::Revision(revision) => revision,
        UpTo::Time(at_ms) => {
            let sql = "SELECT MIN(revision) FROM generations WHERE at_ms >= $1".to_owned();
            let mut rows = connection.query(sql, vec![Cell::Int(at_ms)]).await?;
            let row = rows.first_mut().ok_or_else(|| damaged("no revision"))?;
            if row.is_next_null() { head.revision } else { row.number()?.saturating_sub(1) }
        }
    };
    let up_to = up_to.min(head.revision.saturating_sub(1));
    if up_to > head.oldest {
        let cells = || vec![Cell::number(up_to)];
        let sql = "SELECT hash FROM changes WHERE revision = $1 ORDER BY position DESC LIMIT 1".to_owned();
        let mut rows = connection.query(sql, cells()).await?;
        let hash = rows.first_mut().ok_or_else(|| damaged("changes are missing in the log"))?.hash()?;
        connection.query("DELETE FROM changes WHERE revision <= $1".to_owned(), cells()).await?;
        connection.query("DELETE FROM generations WHERE revision <= $1".to_owned(), cells()).await?;
        let sql = "UPDATE store_state SET oldest = $1, base_hash = $2 WHERE id = 1".to_owned();
        connection.query(sql, vec![Cell::number(up_to), Cell::Bytes(hash.to_vec())]).await?;
    }
    Ok(up_to.max(head.oldest))
}
