//! What differs between two states of entities.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cardinal_kong::declarative::redact_map;
use cardinal_kong::{Registry, Settings};
use cardinal_store::{Key, PastDocument, documents_at};
use serde_json::{Map, Value, json};

use super::action::Action;
use super::effects::{RouteEffect, effects};
use super::fault;
use crate::source::snapshot_of;
use crate::{Dao, Fault, cluster, rbac};

/// Changes with every write, so that it says nothing.
const UPDATED_AT: &str = "updated_at";

/// How an entity changed.
#[derive(Clone, Debug, PartialEq)]
pub struct EntityChange {
    /// The kind: `routes`.
    pub kind: Arc<str>,
    /// The id.
    pub id: Arc<str>,
    /// The user's name for it.
    pub name: Option<String>,
    /// What happened.
    pub action: Action,
    /// It was deleted because an entity that it references was.
    pub cascaded: bool,
    /// The fields that differ, except `updated_at`.
    pub fields: Vec<FieldChange>,
}

/// A field that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldChange {
    /// The field: `config.minute`.
    pub path: String,
    /// Its value before; null if it had none.
    pub old: Value,
    /// Its value afterwards; null if it has none.
    pub new: Value,
}

impl EntityChange {
    /// What to call the entity: its name, else its id.
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let field = |field: &FieldChange| json!({ "path": field.path, "old": field.old, "new": field.new });
        let fields: Vec<Value> = self.fields.iter().map(field).collect();
        json!({ "kind": &*self.kind, "id": &*self.id, "name": self.name, "action": self.action.as_str(),
            "cascaded": self.cascaded, "fields": fields })
    }
}

/// How entities are shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'r> {
    /// The kinds of entities, by which secrets are known.
    pub registry: &'r Registry,
    /// Secrets are shown, too.
    pub reveals: bool,
}

impl Shown<'_> {
    /// How an entity changed; `None` if it does not exist in either state.
    pub fn change(&self, key: &Key, old: Option<&Value>, new: Option<&Value>) -> Option<EntityChange> {
        let action = Action::between(old, new)?;
        let (before, after) = (old.map(|value| self.value(key, value)), new.map(|value| self.value(key, value)));
        let empty = Value::Object(Map::new());
        let or_empty = |value: Option<&Value>| value.cloned().unwrap_or_else(|| empty.clone());
        let mut fields = Vec::new();
        let raw = (&or_empty(old), &or_empty(new));
        collect(&mut String::new(), raw, (&or_empty(before.as_ref()), &or_empty(after.as_ref())), &mut fields);
        fields.retain(|field| field.path != UPDATED_AT && &*key.kind != cluster::KIND);
        let name = new.or(old).and_then(|value| self.name(key, value));
        Some(EntityChange { kind: key.kind.clone(), id: key.id.clone(), name, action, cascaded: false, fields })
    }

    /// The entities that differ between two states.
    pub(super) fn changes(
        &self,
        old: &BTreeMap<Key, PastDocument>,
        new: &BTreeMap<Key, PastDocument>,
    ) -> Vec<EntityChange> {
        let keys: BTreeSet<&Key> = old.keys().chain(new.keys()).collect();
        let value = |all: &'_ BTreeMap<Key, PastDocument>, key| all.get(key).map(|document| document.value.clone());
        let changed = keys.into_iter().filter_map(|key| {
            let (old, new) = (value(old, key), value(new, key));
            if old == new { None } else { self.change(key, old.as_ref(), new.as_ref()) }
        });
        changed.filter(|change| change.action != Action::Changed || !change.fields.is_empty()).collect()
    }

    /// An entity as it is shown.
    pub fn value(&self, key: &Key, value: &Value) -> Value {
        // The private key of the authority for data planes is nothing to look at.
        if &*key.kind == cluster::KIND {
            return Value::Object(Map::new());
        }
        let (false, Value::Object(fields)) = (self.reveals, value) else { return value.clone() };
        let kind = self.registry.kind(&key.kind).or_else(|| rbac::kind(&key.kind));
        let schema = kind.and_then(|kind| self.registry.schema_of(kind, fields).ok());
        let mut shown = redact_map(fields, schema);
        for secret in kind.and_then(|kind| kind.brought_by).into_iter().flat_map(|def| def.secrets) {
            if let Some(value) = shown.get_mut(*secret).filter(|value| !value.is_null()) {
                *value = "***".into();
            }
        }
        Value::Object(shown)
    }

    fn name(&self, key: &Key, value: &Value) -> Option<String> {
        let fields = value.as_object()?;
        let label = self.registry.kind(&key.kind).or_else(|| rbac::kind(&key.kind)).and_then(|kind| kind.label(fields));
        let plugin = || fields.get("name").filter(|_| &*key.kind == "plugins").and_then(Value::as_str);
        label.or_else(plugin).map(str::to_owned)
    }
}

/// Compares what is stored, and notes what is shown.
fn collect(at: &mut String, raw: (&Value, &Value), shown: (&Value, &Value), out: &mut Vec<FieldChange>) {
    if raw.0 == raw.1 {
        return;
    }
    let (Value::Object(old), Value::Object(new)) = raw else {
        out.push(FieldChange { path: at.clone(), old: shown.0.clone(), new: shown.1.clone() });
        return;
    };
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let of = |value: &'_ Value| value.get(name).cloned().unwrap_or(Value::Null);
        let length = at.len();
        if length > 0 {
            at.push('.');
        }
        at.push_str(name);
        let null = Value::Null;
        let raw = (old.get(name).unwrap_or(&null), new.get(name).unwrap_or(&null));
        collect(at, raw, (&of(shown.0), &of(shown.1)), out);
        at.truncate(length);
    }
}

/// What differs between two revisions.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The first revision.
    pub from: u64,
    /// The second one.
    pub to: u64,
    /// The entities that differ.
    pub entities: Vec<EntityChange>,
    /// The routes that match, forward or filter differently.
    pub routes: Vec<RouteEffect>,
}

impl Comparison {
    /// As JSON.
    pub fn to_json(&self) -> Value {
        let entities: Vec<Value> = self.entities.iter().map(EntityChange::to_json).collect();
        let routes: Vec<Value> = self.routes.iter().map(RouteEffect::to_json).collect();
        json!({ "from": self.from, "to": self.to, "entities": entities, "routes": routes })
    }
}

/// Compares two revisions.
///
/// # Errors
/// The log does not have them, or the store failed.
pub async fn diff(dao: &Dao, settings: &Settings, (from, to): (u64, u64), reveals: bool) -> Result<Comparison, Fault> {
    let store = &**dao.store();
    let old = documents_at(store, from).await.map_err(fault)?;
    let new = documents_at(store, to).await.map_err(fault)?;
    let registry = dao.registry();
    let entities = Shown { registry, reveals }.changes(&old, &new);
    let [old, new] = [old, new]
        .map(|documents| cardinal_kong::lower_owned(snapshot_of(registry, documents).0, registry, settings).0);
    Ok(Comparison { from, to, entities, routes: effects(&old, &new) })
}
