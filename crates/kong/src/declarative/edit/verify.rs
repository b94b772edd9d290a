//! Whether a text that was changed means what it should.

use std::collections::BTreeSet;

use cardinal_ir::Id;
use cardinal_schema::Schema;
use serde_json::{Map, Value};

use super::super::snapshot::Snapshot;
use super::minimal::DERIVED;
use super::{Change, Changes};
use crate::entities::{Kind, Registry};

/// The entity that is not as it should be.
pub(super) struct Mismatch {
    pub(super) kind: &'static str,
    pub(super) id: Id,
    /// What is wrong with it.
    pub(super) why: String,
}

/// Compares what was read with what was there before and the changes.
pub(super) fn verify(
    before: &Snapshot,
    after: &Snapshot,
    changes: &Changes<'_>,
    registry: &Registry,
) -> Result<(), Mismatch> {
    for kind in registry.kinds() {
        let wrong = |id: Id, why: String| Mismatch { kind: kind.name, id, why };
        for entity in before.of(kind.name) {
            let after = after.get(kind.name, &entity.id);
            match (changes.of(kind.name, &entity.id), after) {
                (Some(None), None) => {}
                (Some(None), Some(_)) => return Err(wrong(entity.id, "it is still there".to_owned())),
                (_, None) => return Err(wrong(entity.id, "it would be lost".to_owned())),
                (Some(Some(new)), Some(after)) => {
                    let expected = sealed(kind, Some(&entity.value), new);
                    same(kind, &expected, &after.value, &|_| false).map_err(|why| wrong(entity.id, why))?;
                }
                (None, Some(after)) => {
                    // What is made at random on each load differs, as it does without a change.
                    let auto = registry.schema_of(kind, &entity.value).unwrap_or(&kind.schema);
                    let is_random = |name: &str| is_auto(auto, name) && name != kind.primary_key;
                    same(kind, &entity.value, &after.value, &is_random).map_err(|why| wrong(entity.id, why))?;
                }
            }
        }
        for entity in after.of(kind.name).filter(|entity| !before.contains(kind.name, &entity.id)) {
            let Some(Some(new)) = changes.of(kind.name, &entity.id) else {
                return Err(wrong(entity.id, "it would be new".to_owned()));
            };
            let expected = sealed(kind, None, new);
            same(kind, &expected, &entity.value, &|_| false).map_err(|why| wrong(entity.id, why))?;
        }
        if let Some((id, _)) = changes.new_of(kind.name).find(|(id, _)| !after.contains(kind.name, id)) {
            return Err(wrong(id, "it would be missing".to_owned()));
        }
    }
    members(before, after, changes)
}

fn members(before: &Snapshot, after: &Snapshot, changes: &Changes<'_>) -> Result<(), Mismatch> {
    let pairs = |snapshot: &Snapshot| -> BTreeSet<(Id, Id)> {
        let all = snapshot.memberships().iter();
        all.flat_map(|(consumer, groups)| groups.iter().map(|group| (*consumer, *group))).collect()
    };
    let mut expected = pairs(before);
    for change in changes.list {
        match change {
            Change::Join { consumer, group } => drop(expected.insert((*consumer, *group))),
            Change::Leave { consumer, group } => drop(expected.remove(&(*consumer, *group))),
            Change::Put { .. } | Change::Delete { .. } => {}
        }
    }
    let is_there = |kind: &str, id: &Id| !matches!(changes.of(kind, id), Some(None));
    expected.retain(|(consumer, group)| is_there("consumers", consumer) && is_there("consumer_groups", group));
    let after = pairs(after);
    match expected.symmetric_difference(&after).next() {
        None => Ok(()),
        Some((consumer, _)) => {
            Err(Mismatch { kind: "consumers", id: *consumer, why: "its groups would be others".to_owned() })
        }
    }
}

/// The entity as it is when it has been read: with a hash in place of a password.
pub(super) fn sealed(kind: &Kind, old: Option<&Map<String, Value>>, new: &Map<String, Value>) -> Map<String, Value> {
    let Some(seal) = kind.brought_by.and_then(|def| def.seal.as_ref()) else { return new.clone() };
    let is_kept = old.is_some_and(|old| old.get(seal.field) == new.get(seal.field));
    let consumer = new.get("consumer").and_then(|consumer| consumer.get("id")).and_then(Value::as_str);
    let Some(consumer) = consumer.and_then(|id| id.parse().ok()).filter(|_| !is_kept) else {
        return new.clone();
    };
    let mut value = Value::Object(new.clone());
    (seal.run)(&mut value, consumer);
    match value {
        Value::Object(sealed) => sealed,
        _ => new.clone(),
    }
}

/// Whether two complete entities are the same, apart from times and what `ignores` names.
fn same(
    kind: &Kind,
    expected: &Map<String, Value>,
    found: &Map<String, Value>,
    ignores: &dyn Fn(&str) -> bool,
) -> Result<(), String> {
    let is_ignored =
        |name: &str| DERIVED.contains(&name) || (kind.name == "certificates" && name == "snis") || ignores(name);
    for name in expected.keys().chain(found.keys()).filter(|name| !is_ignored(name)) {
        let (expected, found) = (expected.get(name).unwrap_or(&Value::Null), found.get(name).unwrap_or(&Value::Null));
        if !is_same(expected, found) {
            return Err(format!("its field '{name}' would have another value"));
        }
    }
    Ok(())
}

fn is_auto(schema: &Schema, name: &str) -> bool {
    schema.field(name).is_some_and(|field| field.auto)
}

fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            let has = |a: &Map<String, Value>, b: &Map<String, Value>| {
                a.iter().all(|(key, value)| is_same(value, b.get(key).unwrap_or(&Value::Null)))
            };
            has(a, b) && has(b, a)
        }
        // An empty list and an empty map are the same in Lua.
        (Value::Array(list), Value::Object(map)) | (Value::Object(map), Value::Array(list)) => {
            list.is_empty() && map.is_empty()
        }
        (a, b) => a == b,
    }
}
