//! Checking of complete values. Kong: `validate`, `validate_fields` and `validate_field`.

use serde_json::{Map, Value};

use crate::check::Record;
use crate::errors::REPORTED_MAX;
use crate::process::{as_object, as_record};
use crate::rules::is_uuid;
use crate::{Errors, Field, Kind, Schema};

/// Checks a record, complete with defaults: `whole`, whose fields are `data`.
pub(crate) fn validate_record(schema: &Schema, whole: &Value, data: &Map<String, Value>) -> Result<(), Errors> {
    let mut errors = Errors::default();
    let mut unknown = 0;
    // A complete record has its fields in the order of the schema, so the next one is mostly the one looked for.
    let mut next = 0;
    for (name, value) in data {
        // Kong never looks at these two.
        if name == "updated_at" || (name == "ttl" && schema.ttl) {
            continue;
        }
        let at = match schema.fields.get(next) {
            Some(named) if named.name == name => Some(next),
            _ => schema.fields.iter().position(|named| named.name == name),
        };
        next = at.map_or(next, |at| at + 1);
        match at.and_then(|at| schema.fields.get(at)).map(|named| &named.field) {
            None => add_unknown(&mut errors, name, &mut unknown),
            Some(field) => {
                if let Err(found) = validate_field(field, value) {
                    errors.set(name, found);
                }
            }
        }
    }
    for named in schema.fields.iter().filter(|n| n.field.is_required() && !n.field.auto) {
        if value_of(data, named.name).is_none_or(Value::is_null) {
            errors.set(named.name, "required field missing".into());
        }
    }
    run_checks(schema, Record { whole, data, is_partial: false }, &mut errors);
    errors.into_result()
}

fn add_unknown(errors: &mut Errors, name: &str, count: &mut usize) {
    *count += 1;
    if *count <= REPORTED_MAX {
        errors.set(name, "unknown field".into());
    }
}

/// Checks a partial record; fields may be missing, and there are no defaults. Kong: `validate` without
/// `full_check`.
pub(crate) fn validate_partial(schema: &Schema, whole: &Value, data: &Map<String, Value>) -> Result<(), Errors> {
    let mut errors = Errors::default();
    let mut unknown = 0;
    for (name, value) in data {
        match schema.field(name) {
            _ if name == "updated_at" || (name == "ttl" && schema.ttl) => {}
            None => add_unknown(&mut errors, name, &mut unknown),
            Some(field) => {
                if let Err(found) = validate_field(field, value) {
                    errors.set(name, found);
                }
            }
        }
    }
    run_checks(schema, Record { whole, data, is_partial: true }, &mut errors);
    errors.into_result()
}

fn run_checks(schema: &Schema, record: Record<'_>, errors: &mut Errors) {
    for check in &schema.checks {
        check.run(schema, record, errors);
    }
    for named in &schema.fields {
        if let Kind::Record(inner) = &named.field.kind {
            for check in &inner.outer_checks {
                check.run(schema, record, errors);
            }
        }
    }
}

/// Checks one value.
pub(crate) fn validate_field(field: &Field, value: &Value) -> Result<(), Errors> {
    if value.is_null() {
        return validate_null(field);
    }
    if field.rules.eq.as_ref().is_some_and(Value::is_null) {
        return Err(field.message.unwrap_or("value must be null").into());
    }
    match &field.kind {
        Kind::String => {
            let Some(_) = value.as_str() else { return Err("expected a string".into()) };
            if field.referenceable && is_reference(value) {
                return Ok(());
            }
        }
        Kind::Integer if !value.as_f64().is_some_and(|n| n.fract() == 0.0 && n.is_finite()) => {
            return Err("expected an integer".into());
        }
        Kind::Number if !value.is_number() => return Err("expected a number".into()),
        Kind::Boolean if !value.is_boolean() => return Err("expected a boolean".into()),
        Kind::Array(of) => validate_list(of, value, "expected an array")?,
        Kind::Set(of) => validate_list(of, value, "expected a set")?,
        Kind::Map(keys, values) => validate_map(keys, values, value)?,
        Kind::Record(schema) => validate_nested(schema, value)?,
        Kind::Foreign(_) => validate_foreign(value)?,
        Kind::Json => return Ok(()),
        Kind::Integer | Kind::Number | Kind::Boolean | Kind::Any => {}
    }
    field.rules.run(field, value)
}

