//! Fills in defaults and checks each entity by its schema, in the two rounds of Kong.
//!
//! In the first round, references are names: texts at the top level, nothing in a nested entity. If all entities are
//! valid, the second round is skipped. Otherwise everything is checked again with ids in place of names, and with the
//! parent's id in nested entities: a file may pass that way too. Kong: `flatten` of
//! `kong/db/schema/others/declarative_config.lua`.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use cardinal_schema::{Errors, Options, Schema};
use serde_json::{Map, Value, json};

use super::Fresh;
use super::collect::Collected;
use super::item::Item;
use super::order::kong_order;
use super::resolve::{Index, may_repeat};
use crate::entities::{Kind, Registry};
use crate::packed::Packed;

/// Entities from which on checking them is shared by threads.
pub(super) const PARALLEL_MIN: usize = 4_096;
/// Entities that are shared by threads at once, so that the memory that each thread needs stays small.
const BATCH: usize = 2 * PARALLEL_MIN;
/// Most threads that share it.
const THREADS_MAX: usize = 8;

/// Kong's message for a reference that must be null.
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

/// A complete entity, or everything that is wrong with it.
pub(super) type Completed = Result<Packed, Box<Errors>>;

/// What one thread has completed, in one piece of memory: the C library keeps what threads have allocated in small
/// pieces, even when it is free.
struct Share {
    bytes: Vec<u8>,
    /// How many of the bytes belong to each entity.
    entities: Vec<Result<usize, Box<Errors>>>,
}

impl Share {
    fn of(completed: impl Iterator<Item = Completed>) -> Self {
        let mut share = Self { bytes: Vec::new(), entities: Vec::with_capacity(completed.size_hint().0) };
        for completed in completed {
            share.entities.push(completed.map(|packed| {
                share.bytes.extend_from_slice(packed.as_bytes());
                packed.as_bytes().len()
            }));
        }
        share
    }

    fn append_to(self, out: &mut Vec<Completed>) {
        let mut rest = &*self.bytes;
        out.extend(self.entities.into_iter().map(|entity| {
            entity.map(|len| {
                let (packed, after) = rest.split_at_checked(len).unwrap_or_default();
                rest = after;
                Packed::from_bytes(packed)
            })
        }));
    }
}

/// What is known of all items.
struct Others<'a, 'r, 'n> {
    items: &'a [Item<'r, 'n>],
    /// Items whose names Kong does not resolve, since another one has the same id.
    hidden: HashSet<usize>,
}

