//! [`Snapshot`]: the entities of a configuration, complete and consistent.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use cardinal_ir::{Diagnostic, Id, Location, Origin, OriginKind};
use indexmap::IndexMap;
use serde_json::{Map, Value};

use crate::packed::{Names, Packed};

/// The entities of a configuration: complete with defaults, references resolved to ids, unique values unique.
///
/// They are held packed; what is handed out is unpacked for the occasion.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    pub(super) entities: IndexMap<&'static str, BTreeMap<Id, Stored>>,
    pub(super) memberships: BTreeMap<Id, Vec<Id>>,
    pub(super) warnings: Vec<Diagnostic>,
    pub(super) differences: Vec<Diagnostic>,
    names: Arc<Names>,
}

/// An entity as stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub(super) fields: Packed,
    pub(super) name: Option<Box<str>>,
    pub(super) file: Option<Arc<str>>,
    pub(super) line: u32,
    pub(super) column: u32,
}

impl Stored {
    fn entity(&self, id: Id, names: &Names) -> Entity {
        Entity { id, value: self.fields.unpack(names), name: self.name.clone(), location: self.location() }
    }

    fn location(&self) -> Option<Location> {
        let Self { file, line, column, .. } = self;
        file.as_ref().map(|file| Location { file: Arc::clone(file), line: *line, column: *column })
    }
}

/// The field with the id of an entity's workspace. Entities of the workspace `default` do not have it.
pub const WORKSPACE_FIELD: &str = "ws_id";

/// An entity.
#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    /// Its id.
    pub id: Id,
    /// All fields, `id` included.
    pub value: Map<String, Value>,
    /// The user's name for it.
    pub name: Option<Box<str>>,
    /// Where it was written.
    pub location: Option<Location>,
}

impl Entity {
    /// A field, unless it is null.
    pub fn get(&self, field: &str) -> Option<&Value> {
        // Comparing some names takes less than hashing one.
        let value = match self.value.len() {
            0..=40 => self.value.iter().find(|(name, _)| *name == field).map(|(_, value)| value),
            _ => self.value.get(field),
        };
        value.filter(|v| !v.is_null())
    }

    /// A field of text.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.get(field)?.as_str()
    }

    /// A whole number.
    pub fn int(&self, field: &str) -> Option<i64> {
        self.get(field)?.as_i64()
    }

    /// A boolean; `false` when absent.
    pub fn flag(&self, field: &str) -> bool {
        self.get(field).and_then(Value::as_bool).unwrap_or(false)
    }

    /// The texts of a list or set.
    pub fn texts(&self, field: &str) -> impl Iterator<Item = &str> {
        self.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    /// The id that a reference names.
    pub fn reference(&self, field: &str) -> Option<Id> {
        self.get(field)?.get("id")?.as_str()?.parse().ok()
    }

    /// The id of its workspace; `None` for the workspace `default` and for kinds without workspaces.
    pub fn workspace(&self) -> Option<Id> {
        self.text(WORKSPACE_FIELD)?.parse().ok()
    }

    /// What to call it in the IR.
    pub fn origin(&self, kind: &str) -> Origin {
        let kind = Arc::new(OriginKind { front_end: "kong".into(), noun: kind.into() });
        Origin::of(&kind, self.id, self.name.clone())
    }
}

impl Snapshot {
    /// These entities, whose fields are packed with these names. The last one of equal id counts.
    pub(super) fn new(names: Arc<Names>, entities: BTreeMap<&'static str, Vec<(Id, Stored)>>) -> Self {
        let entities = entities.into_iter().map(|(kind, all)| (kind, all.into_iter().collect())).collect();
        Self { names, entities, ..Self::default() }
    }

