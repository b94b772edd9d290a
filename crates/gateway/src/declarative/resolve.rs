//! References and unique values across entities.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use cardinal_ir::Id;
use cardinal_schema::Errors;
use serde_json::{Map, Value};

use super::collect::{Collected, Item, Member, Note};
use super::order::kong_order;
use super::report::Finding;

/// Finds items by name or id.
#[derive(Default)]
pub(super) struct Index {
    by_key: HashMap<&'static str, HashMap<String, usize>>,
    by_id: HashMap<&'static str, HashMap<String, usize>>,
}

impl Index {
    /// Where two items share a name or an id, the first is found.
    pub(super) fn new(items: &[Item<'_, '_>]) -> Self {
        let mut index = Self::default();
        for (at, item) in items.iter().enumerate() {
            if let Some(name) = unique_name(item) {
                index.by_key.entry(item.kind.name).or_default().entry(name.to_owned()).or_insert(at);
            }
            index.by_id.entry(item.kind.name).or_default().entry(item.id.clone()).or_insert(at);
        }
        index
    }

    /// The item with this name, else with this id.
    pub(super) fn find(&self, kind: &str, name: &str) -> Option<usize> {
        let by = |map: &HashMap<&'static str, HashMap<String, usize>>| map.get(kind)?.get(name).copied();
        by(&self.by_key).or_else(|| by(&self.by_id))
    }
}

/// The value of a lookup key that is unique among all entities of the kind.
fn unique_name<'i>(item: &'i Item<'_, '_>) -> Option<&'i str> {
    let key = item.kind.key.filter(|k| k.unique)?;
    item.own.get(key.field)?.as_str()
}

fn already_declared(kind: &str, field: &str, value: &str) -> String {
    format!("uniqueness violation: '{kind}' entity with {field} set to '{value}' already declared")
}

/// Everything that is wrong across entities, in Kong's form; findings are added to `all`.
pub(super) fn check(all: &mut Collected<'_, '_>, index: &Index, completed: &[Map<String, Value>]) -> Errors {
    let mut errors = Errors::default();
    names_and_ids(all, &mut errors);
    references(all, index, &mut errors);
    member_references(all, index, &mut errors);
    if errors.is_empty() {
        unique_fields(all, completed, &mut errors);
    }
    errors
}

/// Names and ids that occur twice. Kong tells them by position, below the parent.
fn names_and_ids(all: &mut Collected<'_, '_>, errors: &mut Errors) {
    let mut names = HashSet::new();
    let mut ids = HashSet::new();
    let mut found = Vec::new();
    for at in kong_order(&all.items) {
        let Some(item) = all.items.get(at) else { continue };
        let kind = item.kind.name;
        let taken = unique_name(item).filter(|name| !names.insert((kind, *name)));
        let text = match taken {
            Some(name) => Some((item.kind.key.map_or("name", |k| k.field), name.to_owned())),
            None if !ids.insert((kind, item.id.as_str())) => Some(("primary key", item.id.clone())),
            None => None,
        };
        if let Some((field, value)) = text {
            found.push((at, already_declared(kind, field, &value)));
        }
    }
    for (at, message) in found {
        let item = &all.items[at];
        let list = at_index(item.index, Errors::from(message.as_str()));
        let mut tree = Errors::field(item.kind.name, list);
        if let Some(parent) = item.parent.and_then(|(p, _)| all.items.get(p)) {
            tree = Errors::field(parent.kind.name, at_index(parent.index, tree));
        }
        errors.overlay(tree);
        let item = &mut all.items[at];
        item.errors.push_entity(message);
    }
}

fn at_index(index: usize, errors: Errors) -> Errors {
    let mut list = vec![None; index];
    list.push(Some(errors));
    Errors::Items(list)
}

