//! Warnings about references to vaults where fields take none: the text is used literally, so that the reference itself may
//! become a password.

use cardinal_ir::{Code, Diagnostic};
use cardinal_schema::{Field, Kind as FieldKind, Schema, is_reference};
use serde_json::{Map, Value};

use super::source::{Data, Node, Place, Scalar, Source};
use crate::entities::{Kind, Registry};

const START: &str = "{vault://";
/// Maximum number of warnings of one file; the last one has the number of further values.
const TOLD_MAX: usize = 20;

/// A warning for each reference in a file that is used as it is written.
pub(super) fn literal(root: &Node, file: &Source, registry: &Registry) -> Vec<Diagnostic> {
    if !file.read().contains(START) {
        return Vec::new();
    }
    let mut walk = Walk { file, registry, entity: Default::default(), told: Vec::new(), more: 0 };
    if let Data::Map(map) = &root.data {
        for (list, _, node) in map {
            if let Some(kind) = registry.kind(list) {
                walk.entities(kind, node);
            }
        }
    }
    if let (more @ 1.., Some(last)) = (walk.more, walk.told.last_mut()) {
        last.message.push_str(&format!(" (and {more} more values of this file)"));
    }
    walk.told
}

struct Walk<'w> {
    file: &'w Source,
    registry: &'w Registry,
    /// Kind of the entity, and its label or its position in its list.
    entity: (String, String),
    told: Vec<Diagnostic>,
    more: usize,
}

impl Walk<'_> {
    fn entities(&mut self, kind: &Kind, list: &Node) {
        let Data::List(list) = &list.data else { return };
        for (at, node) in list.iter().enumerate() {
            self.entity(kind, node, at + 1);
        }
    }

    fn entity(&mut self, kind: &Kind, node: &Node, number: usize) {
        let (Data::Map(map), registry) = (&node.data, self.registry) else { return };
        let scalars = map.iter().filter(|(_, _, node)| matches!(node.data, Data::Scalar(_)));
        let own: Map<String, Value> = scalars.map(|(key, _, node)| (key.to_string(), node.to_value())).collect();
        if let Ok(schema) = registry.schema_of(kind, &own) {
            let label = kind.label(&own).or_else(|| own.get("name").and_then(Value::as_str));
            self.entity = (kind.name.to_owned(), label.map_or_else(|| number.to_string(), str::to_owned));
            self.record(schema, node, "");
        }
        for (key, _, node) in map {
            if let Some((child, _)) = registry.children(kind.name).find(|(child, _)| child.name == &**key) {
                self.entities(child, node);
            }
        }
    }

    fn record(&mut self, schema: &Schema, node: &Node, path: &str) {
        let Data::Map(map) = &node.data else { return };
        for (key, place, node) in map {
            let Some(field) = schema.field(key) else { continue };
            let path = if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
            self.field(field, (node, *place), &path);
        }
    }

    fn field(&mut self, field: &Field, (node, place): (&Node, Place), path: &str) {
        match (&field.kind, &node.data) {
            (FieldKind::Record(schema), _) => self.record(schema, node, path),
            (FieldKind::Array(of) | FieldKind::Set(of), Data::List(list)) => {
                for (at, node) in list.iter().enumerate() {
                    self.field(of, (node, node.place), &format!("{path}[{at}]"));
                }
            }
            (FieldKind::Map(_, of), Data::Map(map)) => {
                for (key, place, node) in map {
                    self.field(of, (node, *place), &format!("{path}.{key}"));
                }
            }
            (_, Data::Scalar(Scalar::String(text))) if text.contains(START) => self.text(field, text, place, path),
            _ => {}
        }
    }

    fn text(&mut self, field: &Field, text: &str, place: Place, path: &str) {
        let why = match field.referenceable {
            false => "this field does not take references",
            true if is_reference(&Value::from(text)) => return,
            true => "a reference has to be the whole value, of the form {vault://<vault>/<resource>}",
        };
        if self.told.len() == TOLD_MAX {
            self.more += 1;
            return;
        }
        let message = format!("the vault reference is used as literal text: {why}");
        let (kind, label) = &self.entity;
        let told = super::warning(self.file, (kind, Some(label)), place, Code::Secret, message);
        self.told.push(Diagnostic { path: path.to_owned(), ..told });
    }
}
