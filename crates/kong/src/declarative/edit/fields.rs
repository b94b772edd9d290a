//! [`Fields`]: the fields of an entity that changed, as operations on the nodes that they are written in.

use std::ops::Range;

use cardinal_schema::{Field, Kind as FieldKind, Schema};
use serde_json::{Map, Value};

use super::minimal::within;
use super::patch::{Ops, Refused};
use super::tree::{NodeId, Shape, Tree};

/// Writes changes of fields.
pub(super) struct Fields<'e, 't> {
    pub(super) tree: &'e Tree<'t>,
    pub(super) ops: &'e mut Ops,
    /// Each field is written as a whole, and without shorthands.
    pub(super) coarse: bool,
}

impl Fields<'_, '_> {
    /// The fields of a record that differ. New ones are written behind the pair at a position.
    pub(super) fn record(
        &mut self,
        map: NodeId,
        schema: &Schema,
        (old, new): (&Map<String, Value>, &Map<String, Value>),
        behind: usize,
    ) -> Result<(), Refused> {
        for named in &schema.fields {
            let of = |map: &'_ Map<String, Value>| map.get(named.name).cloned().unwrap_or(Value::Null);
            let (old, new) = (of(old), of(new));
            if old != new {
                self.field(map, (named.name, &named.field), (&old, &new), behind)?;
            }
        }
        Ok(())
    }

    /// A field of a map that gets another value.
    pub(super) fn field(
        &mut self,
        map: NodeId,
        (name, field): (&str, &Field),
        (old, new): (&Value, &Value),
        behind: usize,
    ) -> Result<(), Refused> {
        let Some((at, _, node)) = self.tree.pair(map, name) else {
            let value = if self.coarse { within(field, new) } else { delta(field, old, new) };
            self.ops.insert(map, behind, name, value);
            return Ok(());
        };
        let has_default = field.default.is_some() || self.coarse;
        if new.is_null() && !has_default && at > 0 {
            self.check(self.tree.node(node).start..self.tree.node(node).range.end)?;
            self.ops.remove(map, at);
            return Ok(());
        }
        self.value(node, field, (old, new))
    }

    /// Another value in place of one that is written.
    fn value(&mut self, node: NodeId, field: &Field, (old, new): (&Value, &Value)) -> Result<(), Refused> {
        if !self.coarse {
            match (&field.kind, &self.tree.node(node).shape, old, new) {
                (FieldKind::Record(schema), Shape::Map { pairs, .. }, Value::Object(old), Value::Object(new)) => {
                    return self.record(node, schema, (old, new), pairs.len().saturating_sub(1));
                }
                (FieldKind::Record(_), Shape::Alias(_), Value::Object(_), Value::Object(_)) => {
                    let message = "the value is an alias (*) of one that is written elsewhere: write it out, or change the \
                                   original";
                    return Err((message.to_owned(), self.tree.node(node).start));
                }
                (FieldKind::Map(_, of), Shape::Map { .. }, Value::Object(old), Value::Object(new))
                    if !new.is_empty() =>
                {
                    return self.map(node, of, (old, new));
                }
                (
                    FieldKind::Array(of) | FieldKind::Set(of),
                    Shape::List { items, .. },
                    Value::Array(old),
                    Value::Array(new),
                ) if items.len() == old.len() && !new.is_empty() && !old.is_empty() => {
                    return self.list(node, of, (old, new));
                }
                _ => {}
            }
        }
        self.replace(node, within(field, new))
    }

    fn replace(&mut self, node: NodeId, value: Value) -> Result<(), Refused> {
        self.check(self.tree.node(node).start..self.tree.node(node).range.end)?;
        self.ops.replace(node, value);
        Ok(())
    }

