//! References and unique values across entities.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash, RandomState};

use cardinal_ir::Id;
use cardinal_schema::Errors;
use hashbrown::HashTable;
use serde_json::Value;

use super::collect::{Collected, Member, Note};
use super::item::{Item, ItemId};
use super::order::kong_order;
use super::report::Finding;
use crate::packed::{Names, Packed};

/// Finds items by name or id. It holds positions only: names and ids are those of the items.
pub(super) struct Index {
    hashes: RandomState,
    names: HashTable<u32>,
    ids: HashTable<u32>,
    /// Two items share a name or an id.
    has_equal: bool,
}

impl Index {
    /// Where two items share a name or an id, the first is found.
    pub(super) fn new(items: &[Item<'_, '_>]) -> Self {
        let room = || HashTable::with_capacity(items.len());
        let mut index = Self { hashes: RandomState::new(), names: room(), ids: room(), has_equal: false };
        for (at, item) in (0_u32..).zip(items) {
            if let Some(name) = item.unique_name() {
                if index.name(items, item.kind.name, &name).is_some() {
                    index.has_equal = true;
                } else {
                    let hash = index.hash(item.kind.name, name.as_str());
                    // There is room for all of them, so that none is hashed again.
                    index.names.insert_unique(hash, at, |_| hash);
                }
            }
            let hash = index.hash(item.kind.name, &item.id);
            let is_same = |other: &u32| {
                items.get(*other as usize).is_some_and(|o| o.kind.name == item.kind.name && o.id == item.id)
            };
            if index.ids.find(hash, is_same).is_some() {
                index.has_equal = true;
            } else {
                index.ids.insert_unique(hash, at, |_| hash);
            }
        }
        index
    }

    fn hash(&self, kind: &str, key: impl Hash) -> u64 {
        self.hashes.hash_one((kind, key))
    }

    /// The item with this name, else with this id.
    pub(super) fn find(&self, items: &[Item<'_, '_>], kind: &str, name: &str) -> Option<usize> {
        self.name(items, kind, name).or_else(|| {
            let is_it = |at: &u32| items.get(*at as usize).is_some_and(|i| i.kind.name == kind && i.id.is(name));
            self.ids.find(self.hash(kind, ItemId::from(name)), is_it).map(|at| *at as usize)
        })
    }

    fn name(&self, items: &[Item<'_, '_>], kind: &str, name: &str) -> Option<usize> {
        let is_it = |at: &u32| {
            let item = items.get(*at as usize).filter(|item| item.kind.name == kind);
            item.and_then(Item::unique_name).is_some_and(|own| own == name)
        };
        self.names.find(self.hash(kind, name), is_it).map(|at| *at as usize)
    }
}

fn already_declared(kind: &str, field: &str, value: &str) -> String {
    format!("uniqueness violation: '{kind}' entity with {field} set to '{value}' already declared")
}

/// Everything that is wrong across entities, in Kong's form; findings are added to `all`.
pub(super) fn check(all: &mut Collected<'_, '_>, index: &Index, names: &Names, completed: &[Packed]) -> Errors {
    let mut errors = Errors::default();
    if index.has_equal {
        names_and_ids(all, &mut errors);
    }
    references(all, index, &mut errors);
    member_references(all, index, &mut errors);
    if errors.is_empty() && may_repeat(&unique_values(all, names, completed)) {
        unique_fields(all, names, completed, &mut errors);
    }
    errors
}

/// Hashes of the values of all unique fields.
fn unique_values(all: &Collected<'_, '_>, names: &Names, completed: &[Packed]) -> Vec<u64> {
    let hashes = RandomState::new();
    let mut out = Vec::new();
    for (item, fields) in all.items.iter().zip(completed) {
        for named in item.kind.schema.fields.iter().filter(|n| n.field.unique) {
            let value = fields.get(named.name, names);
            let text = value.as_ref().and_then(text_of_unique);
            out.extend(text.map(|text| hashes.hash_one((item.kind.name, named.name, text))));
        }
    }
    out
}

/// Whether two of the values that these hashes are of may be equal. Hardly any file has equal ones, and hashes take the
/// least room.
pub(super) fn may_repeat(hashes: &[u64]) -> bool {
    let mut sorted = hashes.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).any(|pair| pair.first() == pair.last())
}

/// What is compared of a unique value.
fn text_of_unique(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(Cow::Borrowed(text.as_str())),
        other => Some(Cow::Owned(other.get("id").unwrap_or(other).to_string())),
    }
}

/// Names and ids that occur twice. Kong reports them by position, below the parent.
fn names_and_ids(all: &mut Collected<'_, '_>, errors: &mut Errors) {
    let mut names = HashMap::new();
    let mut ids = HashMap::new();
    let mut found = Vec::new();
    for at in kong_order(&all.items) {
        let Some(item) = all.items.get(at) else { continue };
        let kind = item.kind.name;
        let mut first_of_name = |name: &String| declare(&mut names, (kind, name.clone()), at);
        let taken = item.unique_name().and_then(|name| Some((first_of_name(&name)?, name)));
        let key = item.kind.key.map_or("name", |key| key.field);
        let text = match taken {
            Some((first, name)) => Some((first, key, key, name)),
            None => {
                declare(&mut ids, (kind, &item.id), at).map(|first| (first, "id", "primary key", item.id.to_string()))
            }
        };
        if let Some((first, path, field, value)) = text {
            let place =
                all.items.get(first).map_or((item.file, item.place), |first| (first.file, first.place_of(path)));
            found.push((at, already_declared(kind, field, &value), place));
        }
    }
    for (at, message, first) in found {
        all.declared_first.push((at, message.clone(), first));
        let item = &all.items[at];
        // Lists may be long: a tree for each error, laid over the others, would cost their length each time.
        let add = |list: &mut Errors| {
            list.field_mut(item.kind.name)
                .add_to_item(item.index as usize, |errors| errors.overlay(Errors::from(message.as_str())));
        };
        match item.parent.and_then(|(p, _)| all.items.get(p)) {
            Some(parent) => errors.field_mut(parent.kind.name).add_to_item(parent.index as usize, add),
            None => add(errors),
        }
        let item = &mut all.items[at];
        item.errors_mut().push_entity(message);
    }
}

