//! Entities as log records show them.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::declarative::Entity;

/// The workspace that every entity is in.
const WORKSPACE: &str = "0dc6f45b-8f8d-40d2-a504-473544ee190b";

/// Compact JSON of an entity without what is null, as Kong's log serializer shows it.
pub(super) fn document(entity: &Entity) -> Arc<str> {
    let mut map = without_nulls(&entity.value);
    map.insert("ws_id".to_owned(), WORKSPACE.into());
    Value::Object(map).to_string().into()
}

fn without_nulls(map: &Map<String, Value>) -> Map<String, Value> {
    let kept = map.iter().filter(|(_, v)| !v.is_null());
    kept.map(|(k, v)| {
        let value = match v {
            Value::Object(inner) => Value::Object(without_nulls(inner)),
            other => other.clone(),
        };
        (k.clone(), value)
    })
    .collect()
}
