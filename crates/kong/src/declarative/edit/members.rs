//! Which consumers are in which groups: the places where that is written.

use cardinal_ir::Id;
use serde_json::{Value, json};

use super::plan::Plan;
use super::tree::{NodeId, Shape, Tree};
use super::{Change, EditError};

/// A membership that is written.
struct Place {
    file: usize,
    list: NodeId,
    at: usize,
    /// The nodes of the names, with their kinds.
    names: Vec<(&'static str, NodeId)>,
    consumer: Option<Id>,
    group: Option<Id>,
}

impl Plan<'_, '_> {
    /// Writes changes of memberships, and names that changed.
    pub(super) fn members(&mut self) -> Result<(), EditError> {
        let places = self.places();
        for place in &places {
            for (kind, node) in &place.names {
                let text = self.trees.get(place.file).and_then(|tree| tree.key(*node)).map(str::to_owned);
                if let Some(label) = text.and_then(|text| self.renamed(kind, &text)) {
                    self.with(place.file, |_, ops| {
                        ops.replace(*node, label.into());
                        Ok(())
                    })?;
                }
            }
        }
        for change in self.changes.list {
            match change {
                Change::Leave { consumer, group } => {
                    let of = |place: &&Place| place.consumer == Some(*consumer) && place.group == Some(*group);
                    for place in places.iter().filter(of) {
                        self.with(place.file, |_, ops| {
                            ops.remove(place.list, place.at);
                            Ok(())
                        })?;
                    }
                }
                Change::Join { consumer, group } => self.join(consumer, group)?,
                Change::Put { .. } | Change::Delete { .. } => {}
            }
        }
        Ok(())
    }

    fn join(&mut self, consumer: &Id, group: &Id) -> Result<(), EditError> {
        let Some(entity) = self.parsed.find("consumers", consumer).filter(|_| !self.is_gone("consumers", consumer))
        else {
            self.joined.entry(*consumer).or_default().push(*group);
            return Ok(());
        };
        let label: Value = self.label("consumer_groups", group).into();
        let file = self.trees.iter().position(|tree| {
            tree.get(tree.root, "consumer_group_consumers").is_some_and(|list| !tree.items(list).is_empty())
        });
        let node = self.node_of(entity)?;
        let own = self.trees.get(entity.file).and_then(|tree| tree.get(node, "groups"));
        match file.filter(|_| own.is_none()) {
            Some(file) => {
                let value = json!({ "consumer": self.label("consumers", consumer), "consumer_group": label });
                let root = self.trees.get(file).map_or(0, |tree| tree.root);
                self.add(file, root, "consumer_group_consumers", value);
            }
            None => {
                let is_text = own.zip(self.trees.get(entity.file)).is_some_and(|(list, tree)| {
                    tree.items(list).first().is_some_and(|first| matches!(tree.node(*first).shape, Shape::Scalar(..)))
                });
                let value = if is_text { label } else { json!({ "name": label }) };
                self.add(entity.file, node, "groups", value);
            }
        }
        Ok(())
    }

    fn places(&self) -> Vec<Place> {
        let mut out = Vec::new();
        let sides = [("consumers", "groups"), ("consumer_groups", "consumers")];
        for entity in &self.parsed.entities {
            let Some((kind, key)) = sides.into_iter().find(|(kind, _)| *kind == entity.kind.name) else { continue };
            let (Some(tree), Some(node)) = (self.trees.get(entity.file), entity.node) else { continue };
            let Some(list) = tree.get(node, key).filter(|_| !self.is_gone(kind, &entity.id)) else { continue };
            let other = if kind == "consumers" { "consumer_groups" } else { "consumers" };
            for (at, item) in tree.items(list).iter().enumerate() {
                let names: Vec<_> = tree.name_node(*item).map(|name| (other, name)).into_iter().collect();
                let found = names.first().and_then(|(kind, name)| self.named(tree, kind, *name));
                let (consumer, group) =
                    if kind == "consumers" { (Some(entity.id), found) } else { (found, Some(entity.id)) };
                out.push(Place { file: entity.file, list, at, names, consumer, group });
            }
        }
        for (file, tree) in self.trees.iter().enumerate() {
            let Some(list) = tree.get(tree.root, "consumer_group_consumers") else { continue };
            for (at, item) in tree.items(list).iter().enumerate() {
                let side = |field: &str, kind: &'static str| {
                    let node = tree.get(*item, field).and_then(|value| tree.name_node(value))?;
                    Some(((kind, node), self.named(tree, kind, node)))
                };
                let (consumer, group) = (side("consumer", "consumers"), side("consumer_group", "consumer_groups"));
                let names = consumer.iter().chain(&group).map(|(name, _)| *name).collect();
                let (consumer, group) = (consumer.and_then(|(_, id)| id), group.and_then(|(_, id)| id));
                out.push(Place { file, list, at, names, consumer, group });
            }
        }
        out
    }

    /// The entity that a name or an id is of.
    fn named(&self, tree: &Tree<'_>, kind: &'static str, node: NodeId) -> Option<Id> {
        let text = tree.key(node)?;
        let of = self.parsed.registry.kind(kind)?;
        let by_name = self.before.of(kind).find(|entity| of.label(&entity.value) == Some(text)).map(|entity| entity.id);
        by_name.or_else(|| text.parse().ok())
    }
}
