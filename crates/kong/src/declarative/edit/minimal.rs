//! What has to be written of a complete value, so that it is complete again when it is read: everything but defaults.

use cardinal_schema::{Field, Kind as FieldKind, Schema};
use serde_json::{Map, Value};

/// Fields that are derived from others or the time, and are never written.
pub(super) const DERIVED: [&str; 3] = ["created_at", "updated_at", "cert_digest"];

/// The fields of a record that are not as they would be if nothing were written.
pub(super) fn minimal(schema: &Schema, value: &Map<String, Value>) -> Map<String, Value> {
    let mut out = Map::new();
    for named in &schema.fields {
        if let Some(value) = value.get(named.name)
            && let Some(written) = field(&named.field, value)
        {
            out.insert(named.name.to_owned(), written);
        }
    }
    out
}

/// What has to be written of a field; `None` if its default says it.
fn field(field: &Field, value: &Value) -> Option<Value> {
    let default = field.default.as_ref().unwrap_or(&Value::Null);
    if value == default {
        // A record without a value has one by default.
        let has_blank = matches!(field.kind, FieldKind::Record(_)) && field.required != Some(false);
        return (value.is_null() && has_blank).then_some(Value::Null);
    }
    let written = within(field, value);
    if let (FieldKind::Record(_), Value::Object(map)) = (&field.kind, &written) {
        let is_default = match default {
            Value::Object(default) => map == default,
            _ => map.is_empty() && field.required != Some(false),
        };
        return (!is_default).then_some(written);
    }
    Some(written)
}

/// A value without the defaults within it.
pub(super) fn within(field: &Field, value: &Value) -> Value {
    match (&field.kind, value) {
        (FieldKind::Record(schema), Value::Object(map)) => minimal(schema, map).into(),
        (FieldKind::Array(of) | FieldKind::Set(of), Value::Array(list)) => {
            list.iter().map(|value| within(of, value)).collect()
        }
        (FieldKind::Map(_, of), Value::Object(map)) => {
            map.iter().map(|(key, value)| (key.clone(), within(of, value))).collect::<Map<_, _>>().into()
        }
        _ => value.clone(),
    }
}
