//! [`Shorthand`]: a field that is accepted but not kept.

use serde_json::{Map, Value};

use crate::Field;
use crate::validate::{lua_text, value_at};

/// Why a field is deprecated, and the field that replaces it.
#[derive(Clone, Copy, Debug)]
pub struct Deprecation {
    /// For users: what to use instead.
    pub message: &'static str,
    /// Dotted path of the field that took over; empty when none did.
    pub replaced_with: &'static [&'static str],
}

/// A field that is accepted but not kept: other fields of the record replace it.
#[derive(Clone, Debug)]
pub struct Shorthand {
    /// The key in the record.
    pub name: &'static str,
    /// The type.
    pub field: Field,
    /// The fields of the record that replace it, as an object to merge into it.
    pub expand: fn(&Value) -> Value,
    /// Path of the field that took over, when the shorthand is a deprecated name: it is echoed on read, and yields to
    /// the new field.
    pub replaced_with: Option<&'static str>,
}

impl Shorthand {
    pub(crate) fn new(name: &'static str, field: Field, expand: fn(&Value) -> Value) -> Self {
        Self { name, field, expand, replaced_with: None }
    }

    /// Marks it as the deprecated name of the field at a dotted path.
    pub fn replaced_with(mut self, path: &'static str) -> Self {
        self.replaced_with = Some(path);
        self
    }

    /// Fails when the deprecated and the new field both have a value, and not the same one.
    pub(crate) fn check_conflict(&self, data: &Map<String, Value>, value: &Value) -> Result<(), String> {
        let Some(path) = self.replaced_with else { return Ok(()) };
        match value_at(data, path) {
            Some(new) if !new.is_null() && !value.is_null() && new != value => Err(format!(
                "both deprecated and new field are used but their values mismatch: {} = {} vs {path} = {}",
                self.name,
                lua_text(value),
                lua_text(new)
            )),
            _ => Ok(()),
        }
    }

    /// Merges the fields of the shorthand into the record.
    pub(crate) fn apply(&self, data: &mut Map<String, Value>, value: &Value) {
        let Value::Object(fields) = (self.expand)(value) else { return };
        for (name, new) in fields {
            let old = data.remove(&name).unwrap_or(Value::Null);
            let merged = match (old, new) {
                (Value::Object(mut old), Value::Object(new)) => {
                    for (k, v) in new {
                        let keep = self.replaced_with.is_some() && old.get(&k).is_some_and(|v| !v.is_null());
                        if !keep {
                            old.insert(k, v);
                        }
                    }
                    Value::Object(old)
                }
                (old, _) if self.replaced_with.is_some() && !old.is_null() => old,
                (_, new) => new,
            };
            data.insert(name, merged);
        }
    }
}
