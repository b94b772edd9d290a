//! What Kong 3.10 answered to files, entity by entity, error by error: files of people, random files, and one file for
//! each value of each field.

#![allow(clippy::print_stdout, reason = "the rates are part of what the tests tell")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::PathBuf;

use cardinal_kong::declarative::LoadErrors;
use cardinal_kong::{Registry, Settings, declarative};
use serde_json::{Map, Value, json};

use crate::plugins;

/// An error that only one side has, by design.
struct Tolerance {
    /// Why. What starts with "supported here" is more than Kong does: accepting it is right.
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
    Both,
}

/// All that may differ about errors in files of people. Each must be met by a file, or it goes.
const OF_PEOPLE: [Tolerance; 8] = [
    Tolerance {
        reason: "a field of the Enterprise edition that is supported here",
        whose: Whose::Kong,
        is: |key, error| key == "include_consumer_groups" && error == "unknown field",
    },
    Tolerance {
        reason: "vaults of the Enterprise edition are accepted here; an error is where a reference uses one",
        whose: Whose::Kong,
        is: |_, error| error == "vault 'conjur' is not installed",
    },
    Tolerance {
        reason: "supported here: consumer groups; that build has none",
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
        reason: "credentials of a plugin that this product does not have yet",
        whose: Whose::Ours,
        is: |key, error| key == "oauth2_credentials" && error == "unknown field",
    },
];

/// The same for random files.
const OF_RANDOM_FILES: [Tolerance; 7] = [
    Tolerance {
        reason: "supported here: references by name, as decK writes them",
        whose: Whose::Both,
        is: |key, error| {
            matches!(key, "service" | "route" | "consumer") && *error == json!({"id": "missing primary key"})
        },
    },
    Tolerance {
        reason: "supported here: consumer groups; that build has none",
        whose: Whose::Both,
        is: |key, error| key == "consumer_groups" && error == "unknown field",
    },
    Tolerance {
        reason: "supported here: consumer groups; below them that build never looked",
        whose: Whose::Ours,
        is: |key, error| key == "consumer_groups" && error == "expected an array",
    },
    Tolerance {
        reason: "decK takes `_info` out before Kong sees the file; here it is read",
        whose: Whose::Kong,
        is: |key, error| key == "_info" && error == "unknown field",
    },
    Tolerance {
        reason: "Kong drops a nested plugin without a word when a deprecated field contradicts the new one",
        whose: Whose::Ours,
        is: |_, error| error.as_str().is_some_and(|e| e.starts_with("both deprecated and new field are used")),
    },
    Tolerance {
        reason: "a header without values: the message of Kong's expression parser",
        whose: Whose::Kong,
        is: |_, error| is_expression_error(error, "expected term"),
    },
    Tolerance {
        reason: "a header without values: the message of this product",
        whose: Whose::Ours,
        is: |_, error| is_expression_error(error, "has no values"),
    },
];

/// The same for single fields.
const OF_FIELDS: [Tolerance; 2] = [
    Tolerance { reason: "the list of algorithms is that build's", whose: Whose::Kong, is: is_algorithm },
    Tolerance { reason: "sticky sessions are served here", whose: Whose::Ours, is: is_algorithm },
];

fn is_expression_error(error: &Value, part: &str) -> bool {
    let is = |text: &str| text.starts_with("Router Expression failed validation: ") && text.contains(part);
    error.as_array().is_some_and(|list| list.iter().filter_map(Value::as_str).any(is))
}

fn is_algorithm(key: &str, error: &Value) -> bool {
    let start = "expected one of: consistent-hashing, least-connections, round-robin, latency";
    key == "algorithm" && error.as_str().is_some_and(|e| e.starts_with(start))
}

/// The vectors of a file beside this one.
fn vectors(name: &str) -> Vec<Value> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(name);
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(file).unwrap()).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn answers_to_files_of_people_are_those_of_kong() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance/kong/declarative.json");
    let Some(file) = cardinal_test_tools::data!(file) else { return };
    let vectors: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    check("files of people", &vectors, &OF_PEOPLE);
}

#[test]
fn answers_to_random_files_are_those_of_kong() {
    let rates = check("random files", &vectors("declarative.json.gz"), &OF_RANDOM_FILES);
    assert!(rates.verdicts >= 0.997 && rates.trees >= 0.98, "{rates:?}");
}

#[test]
fn answers_to_each_value_of_each_field_are_those_of_kong() {
    let rates = check("fields", &vectors("fields.json.gz"), &OF_FIELDS);
    assert!(rates.verdicts >= 0.998 && rates.trees >= 0.98, "{rates:?}");
}

