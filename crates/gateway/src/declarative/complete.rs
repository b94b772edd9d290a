//! Fills in defaults and checks each entity by its schema, in the two rounds of Kong.
//!
//! In the first round, references are names: texts at the top level, nothing in a nested entity. If all entities are
//! sound, that is all. Otherwise everything is checked again with ids in place of names, and with the parent's id in
//! nested entities: a file may pass that way too. Kong: `flatten` of
//! `kong/db/schema/others/declarative_config.lua`.

use std::collections::HashSet;

use cardinal_schema::{Errors, Options, Schema};
use serde_json::{Map, Value, json};

use super::Fresh;
use super::collect::{Collected, Item};
use super::order::kong_order;
use super::resolve::Index;
use crate::entities::{Kind, Registry};

/// Entities from which on checking them is shared by threads.
pub(super) const PARALLEL_MIN: usize = 4_096;
/// Most threads that share it.
const THREADS_MAX: usize = 8;

/// What Kong says of a reference that must not be there.
pub(super) const MUST_BE_NULL: &str = "value must be null";

/// How references are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// As texts, at the top level only.
    Names,
    /// As ids, the parent's included.
    References,
}

/// What is known while entities are completed.
pub(super) struct Load<'a> {
    pub(super) registry: &'a Registry,
    pub(super) index: &'a Index,
    pub(super) auto: Fresh,
    /// Passwords and secrets are written as plain text, not as they are stored.
    pub(super) transform: bool,
}

/// What is known of another item.
struct Target {
    id: String,
    seen: Option<Value>,
}

/// What is known of all items.
struct Others {
    targets: Vec<Target>,
    /// Items whose names Kong does not resolve, since another one has the same id.
    hidden: HashSet<usize>,
}