/// References that name nothing. Kong tells them by kind and name.
fn references(all: &mut Collected<'_, '_>, index: &Index, errors: &mut Errors) {
    let mut found: Vec<(usize, &'static str, String)> = Vec::new();
    for (at, item) in all.items.iter().enumerate() {
        for (field, target) in item.kind.references() {
            let (name, shown) = match item.own.get(field) {
                Some(Value::String(name)) => (name.as_str(), name.clone()),
                Some(value @ Value::Object(map)) => {
                    (map.get("id").and_then(Value::as_str).unwrap_or_default(), value.to_string())
                }
                _ => continue,
            };
            if index.find(target, name).is_none() {
                let message = format!("invalid reference '{field}: {shown}' (no such entry in '{target}')");
                found.push((at, field, message));
            }
        }
    }
    let mut by_entry: BTreeMap<(&'static str, String), Vec<Option<Errors>>> = BTreeMap::new();
    for (at, field, message) in found {
        let item = &mut all.items[at];
        let name = unique_name(item).map_or_else(|| item.id.clone(), str::to_owned);
        by_entry.entry((item.kind.name, name)).or_default().push(Some(message.as_str().into()));
        item.errors.set(field, message.into());
    }
    for ((kind, name), mut list) in by_entry {
        list.sort_by_key(|e| e.as_ref().map(ToString::to_string));
        errors.merge(Errors::field(kind, Errors::field(&name, Errors::Items(list))));
    }
}

fn member_references(all: &mut Collected<'_, '_>, index: &Index, errors: &mut Errors) {
    let mut found = Vec::new();
    for member in &all.memberships {
        for (side, kind, field) in
            [(&member.consumer, "consumers", "consumer"), (&member.group, "consumer_groups", "consumer_group")]
        {
            if let Member::Named(name) = side
                && index.find(kind, name).is_none()
            {
                let message = format!("invalid reference '{field}: {name}' (no such entry in '{kind}')");
                found.push((member.file, member.place, message));
            }
        }
    }
    for (file, place, message) in found {
        let one = Errors::Items(vec![Some(Errors::from(message.as_str()))]);
        errors.merge(Errors::field("consumer_group_consumers", one));
        all.findings.push(Finding::at(file, place, "", &message, None));
    }
}

/// Values of unique fields that occur twice.
fn unique_fields(all: &mut Collected<'_, '_>, completed: &[Map<String, Value>], errors: &mut Errors) {
    let mut seen = HashSet::new();
    let mut last: BTreeMap<&'static str, Errors> = BTreeMap::new();
    for at in kong_order(&all.items) {
        let (Some(item), Some(value)) = (all.items.get_mut(at), completed.get(at)) else { continue };
        for named in item.kind.schema.fields.iter().filter(|n| n.field.unique) {
            let text = match value.get(named.name) {
                None | Some(Value::Null) => continue,
                Some(Value::String(text)) => Cow::Borrowed(text.as_str()),
                Some(other) => Cow::Owned(other.get("id").unwrap_or(other).to_string()),
            };
            if !seen.insert((item.kind.name, named.name, text.clone())) {
                let label = item.kind.label(value).unwrap_or(&item.id);
                let message = already_declared(item.kind.name, named.name, &text);
                // Kong keeps the last one of a kind.
                last.insert(item.kind.name, Errors::field(label, message.as_str()));
                item.errors.set(named.name, message.into());
            }
        }
    }
    for (kind, found) in last {
        errors.merge(Errors::field(kind, found));
    }
}

/// References by name that lead nowhere become what was written again: Kong refuses them.
pub(super) fn restore_unknown_names(all: &mut Collected<'_, '_>, index: &Index) {
    for item in &mut all.items {
        let Item { kind, own, by_name, .. } = item;
        for (field, written) in by_name.drain(..) {
            let target = kind.references().find(|(name, _)| *name == field).map_or("", |(_, target)| target);
            let is_known =
                own.get(field).and_then(Value::as_str).is_some_and(|name| index.find(target, name).is_some());
            if !is_known {
                own.insert(field.to_owned(), written);
            }
        }
    }
}

/// References of nested entities to another entity than the one they are nested in, which count for nothing.
pub(super) fn overruled<'a>(all: &'a Collected<'_, '_>, index: &'a Index) -> impl Iterator<Item = Note> + 'a {
    all.items.iter().filter_map(|item| {
        let (parent, field) = item.parent?;
        let (_, target) = item.kind.references().find(|(name, _)| *name == field)?;
        let given = match item.own.get(field)? {
            Value::String(name) => name.as_str(),
            other => other.get("id")?.as_str()?,
        };
        let message = "names another entity: what is nested belongs to the entity it is nested in";
        let place = item.node.place_of(field);
        (index.find(target, given) != Some(parent)).then_some(Note {
            file: item.file,
            place,
            key: field,
            message,
            count: 1,
        })
    })
}

/// Consumers and the groups they are in, by id.
pub(super) fn memberships(all: &Collected<'_, '_>, index: &Index) -> Vec<(Id, Id)> {
    let id = |member: &Member, kind: &str| -> Option<Id> {
        let at = match member {
            Member::Item(at) => *at,
            Member::Named(name) => index.find(kind, name)?,
        };
        all.items.get(at)?.id.parse().ok()
    };
    let both = |m: &super::collect::Membership| Some((id(&m.consumer, "consumers")?, id(&m.group, "consumer_groups")?));
    all.memberships.iter().filter_map(both).collect()
}