    /// Complete entities whose references are resolved, and the groups of each consumer in ascending order.
    pub fn of_entities(
        registry: &crate::Registry,
        entities: impl IntoIterator<Item = (&'static str, Entity)>,
        memberships: BTreeMap<Id, Vec<Id>>,
    ) -> Self {
        let mut snapshot = Self { names: registry.field_names(), memberships, ..Self::default() };
        for (kind, entity) in entities {
            snapshot.put(kind, entity);
        }
        snapshot
    }

    /// The entities of a kind, in the order of their ids.
    pub fn of(&self, kind: &str) -> impl Iterator<Item = Entity> {
        let all = self.entities.get(kind).into_iter().flatten();
        all.map(|(id, stored)| stored.entity(*id, &self.names))
    }

    /// The entities of a kind with ids greater than this one, in the order of their ids.
    pub fn after<'s>(&'s self, kind: &str, id: Option<Id>) -> impl Iterator<Item = Entity> + use<'s> {
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        let all = self.entities.get(kind).map(|all| all.range((from, Bound::Unbounded)));
        all.into_iter().flatten().map(|(id, stored)| stored.entity(*id, &self.names))
    }

    /// The groups of each consumer that is in one, in ascending order.
    pub fn memberships(&self) -> &BTreeMap<Id, Vec<Id>> {
        &self.memberships
    }

    /// How many entities of a kind there are.
    pub fn count(&self, kind: &str) -> usize {
        self.entities.get(kind).map_or(0, BTreeMap::len)
    }

    /// An entity.
    pub fn get(&self, kind: &str, id: &Id) -> Option<Entity> {
        Some(self.entities.get(kind)?.get(id)?.entity(*id, &self.names))
    }

    /// Calls `visit` with kind, id and location of each entity that was read from a file.
    pub(crate) fn each_location(&self, mut visit: impl FnMut(&str, &Id, Location)) {
        for (kind, all) in &self.entities {
            for (id, stored) in all {
                if let Some(at) = stored.location() {
                    visit(kind, id, at);
                }
            }
        }
    }

    /// Whether there is an entity with this id.
    pub fn contains(&self, kind: &str, id: &Id) -> bool {
        self.entities.get(kind).is_some_and(|all| all.contains_key(id))
    }

    /// The groups that a consumer is in.
    pub fn groups_of(&self, consumer: &Id) -> &[Id] {
        self.memberships.get(consumer).map_or(&[], Vec::as_slice)
    }

    /// Warnings about files that can be served: duplicate keys ([`Code::Unique`]).
    ///
    /// [`Code::Unique`]: cardinal_ir::Code::Unique
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// What was written that is accepted here and that Kong itself refuses.
    pub fn differences(&self) -> &[Diagnostic] {
        &self.differences
    }

    /// Adds or replaces an entity; returns the one replaced.
    pub(crate) fn put(&mut self, kind: &'static str, entity: Entity) -> Option<Entity> {
        if !self.entities.contains_key(kind) {
            self.entities.insert(kind, BTreeMap::new());
            // The order of kinds must not depend on the order in the files.
            self.entities.sort_keys();
        }
        let Entity { id, value, name, location } = entity;
        let (file, line, column) = match location {
            Some(Location { file, line, column }) => (Some(file), line, column),
            None => (None, 0, 0),
        };
        let stored = Stored { fields: Packed::new(&value, &self.names), name, file, line, column };
        let old = self.entities.get_mut(kind)?.insert(id, stored)?;
        Some(old.entity(id, &self.names))
    }

    /// Takes an entity out, and a consumer out of its groups.
    pub(crate) fn remove(&mut self, kind: &'static str, id: &Id) -> Option<Entity> {
        if kind == "consumers" {
            self.memberships.remove(id);
        }
        let old = self.entities.get_mut(kind)?.remove(id)?;
        Some(old.entity(*id, &self.names))
    }

    /// Takes all entities of a kind out. Each is freed once the iterator has passed it.
    pub(crate) fn take(&mut self, kind: &str) -> impl Iterator<Item = Entity> + use<> {
        let names = Arc::clone(&self.names);
        let all = self.entities.shift_remove(kind).unwrap_or_default();
        all.into_iter().map(move |(id, stored)| stored.entity(id, &names))
    }

    /// Puts a consumer into groups, and out of all others.
    pub(crate) fn set_groups(&mut self, consumer: Id, groups: Vec<Id>) {
        if groups.is_empty() {
            self.memberships.remove(&consumer);
        } else {
            self.memberships.insert(consumer, groups);
        }
    }

    /// The kinds that have entities.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.entities.keys().copied()
    }

    /// How many entities there are.
    pub fn len(&self) -> usize {
        self.entities.values().map(BTreeMap::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `{kind: {id: entity}}`, what Kong answers to `POST /config`.
    pub fn entities_json(&self) -> Value {
        let mut out = Map::new();
        for (kind, entities) in self.entities.iter().filter(|(_, e)| !e.is_empty()) {
            let of: Map<String, Value> =
                entities.iter().map(|(id, e)| (id.to_string(), e.fields.unpack(&self.names).into())).collect();
            out.insert((*kind).to_owned(), of.into());
        }
        let members = self.memberships_json();
        if !members.is_empty() {
            out.insert("consumer_group_consumers".to_owned(), members.into());
        }
        Value::Object(out)
    }

    /// `{id: membership}`, as Kong shows members of groups next to the entities.
    pub fn memberships_json(&self) -> Map<String, Value> {
        let mut members = Map::new();
        for (consumer, groups) in &self.memberships {
            for group in groups {
                let id = super::ids::id_of("consumer_group_consumers", &format!("{consumer}:{group}")).to_string();
                members.insert(
                    id,
                    serde_json::json!({
                        "consumer": { "id": consumer.to_string() },
                        "consumer_group": { "id": group.to_string() },
                    }),
                );
            }
        }
        members
    }
}
