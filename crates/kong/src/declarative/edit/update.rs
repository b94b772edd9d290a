//! [`EntityUpdate`]: an entity that stays where it is written, and whose fields change.

use std::collections::HashMap;

use cardinal_ir::Id;
use cardinal_schema::{Named, Schema};
use serde_json::{Map, Value};

use super::fields::Fields;
use super::minimal::{DERIVED, minimal};
use super::patch::Refused;
use super::tree::NodeId;
use crate::entities::Kind;

/// Fields that `url` gives a service.
const URL: [&str; 4] = ["protocol", "host", "port", "path"];

/// A change of an entity that is written.
pub(super) struct EntityUpdate<'u> {
    pub(super) kind: &'u Kind,
    pub(super) schema: &'u Schema,
    pub(super) node: NodeId,
    pub(super) old: &'u Map<String, Value>,
    pub(super) new: &'u Map<String, Value>,
    /// The id, if it is to be written.
    pub(super) id: Option<Id>,
    /// The field that references the entity that this one is nested in.
    pub(super) parent: Option<&'static str>,
    /// What references that changed are written as.
    pub(super) references: HashMap<&'static str, Option<Value>>,
    /// The position of the pair that new ones are written behind.
    pub(super) behind: usize,
}

impl EntityUpdate<'_> {
    pub(super) fn write(&self, edit: &mut Fields<'_, '_>) -> Result<(), Refused> {
        let Self { kind, node, behind, .. } = *self;
        if let Some(id) = self.id.filter(|_| edit.tree.get(node, kind.primary_key).is_none()) {
            edit.ops.insert(node, 0, kind.primary_key, id.to_string().into());
        }
        let has_url = kind.name == "services" && !edit.coarse && self.url(edit);
        for named in self.schema.fields.iter().filter(|named| !(has_url && URL.contains(&named.name))) {
            self.field(edit, named)?;
        }
        self.life(edit);
        if edit.coarse { write_out(edit, node, self.schema, self.new, behind) } else { Ok(()) }
    }

    fn field(&self, edit: &mut Fields<'_, '_>, named: &Named) -> Result<(), Refused> {
        let Self { kind, node, behind, .. } = *self;
        let of = |map: &Map<String, Value>| map.get(named.name).cloned().unwrap_or(Value::Null);
        let (name, old, new) = (named.name, of(self.old), of(self.new));
        let is_written = edit.tree.get(node, name).is_some();
        let is_derived = DERIVED.contains(&name);
        let is_skipped = name == kind.primary_key
            || Some(name) == self.parent
            || (is_derived && !is_written)
            || (kind.name == "certificates" && name == "snis");
        // What is made at random where it is not written would be another one each time.
        let is_random = named.field.auto && !is_derived && !is_written;
        if is_skipped || (old == new && !is_random) {
            return Ok(());
        }
        match self.references.get(name) {
            Some(text) => refer(edit, node, name, text.as_ref(), behind),
            None if is_random => {
                edit.ops.insert(node, behind, name, new);
                Ok(())
            }
            None => edit.field(node, (name, &named.field), (&old, &new), behind),
        }
    }

    /// Writes how long an entity lives, and with it from when.
    fn life(&self, edit: &mut Fields<'_, '_>) {
        if self.old.get("ttl") == self.new.get("ttl") {
            return;
        }
        for name in ["ttl", "created_at"] {
            let value = self.new.get(name).cloned().unwrap_or(Value::Null);
            match edit.tree.get(self.node, name) {
                Some(written) => edit.ops.replace(written, value),
                None if value.is_null() => {}
                None => edit.ops.insert(self.node, self.behind, name, value),
            }
        }
    }

    /// Writes the URL of a service whose parts changed, if it is written as one.
    fn url(&self, edit: &mut Fields<'_, '_>) -> bool {
        let Some(written) = edit.tree.get(self.node, "url") else { return false };
        let is_same = URL.iter().all(|name| self.old.get(*name) == self.new.get(*name));
        let range = edit.tree.node(written).start..edit.tree.node(written).range.end;
        if is_same || edit.check(range).is_err() {
            return false;
        }
        let text = |name: &str| self.new.get(name).and_then(Value::as_str).unwrap_or_default();
        let port = self.new.get("port").and_then(Value::as_i64).unwrap_or_default();
        let is_usual = matches!((text("protocol"), port), ("http", 80) | ("https", 443));
        let port = if is_usual { String::new() } else { format!(":{port}") };
        let url = format!("{}://{}{port}{}", text("protocol"), text("host"), text("path"));
        edit.ops.replace(written, url.into());
        true
    }
}

/// Writes a reference of an entity that is not nested by it.
fn refer(
    edit: &mut Fields<'_, '_>,
    node: NodeId,
    field: &str,
    text: Option<&Value>,
    behind: usize,
) -> Result<(), Refused> {
    let tree = edit.tree;
    match (tree.pair(node, field), text) {
        (None, None) => {}
        (None, Some(text)) => edit.ops.insert(node, behind, field, text.clone()),
        (Some((at, _, value)), None) => {
            edit.check(tree.node(value).start..tree.node(value).range.end)?;
            if at == 0 { edit.ops.replace(value, Value::Null) } else { edit.ops.remove(node, at) }
        }
        (Some((_, _, value)), Some(text)) => {
            edit.check(tree.node(value).start..tree.node(value).range.end)?;
            match tree.name_node(value) {
                Some(name) if tree.get(value, "id").is_none() => edit.ops.replace(name, text.clone()),
                _ => edit.ops.replace(value, text.clone()),
            }
        }
    }
    Ok(())
}

/// Takes out shorthands, and writes what they stood for.
fn write_out(
    edit: &mut Fields<'_, '_>,
    node: NodeId,
    schema: &Schema,
    new: &Map<String, Value>,
    behind: usize,
) -> Result<(), Refused> {
    let tree = edit.tree;
    let mut has_any = false;
    for shorthand in &schema.shorthands {
        if let Some((at, _, value)) = tree.pair(node, shorthand.name) {
            edit.check(tree.node(value).start..tree.node(value).range.end)?;
            edit.ops.remove(node, at);
            has_any = true;
        }
    }
    if !has_any {
        return Ok(());
    }
    for (name, value) in minimal(schema, new) {
        let is_reference = schema.field(&name).is_some_and(|f| matches!(f.kind, cardinal_schema::Kind::Foreign(_)));
        let is_inserted = edit.ops.inserts(node, &name);
        if tree.get(node, &name).is_none()
            && !DERIVED.contains(&name.as_str())
            && name != "id"
            && !is_reference
            && !is_inserted
        {
            edit.ops.insert(node, behind, &name, value);
        }
    }
    Ok(())
}
