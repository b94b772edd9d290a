//! Statements for many rows at a time. Their sizes are few, so that prepared statements are reused.

use super::connection::{Cell, Connection, Row};
use crate::{Key, StoreError};

/// Numbers of rows of a statement.
const SIZES: [usize; 3] = [100, 10, 1];

/// Splits rows into chunks of these sizes.
fn chunks<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = SIZES.into_iter().find(|size| *size <= rows.len())?;
        let (chunk, rest) = rows.split_at_checked(size)?;
        rows = rest;
        Some(chunk)
    })
}

/// `($1, $2), ($3, $4)`.
fn places(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let places: Vec<String> = (1..=columns).map(|column| format!("${}", row * columns + column)).collect();
        format!("({})", places.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// Inserts rows: `insert` is all before the values, `after` all behind them.
pub(crate) async fn insert(
    connection: &mut dyn Connection,
    insert: &str,
    after: &str,
    rows: Vec<Vec<Cell>>,
) -> Result<(), StoreError> {
    let columns = rows.first().map_or(0, Vec::len);
    for chunk in chunks(&rows) {
        let sql = format!("{insert} VALUES {}{after}", places(chunk.len(), columns));
        connection.query(sql, chunk.concat()).await?;
    }
    Ok(())
}

/// Executes a statement for keys: `sql` is all before the keys, which are compared with `(kind, id)` or the like.
pub(crate) async fn for_keys(connection: &mut dyn Connection, sql: &str, keys: &[Key]) -> Result<Vec<Row>, StoreError> {
    let mut all = Vec::new();
    for chunk in chunks(keys) {
        let values = chunk.iter().flat_map(|key| [Cell::text(&key.kind), Cell::text(&key.id)]).collect();
        // A single key is found by the index whatever the planner thinks of lists.
        let sql = match chunk.len() {
            1 => format!("{sql} = ($1, $2)"),
            rows => format!("{sql} IN (VALUES {})", places(rows, 2)),
        };
        all.extend(connection.query(sql, values).await?);
    }
    Ok(all)
}

/// The same for single values.
pub(crate) async fn for_values(
    connection: &mut dyn Connection,
    sql: &str,
    values: &[Vec<u8>],
) -> Result<Vec<Row>, StoreError> {
    let mut all = Vec::new();
    for chunk in chunks(values) {
        let places: Vec<String> = (1..=chunk.len()).map(|place| format!("${place}")).collect();
        let values = chunk.iter().cloned().map(Cell::Bytes).collect();
        all.extend(connection.query(format!("{sql} IN ({})", places.join(", ")), values).await?);
    }
    Ok(all)
}