/// Notes that an item has a key; the item that had it before.
fn declare<K: Eq + Hash>(declared: &mut HashMap<K, usize>, key: K, at: usize) -> Option<usize> {
    match declared.entry(key) {
        Entry::Occupied(first) => Some(*first.get()),
        Entry::Vacant(free) => {
            free.insert(at);
            None
        }
    }
}

/// References without a target. Kong reports them by kind and name.
fn references(all: &mut Collected<'_, '_>, index: &Index, errors: &mut Errors) {
    let mut found: Vec<(usize, &'static str, String)> = Vec::new();
    for (at, item) in all.items.iter().enumerate() {
        for (field, target) in item.kind.references() {
            let value = item.get(field);
            let name = match &value {
                Some(Value::String(name)) => name.as_str(),
                Some(Value::Object(map)) => map.get("id").and_then(Value::as_str).unwrap_or_default(),
                _ => continue,
            };
            if index.find(&all.items, target, name).is_none() {
                let shown = match &value {
                    Some(value @ Value::Object(_)) => value.to_string(),
                    _ => name.to_owned(),
                };
                let message = format!("invalid reference '{field}: {shown}' (no such entry in '{target}')");
                found.push((at, field, message));
            }
        }
    }
    let mut by_entry: BTreeMap<(&'static str, String), Vec<Option<Errors>>> = BTreeMap::new();
    for (at, field, message) in found {
        let item = &mut all.items[at];
        let name = item.unique_name().unwrap_or_else(|| item.id.to_string());
        by_entry.entry((item.kind.name, name)).or_default().push(Some(message.as_str().into()));
        item.errors_mut().set(field, message.into());
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
                && index.find(&all.items, kind, name).is_none()
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
fn unique_fields(all: &mut Collected<'_, '_>, names: &Names, completed: &[Packed], errors: &mut Errors) {
    let mut seen = HashMap::new();
    let mut last: BTreeMap<&'static str, Errors> = BTreeMap::new();
    for at in kong_order(&all.items) {
        let (Some(kind), Some(value)) = (all.items.get(at).map(|item| item.kind), completed.get(at)) else { continue };
        let value = value.unpack(names);
        for named in kind.schema.fields.iter().filter(|n| n.field.unique) {
            let Some(text) = value.get(named.name).and_then(text_of_unique) else { continue };
            let Some(first) = declare(&mut seen, (kind.name, named.name, text.to_string()), at) else { continue };
            let message = already_declared(kind.name, named.name, &text);
            let first = &all.items[first];
            all.declared_first.push((at, message.clone(), (first.file, first.place_of(named.name))));
            let item = &mut all.items[at];
            let label = kind.label(&value).map_or_else(|| item.id.to_string(), str::to_owned);
            // Kong keeps the last one of a kind.
            last.insert(kind.name, Errors::field(&label, message.as_str()));
            item.errors_mut().set(named.name, message.into());
        }
    }
    for (kind, found) in last {
        errors.merge(Errors::field(kind, found));
    }
}

/// References by name that lead nowhere become what was written again: Kong refuses them.
pub(super) fn restore_unknown_names(all: &mut Collected<'_, '_>, index: &Index) {
    for (at, field, written) in std::mem::take(&mut all.by_name) {
        let Some(item) = all.items.get(at) else { continue };
        let target = item.kind.references().find(|(name, _)| *name == field).map_or("", |(_, target)| target);
        let is_known = item.text(field).is_some_and(|name| index.find(&all.items, target, &name).is_some());
        if !is_known && let Some(item) = all.items.get_mut(at) {
            let mut own = item.own();
            own.insert(field.to_owned(), written);
            item.set_own(&own);
        }
    }
}

/// References of nested entities to another entity than the one they are nested in, which count for nothing.
pub(super) fn overruled<'a>(all: &'a Collected<'_, '_>, index: &'a Index) -> impl Iterator<Item = Note> + 'a {
    all.items.iter().filter_map(|item| {
        let (parent, field) = item.parent?;
        let (_, target) = item.kind.references().find(|(name, _)| *name == field)?;
        let given = item.get(field)?;
        let given = match &given {
            Value::String(name) => name.as_str(),
            other => other.get("id")?.as_str()?,
        };
        let message = "names another entity: what is nested belongs to the entity it is nested in";
        (index.find(&all.items, target, given) != Some(parent)).then(|| Note {
            file: item.file as usize,
            place: item.place_of(field),
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
            Member::Named(name) => index.find(&all.items, kind, name)?,
        };
        all.items.get(at)?.id.parsed()
    };
    let both = |m: &super::collect::Membership| Some((id(&m.consumer, "consumers")?, id(&m.group, "consumer_groups")?));
    all.memberships.iter().filter_map(both).collect()
}
