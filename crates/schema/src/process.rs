//! [`Schema::process`]: from what a user wrote to a complete value.

use std::sync::OnceLock;

use serde_json::{Map, Number, Value};

use crate::errors::REPORTED_MAX;
use crate::validate::{validate_partial, validate_record};
use crate::{Errors, Field, Kind, Named, Schema};

/// How to complete a value.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// Where values of `auto` fields come from; without it they stay as the user wrote them, and required ones are not
    /// missed.
    pub auto: Option<&'a dyn Auto>,
    /// Leave out defaults: only what the user wrote is checked and kept.
    pub no_defaults: bool,
}

/// Where values of `auto` fields come from. The caller holds the clock and the random source.
pub trait Auto {
    /// Seconds since the epoch, with fractions.
    fn now(&self) -> f64;
    /// A fresh id.
    fn id(&self) -> uuid::Uuid;
    /// A random secret of 32 letters and digits.
    fn secret(&self) -> String;
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("auto", &self.auto.is_some()).field("no_defaults", &self.no_defaults).finish()
    }
}

impl Schema {
    /// Completes and checks a value: shorthands expanded, defaults filled in (absent optional fields become `null`),
    /// duplicates dropped from sets, whole floats made integers; then every rule and check.
    ///
    /// # Errors
    /// Everything that is wrong, with Kong's texts.
    pub fn process(&self, value: &Value, options: &Options<'_>) -> Result<Value, Errors> {
        let Some(map) = as_record(value) else { return Err("expected a record".into()) };
        self.process_map(map.into_owned(), options)
    }

    /// [`Schema::process`] for fields that are the caller's to give away.
    ///
    /// # Errors
    /// Everything that is wrong, with Kong's texts.
    pub fn process_map(&self, mut data: Map<String, Value>, options: &Options<'_>) -> Result<Value, Errors> {
        complete(self, &mut data, options)?;
        let value = Value::Object(data);
        self.validate_complete(&value)?;
        Ok(value)
    }

    /// Only the first half of [`Schema::process`]: completes a value without checking it.
    ///
    /// # Errors
    /// What is wrong with shorthands.
    pub fn complete(&self, value: &Value, options: &Options<'_>) -> Result<Value, Errors> {
        let Some(map) = as_object(value) else { return Err("expected a record".into()) };
        let mut data = map.into_owned();
        complete(self, &mut data, options)?;
        Ok(Value::Object(data))
    }

    /// Only the second half of [`Schema::process`]: checks a complete value.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn validate_complete(&self, value: &Value) -> Result<(), Errors> {
        let Some(map) = as_object(value) else { return Err("expected a record".into()) };
        validate_record(self, value, &map)?;
        let mut errors = Errors::default();
        for message in self.validators.iter().filter_map(|v| v.run(value).err()) {
            errors.push_entity(message);
        }
        errors.into_result()
    }

    /// Checks a partial record: fields may be missing, and no defaults are filled in.
    ///
    /// # Errors
    /// Everything that is wrong, with Kong's texts.
    pub fn validate_partial(&self, value: &Value) -> Result<(), Errors> {
        let Some(map) = as_record(value) else { return Err("expected a record".into()) };
        validate_partial(self, value, &map)
    }

    /// Adds the deprecated names to a complete value, as Kong shows them on read.
    pub fn echo_shorthands(&self, value: &mut Value) {
        let Value::Object(data) = value else { return };
        for shorthand in &self.shorthands {
            if let Some(path) = shorthand.replaced_with {
                let new = crate::validate::value_at(data, path).cloned().unwrap_or(Value::Null);
                data.insert(shorthand.name.to_owned(), new);
            }
        }
        for named in &self.fields {
            if let (Kind::Record(schema), Some(value)) = (&named.field.kind, data.get_mut(named.name)) {
                schema.echo_shorthands(value);
            }
        }
    }
}

/// An object, or an empty list, which is the same as an empty object in Lua.
pub(crate) fn as_object(value: &Value) -> Option<std::borrow::Cow<'_, Map<String, Value>>> {
    match value {
        Value::Object(map) => Some(std::borrow::Cow::Borrowed(map)),
        Value::Array(list) if list.is_empty() => Some(std::borrow::Cow::Owned(Map::new())),
        _ => None,
    }
}

/// The fields of a record. A list is a table in Lua too: its keys are numbers, which no schema has.
pub(crate) fn as_record(value: &Value) -> Option<std::borrow::Cow<'_, Map<String, Value>>> {
    match value {
        Value::Array(list) if !list.is_empty() => {
            let numbered = list.iter().enumerate().map(|(i, value)| ((i + 1).to_string(), value.clone()));
            Some(std::borrow::Cow::Owned(numbered.collect()))
        }
        value => as_object(value),
    }
}

/// Completes a record in place. Kong: `process_auto_fields` for an insert.
fn complete(schema: &Schema, data: &mut Map<String, Value>, options: &Options<'_>) -> Result<(), Errors> {
    expand_shorthands(schema, data)?;
    if let Some(blank) = schema.blank.of(schema).filter(|_| !options.no_defaults) {
        return fill_in(blank, schema, data, options);
    }
    field_by_field(schema, data, options)
}

