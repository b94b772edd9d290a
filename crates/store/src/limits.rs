//! Limits of a batch, the same for every store. They are checked before the store is asked for anything.

use std::collections::HashSet;

use serde_json::Value;

use crate::{Batch, CommitError, Key, NewDocument, StoreError, Violation, Write};

/// Bytes of a kind, and of the names of unique keys and references.
pub const NAME_BYTES_MAX: usize = 64;
/// Bytes of an id and of a space.
pub const ID_BYTES_MAX: usize = 512;
/// Bytes of a tag.
pub const TAG_BYTES_MAX: usize = 1024;
/// Bytes of a value as JSON.
pub const VALUE_BYTES_MAX: usize = 64 << 20;
/// Bytes of all values of a batch as JSON.
pub const BATCH_BYTES_MAX: usize = 512 << 20;
/// Levels of nested arrays and objects.
pub const DEPTH_MAX: usize = 100;
/// Bytes of each text of an author.
pub const AUTHOR_BYTES_MAX: usize = 512;
/// Unique keys, references, tags or secrets of a document.
pub const LIST_MAX: usize = 10_000;

/// Checks a batch by itself.
///
/// # Errors
/// It exceeds a limit, or writes a document twice.
pub fn check(batch: &Batch) -> Result<(), CommitError> {
    if batch.writes.len() > Batch::WRITES_MAX {
        return Err(StoreError::TooLarge(format!(
            "the batch has {} writes; the maximum is {}",
            batch.writes.len(),
            Batch::WRITES_MAX
        ))
        .into());
    }
    for (what, text) in [("name", &batch.author.name), ("address", &batch.author.from), ("source", &batch.author.via)] {
        length(&format!("the author's {what}"), text, AUTHOR_BYTES_MAX)?;
    }
    let (mut written, mut deleted, mut bytes) = (HashSet::new(), HashSet::new(), 0);
    for (at, write) in batch.writes.iter().enumerate() {
        let (key, is_first) = match write {
            Write::Put(document, _) => {
                bytes += check_document(document)?;
                (&document.key, written.insert(&document.key))
            }
            Write::Delete(key, _) => {
                check_key(key)?;
                (key, !written.contains(key) && deleted.insert(key))
            }
        };
        if !is_first {
            return Err(CommitError::Violation { at, violation: Violation::Repeated { key: key.clone() } });
        }
    }
    if bytes > BATCH_BYTES_MAX {
        return Err(StoreError::TooLarge(format!(
            "the documents of the batch have {bytes} bytes; the maximum is {BATCH_BYTES_MAX}"
        ))
        .into());
    }
    Ok(())
}

fn check_document(document: &NewDocument) -> Result<usize, StoreError> {
    check_key(&document.key)?;
    length("a space", &document.space, ID_BYTES_MAX)?;
    for (what, count) in [
        ("unique keys", document.uniques.len()),
        ("references", document.references.len()),
        ("tags", document.tags.len()),
        ("secrets", document.secrets.len()),
    ] {
        if count > LIST_MAX {
            let key = &document.key;
            return Err(StoreError::TooLarge(format!("{key} has {count} {what}; the maximum is {LIST_MAX}")));
        }
    }
    for unique in &document.uniques {
        length("the name of a unique key", &unique.name, NAME_BYTES_MAX)?;
    }
    let mut fields = HashSet::new();
    for reference in &document.references {
        length("the field of a reference", &reference.field, NAME_BYTES_MAX)?;
        check_key(&reference.to)?;
        if !fields.insert(&reference.field) {
            let (key, field) = (&document.key, &reference.field);
            return Err(StoreError::TooLarge(format!("{key} has two references in the field {field}")));
        }
    }
    for tag in &document.tags {
        length("a tag", tag, TAG_BYTES_MAX)?;
    }
    check_value(document)
}

fn check_value(document: &NewDocument) -> Result<usize, StoreError> {
    let key = &document.key;
    if !is_shallow(&document.value) {
        return Err(StoreError::TooLarge(format!("{key} is nested deeper than {DEPTH_MAX} levels")));
    }
    let mut counter = Counter(0);
    let written = serde_json::to_writer(&mut counter, &document.value);
    written.map_err(|error| StoreError::TooLarge(format!("{key} cannot be written as JSON: {error}")))?;
    if counter.0 > VALUE_BYTES_MAX {
        let bytes = counter.0;
        return Err(StoreError::TooLarge(format!("{key} has {bytes} bytes; the maximum is {VALUE_BYTES_MAX}")));
    }
    Ok(counter.0)
}

fn check_key(key: &Key) -> Result<(), StoreError> {
    length("a kind", &key.kind, NAME_BYTES_MAX)?;
    length("an id", &key.id, ID_BYTES_MAX)
}

fn length(what: &str, text: &str, max: usize) -> Result<(), StoreError> {
    if text.len() <= max {
        return Ok(());
    }
    Err(StoreError::TooLarge(format!("{what} has {} bytes; the maximum is {max}", text.len())))
}

/// Whether a value is nested to at most [`DEPTH_MAX`] levels. It does not recurse: the value comes from outside.
fn is_shallow(value: &Value) -> bool {
    let mut open = vec![(value, 0)];
    while let Some((value, depth)) = open.pop() {
        if depth > DEPTH_MAX {
            return false;
        }
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(fields) => open.extend(fields.values().map(|field| (field, depth + 1))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    true
}

/// Counts what is written.
struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
