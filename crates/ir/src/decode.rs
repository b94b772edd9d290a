//! Decodes records written by another version of this program, one at a time.

use std::sync::Arc;

use serde::Deserialize as _;
use serde_json::Value;

use crate::tables::Row;
use crate::{Change, Delta, Id, RecordKind, Table};

/// A record that cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The table.
    pub kind: RecordKind,
    /// The record's id as written; the id itself may be the invalid part.
    pub id: String,
    /// The error, with the field.
    pub reason: String,
}

/// Removes a table from a JSON object of tables and decodes it.
pub(crate) fn read_table<T: Row>(tables: &mut Value, rejected: &mut Vec<Rejected>) -> Table<T> {
    let mut records = Vec::new();
    read::<T>(
        tables,
        rejected,
        |value| T::deserialize(value).map(|record| Some(Arc::new(record))),
        |id, record| {
            records.extend(record.map(|record| (id, record)));
        },
    );
    Table::from_shared(records)
}

/// Removes the changes of a table from a JSON object of tables and decodes them.
pub(crate) fn read_changes<T: Row>(tables: &mut Value, rejected: &mut Vec<Rejected>) -> Delta<T> {
    let mut changes = Vec::new();
    read::<T>(tables, rejected, Option::<Arc<T>>::deserialize, |id, new| {
        changes.push(Change { id, old: None, new });
    });
    changes.into_iter().collect()
}

fn read<T: Row>(
    tables: &mut Value,
    rejected: &mut Vec<Rejected>,
    decode: impl Fn(Value) -> serde_json::Result<Option<Arc<T>>>,
    mut take: impl FnMut(Id, Option<Arc<T>>),
) {
    let kind = T::KIND;
    let mut reject = |id: String, reason: String| rejected.push(Rejected { kind, id, reason });
    let records = match tables.get_mut(kind.as_str()).map(Value::take) {
        None => return,
        Some(Value::Object(records)) => records,
        Some(other) => return reject(String::new(), format!("expected a map of records, got {other}")),
    };
    for (id, value) in records {
        match Id::parse_str(&id).map_err(|error| error.to_string()) {
            Ok(parsed) => match decode(value) {
                Ok(record) => take(parsed, record),
                Err(error) => reject(id, error.to_string()),
            },
            Err(error) => reject(id, error),
        }
    }
}
