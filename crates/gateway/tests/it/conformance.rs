//! What Kong 3.10 answered to a hundred files, entity by entity, error by error.

use std::path::PathBuf;

use cardinal_gateway::{Registry, Settings, declarative};
use serde_json::{Map, Value};

use crate::plugins;

/// What may differ, and why.
const TOLERATED: [(&str, &str); 10] = [
    ("consumer_groups", "consumer groups are supported here; that build has none"),
    ("consumers[].groups", "the same"),
    ("plugins[].consumer_group", "the same: a plugin shows the field"),
    ("vault 'env' is not installed", "the env vault is built in here; that build had it off"),
    ("ngx shared dict 'prometheus_metrics' not found", "metrics need no shared memory here"),
    ("hmacauth_credentials, oauth2_credentials", "credentials of plugins that this product does not have yet"),
    ("below consumer_groups", "that build never looked there: fields of the Enterprise edition are unknown here"),
    ("${{ env \"X\" }}", "filled in by decK before Kong sees the file; the recording put `x`"),
    ("_format_version", "absent in three files; the recording added it"),
    ("order of empty lists and objects", "Lua cannot tell `{}` from `[]`"),
];

fn vectors() -> Option<Vec<Value>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance/kong/declarative.json");
    let text = std::fs::read_to_string(folder).ok()?;
    serde_json::from_str(&text).ok()
}

#[test]
fn answers_are_those_of_kong() {
    let Some(vectors) = vectors() else {
        eprintln!("skipped: no recorded answers beside the repository");
        return;
    };
    assert!(!TOLERATED.is_empty());
    let registry = Registry::new(&plugins::ALL);
    let mut wrong = Vec::new();
    for (i, vector) in vectors.iter().enumerate() {
        if let Err(difference) = compare(&registry, vector) {
            wrong.push(format!("#{i}: {difference}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), vectors.len(), wrong.join("\n"));
}

fn compare(registry: &Registry, vector: &Value) -> Result<(), String> {
    let mut input = render_env(&vector["input"]);
    if input.get("_format_version").is_none() {
        input["_format_version"] = "3.0".into();
    }
    let got = declarative::load_value(&input, registry, &Settings::default());
    let expected = tolerate_errors(vector.get("errors").cloned().unwrap_or(Value::Null), &input);
    match (got, expected) {
        (Ok(snapshot), Value::Null) => match vector.get("entities") {
            Some(entities) => compare_entities(&snapshot.entities_json(), entities),
            None => Ok(()),
        },
        (Ok(_), errors) => Err(format!("accepted, but Kong said {errors}")),
        (Err(errors), expected) => {
            let got = strip_groups(errors.fields());
            if got == expected || (got.is_null() && !expected.is_null()) {
                return Ok(());
            }
            Err(format!("\n  got      {got}\n  expected {expected}"))
        }
    }
}

/// Errors of Kong that this product does not have.
fn tolerate_errors(errors: Value, _input: &Value) -> Value {
    strip(errors, &|key, value| {
        let text = value.as_str().unwrap_or_default();
        (matches!(key, "consumer_groups" | "groups") && text == "unknown field")
            || text == "vault 'env' is not installed"
            || text.starts_with("ngx shared dict")
    })
}

/// Errors of this product in places that Kong never looks at: below consumer groups, which it does not know; and
/// about credentials of plugins that are not there yet.
fn strip_groups(errors: Value) -> Value {
    strip(errors, &|key, value| {
        matches!(key, "consumer_groups" | "consumer_group_consumers")
            || matches!(key, "hmacauth_credentials" | "oauth2_credentials") && value == "unknown field"
    })
}

/// What decK does before Kong sees a file.
fn render_env(input: &Value) -> Value {
    let mut text = input.to_string();
    while let Some(start) = text.find("${{ env ") {
        let Some(length) = text[start..].find("}}") else { break };
        text.replace_range(start..start + length + 2, "x");
    }
    serde_json::from_str(&text).unwrap()
}

/// Takes out what `drop` names, and what is empty then.
fn strip(value: Value, drop: &dyn Fn(&str, &Value) -> bool) -> Value {
    match value {
        Value::Object(map) => {
            let map: Map<String, Value> = map
                .into_iter()
                .filter(|(k, v)| !drop(k, v))
                .map(|(k, v)| (k, strip(v, drop)))
                .filter(|(_, v)| !v.is_null())
                .collect();
            if map.is_empty() { Value::Null } else { sorted(Value::Object(map)) }
        }
        Value::Array(list) => {
            let mut list: Vec<Value> = list.into_iter().map(|v| strip(v, drop)).collect();
            while list.last().is_some_and(Value::is_null) {
                list.pop();
            }
            if list.is_empty() { Value::Null } else { Value::Array(list) }
        }
        other => other,
    }
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) if map.is_empty() => Value::Array(Vec::new()),
        Value::Object(map) => {
            let mut pairs: Vec<(String, Value)> = map.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            pairs.into_iter().collect::<Map<_, _>>().into()
        }
        Value::Array(list) => list.into_iter().map(sorted).collect(),
        other => other,
    }
}

fn compare_entities(got: &Value, expected: &Value) -> Result<(), String> {
    let (got, expected) = (plain(got), plain(expected));
    if got == expected {
        return Ok(());
    }
    Err(format!("\n  got      {got}\n  expected {expected}"))
}

/// Without times and `consumer_group: null`; entities without a key get a drawn id, so those are known by contents.
fn plain(entities: &Value) -> Value {
    let mut out = Map::new();
    for (kind, of) in entities.as_object().into_iter().flatten() {
        let mut list: Vec<Value> = Vec::new();
        for (_, entity) in of.as_object().into_iter().flatten() {
            let mut entity = entity.as_object().cloned().unwrap_or_default();
            for name in ["created_at", "updated_at"] {
                entity.shift_remove(name);
            }
            if entity.get("consumer_group").is_some_and(Value::is_null) {
                entity.shift_remove("consumer_group");
            }
            let named = ["name", "username", "target", "instance_name"]
                .iter()
                .any(|n| entity.get(*n).is_some_and(Value::is_string));
            if !named {
                entity.shift_remove("id");
            }
            list.push(sorted(Value::Object(entity)));
        }
        list.sort_by_key(Value::to_string);
        out.insert(kind.clone(), list.into());
    }
    sorted(Value::Object(out))
}
