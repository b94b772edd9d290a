//! What Kong 3.10 answered to a hundred files, entity by entity, error by error.

use std::collections::BTreeSet;
use std::path::PathBuf;

use cardinal_gateway::{Registry, Settings, declarative};
use serde_json::{Map, Value};

use crate::plugins;

/// An error that only one side has, by design.
struct Tolerance {
    /// Why.
    reason: &'static str,
    /// Whose error it is.
    whose: Whose,
    /// Whether it is this key with this error.
    is: fn(&str, &Value) -> bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Whose {
    Kong,
    Ours,
}

/// All that may differ about errors. Each must be met by a file, or it goes.
const TOLERATED: [Tolerance; 6] = [
    Tolerance {
        reason: "consumer groups are served here; that build has none",
        whose: Whose::Kong,
        is: |key, error| matches!(key, "consumer_groups" | "groups") && error == "unknown field",
    },
    Tolerance {
        reason: "below consumer groups that build never looked: plugins and fields of the Enterprise edition",
        whose: Whose::Ours,
        is: |key, _| key == "consumer_groups",
    },
    Tolerance {
        reason: "a consumer may only be in a group that there is; that build knows no groups",
        whose: Whose::Ours,
        is: |key, _| key == "consumer_group_consumers",
    },
    Tolerance {
        reason: "the env vault is built in here; that build had it off",
        whose: Whose::Kong,
        is: |_, error| error == "vault 'env' is not installed",
    },
    Tolerance {
        reason: "metrics need no shared memory here",
        whose: Whose::Kong,
        is: |_, error| error.as_str().is_some_and(|e| e.starts_with("ngx shared dict 'prometheus_metrics'")),
    },
    Tolerance {
        reason: "credentials of plugins that this product does not have yet",
        whose: Whose::Ours,
        is: |key, error| matches!(key, "hmacauth_credentials" | "oauth2_credentials") && error == "unknown field",
    },
];

fn vectors() -> Option<Vec<Value>> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance/kong/declarative.json");
    let text = std::fs::read_to_string(cardinal_test_tools::data!(file)?).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

#[test]
fn answers_are_those_of_kong() {
    let Some(vectors) = vectors() else { return };
    let registry = Registry::new(&plugins::ALL);
    let mut wrong = Vec::new();
    let mut met = BTreeSet::new();
    for (i, vector) in vectors.iter().enumerate() {
        if let Err(difference) = compare(&registry, vector, &mut met) {
            wrong.push(format!("#{i}: {difference}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), vectors.len(), wrong.join("\n"));
    for (i, tolerance) in TOLERATED.iter().enumerate() {
        assert!(met.contains(&i), "nothing to tolerate any more: {}", tolerance.reason);
    }
}

fn compare(registry: &Registry, vector: &Value, met: &mut BTreeSet<usize>) -> Result<(), String> {
    let mut input = rendered(&vector["input"]);
    // Two files lack it; the recording put it in.
    if input.get("_format_version").is_none() {
        input["_format_version"] = "3.0".into();
    }
    let expected = tolerate(vector.get("errors").cloned().unwrap_or(Value::Null), Whose::Kong, met);
    match declarative::load_value(&input, registry, &Settings::default()) {
        Ok(snapshot) if expected.is_null() => match vector.get("entities") {
            Some(entities) => same(&plain(&snapshot.entities_json()), &plain(entities)),
            None => Ok(()),
        },
        Ok(_) => Err(format!("accepted, but Kong said {expected}")),
        Err(errors) => same(&tolerate(errors.fields(), Whose::Ours, met), &expected),
    }
}

fn same(got: &Value, expected: &Value) -> Result<(), String> {
    if got == expected { Ok(()) } else { Err(format!("\n  got      {got}\n  expected {expected}")) }
}

/// What decK does before Kong sees a file: `${{ env "X" }}` is filled in. The recording put `x`.
fn rendered(input: &Value) -> Value {
    let mut text = input.to_string();
    while let Some(start) = text.find("${{ env ") {
        let length = text[start..].find("}}").unwrap();
        text.replace_range(start..start + length + 2, "x");
    }
    serde_json::from_str(&text).unwrap()
}

/// Takes out what is tolerated, and what is empty then.
fn tolerate(errors: Value, whose: Whose, met: &mut BTreeSet<usize>) -> Value {
    match errors {
        Value::Object(map) => {
            let mut kept = Map::new();
            for (key, value) in map {
                let found = TOLERATED.iter().position(|t| t.whose == whose && (t.is)(&key, &value));
                match found {
                    Some(i) => {
                        met.insert(i);
                    }
                    None => {
                        let value = tolerate(value, whose, met);
                        if !value.is_null() {
                            kept.insert(key, value);
                        }
                    }
                }
            }
            if kept.is_empty() { Value::Null } else { sorted(Value::Object(kept)) }
        }
        Value::Array(list) => {
            let mut list: Vec<Value> = list.into_iter().map(|v| tolerate(v, whose, met)).collect();
            while list.last().is_some_and(Value::is_null) {
                list.pop();
            }
            if list.is_empty() { Value::Null } else { Value::Array(list) }
        }
        other => other,
    }
}

/// Keys sorted; an empty object is an empty list, for Lua cannot tell them apart.
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

/// Entities without times, and without the consumer group that Kong's plugins do not have. Kong draws ids for entities
/// without a name, so those are known by their contents.
fn plain(entities: &Value) -> Value {
    let mut out = Map::new();
    for (kind, of) in entities.as_object().into_iter().flatten() {
        let mut list: Vec<Value> =
            of.as_object().into_iter().flatten().map(|(_, entity)| plain_entity(entity)).collect();
        list.sort_by_key(Value::to_string);
        out.insert(kind.clone(), list.into());
    }
    sorted(Value::Object(out))
}

fn plain_entity(entity: &Value) -> Value {
    let mut entity = entity.as_object().cloned().unwrap_or_default();
    entity.retain(|key, value| match key.as_str() {
        "created_at" | "updated_at" => false,
        "consumer_group" => !value.is_null(),
        _ => true,
    });
    let names = ["name", "username", "target", "instance_name"];
    if !names.iter().any(|name| entity.get(*name).is_some_and(Value::is_string)) {
        entity.shift_remove("id");
    }
    sorted(Value::Object(entity))
}