impl Load<'_> {
    /// The complete entities, in the order of the items; errors are added to the items.
    pub(super) fn complete(&self, all: &mut Collected<'_, '_>, pass: Pass) -> Vec<Map<String, Value>> {
        let targets = all.items.iter().map(|i| Target { id: i.id.clone(), seen: i.id_seen_by_children() }).collect();
        let hidden = if pass == Pass::References { hidden(&all.items) } else { HashSet::new() };
        let others = Others { targets, hidden };
        let one = |(at, item): (usize, &mut Item<'_, '_>)| self.one(at, item, &others, pass);
        if all.items.len() < PARALLEL_MIN {
            return all.items.iter_mut().enumerate().map(one).collect();
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let share = all.items.len().div_ceil(threads);
        std::thread::scope(|scope| {
            let one = &one;
            let shares: Vec<_> = all
                .items
                .chunks_mut(share)
                .enumerate()
                .map(|(n, items)| scope.spawn(move || (n * share..).zip(items).map(one).collect::<Vec<_>>()))
                .collect();
            let joined = |share: std::thread::ScopedJoinHandle<'_, Vec<_>>| match share.join() {
                Ok(maps) => maps,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            shares.into_iter().flat_map(joined).collect()
        })
    }

    /// Whether the second round may find something although the first one found nothing. Kong's first round always
    /// fails where a field cannot be set without a consumer, since it knows consumers by name only.
    pub(super) fn may_differ(&self, all: &Collected<'_, '_>) -> bool {
        all.items.iter().any(|item| sealed_field(item).is_some())
            && (!hidden(&all.items).is_empty() || all.items.iter().any(|item| self.has_other_meaning(item)))
    }

    fn has_other_meaning(&self, item: &Item<'_, '_>) -> bool {
        let leads_nowhere = |(field, target): (&str, &str)| match item.own.get(field) {
            Some(Value::String(name)) => self.index.find(target, name).is_none(),
            _ => false,
        };
        let schema = self.registry.schema_of(item.kind, &item.own);
        let is_forbidden = item.parent.is_some_and(|(_, field)| schema.is_ok_and(|s| is_forbidden(s, field)));
        is_forbidden || item.kind.references().any(leads_nowhere)
    }

    fn one(&self, at: usize, item: &mut Item<'_, '_>, others: &Others, pass: Pass) -> Map<String, Value> {
        let none = Map::new();
        if matches!(item.errors, Errors::Message(_)) {
            return none;
        }
        let schema = match self.registry.schema_of(item.kind, &item.own) {
            Ok(schema) => schema,
            Err(errors) => {
                item.errors.merge(errors);
                return none;
            }
        };
        let mut value = item.own.clone();
        if item.kind.primary_key == "id" {
            value.entry("id").or_insert_with(|| item.id.clone().into());
        }
        // What the schema of the plugin forbids, although Kong keeps it.
        let mut forbidden = Map::new();
        let mut wrong = Errors::default();
        for (field, target) in item.kind.references() {
            let reference = match item.own.get(field) {
                Some(Value::String(_)) if others.hidden.contains(&at) => {
                    Reference::Wrong(Errors::field("id", "missing primary key"))
                }
                _ => self.reference(item, schema, &others.targets, (field, target), pass),
            };
            // Whatever a nested entity says, it belongs to the one it is nested in.
            let parent = item.parent.filter(|(_, name)| *name == field).and_then(|(at, _)| others.targets.get(at));
            let reference = match (reference, parent) {
                (Reference::As(_), Some(parent)) => Reference::As(json!({ "id": parent.id })),
                (reference, _) => reference,
            };
            match reference {
                Reference::As(reference) => {
                    value.insert(field.to_owned(), reference);
                }
                Reference::Unchecked(reference) => {
                    value.shift_remove(field);
                    forbidden.insert(field.to_owned(), reference);
                }
                Reference::Wrong(errors) => {
                    wrong.set(field, errors);
                    value.insert(field.to_owned(), placeholder(schema, field));
                }
                Reference::None => {}
            }
        }
        let done = schema.process_map(value, &Options { auto: Some(&self.auto), no_defaults: false });
        match done {
            Ok(Value::Object(mut map)) if wrong.is_empty() => {
                map.extend(forbidden);
                if self.transform {
                    super::seal(item, &mut map);
                }
                return map;
            }
            Ok(_) => {}
            Err(errors) => item.errors.merge(errors),
        }
        if let Some(name) = sealed_field(item).filter(|_| pass == Pass::References && names_nobody(item, &wrong)) {
            item.errors.push_entity(format!("all or none of these fields must be set: '{name}', 'consumer.id'"));
        }
        item.errors.overlay(wrong);
        none
    }

    fn reference(
        &self,
        item: &Item<'_, '_>,
        schema: &Schema,
        targets: &[Target],
        (field, target): (&str, &'static str),
        pass: Pass,
    ) -> Reference {
        let given = item.own.get(field);
        let parent = item.parent.filter(|(_, name)| *name == field).and_then(|(at, _)| targets.get(at));
        let is_forbidden = is_forbidden(schema, field);
        match (pass, given, parent) {
            (Pass::Names, None | Some(Value::Null), Some(parent)) => {
                let reference = json!({ "id": parent.id });
                if is_forbidden { Reference::Unchecked(reference) } else { Reference::As(reference) }
            }
            (_, None, None) => Reference::None,
            (Pass::Names, Some(Value::Null), None) => Reference::None,
            (Pass::References, None, Some(_)) if is_forbidden => Reference::Wrong(MUST_BE_NULL.into()),
            (Pass::References, None, Some(parent)) => match &parent.seen {
                Some(id) => self.checked(target, json!({ "id": id })),
                None => self.checked(target, json!({})),
            },
            (Pass::References, Some(Value::Null), _) => Reference::None,
            (_, Some(_), _) if is_forbidden || (pass == Pass::Names && item.parent.is_some()) => {
                Reference::Wrong(MUST_BE_NULL.into())
            }
            (Pass::Names, Some(Value::String(name)), _) if name.is_empty() => {
                Reference::Wrong("length must be at least 1".into())
            }
            (Pass::Names, Some(Value::String(name)), _) => {
                // A name that is not found is told later; until then any id will do.
                let found = self.index.find(target, name).and_then(|at| targets.get(at));
                let id = found.map_or_else(|| uuid::Uuid::nil().to_string(), |found| found.id.clone());
                Reference::As(json!({ "id": id }))
            }
            (Pass::References, Some(Value::String(name)), _) => {
                let found = self.index.find(target, name).and_then(|at| targets.get(at));
                match found.and_then(|found| found.seen.as_ref()) {
                    Some(id) => self.checked(target, json!({ "id": id })),
                    None => Reference::Wrong(Errors::field("id", "missing primary key")),
                }
            }
            (Pass::References, Some(value @ (Value::Object(_) | Value::Array(_))), _) => {
                self.checked(target, value.clone())
            }
            (_, Some(_), _) => Reference::Wrong("expected a string".into()),
        }
    }

    /// A reference with an id. If the id is wrong, Kong looks at whatever else the reference says.
    fn checked(&self, target: &str, value: Value) -> Reference {
        let wrong = match value.get("id") {
            None | Some(Value::Bool(false)) => "missing primary key",
            Some(Value::Null) => "required field missing",
            Some(Value::String(id)) if uuid::Uuid::try_parse(id).is_ok() && id.len() == 36 => {
                return Reference::As(json!({ "id": id }));
            }
            Some(Value::String(_)) => "expected a valid UUID",
            Some(_) => "expected a string",
        };
        let whole = self.registry.kind(target).map(|kind| self.partial(kind, &value));
        Reference::Wrong(match whole {
            Some(Err(errors)) => errors,
            _ => Errors::field("id", wrong),
        })
    }

    fn partial(&self, kind: &Kind, value: &Value) -> Result<(), Errors> {
        let none = Map::new();
        let map = value.as_object().unwrap_or(&none);
        if kind.name == "routes" && !map.contains_key("protocols") {
            return Err(Errors::field("protocols", "required field missing"));
        }
        self.registry.schema_of(kind, map)?.validate_partial(value)
    }
}

/// How a reference is to be checked.
enum Reference {
    /// Nothing to add to what the user wrote.
    None,
    /// With this value.
    As(Value),
    /// Not at all; it has this value.
    Unchecked(Value),
    /// It is wrong.
    Wrong(Errors),
}

/// The field of an item that is set and cannot be set without a consumer.
fn sealed_field(item: &Item<'_, '_>) -> Option<&'static str> {
    let field = item.kind.brought_by?.seal.as_ref()?.field;
    let is_set = match item.own.get(field)? {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    };
    is_set.then_some(field)
}

