//! [`Plan`]: what is done to which node, for changes of entities.

use std::collections::{BTreeMap, HashMap, HashSet};

use cardinal_ir::Id;
use serde_json::{Map, Value, json};

use super::super::snapshot::Snapshot;
use super::fields::Fields;
use super::minimal::{DERIVED, minimal};
use super::parsed::{Expected, Owner, Parsed, Written, style};
use super::patch::{Ops, Refused};
use super::tree::{NodeId, Tree};
use super::update::EntityUpdate;
use super::verify::sealed;
use super::{Change, Changes, EditError};
use crate::entities::Kind;

/// The kind and id of an entity.
type Name = (&'static str, Id);

/// What is done to the files.
pub(super) struct Plan<'p, 'c> {
    pub(super) parsed: &'p Parsed<'p>,
    pub(super) before: &'p Snapshot,
    pub(super) changes: &'p Changes<'c>,
    /// Entities whose ids are written.
    ids: &'p HashSet<Name>,
    coarse: bool,
    pub(super) trees: Vec<Tree<'p>>,
    pub(super) ops: Vec<Ops>,
    /// The entities whose text goes.
    gone: HashSet<usize>,
    /// The entities that are written anew, with what they are, in their order.
    created: Vec<(Name, Map<String, Value>)>,
    /// The entities that are written anew within each one.
    below: HashMap<Name, Vec<Name>>,
    /// Groups of consumers that are written anew.
    pub(super) joined: HashMap<Id, Vec<Id>>,
    /// Lists that are written anew in maps of files.
    lists: BTreeMap<(usize, NodeId, &'static str), Vec<Value>>,
    expected: Expected,
}

/// Where a new entity is written.
enum Spot {
    /// Within one that is written.
    Within(usize),
    /// Within one that is new.
    Below(Name),
    /// In the list of its kind in a file.
    Top(usize),
}

impl<'p, 'c> Plan<'p, 'c> {
    pub(super) fn new(
        parsed: &'p Parsed<'p>,
        before: &'p Snapshot,
        changes: &'p Changes<'c>,
        ids: &'p HashSet<Name>,
        coarse: bool,
    ) -> Result<Self, EditError> {
        let trees = parsed.files.iter().map(super::parsed::File::tree).collect::<Result<Vec<_>, _>>()?;
        let ops = parsed.files.iter().map(|_| Ops::default()).collect();
        let mut plan = Self {
            parsed,
            before,
            changes,
            ids,
            coarse,
            trees,
            ops,
            gone: HashSet::new(),
            created: Vec::new(),
            below: HashMap::new(),
            joined: HashMap::new(),
            lists: BTreeMap::new(),
            expected: Expected::default(),
        };
        plan.sort();
        plan.remove()?;
        plan.members()?;
        plan.update()?;
        plan.create()?;
        plan.flush();
        Ok(plan)
    }

    /// The texts with everything done, and the ids that they should have.
    pub(super) fn written(self) -> Result<(Vec<String>, Expected), EditError> {
        let mut texts = Vec::with_capacity(self.trees.len());
        for ((file, tree), ops) in self.parsed.files.iter().zip(&self.trees).zip(&self.ops) {
            let text = if ops.is_empty() {
                file.text.clone()
            } else {
                let written = ops.applied(tree, &style(tree), &file.text);
                written.map_err(|(message, at)| file.refused(tree.line_number(at), &message))?
            };
            texts.push(file.marked(&text));
        }
        Ok((texts, self.expected))
    }

    /// Decides which text goes and which entities are written anew.
    fn sort(&mut self) {
        let mut anew = Vec::new();
        for (at, entity) in self.parsed.entities.iter().enumerate() {
            let change = self.changes.of(entity.kind.name, &entity.id);
            let holder_is_gone = entity.parent.is_some_and(|(parent, _)| self.gone.contains(&parent));
            let moves = change.flatten().is_some_and(|new| self.moves(entity, new));
            if !matches!(change, Some(None)) && !holder_is_gone && !moves {
                let list = self.expected.0.entry((self.parsed.owner(entity), entity.kind.name)).or_default();
                list.push(entity.id);
                continue;
            }
            self.gone.insert(at);
            let value = match change {
                Some(None) => None,
                Some(Some(new)) => Some(new.clone()),
                None => self.before.get(entity.kind.name, &entity.id).map(|entity| entity.value),
            };
            anew.extend(value.map(|value| ((entity.kind.name, entity.id), value)));
        }
        for change in self.changes.list {
            if let Change::Put { kind, id, value } = change
                && self.parsed.find(kind, id).is_none()
            {
                self.created.push(((kind, *id), value.clone()));
            }
        }
        self.created.extend(anew);
    }

    /// Whether a nested entity belongs to another one now.
    fn moves(&self, entity: &Written<'_>, new: &Map<String, Value>) -> bool {
        let Some((parent, field)) = entity.parent else { return false };
        let parent = self.parsed.entities.get(parent).map(|parent| parent.id);
        reference(new, field) != parent
    }

    /// Removes the text of what goes.
    fn remove(&mut self) -> Result<(), EditError> {
        let parsed = self.parsed;
        for (at, entity) in parsed.entities.iter().enumerate() {
            if !self.gone.contains(&at) || entity.parent.is_some_and(|(parent, _)| self.gone.contains(&parent)) {
                continue;
            }
            let node = self.node_of(entity)?;
            self.with(entity.file, |tree, ops| {
                let (list, position) = tree.list_of(node).ok_or_else(|| (NO_LIST.to_owned(), tree.node(node).start))?;
                let range = tree.node(node).start..tree.node(node).range.end;
                Fields { tree, ops, coarse: false }.check_anchors(&range)?;
                ops.remove(list, position);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Changes what stays.
    fn update(&mut self) -> Result<(), EditError> {
        let parsed = self.parsed;
        for (at, entity) in parsed.entities.iter().enumerate() {
            if self.gone.contains(&at) {
                continue;
            }
            self.rename_references(entity)?;
            let name = (entity.kind.name, entity.id);
            let new = self.changes.of(name.0, &name.1).flatten();
            if new.is_none() && !self.ids.contains(&name) {
                continue;
            }
            let Some(old) = self.before.get(name.0, &name.1) else { continue };
            let new = new.unwrap_or(&old.value).clone();
            let new = if parsed.transform { new } else { sealed(entity.kind, Some(&old.value), &new) };
            self.update_one(entity, &old.value, &new)?;
        }
        Ok(())
    }

    fn update_one(
        &mut self,
        entity: &Written<'p>,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
    ) -> Result<(), EditError> {
        let kind = entity.kind;
        let schema = self.parsed.registry.schema_of(kind, new).unwrap_or(&kind.schema);
        let is_changed = |name: &str| old.get(name) != new.get(name);
        let has_id = self.ids.contains(&(kind.name, entity.id));
        let mut changed = schema.fields.iter().map(|named| named.name).filter(|name| !DERIVED.contains(name));
        if !has_id && !changed.any(is_changed) && !is_changed("ttl") {
            return Ok(());
        }
        let texts = kind.references().filter(|(field, _)| is_changed(field));
        let references =
            texts.map(|(field, target)| (field, self.reference_text(target, reference(new, field)))).collect();
        let node = self.node_of(entity)?;
        let behind = last_own(self.parsed, kind, &self.trees, entity.file, node);
        let parent = entity.parent.map(|(_, field)| field);
        let id = has_id.then_some(entity.id);
        let update = EntityUpdate { kind, schema, node, old, new, id, parent, references, behind };
        let coarse = self.coarse;
        self.with(entity.file, |tree, ops| update.write(&mut Fields { tree, ops, coarse }))
    }

    /// References by a name that changes get the new one.
    fn rename_references(&mut self, entity: &Written<'p>) -> Result<(), EditError> {
        let Some(node) = entity.node else { return Ok(()) };
        for (field, target) in entity.kind.references() {
            let Some(tree) = self.trees.get(entity.file) else { continue };
            let Some(written) = tree.get(node, field).and_then(|value| tree.name_node(value)) else { continue };
            let Some(text) = tree.key(written).map(str::to_owned) else { continue };
            if let Some(label) = self.renamed(target, &text) {
                self.with(entity.file, |tree, ops| {
                    let edit = Fields { tree, ops, coarse: false };
                    edit.check(tree.node(written).start..tree.node(written).range.end)?;
                    edit.ops.replace(written, label.into());
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    /// The new name of the entity of a kind that had this one.
    pub(super) fn renamed(&self, kind: &'static str, old: &str) -> Option<String> {
        let of = self.parsed.registry.kind(kind)?;
        self.changes.new_of(kind).find_map(|(id, new)| {
            let before = self.before.get(kind, &id)?;
            let label = of.label(&before.value).filter(|label| *label == old)?;
            let new = of.label(new).map_or_else(|| id.to_string(), str::to_owned);
            (new != label).then_some(new)
        })
    }

    /// Writes what is new.
    fn create(&mut self) -> Result<(), EditError> {
        let names: Vec<Name> = self.created.iter().map(|(name, _)| *name).collect();
        let mut spots = Vec::with_capacity(names.len());
        for name in names {
            let spot = self.spot(name);
            let owner = match &spot {
                Spot::Within(at) => {
                    self.parsed.entities.get(*at).map_or(Owner::File(0), |e| Owner::Entity(e.kind.name, e.id))
                }
                Spot::Below((kind, id)) => Owner::Entity(kind, *id),
                Spot::Top(file) => Owner::File(*file),
            };
            if let Spot::Below(parent) = &spot {
                self.below.entry(*parent).or_default().push(name);
            }
            self.expected.0.entry((owner, name.0)).or_default().push(name.1);
            spots.push((name, spot));
        }
        for (name, spot) in spots {
            match spot {
                Spot::Below(_) => {}
                Spot::Within(at) => {
                    let Some(entity) = self.parsed.entities.get(at) else { continue };
                    let node = self.node_of(entity)?;
                    let field = self.parsed.registry.children(entity.kind.name).find(|(kind, _)| kind.name == name.0);
                    let value = self.value(name, field.map(|(_, field)| field), entity.file);
                    self.add(entity.file, node, name.0, value);
                }
                Spot::Top(file) => {
                    let value = self.value(name, None, file);
                    let root = self.trees.get(file).map_or(0, |tree| tree.root);
                    self.add(file, root, name.0, value);
                }
            }
        }
        Ok(())
    }

    /// Where a new entity is written: as its neighbours are.
    fn spot(&self, (kind, id): Name) -> Spot {
        let top = |file: usize| Spot::Top(file);
        let value = self.created.iter().find(|(name, _)| *name == (kind, id)).map(|(_, value)| value);
        let (Some(of), Some(value)) = (self.parsed.registry.kind(kind), value) else { return top(0) };
        let references: Vec<_> =
            of.references().filter_map(|(field, target)| Some((field, target, reference(value, field)?))).collect();
        let has_top =
            self.trees.iter().any(|tree| tree.get(tree.root, kind).is_some_and(|list| !tree.items(list).is_empty()));
        let is_nested = self.parsed.entities.iter().any(|entity| entity.kind.name == kind && entity.parent.is_some());
        let [(field, target, parent)] = references.as_slice() else { return top(0) };
        let is_part = of.cascade.contains(field)
            || kind == "routes" && *field == "service"
            || of.schema.field(field).is_some_and(cardinal_schema::Field::is_required);
        if !is_part || (has_top && !is_nested) {
            return top(0);
        }
        match self.parsed.index.get(&(*target, *parent)) {
            Some(at) if !self.gone.contains(at) => {
                let holder = self.parsed.entities.get(*at);
                let holds = holder.and_then(|holder| Some((holder.node?, self.trees.get(holder.file)?)));
                match holds {
                    // A neighbour in the same entity, or no list that it could be in.
                    Some((node, tree)) if tree.get(node, kind).is_some() || is_nested || !has_top => Spot::Within(*at),
                    _ => top(0),
                }
            }
            _ => Spot::Below((*target, *parent)),
        }
    }

    /// The text form of a new entity, with what is nested in it.
    fn value(&self, name: Name, parent: Option<&str>, file: usize) -> Value {
        let (kind, id) = name;
        let value = self.created.iter().find(|(own, _)| *own == name).map(|(_, value)| value);
        let (Some(of), Some(value)) = (self.parsed.registry.kind(kind), value) else { return Value::Null };
        let value = if self.parsed.transform { value.clone() } else { sealed(of, None, value) };
        let schema = self.parsed.registry.schema_of(of, &value).unwrap_or(&of.schema);
        let mut own = minimal(schema, &value);
        self.below_defaults(of, &value, file, &mut own);
        for (field, target) in of.references() {
            let reference = own.shift_remove(field).and(self.reference_text(target, reference(&value, field)));
            if let Some(text) = reference.filter(|_| parent != Some(field)) {
                own.insert(field.to_owned(), self.like_neighbours(kind, field, text));
            }
        }
        let is_skipped = |field: &str| {
            DERIVED.contains(&field) || field == of.primary_key || (kind == "certificates" && field == "snis")
        };
        own.retain(|field, _| !is_skipped(field));
        let mut out = Map::new();
        let label = if kind == "plugins" { Some("name") } else { of.label_field() };
        let first = label.filter(|label| own.contains_key(*label)).map(str::to_owned).or(own.keys().next().cloned());
        out.extend(first.and_then(|first| own.shift_remove_entry(&first)));
        if self.ids.contains(&name) {
            out.insert(of.primary_key.to_owned(), id.to_string().into());
        }
        let tags = own.shift_remove_entry("tags");
        out.extend(own.into_iter().chain(tags));
        if let Some(ttl) = value.get("ttl").filter(|ttl| schema.ttl && !ttl.is_null()) {
            out.insert("ttl".to_owned(), ttl.clone());
            out.extend(value.get("created_at").map(|at| ("created_at".to_owned(), at.clone())));
        }
        if let Some(groups) = self.joined.get(&id).filter(|_| kind == "consumers") {
            let group = |group: &Id| json!({ "name": self.label("consumer_groups", group) });
            out.insert("groups".to_owned(), groups.iter().map(group).collect());
        }
        for child in self.below.get(&name).into_iter().flatten() {
            let field = self.parsed.registry.children(kind).find(|(of, _)| of.name == child.0).map(|(_, field)| field);
            let value = self.value(*child, field, file);
            if let Value::Array(list) = out.entry(child.0).or_insert_with(|| Value::Array(Vec::new())) {
                list.push(value);
            }
        }
        out.into()
    }

    /// Adds what differs from the defaults of the file (`_info.defaults`).
    fn below_defaults(&self, kind: &Kind, value: &Map<String, Value>, file: usize, own: &mut Map<String, Value>) {
        let Some(tree) = self.trees.get(file) else { return };
        let defaults = tree.get(tree.root, "_info").and_then(|info| tree.get(info, "defaults"));
        let Some(defaults) = defaults.and_then(|all| tree.get(all, &kind.singular())) else { return };
        for (key, _) in tree.pairs(defaults) {
            if let Some(key) = tree.key(*key)
                && let Some(value) = value.get(key)
            {
                own.entry(key).or_insert_with(|| value.clone());
            }
        }
    }

    /// A reference as other entities of the kind write it: as text, or as a map.
    fn like_neighbours(&self, kind: &str, field: &str, text: Value) -> Value {
        let written = self.parsed.entities.iter().filter(|entity| entity.kind.name == kind && entity.parent.is_none());
        let mut found = written.rev().filter_map(|entity| {
            let tree = self.trees.get(entity.file)?;
            let value = tree.get(entity.node?, field)?;
            Some(tree.pairs(value).first().and_then(|(key, _)| tree.key(*key)).map(str::to_owned))
        });
        match found.next() {
            Some(Some(key)) if key == "name" || key == "username" => json!({ key: text }),
            _ => text,
        }
    }

    /// Adds an entity to a list in a map.
    pub(super) fn add(&mut self, file: usize, map: NodeId, key: &'static str, value: Value) {
        let (Some(tree), Some(ops)) = (self.trees.get(file), self.ops.get_mut(file)) else { return };
        match tree.get(map, key) {
            Some(list) if !tree.items(list).is_empty() => ops.push(list, value),
            _ => self.lists.entry((file, map, key)).or_default().push(value),
        }
    }

    /// Writes new lists, and takes out those that are empty now.
    fn flush(&mut self) {
        for ((file, map, key), list) in std::mem::take(&mut self.lists) {
            let (Some(tree), Some(ops)) = (self.trees.get(file), self.ops.get_mut(file)) else { continue };
            match tree.get(map, key) {
                Some(node) => ops.replace(node, Value::Array(list)),
                None => ops.insert(map, tree.pairs(map).len().saturating_sub(1), key, Value::Array(list)),
            }
        }
        for (tree, ops) in self.trees.iter().zip(&mut self.ops) {
            ops.drop_empty_lists(tree);
        }
    }

    /// What a file references an entity by: its name, or else its id.
    pub(super) fn label(&self, kind: &'static str, id: &Id) -> String {
        let of = self.parsed.registry.kind(kind).filter(|kind| kind.key.is_some_and(|key| key.unique));
        let label = |value: &Map<String, Value>| of.and_then(|of| of.label(value)).map(str::to_owned);
        let found = match self.changes.of(kind, id) {
            Some(Some(new)) => label(new),
            _ => self.before.get(kind, id).and_then(|entity| label(&entity.value)),
        };
        found.filter(|label| !label.is_empty()).unwrap_or_else(|| id.to_string())
    }

    fn reference_text(&self, target: &'static str, id: Option<Id>) -> Option<Value> {
        Some(self.label(target, &id?).into())
    }

    /// The node of an entity.
    pub(super) fn node_of(&self, entity: &Written<'p>) -> Result<NodeId, EditError> {
        let message = "this entity is repeated by an alias (*) or a merge (<<): write it out, or change the original";
        entity.node.ok_or_else(|| self.parsed.refused(entity, message))
    }

    /// Whether the text of an entity goes.
    pub(super) fn is_gone(&self, kind: &'static str, id: &Id) -> bool {
        self.parsed.index.get(&(kind, *id)).is_some_and(|at| self.gone.contains(at))
    }

    /// Does something to a file; errors get their lines.
    pub(super) fn with(
        &mut self,
        file: usize,
        run: impl FnOnce(&Tree<'p>, &mut Ops) -> Result<(), Refused>,
    ) -> Result<(), EditError> {
        let (Some(tree), Some(ops), Some(of)) =
            (self.trees.get(file), self.ops.get_mut(file), self.parsed.files.get(file))
        else {
            return Ok(());
        };
        run(tree, ops).map_err(|(message, at)| of.refused(tree.line_number(at), &message))
    }
}

const NO_LIST: &str = "this entity does not stand in a list of its own";

/// The id that a field references.
fn reference(value: &Map<String, Value>, field: &str) -> Option<Id> {
    value.get(field)?.get("id")?.as_str()?.parse().ok()
}

/// The position of the last pair of an entity before the entities that are nested in it.
fn last_own(parsed: &Parsed<'_>, kind: &Kind, trees: &[Tree<'_>], file: usize, node: NodeId) -> usize {
    let Some(tree) = trees.get(file) else { return 0 };
    let is_nested = |key: &str| {
        parsed.registry.children(kind.name).any(|(child, _)| child.name == key) || key == "groups" || key == "consumers"
    };
    let pairs = tree.pairs(node);
    let first = pairs.iter().position(|(key, _)| tree.key(*key).is_some_and(is_nested));
    first.map_or(pairs.len(), |first| first).saturating_sub(1)
}