fn validate_null(field: &Field) -> Result<(), Errors> {
    if field.rules.ne.as_ref().is_some_and(Value::is_null) {
        return Err(field.message.unwrap_or("value must not be null").into());
    }
    if let Some(wanted) = field.rules.eq.as_ref().filter(|v| !v.is_null()) {
        return Err(format!("value must be {}", lua_text(wanted)).into());
    }
    if field.is_required() { Err("required field missing".into()) } else { Ok(()) }
}

/// Elements are always required.
fn validate_element(field: &Field, value: &Value) -> Result<(), Errors> {
    match value {
        Value::Null if !matches!(field.rules.eq, Some(Value::Null)) => Err("required field missing".into()),
        value => validate_field(field, value),
    }
}

fn validate_list(of: &Field, value: &Value, expected: &str) -> Result<(), Errors> {
    let list = match value {
        Value::Array(list) => list,
        Value::Object(map) if map.is_empty() => return Ok(()),
        _ => return Err(expected.into()),
    };
    // Nearly all lists are valid.
    let mut errors: Vec<Option<Errors>> = Vec::new();
    let wrong = list.iter().enumerate().filter_map(|(at, value)| Some((at, validate_element(of, value).err()?)));
    for (at, found) in wrong.take(REPORTED_MAX) {
        errors.resize(at, None);
        errors.push(Some(found));
    }
    if errors.is_empty() { Ok(()) } else { Err(Errors::Items(errors)) }
}

/// Kong reports the first bad key or value in place of the map.
fn validate_map(keys: &Field, values: &Field, value: &Value) -> Result<(), Errors> {
    let Some(map) = as_object(value) else {
        // A Lua list is a table with numbers for keys.
        return Err(if value.is_array() { "expected a string" } else { "expected a map" }.into());
    };
    for (k, v) in map.iter() {
        validate_element(keys, &Value::String(k.clone()))?;
        validate_element(values, v)?;
    }
    Ok(())
}

fn validate_nested(schema: &Schema, value: &Value) -> Result<(), Errors> {
    let Some(map) = as_record(value) else { return Err("expected a record".into()) };
    validate_record(schema, value, &map)?;
    for validator in &schema.validators {
        validator.run(value)?;
    }
    Ok(())
}

fn validate_foreign(value: &Value) -> Result<(), Errors> {
    match value.get("id") {
        None => Err(Errors::field("id", "missing primary key")),
        Some(Value::Null) => Err(Errors::field("id", "required field missing")),
        Some(Value::String(id)) if is_uuid(id) => Ok(()),
        Some(Value::String(_)) => Err(Errors::field("id", "expected a valid UUID")),
        Some(_) => Err(Errors::field("id", "expected a string")),
    }
}

/// Whether a value is a vault reference: `{vault://name/resource}`.
pub fn is_reference(value: &Value) -> bool {
    value.as_str().is_some_and(|text| {
        text.strip_prefix("{vault://").and_then(|t| t.strip_suffix('}')).is_some_and(|inner| inner.contains('/'))
    })
}

/// The value at a dotted path.
pub(crate) fn value_at<'a>(data: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        None => value_of(data, path),
        Some((head, tail)) => value_at(value_of(data, head)?.as_object()?, tail),
    }
}

/// Comparing some names takes less than hashing one.
fn value_of<'a>(data: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    const FEW: usize = 40;
    if data.len() > FEW {
        return data.get(name);
    }
    data.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// `'a', 'b'`
pub(crate) fn quoted(names: &[&str]) -> String {
    names.iter().map(|n| format!("'{n}'")).collect::<Vec<_>>().join(", ")
}

/// A value as Lua's `tostring` shows it.
pub(crate) fn lua_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(n) => match n.as_f64() {
            Some(f) if n.is_f64() && f.fract() == 0.0 && f.abs() < 9e15 => format!("{f:.0}"),
            _ => n.to_string(),
        },
        other => other.to_string(),
    }
}
