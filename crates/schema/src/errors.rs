//! [`Errors`]: what is wrong with a value, in the value's own shape.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Items of a list, and unknown fields of a record, that are reported at most: the answer to a hostile value is not larger than
/// the value by orders of magnitude.
pub(crate) const REPORTED_MAX: usize = 100;

/// What is wrong with a value, in the value's own shape: Kong's `fields` of an error response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errors {
    /// The value itself.
    Message(String),
    /// Some fields of a record.
    Fields {
        /// Failures of checks across fields (`@entity`).
        entity: Vec<String>,
        /// Failures by field.
        fields: BTreeMap<String, Errors>,
    },
    /// Some elements of a list, by position; `None` is a valid element.
    Items(Vec<Option<Errors>>),
}

impl Default for Errors {
    fn default() -> Self {
        Self::Fields { entity: Vec::new(), fields: BTreeMap::new() }
    }
}

/// A step on the way to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'n> {
    /// To a field.
    Field(&'n str),
    /// To an item of a list.
    Item(usize),
}

impl Errors {
    /// A single failure of a field.
    pub fn field(name: &str, errors: impl Into<Errors>) -> Self {
        let mut out = Self::default();
        out.set(name, errors.into());
        out
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Message(_) => false,
            Self::Fields { entity, fields } => entity.is_empty() && fields.values().all(Self::is_empty),
            Self::Items(items) => items.iter().flatten().all(Self::is_empty),
        }
    }

    /// `Ok` when nothing is wrong.
    pub fn into_result(self) -> Result<(), Self> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }

    /// What is wrong with a field.
    pub fn get(&self, name: &str) -> Option<&Errors> {
        match self {
            Self::Fields { fields, .. } => fields.get(name),
            Self::Message(_) | Self::Items(_) => None,
        }
    }

    /// Sets the error of a field; the last call wins. Nothing is changed when the value as a whole is wrong.
    pub fn set(&mut self, name: &str, errors: Errors) {
        if let Self::Fields { fields, .. } = self {
            fields.insert(name.to_owned(), errors);
        }
    }

    /// Sets the error of a field at a dotted path. A failure of a whole on the way there is kept.
    pub fn set_at(&mut self, path: &str, errors: Errors) {
        match path.split_once('.') {
            None => self.set(path, errors),
            Some((head, tail)) => {
                if let Self::Fields { fields, .. } = self {
                    fields.entry(head.to_owned()).or_default().set_at(tail, errors);
                }
            }
        }
    }

    /// Adds a failure across fields.
    pub fn push_entity(&mut self, message: impl Into<String>) {
        if let Self::Fields { entity, .. } = self {
            entity.push(message.into());
        }
    }

    /// What is wrong with a field, to add to it. A failure of the whole is replaced.
    pub fn field_mut(&mut self, name: &str) -> &mut Errors {
        if !matches!(self, Self::Fields { .. }) {
            *self = Self::default();
        }
        match self {
            Self::Fields { fields, .. } => fields.entry(name.to_owned()).or_default(),
            other => other,
        }
    }

    /// Adds what is wrong with an item of a list. Anything but a list is replaced.
    pub fn add_to_item(&mut self, index: usize, add: impl FnOnce(&mut Errors)) {
        if !matches!(self, Self::Items(_)) {
            *self = Self::Items(Vec::new());
        }
        let Self::Items(items) = self else { return };
        if items.len() <= index {
            items.resize(index + 1, None);
        }
        if let Some(slot) = items.get_mut(index) {
            add(slot.get_or_insert_default());
        }
    }

    /// Merges another tree about the same value; where both have an error, the other tree's wins.
    pub fn overlay(&mut self, other: Errors) {
        match (self, other) {
            (Self::Fields { entity, fields }, Self::Fields { entity: more, fields: others }) => {
                entity.extend(more);
                for (name, errors) in others {
                    fields.entry(name).or_default().overlay(errors);
                }
            }
            (Self::Items(items), Self::Items(others)) => {
                if items.len() < others.len() {
                    items.resize(others.len(), None);
                }
                for (slot, errors) in items.iter_mut().zip(others) {
                    if let Some(errors) = errors {
                        slot.get_or_insert_default().overlay(errors);
                    }
                }
            }
            (_, other) if other.is_empty() => {}
            (slot, other) => *slot = other,
        }
    }

    /// Changes all messages and all names of fields.
    pub fn map_texts(&mut self, map: &dyn Fn(&str) -> String) {
        match self {
            Self::Message(text) => *text = map(text),
            Self::Fields { entity, fields } => {
                entity.iter_mut().for_each(|text| *text = map(text));
                let named = std::mem::take(fields).into_iter();
                fields.extend(named.map(|(name, mut errors)| {
                    errors.map_texts(map);
                    (map(&name), errors)
                }));
            }
            Self::Items(items) => items.iter_mut().flatten().for_each(|errors| errors.map_texts(map)),
        }
    }

    /// The part of the tree with this error of fields.
    pub fn only(&self, message: &str) -> Errors {
        match self {
            Self::Message(text) if text == message => self.clone(),
            Self::Message(_) => Self::default(),
            Self::Fields { fields, .. } => {
                let kept = fields.iter().map(|(name, errors)| (name.clone(), errors.only(message)));
                let fields = kept.filter(|(_, errors)| !errors.is_empty()).collect();
                Self::Fields { entity: Vec::new(), fields }
            }
            Self::Items(items) => {
                let of = |errors: &Errors| Some(errors.only(message)).filter(|errors| !errors.is_empty());
                Self::Items(items.iter().map(|errors| errors.as_ref().and_then(of)).collect())
            }
        }
    }

    /// Merges another tree about the value at this path. A failure of a whole on the way there is kept.
    pub fn merge_at(&mut self, path: &[Step<'_>], other: Errors) {
        let Some((step, rest)) = path.split_first() else { return self.merge(other) };
        match (step, &mut *self) {
            (Step::Field(_), Self::Fields { .. }) | (Step::Item(_), Self::Items(_)) => {}
            (_, whole) if !whole.is_empty() => return,
            (Step::Field(_), whole) => *whole = Self::default(),
            (Step::Item(_), whole) => *whole = Self::Items(Vec::new()),
        }
        match step {
            Step::Field(name) => self.field_mut(name).merge_at(rest, other),
            Step::Item(index) => self.add_to_item(*index, |errors| errors.merge_at(rest, other)),
        }
    }

    /// Merges another tree about the same value.
    pub fn merge(&mut self, other: Errors) {
        match (self, other) {
            (Self::Fields { entity, fields }, Self::Fields { entity: more, fields: others }) => {
                entity.extend(more);
                for (name, errors) in others {
                    match fields.get_mut(&name) {
                        Some(found) => found.merge(errors),
                        None => {
                            fields.insert(name, errors);
                        }
                    }
                }
            }
            (Self::Items(items), Self::Items(others)) => {
                if items.len() < others.len() {
                    items.resize(others.len(), None);
                }
                for (slot, errors) in items.iter_mut().zip(others) {
                    match (slot.as_mut(), errors) {
                        (Some(found), Some(errors)) => found.merge(errors),
                        (None, errors) => *slot = errors,
                        (Some(_), None) => {}
                    }
                }
            }
            (slot, other) => {
                if slot.is_empty() {
                    *slot = other;
                }
            }
        }
    }

    /// Kong's JSON: text, object with `@entity`, array with `null` for valid elements.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Message(text) => Value::String(text.clone()),
            Self::Fields { entity, fields } => {
                if let Some(list) = numbered(entity, fields) {
                    return list;
                }
                let mut map = Map::new();
                if !entity.is_empty() {
                    map.insert("@entity".to_owned(), entity.clone().into());
                }
                for (name, errors) in fields.iter().filter(|(_, e)| !e.is_empty()) {
                    map.insert(name.clone(), errors.to_json());
                }
                Value::Object(map)
            }
            Self::Items(items) => {
                let last = items.iter().rposition(Option::is_some).map_or(0, |i| i + 1);
                items.iter().take(last).map(|e| e.as_ref().map_or(Value::Null, Self::to_json)).collect()
            }
        }
    }

    /// Every message with the dotted path of what it is about (`config.redis.host`, `paths[0]`); failures across
    /// fields carry the path of their record.
    pub fn messages(&self) -> Vec<(String, &str)> {
        let mut out = Vec::new();
        self.collect(String::new(), &mut out);
        out
    }

    fn collect<'a>(&'a self, path: String, out: &mut Vec<(String, &'a str)>) {
        match self {
            Self::Message(text) => out.push((path, text)),
            Self::Fields { entity, fields } => {
                out.extend(entity.iter().map(|text| (path.clone(), text.as_str())));
                for (name, errors) in fields {
                    let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    errors.collect(below, out);
                }
            }
            Self::Items(items) => {
                for (i, errors) in items.iter().enumerate() {
                    if let Some(errors) = errors {
                        errors.collect(format!("{path}[{i}]"), out);
                    }
                }
            }
        }
    }

    /// Kong's one-line summary: `schema violation (minute: expected a number)`, or
    /// `2 schema violations (a: ...; b.c: ...)`, sorted by path. List positions count from 1.
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        self.summarize("", &mut parts);
        parts.sort();
        match parts.len() {
            1 => format!("schema violation ({})", parts.join("; ")),
            n => format!("{n} schema violations ({})", parts.join("; ")),
        }
    }

    fn summarize(&self, path: &str, out: &mut Vec<String>) {
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match self {
            Self::Message(text) if path.is_empty() => out.push(text.clone()),
            Self::Message(text) => out.push(format!("{path}: {text}")),
            Self::Fields { entity, fields } => {
                for text in entity {
                    out.push(if path.is_empty() { text.clone() } else { format!("{path}: {text}") });
                }
                for (name, errors) in fields {
                    errors.summarize(&below(name), out);
                }
            }
            Self::Items(items) => {
                for (i, errors) in items.iter().enumerate() {
                    if let Some(errors) = errors {
                        errors.summarize(&below(&(i + 1).to_string()), out);
                    }
                }
            }
        }
    }
}