/// The rest of [`complete`].
pub(crate) fn field_by_field(
    schema: &Schema,
    data: &mut Map<String, Value>,
    options: &Options<'_>,
) -> Result<(), Errors> {
    let mut errors = Errors::default();
    let mut out = Map::with_capacity(schema.fields.len());
    let mut given = Given::new(std::mem::take(data));
    for named in &schema.fields {
        let (key, given) = given.take(named.name).unzip();
        let given = made(named.name, &named.field, given, options);
        match complete_field(&named.field, given, options) {
            Ok(Some(value)) => {
                out.insert(key.unwrap_or_else(|| named.name.to_owned()), value);
            }
            Ok(None) => {}
            Err(found) => errors.set(named.name, found),
        }
    }
    // The remaining fields are unknown; validation reports them.
    given.rest(&mut out);
    *data = out;
    errors.into_result()
}

/// The complete default record: built once per schema, and again in a clone of it.
#[derive(Debug, Default)]
pub(crate) struct Blank(OnceLock<Option<Box<BlankRecord>>>);

#[derive(Debug)]
struct BlankRecord {
    /// All fields.
    map: Map<String, Value>,
    /// Fields that are not shown unless the user gives them; in `map` to keep their places.
    unshown: Vec<&'static str>,
}

impl Clone for Blank {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Blank {
    /// `None` where a blank record is not the same each time.
    fn of(&self, schema: &Schema) -> Option<&BlankRecord> {
        let make = || {
            let makes = |field: &Field| matches!(&field.kind, Kind::Record(inner) if makes_values(inner));
            if schema.fields.iter().any(|named| makes(&named.field)) {
                return None;
            }
            let (mut map, mut unshown) = (Map::with_capacity(schema.fields.len()), Vec::new());
            for named in &schema.fields {
                let value = missing(&named.field, &Options::default()).ok()?;
                unshown.extend(value.is_none().then_some(named.name));
                map.insert(named.name.to_owned(), value.unwrap_or(Value::Null));
            }
            Some(Box::new(BlankRecord { map, unshown }))
        };
        self.0.get_or_init(make).as_deref()
    }
}

/// Whether some value of a record is made anew each time.
fn makes_values(schema: &Schema) -> bool {
    let inner = |field: &Field| matches!(&field.kind, Kind::Record(inner) if makes_values(inner));
    schema.fields.iter().any(|named| named.field.auto || inner(&named.field))
}

/// [`complete`] by way of a blank record.
fn fill_in(
    blank: &BlankRecord,
    schema: &Schema,
    data: &mut Map<String, Value>,
    options: &Options<'_>,
) -> Result<(), Errors> {
    let mut errors = Errors::default();
    let mut out = blank.map.clone();
    let mut shown: Vec<&'static str> = Vec::new();
    let mut put = |named: &Named, given: Option<Value>| match complete_field(&named.field, given, options) {
        Ok(Some(value)) => {
            if let Some(place) = out.get_mut(named.name) {
                *place = value;
            }
            if blank.unshown.contains(&named.name) {
                shown.push(named.name);
            }
        }
        Ok(None) => {}
        Err(found) => errors.set(named.name, found),
    };
    for named in schema.fields.iter().filter(|named| named.field.auto) {
        let given = data.remove(named.name);
        if let Some(value) = made(named.name, &named.field, given, options) {
            put(named, Some(value));
        }
    }
    let mut unknown = Vec::new();
    for (name, value) in std::mem::take(data) {
        match schema.fields.iter().find(|named| named.name == name) {
            Some(named) => put(named, Some(value)),
            None => unknown.push((name, value)),
        }
    }
    for name in blank.unshown.iter().filter(|name| !shown.contains(name)) {
        out.shift_remove(*name);
    }
    // Validation reports them as unknown.
    out.extend(unknown);
    *data = out;
    errors.into_result()
}

/// The fields that a user gave, to be taken out by name.
enum Given {
    /// Comparing a few names takes less than hashing one.
    OneOrMany(Vec<(String, Value)>),
    Many(Map<String, Value>),
}

impl Given {
    const FEW_MAX: usize = 12;

    fn new(data: Map<String, Value>) -> Self {
        if data.len() <= Self::FEW_MAX { Self::OneOrMany(data.into_iter().collect()) } else { Self::Many(data) }
    }

    fn take(&mut self, name: &str) -> Option<(String, Value)> {
        match self {
            Self::OneOrMany(list) => list.iter().position(|(key, _)| key == name).map(|at| list.remove(at)),
            Self::Many(map) => map.remove_entry(name),
        }
    }