/// Random files that Kong refuses, with its `flattened_errors` in their order.
#[test]
fn flattened_errors_are_those_of_kong() {
    let vectors = vectors("flattened.json.gz");
    let registry = Registry::new(&plugins::ALL);
    let mut wrong = Vec::new();
    for (i, vector) in vectors.iter().enumerate() {
        let errors = load(&registry, vector).unwrap_err();
        let answer = errors.to_kong_json(true);
        let got = json!([errors.fields(), sorted_list(&answer["flattened_errors"]), answer["fields"]]);
        let expected = json!([vector["errors"], sorted_list(&vector["flattened_errors"]), vector["fields"]]);
        if let Err(difference) = same(&trimmed(got), &trimmed(expected)) {
            wrong.push(format!("#{i}: {difference}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), vectors.len(), wrong.join("\n"));
}

/// Parts of the vectors that agree, or where the file uses something that is supported here and not in Kong.
#[derive(Debug)]
struct Rates {
    verdicts: f64,
    trees: f64,
}

fn check(what: &str, vectors: &[Value], tolerated: &[Tolerance]) -> Rates {
    let registry = Registry::new(&plugins::ALL);
    let (mut wrong, mut met) = (Vec::new(), BTreeSet::new());
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut verdicts, mut trees, mut more) = (0, 0, [0, 0]);
    for (i, vector) in vectors.iter().enumerate() {
        let answer = load(&registry, vector);
        let is_same_verdict = answer.is_ok() == (vector["accepted"] == true);
        let is_same = compare(&answer, vector, &[], &mut BTreeSet::new()).is_ok();
        (verdicts, trees) = (verdicts + usize::from(is_same_verdict), trees + usize::from(is_same));
        if is_same {
            continue;
        }
        let mut here = BTreeSet::new();
        if let Err(difference) = compare(&answer, vector, tolerated, &mut here) {
            wrong.push(format!("#{i}: {difference}"));
        }
        let mut reasons = here.iter().filter_map(|i| tolerated.get(*i)).map(|t| t.reason);
        reasons.clone().for_each(|reason| *kinds.entry(reason).or_default() += 1);
        if reasons.all(|reason| reason.starts_with("supported here")) {
            more = [more[0] + usize::from(!is_same_verdict), more[1] + 1];
        }
        met.append(&mut here);
    }
    let part = |n: usize| n as f64 / vectors.len() as f64;
    let rates = Rates { verdicts: part(verdicts + more[0]), trees: part(trees + more[1]) };
    let percent = |part: f64| (part * 10_000.0).round() / 100.0;
    println!(
        "{what}: the same verdict {} %, the same entities or errors {} %",
        percent(part(verdicts)),
        percent(part(trees))
    );
    println!("{what}: with what is supported here {} %, {} %", percent(rates.verdicts), percent(rates.trees));
    kinds.iter().for_each(|(reason, count)| println!("{what}: {count} differ: {reason}"));
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), vectors.len(), wrong.join("\n"));
    for (i, tolerance) in tolerated.iter().enumerate() {
        assert!(met.contains(&i), "nothing to tolerate any more: {}", tolerance.reason);
    }
    rates
}

fn load(registry: &Registry, vector: &Value) -> Result<declarative::Snapshot, Box<LoadErrors>> {
    let mut input = rendered(&vector["input"]);
    // Some files of people lack it; the recording put it in.
    if input.get("_format_version").is_none() && vector["errors"].get("_format_version").is_none() {
        input["_format_version"] = "3.0".into();
    }
    declarative::load_value(&input, registry, &Settings::default())
}

fn compare(
    answer: &Result<declarative::Snapshot, Box<LoadErrors>>,
    vector: &Value,
    tolerated: &[Tolerance],
    met: &mut BTreeSet<usize>,
) -> Result<(), String> {
    let expected = vector.get("errors").cloned().unwrap_or(Value::Null);
    let expected = tolerate(expected, (tolerated, Whose::Kong), met);
    match answer {
        Ok(snapshot) if expected.is_null() => match vector.get("entities") {
            Some(entities) => same(&plain(&snapshot.entities_json()), &plain(entities)),
            None => Ok(()),
        },
        Ok(_) => Err(format!("accepted, but Kong said {expected}")),
        Err(errors) => {
            // Kong may have got no further than to what is supported here.
            let is_hidden = expected.is_null() && !met.is_empty();
            let got = tolerate(errors.fields(), (tolerated, Whose::Ours), met);
            if is_hidden { Ok(()) } else { same(&got, &expected) }
        }
    }
}

/// The first places where values differ.
fn same(got: &Value, expected: &Value) -> Result<(), String> {
    let mut out = Vec::new();
    differences(String::new(), got, expected, &mut out);
    if out.is_empty() { Ok(()) } else { Err(out.into_iter().take(4).collect::<String>()) }
}

fn differences(path: String, got: &Value, expected: &Value, out: &mut Vec<String>) {
    let null = Value::Null;
    match (got, expected) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let of = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                differences(format!("{path}.{key}"), &of(a), &of(b), out);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for i in 0..a.len().max(b.len()) {
                differences(format!("{path}[{i}]"), a.get(i).unwrap_or(&null), b.get(i).unwrap_or(&null), out);
            }
        }
        (a, b) if a != b => {
            let short = |value: &Value| value.to_string().chars().take(300).collect::<String>();
            out.push(format!("\n  {path}: got {}, expected {}", short(a), short(b)));
        }
        _ => {}
    }
}

