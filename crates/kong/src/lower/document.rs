//! Entities as log records show them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cardinal_ir::{Document, Part, Parts};
use serde_json::{Map, Value};

use crate::declarative::{Entity, WORKSPACE_FIELD};
use crate::entities::Registry;

/// The workspace of entities that name no other: `default`.
const WORKSPACE: &str = "0dc6f45b-8f8d-40d2-a504-473544ee190b";

/// Makes documents: compact JSON of an entity without null fields, as Kong's log serializer shows it. Values that
/// are in the record or are defaults are not stored again.
pub(super) struct Documents {
    /// Texts with gaps, shared by the entities of one shape.
    shapes: HashSet<Arc<str>>,
    /// Documents without values of their own.
    plain: HashMap<Arc<str>, Document>,
    /// For each kind, its fields with the JSON of their defaults.
    defaults: HashMap<&'static str, Vec<(&'static str, String)>>,
    loaded_at: i64,
    text: String,
    value: String,
    part: String,
}

impl Documents {
    pub(super) fn new(registry: &Registry, loaded_at: f64) -> Self {
        let default = |value: &Option<Value>| value.as_ref().map(Value::to_string).unwrap_or_default();
        let of = |kind: &crate::entities::Kind| {
            kind.schema.fields.iter().map(|named| (named.name, default(&named.field.default))).collect()
        };
        let shown = ["routes", "services", "upstreams", "consumers"];
        let defaults = shown.iter().filter_map(|name| Some((*name, of(registry.kind(name)?)))).collect();
        Self {
            shapes: HashSet::new(),
            plain: HashMap::new(),
            defaults,
            loaded_at: loaded_at.max(1.0) as i64,
            text: String::new(),
            value: String::new(),
            part: String::new(),
        }
    }

    /// The document of an entity, for the record that was made of it.
    pub(super) fn of(&mut self, kind: &str, entity: &Entity, record: &impl Parts) -> Document {
        let Self { shapes, plain, defaults, loaded_at, text, value: json, part: filled } = self;
        let defaults = defaults.get(kind).map_or(&[][..], Vec::as_slice);
        text.clear();
        text.push('{');
        let mut values: Vec<Box<str>> = Vec::new();
        // A complete entity has its fields in the order of the schema.
        let mut next = 0;
        let mut workspace = WORKSPACE;
        for (name, value) in entity.value.iter().filter(|(_, value)| !value.is_null()) {
            if let (WORKSPACE_FIELD, Value::String(id)) = (name.as_str(), value) {
                workspace = id;
                continue;
            }
            let at = (next..defaults.len()).chain(0..next).find(|at| defaults.get(*at).is_some_and(|d| d.0 == *name));
            next = at.map_or(next, |at| at + 1);
            if text.len() > 1 {
                text.push(',');
            }
            write_text(name, text);
            text.push(':');
            if value.is_boolean() || value.as_i64() == Some(*loaded_at) && name.ends_with("ed_at") {
                write(value, text);
                continue;
            }
            json.clear();
            write(value, json);
            if at.and_then(|at| defaults.get(at)).is_some_and(|(_, default)| default == json) {
                text.push_str(json);
                continue;
            }
            let (before, part, after) = part_of(name);
            filled.clear();
            filled.push_str(before);
            let has = part != Part::Value && record.part(part, filled);
            filled.push_str(after);
            if has && filled == json {
                text.push_str(before);
                text.push(part.gap());
                text.push_str(after);
            } else {
                text.push(Part::Value.gap());
                values.push(json.as_str().into());
            }
        }
        text.push_str(",\"ws_id\":\"");
        text.push_str(workspace);
        text.push_str("\"}");
        if let (true, Some(document)) = (values.is_empty(), plain.get(text.as_str())) {
            return document.clone();
        }
        let shape = match shapes.get(text.as_str()) {
            Some(shape) => Arc::clone(shape),
            None => {
                let shape: Arc<str> = text.as_str().into();
                shapes.insert(Arc::clone(&shape));
                shape
            }
        };
        if !values.is_empty() {
            return Document::new(shape, values);
        }
        let document = Document::new(Arc::clone(&shape), values);
        plain.insert(shape, document.clone());
        document
    }
}

/// The parts of the record that a field may repeat, and the text around them.
fn part_of(field: &str) -> (&'static str, Part, &'static str) {
    match field {
        "id" => ("", Part::Id, ""),
        "name" | "username" => ("", Part::Name, ""),
        "service" => ("{\"id\":", Part::Backend, "}"),
        "hosts" => ("", Part::Hosts, ""),
        "paths" => ("", Part::Paths, ""),
        "host" => ("", Part::Host, ""),
        "port" => ("", Part::Port, ""),
        "custom_id" => ("", Part::CustomId, ""),
        _ => ("", Part::Value, ""),
    }
}

/// Compact JSON, without what is null in objects.
fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => write_object(map, out),
        Value::String(text) => write_text(text, out),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Array(list) if list.iter().all(Value::is_string) => {
            out.push('[');
            for (n, text) in list.iter().filter_map(Value::as_str).enumerate() {
                if n > 0 {
                    out.push(',');
                }
                write_text(text, out);
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

fn write_object(map: &Map<String, Value>, out: &mut String) {
    out.push('{');
    for (n, (name, value)) in map.iter().filter(|(_, value)| !value.is_null()).enumerate() {
        if n > 0 {
            out.push(',');
        }
        write_text(name, out);
        out.push(':');
        write(value, out);
    }
    out.push('}');
}

fn write_text(text: &str, out: &mut String) {
    if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&Value::from(text).to_string());
    }
}