    fn rest(self, out: &mut Map<String, Value>) {
        match self {
            Self::OneOrMany(list) => out.extend(list),
            Self::Many(mut map) => out.append(&mut map),
        }
    }
}

fn expand_shorthands(schema: &Schema, data: &mut Map<String, Value>) -> Result<(), Errors> {
    let mut errors = Errors::default();
    for shorthand in &schema.shorthands {
        let Some(value) = data.get(shorthand.name).cloned() else { continue };
        let checked = crate::validate::validate_field(&shorthand.field, &value)
            .and_then(|()| shorthand.check_conflict(data, &value).map_err(Errors::Message));
        match checked {
            Err(found) => errors.set(shorthand.name, found),
            Ok(()) => {
                data.remove(shorthand.name);
                shorthand.apply(data, &value);
            }
        }
    }
    errors.into_result()
}

/// The value of an `auto` field.
fn made(name: &str, field: &Field, given: Option<Value>, options: &Options<'_>) -> Option<Value> {
    let (true, Some(auto)) = (field.auto, options.auto) else { return given };
    match (&field.kind, name) {
        (Kind::String, _) if field.rules.uuid => given.or_else(|| Some(auto.id().to_string().into())),
        (Kind::String, _) => given.or_else(|| Some(auto.secret().into())),
        (Kind::Integer, "created_at") if given.as_ref().is_none_or(Value::is_null) => Some((auto.now() as i64).into()),
        (Kind::Number, "created_at") if given.as_ref().is_none_or(Value::is_null) => Some(millis(auto.now())),
        (Kind::Integer, "updated_at") => Some((auto.now() as i64).into()),
        (Kind::Number, "updated_at") => Some(millis(auto.now())),
        _ => given,
    }
}

fn millis(now: f64) -> Value {
    Number::from_f64((now * 1000.0).floor() / 1000.0).map_or(Value::Null, Value::Number)
}

/// `Ok(None)`: nothing to show (a required value is missing; validation reports it).
fn complete_field(field: &Field, given: Option<Value>, options: &Options<'_>) -> Result<Option<Value>, Errors> {
    let Some(value) = given else {
        return missing(field, options);
    };
    if let (Kind::Record(_), Value::Bool(false)) = (&field.kind, &value) {
        // To Lua, this is a record that is not there.
        return missing(field, options);
    }
    Ok(Some(match (&field.kind, value) {
        (Kind::Record(schema), value) => match as_record(&value) {
            Some(map) => {
                let mut map = map.into_owned();
                complete(schema, &mut map, options)?;
                Value::Object(map)
            }
            None => value,
        },
        (Kind::Array(of), value) => complete_list(of, value, false, options)?,
        (Kind::Set(of), value) => complete_list(of, value, true, options)?,
        (Kind::Map(_, of), value) => match as_object(&value) {
            Some(map) => {
                let mut out = Map::new();
                for (k, v) in map.into_owned() {
                    out.insert(k, complete_field(of, Some(v), options)?.unwrap_or(Value::Null));
                }
                Value::Object(out)
            }
            None => value,
        },
        (Kind::Integer | Kind::Number, value) => whole(value),
        (_, value) => value,
    }))
}

fn missing(field: &Field, options: &Options<'_>) -> Result<Option<Value>, Errors> {
    if options.no_defaults {
        return Ok(None);
    }
    match (&field.default, &field.kind) {
        (Some(default), Kind::Record(_)) => complete_field(field, Some(default.clone()), options),
        (Some(default), _) => Ok(Some(default.clone())),
        (None, _) if field.addition => Ok(None),
        (None, _) if !field.is_required() => Ok(Some(Value::Null)),
        (None, Kind::Record(_)) => complete_field(field, Some(Value::Object(Map::new())), options),
        (None, _) => Ok(None),
    }
}

fn complete_list(of: &Field, value: Value, is_set: bool, options: &Options<'_>) -> Result<Value, Errors> {
    let list = match value {
        Value::Array(list) => list,
        Value::Object(map) if map.is_empty() => Vec::new(),
        other => return Ok(other),
    };
    let mut out: Vec<Value> = Vec::with_capacity(list.len());
    let mut seen = std::collections::HashSet::new();
    let mut errors: Vec<Option<Errors>> = Vec::new();
    let (several, mut wrong) = (list.len() > 1, 0);
    for value in list {
        if wrong >= REPORTED_MAX {
            break;
        }
        // Lua compares tables by identity, so only plain values can be duplicates.
        let plain = !matches!(value, Value::Array(_) | Value::Object(_));
        if is_set && plain && several && !seen.insert(value.to_string()) {
            continue;
        }
        match complete_field(of, Some(value), options) {
            Ok(value) => {
                out.push(value.unwrap_or(Value::Null));
                errors.push(None);
            }
            Err(found) => {
                wrong += 1;
                errors.push(Some(found));
            }
        }
    }
    if wrong > 0 { Err(Errors::Items(errors)) } else { Ok(Value::Array(out)) }
}

/// Lua has one number type: 5.0 is 5.
fn whole(value: Value) -> Value {
    match value.as_f64() {
        Some(n) if value.is_f64() && n.fract() == 0.0 && n.abs() < 9e15 => Value::from(n as i64),
        _ => value,
    }
}
