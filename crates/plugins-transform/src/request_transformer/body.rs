//! Bodies that can be transformed: JSON objects, forms, multipart forms.

use cardinal_http::{HeaderList, Name};
use serde_json::{Map, Value};

use super::arguments::Arguments;
use super::multipart;
use super::ops::{Ops, rendered};
use crate::template::Environment;

/// What kind of body it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    Json,
    Form,
    Multipart,
}

impl Media {
    /// By the content type; `None` for what is not transformed.
    pub(super) fn of(headers: &HeaderList) -> Option<Self> {
        let text = String::from_utf8_lossy(headers.known(Name::ContentType)?).to_ascii_lowercase();
        if text.contains("application/json") {
            Some(Self::Json)
        } else if text.contains("multipart/form-data") {
            Some(Self::Multipart)
        } else if text.contains("application/x-www-form-urlencoded") {
            Some(Self::Form)
        } else {
            None
        }
    }
}

/// The new body; `None` when it is unchanged.
pub(super) fn transform(
    media: Media,
    headers: &HeaderList,
    body: &[u8],
    ops: &Ops,
    environment: &Environment<'_>,
) -> Result<Option<Vec<u8>>, String> {
    match media {
        Media::Json => transform_json(body, ops, environment),
        Media::Multipart => {
            multipart::transform(headers.known(Name::ContentType).unwrap_or_default(), body, ops, environment)
        }
        Media::Form => {
            let only_new = ops.add.is_empty() && ops.append.is_empty();
            if body.is_empty() && only_new {
                return Ok(None);
            }
            let mut arguments = Arguments::parse(body);
            arguments.apply(ops, environment)?;
            Ok(Some(arguments.write()))
        }
    }
}

/// Top-level fields of an object. A body that is not an object, or not JSON, is unchanged; an empty body is an empty
/// object.
fn transform_json(body: &[u8], ops: &Ops, environment: &Environment<'_>) -> Result<Option<Vec<u8>>, String> {
    let mut object = if body.is_empty() {
        Map::new()
    } else {
        match serde_json::from_slice(body) {
            Ok(Value::Object(object)) => object,
            _ => return Ok(None),
        }
    };
    let text = |value: Vec<u8>| String::from_utf8_lossy(&value).into_owned();
    let mut changed = false;
    if !body.is_empty() {
        for op in &ops.remove {
            object.shift_remove(&*op.name);
            changed = true;
        }
        for pair in rendered(&ops.rename, environment) {
            let (old, new) = pair?;
            changed |= rename(&mut object, old, text(new));
        }
        for pair in rendered(&ops.replace, environment) {
            let (name, value) = pair?;
            if let Some(place) = object.get_mut(name).filter(|old| is_there(old)) {
                *place = text(value).into();
                changed = true;
            }
        }
    }
    for pair in rendered(&ops.add, environment) {
        let (name, value) = pair?;
        if !object.get(name).is_some_and(is_there) {
            object.insert(name.to_owned(), text(value).into());
            changed = true;
        }
    }
    for pair in rendered(&ops.append, environment) {
        let (name, value) = pair?;
        changed |= append(object.entry(name).or_insert(Value::Null), text(value));
    }
    Ok(changed.then(|| Value::Object(object).to_string().into_bytes()))
}

/// `false` counts as absent, as in Lua; `null` does not.
fn is_there(value: &Value) -> bool {
    *value != Value::Bool(false)
}

/// Keeps the field's place.
fn rename(object: &mut Map<String, Value>, old: &str, new: String) -> bool {
    if old == new || !object.get(old).is_some_and(is_there) {
        return false;
    }
    object.shift_remove(&new);
    *object = std::mem::take(object)
        .into_iter()
        .map(|(name, value)| if name == old { (new.clone(), value) } else { (name, value) })
        .collect();
    true
}

/// Appends to a text (which becomes a list), to a list, or as the only element of a new list. An object cannot be
/// appended to.
fn append(place: &mut Value, value: String) -> bool {
    match place {
        Value::Array(list) => list.push(value.into()),
        Value::String(_) => *place = Value::Array(vec![place.take(), value.into()]),
        Value::Object(_) => return false,
        Value::Null | Value::Bool(_) | Value::Number(_) => *place = Value::Array(vec![value.into()]),
    }
    true
}