/// Entries in an order of their own: Kong's order of the children of an entity is that of a hash table.
fn sorted_list(list: &Value) -> Value {
    let mut list: Vec<Value> = list.as_array().cloned().unwrap_or_default().into_iter().map(trimmed).collect();
    list.sort_by_key(Value::to_string);
    list.into()
}

/// Keys sorted, no nulls at the end of lists, an empty object an empty list, and whole numbers: Lua cannot tell.
fn trimmed(value: Value) -> Value {
    match value {
        Value::Object(map) => sorted(map.into_iter().map(|(k, v)| (k, trimmed(v))).collect::<Map<_, _>>().into()),
        Value::Array(list) => {
            let mut list: Vec<Value> = list.into_iter().map(trimmed).collect();
            while list.last().is_some_and(Value::is_null) {
                list.pop();
            }
            Value::Array(list)
        }
        Value::Number(n) if n.is_f64() => match n.as_f64() {
            Some(f) if f.fract() == 0.0 => (f as i64).into(),
            _ => n.into(),
        },
        other => other,
    }
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
fn tolerate(errors: Value, (tolerated, whose): (&[Tolerance], Whose), met: &mut BTreeSet<usize>) -> Value {
    match errors {
        Value::Object(map) => {
            let mut kept = Map::new();
            for (key, value) in map {
                let found =
                    tolerated.iter().position(|t| [whose, Whose::Both].contains(&t.whose) && (t.is)(&key, &value));
                match found {
                    Some(i) => {
                        met.insert(i);
                    }
                    None => {
                        let value = tolerate(value, (tolerated, whose), met);
                        if !value.is_null() {
                            kept.insert(key, value);
                        }
                    }
                }
            }
            if kept.is_empty() { Value::Null } else { sorted(Value::Object(kept)) }
        }
        Value::Array(list) => {
            let mut list: Vec<Value> = list.into_iter().map(|v| tolerate(v, (tolerated, whose), met)).collect();
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

/// Entities without times, without what this product adds to plugins, and without what Kong draws at random: ids of
/// entities without a name, and references to them; those are known by their contents.
fn plain(entities: &Value) -> Value {
    let kinds = || entities.as_object().into_iter().flatten();
    let of = |of: &Value| of.as_object().cloned().unwrap_or_default();
    let is_drawn = |entity: &Value| !is_named(entity) || entity["id"].is_null();
    let drawn: Vec<Value> = kinds().flat_map(|(_, kind)| of(kind)).map(|(_, e)| e).filter(is_drawn).collect();
    let drawn: BTreeSet<String> = drawn.iter().map(|entity| entity["id"].to_string()).collect();
    let mut out = Map::new();
    for (kind, entities) in kinds() {
        let mut list: Vec<Value> = of(entities).into_iter().map(|(_, entity)| plain_entity(&entity, &drawn)).collect();
        list.sort_by_key(Value::to_string);
        out.insert(kind.clone(), list.into());
    }
    sorted(Value::Object(out))
}

fn is_named(entity: &Value) -> bool {
    ["name", "username", "target", "instance_name"].iter().any(|name| entity[*name].is_string())
}

fn plain_entity(entity: &Value, drawn: &BTreeSet<String>) -> Value {
    let mut is_drawn = !is_named(entity) || drawn.contains(&entity["id"].to_string());
    let mut entity = entity.as_object().cloned().unwrap_or_default();
    entity.retain(|key, value| match key.as_str() {
        "created_at" | "updated_at" => false,
        "consumer_group" => !value.is_null(),
        _ => true,
    });
    if let Some(Value::Object(config)) = entity.get_mut("config") {
        config.retain(|key, _| !matches!(key.as_str(), "jwks_uri" | "jwks_cache_ttl"));
    }
    for (_, value) in &mut entity {
        if value.get("id").is_some_and(|id| drawn.contains(&id.to_string())) {
            (*value, is_drawn) = ("drawn at random".into(), true);
        }
    }
    if is_drawn {
        entity.shift_remove("id");
    }
    sorted(Value::Object(entity))
}
