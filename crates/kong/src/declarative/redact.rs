//! Values without secrets, for output that ends up in logs.

use cardinal_ir::SecretRef;
use cardinal_schema::{Field, Kind, Schema, is_reference};
use serde_json::{Map, Value};

use super::excerpt::{MASK, is_secret, secrets};
use super::masks::is_list_of_credentials;

/// The value with `***` in the place of secrets: of fields that the schema marks as encrypted, of fields with the
/// name of a secret (also misspelt ones), of private keys, of references to secrets, and of texts like `Authorization: ...` and
/// `https://user:password@host`. References to vaults stay.
pub fn redact(value: &Value, schema: Option<&Schema>) -> Value {
    match value {
        Value::Object(map) => Value::Object(redact_map(map, schema)),
        Value::Array(list) => list.iter().map(|value| redact(value, schema)).collect(),
        Value::String(text) => redact_text(text).into(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// The same for the fields of a record.
pub fn redact_map(map: &Map<String, Value>, schema: Option<&Schema>) -> Map<String, Value> {
    let of = |(name, value): (&String, &Value)| {
        let field = schema.and_then(|schema| schema.field(name));
        let shown = match value {
            value if is_secret(name) => hide(value),
            Value::String(_) | Value::Array(_) | Value::Object(_) if is_list_of_credentials(name) => {
                credentials(value, field)
            }
            value => redact_field(value, field),
        };
        (name.clone(), shown)
    };
    map.iter().map(of).collect()
}

/// The value with `***` in the place of the values of these fields, at any depth.
pub(super) fn hide_fields(value: &mut Value, names: &[String]) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                if names.iter().any(|known| known == name) { *value = hide(value) } else { hide_fields(value, names) }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| hide_fields(value, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn redact_field(value: &Value, field: Option<&Field>) -> Value {
    match field {
        Some(field) if field.encrypted => hide(value),
        Some(field) => match &field.kind {
            Kind::Record(schema) => redact(value, Some(schema)),
            Kind::Array(of) | Kind::Set(of) => match value {
                Value::Array(list) => list.iter().map(|value| redact_field(value, Some(of))).collect(),
                other => redact(other, None),
            },
            Kind::Map(_, of) => match value {
                Value::Object(map) => {
                    let each = |(name, value): (&String, &Value)| {
                        let shown = if is_secret(name) { hide(value) } else { redact_field(value, Some(of)) };
                        (name.clone(), shown)
                    };
                    Value::Object(map.iter().map(each).collect())
                }
                other => redact(other, None),
            },
            _ => redact(value, None),
        },
        None => redact(value, None),
    }
}

/// A list of credentials; what is no record there may be the secret itself.
fn credentials(value: &Value, field: Option<&Field>) -> Value {
    match value {
        Value::Array(list) if list.iter().all(Value::is_object) => redact_field(value, field),
        Value::Array(list) => {
            let each = |value: &Value| if value.is_object() { redact(value, None) } else { hide(value) };
            list.iter().map(each).collect()
        }
        other => hide(other),
    }
}

/// The value with `***` in the place of the values that a transformer adds.
pub(super) fn hide_additions(value: &mut Value) {
    for (_, group) in value.as_object_mut().into_iter().flatten() {
        let Value::Object(group) = group else { continue };
        for (name, lists) in group {
            match lists {
                Value::Object(lists) if matches!(name.as_str(), "add" | "append" | "replace") => {
                    lists.values_mut().for_each(hide_values);
                }
                _ => {}
            }
        }
    }
}

/// Of `name:value` the value is hidden.
fn hide_values(value: &mut Value) {
    match value {
        Value::String(text) => {
            *value = match text.split_once(':') {
                Some((name, _)) => format!("{name}:{MASK}").into(),
                None => MASK.into(),
            }
        }
        Value::Array(list) => list.iter_mut().for_each(hide_values),
        other => *other = hide(other),
    }
}

/// A mask for everything that could be a secret.
fn hide(value: &Value) -> Value {
    match value {
        Value::String(text) if text.is_empty() || is_reference(value) => value.clone(),
        Value::String(_) | Value::Number(_) => MASK.into(),
        Value::Array(list) => list.iter().map(hide).collect(),
        Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), hide(value))).collect(),
        Value::Null | Value::Bool(_) => value.clone(),
    }
}

/// A text without what looks like a secret in it.
pub fn redact_text(text: &str) -> String {
    if text.contains("PRIVATE KEY-----") || SecretRef::is_meant_by(text) {
        return MASK.to_owned();
    }
    let lines = text.split('\n').map(|line| {
        let mut shown = String::with_capacity(line.len());
        let mut next = 0;
        for range in secrets(line) {
            shown.push_str(line.get(next..range.start).unwrap_or_default());
            shown.push_str(MASK);
            next = range.end;
        }
        shown.push_str(line.get(next..).unwrap_or_default());
        shown
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use cardinal_schema::{array, field, map, record, string};
    use serde_json::json;

    use super::redact;

    #[test]
    fn secrets_are_masked_and_nothing_else() {
        let schema = record([
            field("pin", string().encrypted()),
            field("list", array(string().encrypted())),
            field("inner", record([field("pin", string().encrypted()), field("name", string())])),
            field("many", array(record([field("pin", string().encrypted())]))),
            field("by_name", map(string(), string().encrypted())),
        ]);
        let value = json!({
            "pin": "s1", "list": ["s2", "s3"], "inner": {"pin": "s4", "name": "n"}, "many": [{"pin": "s5"}],
            "by_name": {"x": "s6"}, "unknown": {"passwrod": "s7", "password": 1234, "token": null},
            "key": "{vault://env/key}", "enabled": true, "port": 80, "key_names": ["apikey"],
            "headers": ["Authorization: Bearer s8", "X-Plain: yes"], "url": "https://me:s9@host/path",
            "text": "-----BEGIN RSA PRIVATE KEY-----\ns10\n-----END RSA PRIVATE KEY-----",
            "cert": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
            "keyauth_credentials": [{"key": "s11"}],
        });
        assert_eq!(
            redact(&value, Some(&schema)),
            json!({
                "pin": "***", "list": ["***", "***"], "inner": {"pin": "***", "name": "n"}, "many": [{"pin": "***"}],
                "by_name": {"x": "***"}, "unknown": {"passwrod": "***", "password": "***", "token": null},
                "key": "{vault://env/key}", "enabled": true, "port": 80, "key_names": ["apikey"],
                "headers": ["Authorization: ***", "X-Plain: yes"], "url": "https://***@host/path",
                "text": "***",
                "cert": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
                "keyauth_credentials": [{"key": "***"}],
            })
        );
    }
}
