//! Where each value of a plugin's configuration comes from.

use std::collections::HashMap;

use cardinal_ir::Location;
use cardinal_kong::Source;
use cardinal_kong::declarative::{Data, Node, Place, parse, redact};
use cardinal_schema::{Kind, Schema};
use serde_json::Value;

/// A value and its origin.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    /// Dotted, below `config`.
    pub(super) path: String,
    /// As JSON, without secrets.
    pub(super) value: String,
    /// `kong.yaml:12`, `default`, or what else.
    pub(super) origin: String,
}

/// The values of a configuration that is complete: what was written at `location` and what was filled in. Null values
/// are left out unless they are in the file.
pub(super) fn leaves(config: &Value, schema: &Schema, location: Option<&Location>, sources: &[Source]) -> Vec<Leaf> {
    let written = location.and_then(|at| Some((at, written_at(at, sources)?)));
    let defaults =
        schema.doc_rows().into_iter().filter_map(|row| Some((row.path, serde_json::from_str(&row.default?).ok()?)));
    let mut collector = Collector { written, defaults: defaults.collect(), leaves: Vec::new() };
    collector.record("", &redact(config, Some(schema)), Some(schema));
    collector.leaves
}

/// What was written as `config` in the entity at this place.
fn written_at(at: &Location, sources: &[Source]) -> Option<Node> {
    let source = sources.iter().find(|source| *source.name == *at.file)?;
    let root = parse(source.text.strip_prefix('\u{feff}').unwrap_or(&source.text)).ok()?;
    let entity = find(&root, Place { line: at.line, column: at.column })?;
    Some(entity.get("config").cloned().unwrap_or(Node { place: entity.place, data: Data::Map(Box::default()) }))
}

/// The map at a place.
fn find(node: &Node, place: Place) -> Option<&Node> {
    match &node.data {
        Data::Map(_) if node.place == place => Some(node),
        Data::Map(map) => map.iter().find_map(|(.., value)| find(value, place)),
        Data::List(list) => list.iter().find_map(|value| find(value, place)),
        Data::Scalar(_) => None,
    }
}

struct Collector<'c> {
    written: Option<(&'c Location, Node)>,
    /// By path.
    defaults: HashMap<String, Value>,
    leaves: Vec<Leaf>,
}

impl Collector<'_> {
    fn record(&mut self, prefix: &str, value: &Value, schema: Option<&Schema>) {
        let Value::Object(map) = value else { return };
        for (name, value) in map {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            let field = schema.and_then(|schema| schema.field(name));
            match field.map(|field| &field.kind) {
                Some(Kind::Record(inner)) if value.is_object() => self.record(&path, value, Some(inner)),
                _ => self.leaf(path, value, field.is_some_and(|field| field.encrypted)),
            }
        }
    }

    fn leaf(&mut self, path: String, value: &Value, secret: bool) {
        let written = self.written(&path);
        if value.is_null() && written.is_none() {
            return;
        }
        // References are shown, not the secrets they resolve to.
        let reference =
            written.map(|(_, node)| node.to_value()).filter(|value| value.to_string().contains("{vault://"));
        let place = written.zip(self.written.as_ref()).map(|((at, _), (file, _))| format!("{}:{}", file.file, at.line));
        let origin = match (place, self.defaults.get(&path)) {
            (Some(place), _) => place,
            (None, Some(default)) if default == value => "default".to_owned(),
            // A shorthand, a deprecated name, or a default that depends on other fields.
            (None, _) => "derived from other fields".to_owned(),
        };
        let value = match reference {
            _ if secret => "(secret)".to_owned(),
            Some(reference) => redact(&reference, None).to_string(),
            None => value.to_string(),
        };
        self.leaves.push(Leaf { path, value, origin });
    }

    /// Where the path was written, if it was, and what.
    fn written(&self, path: &str) -> Option<(Place, &Node)> {
        let (_, config) = self.written.as_ref()?;
        let mut node = config;
        let mut place = None;
        for step in path.split('.') {
            let Data::Map(map) = &node.data else { return None };
            let (_, at, next) = map.iter().find(|(key, ..)| **key == *step)?;
            (place, node) = (Some(*at), next);
        }
        place.map(|place| (place, node))
    }
}