impl Load<'_> {
    /// The complete entities, in the order of the items. What is wrong includes the errors that an item already has.
    pub(super) fn complete(&self, all: &Collected<'_, '_>, pass: Pass) -> Vec<Completed> {
        let hidden = if pass == Pass::References { hidden(&all.items) } else { HashSet::new() };
        let others = Others { items: &all.items, hidden };
        let one = |(at, item): (usize, &Item<'_, '_>)| self.one(at, item, &others, pass);
        if all.items.len() < PARALLEL_MIN {
            return all.items.iter().enumerate().map(one).collect();
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let mut out = Vec::with_capacity(all.items.len());
        for (batch, items) in all.items.chunks(BATCH).enumerate() {
            let first = batch * BATCH;
            let share = items.len().div_ceil(threads);
            let shares = std::thread::scope(|scope| {
                let one = &one;
                let of = |(n, items)| scope.spawn(move || Share::of((first + n * share..).zip(items).map(one)));
                let shares: Vec<_> = items.chunks(share).enumerate().map(of).collect();
                let joined = |share: std::thread::ScopedJoinHandle<'_, Share>| match share.join() {
                    Ok(share) => share,
                    Err(panic) => std::panic::resume_unwind(panic),
                };
                shares.into_iter().map(joined).collect::<Vec<_>>()
            });
            shares.into_iter().for_each(|share| share.append_to(&mut out));
        }
        out
    }

    /// Whether the second round may find something although the first one found nothing. Kong's first round always
    /// fails where a field cannot be set without a consumer, since it knows consumers by name only.
    pub(super) fn may_differ(&self, all: &Collected<'_, '_>) -> bool {
        all.items.iter().any(|item| sealed_field(item).is_some())
            && (!hidden(&all.items).is_empty() || all.items.iter().any(|item| self.has_other_meaning(item, all)))
    }

    fn has_other_meaning(&self, item: &Item<'_, '_>, all: &Collected<'_, '_>) -> bool {
        let leads_nowhere = |(field, target): (&str, &str)| {
            item.text(field).is_some_and(|name| self.index.find(&all.items, target, &name).is_none())
        };
        let own = item.own();
        let schema = self.registry.schema_of(item.kind, &own);
        let is_forbidden = item.parent.is_some_and(|(_, field)| schema.is_ok_and(|s| is_forbidden(s, field)));
        is_forbidden || item.kind.references().any(leads_nowhere)
    }

    fn one(&self, at: usize, item: &Item<'_, '_>, others: &Others<'_, '_, '_>, pass: Pass) -> Completed {
        let with = |more: Errors| {
            let mut errors = Box::new(item.errors().clone());
            errors.merge(more);
            errors
        };
        if matches!(item.errors(), Errors::Message(_)) {
            return Err(with(Errors::default()));
        }
        let mut value = item.own();
        let schema = self.registry.schema_of(item.kind, &value).map_err(with)?;
        if item.kind.primary_key == "id" {
            value.entry("id").or_insert_with(|| item.id.to_string().into());
        }
        // What the schema of the plugin forbids, although Kong keeps it.
        let mut forbidden = Map::new();
        let mut wrong = Errors::default();
        for (field, target) in item.kind.references() {
            let given = value.get(field);
            let reference = match given {
                Some(Value::String(_)) if others.hidden.contains(&at) => {
                    Reference::Wrong(Errors::field("id", "missing primary key"))
                }
                _ => self.reference((item, given), schema, others.items, (field, target), pass),
            };
            // A nested entity belongs to its parent, whatever it references.
            let parent = item.parent.filter(|(_, name)| *name == field).and_then(|(at, _)| others.items.get(at));
            let reference = match (reference, parent) {
                (Reference::As(_), Some(parent)) => Reference::As(json!({ "id": parent.id.to_string() })),
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
        let mut errors = match done {
            Ok(Value::Object(mut map)) if wrong.is_empty() => {
                map.extend(forbidden);
                if self.transform {
                    super::seal(item, &mut map);
                }
                return Ok(Packed::new(&map, self.registry.names()));
            }
            Ok(_) => with(Errors::default()),
            Err(errors) => with(errors),
        };
        if let Some(name) = sealed_field(item).filter(|_| pass == Pass::References && names_nobody(item, &wrong)) {
            errors.push_entity(format!("all or none of these fields must be set: '{name}', 'consumer.id'"));
        }
        errors.overlay(wrong);
        Err(errors)
    }

    fn reference(
        &self,
        (item, given): (&Item<'_, '_>, Option<&Value>),
        schema: &Schema,
        items: &[Item<'_, '_>],
        (field, target): (&str, &'static str),
        pass: Pass,
    ) -> Reference {
        let parent = item.parent.filter(|(_, name)| *name == field).and_then(|(at, _)| items.get(at));
        let is_forbidden = is_forbidden(schema, field);
        match (pass, given, parent) {
            (Pass::Names, None | Some(Value::Null), Some(parent)) => {
                let reference = json!({ "id": parent.id.to_string() });
                if is_forbidden { Reference::Unchecked(reference) } else { Reference::As(reference) }
            }
            (_, None, None) => Reference::None,
            (Pass::Names, Some(Value::Null), None) => Reference::None,
            (Pass::References, None, Some(_)) if is_forbidden => Reference::Wrong(MUST_BE_NULL.into()),
            (Pass::References, None, Some(parent)) => match parent.id_seen_by_children() {
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
                // A name that is not found is reported later; until then any id is valid.
                let found = self.index.find(items, target, name).and_then(|at| items.get(at));
                let id = found.map_or_else(|| uuid::Uuid::nil().to_string(), |found| found.id.to_string());
                Reference::As(json!({ "id": id }))
            }
            (Pass::References, Some(Value::String(name)), _) => {
                let found = self.index.find(items, target, name).and_then(|at| items.get(at));
                match found.and_then(Item::id_seen_by_children) {
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

    /// A reference with an id. If the id is wrong, Kong checks the other fields of the reference.
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
    let is_set = match item.get(field)? {
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
    match (item.get("consumer"), wrong.get("consumer")) {
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
    let hashes = RandomState::new();
    let hashes: Vec<u64> = items.iter().map(|item| hashes.hash_one((item.kind.name, key(item)))).collect();
    if !may_repeat(&hashes) {
        return HashSet::new();
    }
    let mut seen = HashSet::new();
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