    fn map(
        &mut self,
        node: NodeId,
        of: &Field,
        (old, new): (&Map<String, Value>, &Map<String, Value>),
    ) -> Result<(), Refused> {
        let last = self.tree.pairs(node).len().saturating_sub(1);
        for key in old.keys().filter(|key| !new.contains_key(*key)) {
            match self.tree.pair(node, key) {
                Some((at, _, value)) => {
                    self.check(self.tree.node(value).start..self.tree.node(value).range.end)?;
                    self.ops.remove(node, at);
                }
                None => {
                    let all = new.iter().map(|(key, value)| (key.clone(), within(of, value))).collect::<Map<_, _>>();
                    return self.replace(node, all.into());
                }
            }
        }
        for (key, value) in new {
            match (old.get(key), self.tree.get(node, key)) {
                (Some(old), _) if old == value => {}
                (Some(old), Some(written)) => self.value(written, of, (old, value))?,
                (None, Some(written)) => self.replace(written, within(of, value))?,
                (_, None) => self.ops.insert(node, last, key, within(of, value)),
            }
        }
        Ok(())
    }

    /// Elements that stay at the start and the end of a list are not touched.
    fn list(&mut self, node: NodeId, of: &Field, (old, new): (&[Value], &[Value])) -> Result<(), Refused> {
        let items = self.tree.items(node).to_vec();
        let head = old.iter().zip(new).take_while(|(old, new)| old == new).count();
        let tails = old.iter().skip(head).rev().zip(new.iter().skip(head).rev());
        let tail = tails.take_while(|(old, new)| old == new).count();
        let (removed, added) = (old.len() - head - tail, new.len() - head - tail);
        if added > removed && tail > 0 {
            let all = new.iter().map(|value| within(of, value)).collect();
            return self.replace(node, all);
        }
        for at in head..head + removed.min(added) {
            if let (Some(item), Some(old), Some(new)) = (items.get(at), old.get(at), new.get(at)) {
                self.value(*item, of, (old, new))?;
            }
        }
        for at in head + added..head + removed {
            if let Some(item) = items.get(at) {
                self.check(self.tree.node(*item).start..self.tree.node(*item).range.end)?;
                self.ops.remove(node, at);
            }
        }
        for value in new.iter().skip(head + removed).take(added.saturating_sub(removed)) {
            self.ops.push(node, within(of, value));
        }
        Ok(())
    }

    /// What is written there must not be needed elsewhere, or come from elsewhere.
    pub(super) fn check(&self, range: Range<usize>) -> Result<(), Refused> {
        if let Some(at) = self.tree.fill(&range) {
            let message = "this value is filled in from the environment: change the variable, or the file";
            return Err((message.to_owned(), at));
        }
        self.check_anchors(&range)
    }

    /// No anchor in the range is used outside of it.
    pub(super) fn check_anchors(&self, range: &Range<usize>) -> Result<(), Refused> {
        let inside = |at: usize| range.contains(&at);
        let anchors = self.tree.nodes().map(|(_, node)| node).filter(|node| node.anchor > 0 && inside(node.start));
        for anchor in anchors {
            let user = self
                .tree
                .nodes()
                .map(|(_, node)| node)
                .find(|node| matches!(node.shape, Shape::Alias(of) if of == anchor.anchor) && !inside(node.start));
            if let Some(user) = user {
                let line = self.tree.line_number(user.start);
                let message = format!("this value has an anchor (&) that line {line} uses: change the file");
                return Err((message, anchor.start));
            }
        }
        Ok(())
    }
}

/// What has to be written of a value that was not written: of records only what differs.
fn delta(field: &Field, old: &Value, new: &Value) -> Value {
    match (&field.kind, old, new) {
        (FieldKind::Record(schema), Value::Object(old), Value::Object(new)) => {
            let mut out = Map::new();
            for named in &schema.fields {
                let of = |map: &'_ Map<String, Value>| map.get(named.name).cloned().unwrap_or(Value::Null);
                let (old, new) = (of(old), of(new));
                if old != new {
                    out.insert(named.name.to_owned(), delta(&named.field, &old, &new));
                }
            }
            out.into()
        }
        _ => within(field, new),
    }
}
