//! Kong's `flattened_errors`: one entry for each entity with errors, nested entities beside their parents. Kong:
//! `flatten_errors` of `kong/db/errors.lua`, whose order is kept: kinds and fields backwards by name, positions
//! backwards, nested entities before their parents.

use std::collections::BTreeMap;

use cardinal_schema::Errors;
use serde_json::{Map, Value, json};

use super::item::{IdSource, Item};
use super::source::{Data, Node};

/// The entries. `with_ids`: Kong got as far as making ids, and shows them.
pub(super) fn flatten(items: &[Item<'_, '_>], with_ids: bool) -> Vec<Value> {
    let mut flat = Flat { items, children: vec![Vec::new(); items.len()], with_ids, out: Vec::new() };
    let mut top: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, item) in items.iter().enumerate() {
        match item.parent.and_then(|(parent, _)| flat.children.get_mut(parent)) {
            Some(children) => children.push(at),
            None => top.entry(item.kind.name).or_default().push(at),
        }
    }
    for at in top.into_values().rev().flat_map(|list| list.into_iter().rev()) {
        flat.add(at, None);
    }
    flat.out
}

/// Whether an item with errors has no entry, since it is no table.
pub(super) fn is_no_table(item: &Item<'_, '_>) -> bool {
    item.node.is_some_and(|node| matches!(node.data, Data::Scalar(_)))
}

struct Flat<'i, 'r, 'n> {
    items: &'i [Item<'r, 'n>],
    children: Vec<Vec<usize>>,
    with_ids: bool,
    out: Vec<Value>,
}

impl Flat<'_, '_, '_> {
    fn add(&mut self, at: usize, parent: Option<(&str, Option<&str>)>) {
        let Some(item) = self.items.get(at) else { return };
        let id = self.id_of(item);
        let mut children = self.children.get_mut(at).map(std::mem::take).unwrap_or_default();
        children.sort_by_key(|at| std::cmp::Reverse(self.items.get(*at).map(|item| item.kind.name)));
        for child in children {
            let field = self.items.get(child).and_then(|item| item.parent).map_or("", |(_, field)| field);
            self.add(child, Some((field, id.as_deref())));
        }
        if item.errors().is_empty() || is_no_table(item) {
            return;
        }
        let mut entity = self.entity(item, id.as_deref(), parent);
        let mut errors = item.errors().clone();
        for (field, target) in item.kind.references() {
            let Some(reference @ (Value::Object(_) | Value::Array(_))) = entity.get(field).cloned() else { continue };
            match primary_key(&reference) {
                Some(key) => entity.insert(field.to_owned(), json!({ "id": key })),
                None => entity.shift_remove(field),
            };
            if let (Errors::Fields { fields, .. }, Value::Object(reference)) = (&mut errors, reference)
                && let Some(found) = fields.remove(field)
            {
                self.out.push(entry(singular(target), &reference, &found));
            }
        }
        if !errors.is_empty() {
            self.out.push(entry(&item.kind.singular(), &entity, &errors));
        }
    }

    fn id_of(&self, item: &Item<'_, '_>) -> Option<String> {
        match item.id_source {
            IdSource::Given => item.id.parsed().map(|_| item.id.to_string()),
            IdSource::Key if self.with_ids => Some(item.id.to_string()),
            IdSource::Key | IdSource::Contents => None,
        }
    }

    /// What the user wrote, without nested entities, with the parent's id.
    fn entity(
        &self,
        item: &Item<'_, '_>,
        id: Option<&str>,
        parent: Option<(&str, Option<&str>)>,
    ) -> Map<String, Value> {
        let mut entity = item.own();
        if let Some(Data::Map(map)) = item.node.map(|node| &node.data) {
            // Lists of nested entities have entries of their own.
            let is_scalar = |node: &Node| matches!(node.data, Data::Scalar(_));
            let more = map.iter().filter(|(key, _, node)| {
                matches!(&**key, "_comment" | "_ignore") || (is_scalar(node) && !entity.contains_key(&**key))
            });
            let more: Vec<_> = more.map(|(key, _, node)| (key.to_string(), node.to_value())).collect();
            entity.extend(more);
        }
        if let (IdSource::Key, Some(id)) = (item.id_source, id) {
            entity.insert("id".to_owned(), id.into());
        }
        if let Some((field, Some(id))) = parent
            && !entity.contains_key(field)
        {
            entity.insert(field.to_owned(), json!({ "id": id }));
        }
        entity
    }
}

fn primary_key(value: &Value) -> Option<&str> {
    value.get("id")?.as_str().filter(|id| id.len() == 36 && uuid::Uuid::try_parse(id).is_ok())
}

fn singular(kind: &str) -> &str {
    kind.strip_suffix('s').unwrap_or(kind)
}

fn entry(kind: &str, entity: &Map<String, Value>, errors: &Errors) -> Value {
    let mut out = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(name.to_owned(), value);
        }
    };
    let is_tags = |v: &&Value| match v {
        Value::Array(list) => list.iter().all(Value::is_string),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    put("entity_type", Some(kind.into()));
    put(
        "entity_id",
        entity.get("id").filter(|v| v.as_str().is_some_and(|s| uuid::Uuid::try_parse(s).is_ok())).cloned(),
    );
    put("entity_name", entity.get("name").filter(|v| v.as_str().is_some_and(|s| !s.is_empty())).cloned());
    put("entity_tags", entity.get("tags").filter(is_tags).cloned());
    put("entity", Some(Value::Object(entity.clone())));
    let mut list = Vec::new();
    categorize(errors, "", &mut list);
    put("errors", Some(list.into()));
    Value::Object(out)
}

fn categorize(errors: &Errors, path: &str, out: &mut Vec<Value>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match errors {
        Errors::Message(text) if path.is_empty() => out.push(json!({ "type": "entity", "message": text })),
        Errors::Message(text) => out.push(json!({ "type": "field", "field": path, "message": text })),
        Errors::Fields { entity, fields } => {
            for (name, errors) in fields.iter().rev() {
                categorize(errors, &below(name), out);
            }
            out.extend(entity.iter().map(|text| json!({ "type": "entity", "message": text })));
        }
        Errors::Items(items) => {
            for (i, errors) in items.iter().enumerate().rev() {
                if let Some(errors) = errors {
                    categorize(errors, &below(&(i + 1).to_string()), out);
                }
            }
        }
    }
}
