//! Changes to JSON values.

use serde_json::Value;

/// Sets a field of an object, at the end of a path of objects that are there.
pub(super) fn set(object: &mut Value, path: &[&str], value: Value) {
    match (path, object) {
        ([name], Value::Object(fields)) => drop(fields.insert((*name).to_owned(), value)),
        ([name, rest @ ..], Value::Object(fields)) => {
            if let Some(inner) = fields.get_mut(*name) {
                set(inner, rest, value);
            }
        }
        _ => {}
    }
}
