//! Transforming the top-level fields of a JSON object.

use serde_json::{Map, Number, Value};

use crate::pairs::{split, texts};

/// What to do with JSON bodies.
pub(super) struct JsonOps {
    remove: Vec<Box<str>>,
    rename: Vec<(Box<str>, Box<str>)>,
    replace: Vec<(Box<str>, Value)>,
    add: Vec<(Box<str>, Value)>,
    append: Vec<(Box<str>, Value)>,
}

impl JsonOps {
    pub(super) fn read(config: &Value) -> Self {
        // A pair without a value, or with one that is not of its type, does nothing.
        let typed = |group: &str| -> Vec<(Box<str>, Value)> {
            let types: Vec<&str> = texts(config, group, "json_types").collect();
            texts(config, group, "json")
                .enumerate()
                .filter_map(|(at, text)| {
                    let (name, value) = split(text);
                    Some((name.into(), cast(value, types.get(at).copied())?))
                })
                .collect()
        };
        let renames = texts(config, "rename", "json").map(split).filter(|(_, new)| !new.is_empty());
        Self {
            remove: texts(config, "remove", "json").map(|name| split(name).0.into()).collect(),
            rename: renames.map(|(old, new)| (old.into(), new.into())).collect(),
            replace: typed("replace"),
            add: typed("add"),
            append: typed("append"),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        let lists = [&self.replace, &self.add, &self.append];
        self.remove.is_empty() && self.rename.is_empty() && lists.iter().all(|list| list.is_empty())
    }

    /// The new body.
    pub(super) fn apply(&self, body: &[u8]) -> Result<Vec<u8>, String> {
        let parsed = serde_json::from_slice(body).map_err(|error| format!("failed parsing json body: {error}"))?;
        let Value::Object(mut object) = parsed else { return Err("the json body is not an object".to_owned()) };
        for name in &self.remove {
            object.shift_remove(&**name);
        }
        for (old, new) in &self.rename {
            rename(&mut object, old, new);
        }
        for (name, value) in &self.replace {
            if let Some(place) = object.get_mut(&**name).filter(|old| is_there(old)) {
                *place = value.clone();
            }
        }
        for (name, value) in &self.add {
            if !object.get(&**name).is_some_and(is_there) {
                object.insert(name.to_string(), value.clone());
            }
        }
        for (name, value) in &self.append {
            append(object.entry(&**name).or_insert(Value::Null), value.clone());
        }
        Ok(Value::Object(object).to_string().into_bytes())
    }
}

/// `false` counts as absent, as in Lua; `null` does not.
fn is_there(value: &Value) -> bool {
    *value != Value::Bool(false)
}

fn cast(text: &str, kind: Option<&str>) -> Option<Value> {
    if text.is_empty() {
        return None;
    }
    match kind {
        Some("number") => number(text.trim()).map(Value::Number),
        Some("boolean") => Some(Value::Bool(text == "true")),
        _ => Some(text.into()),
    }
}

fn number(text: &str) -> Option<Number> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return i64::from_str_radix(hex, 16).ok().map(Into::into);
    }
    text.parse().ok().and_then(Number::from_f64)
}

/// Keeps the field's place.
fn rename(object: &mut Map<String, Value>, old: &str, new: &str) {
    if old == new || !object.contains_key(old) {
        return;
    }
    object.shift_remove(new);
    *object = std::mem::take(object)
        .into_iter()
        .map(|(name, value)| if name == old { (new.to_owned(), value) } else { (name, value) })
        .collect();
}

/// Appends to a text (which becomes a list), to a list, or as the only element of a new list. An object cannot be
/// appended to.
fn append(place: &mut Value, value: Value) {
    match place {
        Value::Array(list) => list.push(value),
        Value::String(_) => *place = Value::Array(vec![place.take(), value]),
        Value::Object(_) => {}
        Value::Null | Value::Bool(_) | Value::Number(_) => *place = Value::Array(vec![value]),
    }
}