/// The errors of a record that was written as a list: all of its keys are positions from 1.
fn numbered(entity: &[String], fields: &BTreeMap<String, Errors>) -> Option<Value> {
    if !entity.is_empty() || fields.is_empty() {
        return None;
    }
    let mut list: Vec<Value> = Vec::with_capacity(fields.len());
    list.resize(fields.len(), Value::Null);
    for (name, errors) in fields {
        let at = name.parse::<usize>().ok()?.checked_sub(1)?;
        *list.get_mut(at)? = errors.to_json();
    }
    Some(list.into())
}

impl From<&str> for Errors {
    fn from(text: &str) -> Self {
        Self::Message(text.to_owned())
    }
}

impl From<String> for Errors {
    fn from(text: String) -> Self {
        Self::Message(text)
    }
}

impl std::fmt::Display for Errors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.summary())
    }
}

impl std::error::Error for Errors {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tree() -> impl Strategy<Value = Errors> {
        let leaf = prop_oneof![Just(Errors::default()), Just(Errors::from("a")), Just(Errors::from("b"))];
        leaf.prop_recursive(3, 16, 3, |inner| {
            let list = proptest::collection::vec(proptest::option::of(inner.clone()), 0..3).prop_map(Errors::Items);
            let fields = proptest::collection::vec((0_u8..3, inner), 0..3).prop_map(|fields| {
                let mut errors = Errors::default();
                fields.into_iter().for_each(|(name, below)| errors.set(&format!("f{name}"), below));
                errors
            });
            prop_oneof![list, fields]
        })
    }

    /// The tree that says this about the value at the path, and nothing else.
    fn alone(path: &[Step<'_>], errors: Errors) -> Errors {
        path.iter().rev().fold(errors, |errors, step| match step {
            Step::Field(name) => Errors::field(name, errors),
            Step::Item(index) => {
                let mut list = vec![None; *index];
                list.push(Some(errors));
                Errors::Items(list)
            }
        })
    }

    proptest! {
        #[test]
        fn adding_at_a_path_is_merging_a_tree_of_that_path(
            whole in tree(),
            steps in proptest::collection::vec((any::<bool>(), 0_usize..3), 0..4),
            errors in tree().prop_filter("there is nothing to add", |errors| !errors.is_empty()),
        ) {
            const NAMES: [&str; 3] = ["f0", "f1", "f2"];
            let of = |(is_field, n): &(bool, usize)| if *is_field { Step::Field(NAMES[*n]) } else { Step::Item(*n) };
            let path: Vec<Step<'_>> = steps.iter().map(of).collect();
            let (mut at, mut merged) = (whole.clone(), whole);
            merged.merge(alone(&path, errors.clone()));
            at.merge_at(&path, errors);
            prop_assert_eq!(at.to_json(), merged.to_json());
        }
    }
}