/// Whether an item has no consumer's id at all, not even a wrong one.
fn names_nobody(item: &Item<'_, '_>, wrong: &Errors) -> bool {
    let missing = ["missing primary key", "required field missing"].map(Errors::from);
    match (item.own.get("consumer"), wrong.get("consumer")) {
        (None, None) => item.parent.is_none(),
        (Some(Value::Null), _) => true,
        (_, Some(found)) => found.get("id").is_some_and(|found| missing.contains(found)),
        (Some(_), None) => false,
    }
}

/// The items that share their id with a later one of the same kind.
fn hidden(items: &[Item<'_, '_>]) -> HashSet<usize> {
    let key = |item: &Item<'_, '_>| match item.id_seen_by_children() {
        Some(Value::String(id)) => id,
        other => other.map_or_else(|| "nil".to_owned(), |id| id.to_string()),
    };
    let mut seen = HashSet::with_capacity(items.len());
    if items.iter().all(|item| seen.insert((item.kind.name, key(item)))) {
        return HashSet::new();
    }
    seen.clear();
    let later = kong_order(items).into_iter().rev();
    later.filter(|at| items.get(*at).is_some_and(|item| !seen.insert((item.kind.name, key(item))))).collect()
}

/// Whether a plugin cannot have this scope.
fn is_forbidden(schema: &Schema, field: &str) -> bool {
    schema.field(field).is_some_and(|f| matches!(f.rules.eq, Some(Value::Null)))
}

/// A value that the schema takes, in place of one that is known to be wrong.
fn placeholder(schema: &Schema, field: &str) -> Value {
    if is_forbidden(schema, field) { Value::Null } else { json!({ "id": uuid::Uuid::nil() }) }
}
