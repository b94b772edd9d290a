//! What is wrong with a configuration: for people (places, source lines, hints) and in Kong's forms.

use cardinal_schema::Errors;
use serde_json::{Map, Value, json};

use super::collect::Item;
use super::excerpt::{discreet, excerpt};
use super::source::{Place, Source};
use crate::entities::Registry;

/// Findings that are shown to people; nobody reads more at once.
const RENDERED_MAX: usize = 100;

/// One thing that is wrong, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Index of the file.
    pub file: usize,
    /// Line and column.
    pub place: Place,
    /// The entity: `service "a"`; empty outside of entities.
    pub subject: String,
    /// Dotted path of the field below the entity.
    pub path: String,
    /// Kong's text.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Finding {
    pub(super) fn at(file: usize, place: Place, path: &str, message: &str, hint: Option<String>) -> Self {
        Self { file, place, subject: String::new(), path: path.to_owned(), message: message.to_owned(), hint }
    }
}

/// A configuration that is refused, with everything that is wrong.
#[derive(Clone, Debug)]
pub struct LoadErrors {
    pub(super) fields: Errors,
    pub(super) leftover: Errors,
    pub(super) flattened: Vec<Value>,
    pub(super) findings: Vec<Finding>,
    pub(super) sources: Vec<Source>,
    pub(super) message: Option<String>,
    pub(super) sound: Vec<String>,
}

impl LoadErrors {
    /// The tree of errors by position, as Kong's `fields`.
    pub fn fields(&self) -> Value {
        self.fields.to_json()
    }

    /// One entry for each entity with errors, as Kong's `flattened_errors`.
    pub fn flattened(&self) -> &[Value] {
        &self.flattened
    }

    /// What is wrong, in the order of the files.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The entities with which nothing is wrong.
    pub fn sound(&self) -> &[String] {
        &self.sound
    }

    /// Name of a finding's file.
    pub fn file_name(&self, finding: &Finding) -> &str {
        self.sources.get(finding.file).map_or("", |s| &s.name)
    }

    /// Kong's one-line message.
    pub fn message(&self) -> String {
        match &self.message {
            Some(message) => format!("failed parsing declarative configuration: {message}"),
            None => format!("declarative config is invalid: {}", lua_table(&self.fields.to_json())),
        }
    }

    /// The body of Kong's answer to `POST /config`, with `?flatten_errors=1` or without.
    pub fn to_kong_json(&self, flatten: bool) -> Value {
        let fields = match (&self.message, flatten) {
            (Some(_), _) => json!({ "error": self.message() }),
            (None, true) => self.leftover.to_json(),
            (None, false) => self.fields.to_json(),
        };
        let mut out = Map::new();
        out.insert("code".to_owned(), 14.into());
        out.insert("name".to_owned(), "invalid declarative configuration".into());
        out.insert("message".to_owned(), self.message().into());
        out.insert("fields".to_owned(), fields);
        if flatten {
            out.insert("flattened_errors".to_owned(), self.flattened.clone().into());
        }
        Value::Object(out)
    }

    /// The errors as text for people: each with its place, the source line and a hint.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for finding in self.findings.iter().take(RENDERED_MAX) {
            self.render_one(finding, &mut out);
        }
        if let more @ 1.. = self.findings.len().saturating_sub(RENDERED_MAX) {
            out.push_str(&format!("and {more} more\n"));
        }
        if let (true, Some(message)) = (self.findings.is_empty(), &self.message) {
            out.push_str(&format!("error: {message}\n"));
        }
        out
    }

    fn render_one(&self, finding: &Finding, out: &mut String) {
        let about = match (finding.subject.as_str(), finding.path.as_str()) {
            ("", "") => String::new(),
            ("", path) => format!("{path}: "),
            (subject, "") => format!("{subject}: "),
            (subject, path) => format!("{subject}: {path}: "),
        };
        out.push_str(&format!("error: {about}{}\n", finding.message));
        let Place { line, column } = finding.place;
        let source = self.sources.get(finding.file);
        if let Some(source) = source {
            let at = if line == 0 { source.name.clone() } else { format!("{}:{line}:{column}", source.name) };
            out.push_str(&format!("  --> {at}\n"));
        }
        out.extend(source.and_then(|source| excerpt(source, finding.place)));
        if let Some(hint) = &finding.hint {
            out.push_str(&format!("  = help: {hint}\n"));
        }
        out.push('\n');
    }
}

impl std::fmt::Display for LoadErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message())
    }
}

impl std::error::Error for LoadErrors {}

/// The tree by position: `services[0].routes[1].plugins[0]...`.
pub(super) fn tree(root: &Errors, items: &[Item<'_, '_>]) -> Errors {
    let mut out = root.clone();
    for item in items.iter().filter(|i| !i.errors.is_empty()) {
        let mut errors = item.errors.clone();
        let mut at = item;
        loop {
            let mut list = vec![None; at.index];
            list.push(Some(errors));
            errors = Errors::field(at.kind.name, Errors::Items(list));
            match at.parent.and_then(|(parent, _)| items.get(parent)) {
                Some(parent) => at = parent,
                None => break,
            }
        }
        out.merge(errors);
    }
    out
}

/// Kong's flattened form: children hoisted out of their parents.
pub(super) fn flatten(items: &[Item<'_, '_>]) -> Vec<Value> {
    items.iter().filter(|i| !i.errors.is_empty()).map(|item| flat(item, items)).collect()
}

fn flat(item: &Item<'_, '_>, items: &[Item<'_, '_>]) -> Value {
    let mut entity = item.own.clone();
    if let Some((parent, field)) = item.parent
        && let Some(parent) = items.get(parent).filter(|p| p.id_given)
        && !entity.contains_key(field)
    {
        entity.insert(field.to_owned(), json!({ "id": parent.id }));
    }
    let mut out = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(name.to_owned(), value);
        }
    };
    let name = item.own.get("name").filter(|v| v.as_str().is_some_and(|s| !s.is_empty()));
    let tags = item.own.get("tags").filter(|v| v.as_array().is_some_and(|l| l.iter().all(Value::is_string)));
    let id = item.own.get("id").filter(|v| v.as_str().is_some_and(|s| uuid::Uuid::try_parse(s).is_ok()));
    put("entity_type", Some(item.kind.singular().into_owned().into()));
    put("entity_id", id.cloned());
    put("entity_name", name.cloned());
    put("entity_tags", tags.cloned());
    put("entity", Some(Value::Object(entity)));
    let mut errors = Vec::new();
    categorize(&item.errors, "", &mut errors);
    put("errors", Some(errors.into()));
    Value::Object(out)
}

fn categorize(errors: &Errors, path: &str, out: &mut Vec<Value>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match errors {
        Errors::Message(text) if path.is_empty() => out.push(json!({ "type": "entity", "message": text })),
        Errors::Message(text) => out.push(json!({ "type": "field", "field": path, "message": text })),
        Errors::Fields { entity, fields } => {
            out.extend(entity.iter().map(|text| json!({ "type": "entity", "message": text })));
            for (name, errors) in fields {
                categorize(errors, &below(name), out);
            }
        }
        Errors::Items(items) => {
            for (i, errors) in items.iter().enumerate() {
                if let Some(errors) = errors {
                    categorize(errors, &below(&(i + 1).to_string()), out);
                }
            }
        }
    }
}

/// The findings of all entities, with hints.
pub(super) fn findings(items: &[Item<'_, '_>], registry: &Registry) -> Vec<Finding> {
    let mut out = Vec::new();
    for item in items.iter().filter(|i| !i.errors.is_empty()) {
        let subject = subject(item);
        for (path, message) in item.errors.messages() {
            out.push(Finding {
                file: item.file,
                place: item.node.place_of(&path),
                subject: subject.clone(),
                hint: hint(item, registry, &path, message).or_else(|| reference_hint(item, items, &path, message)),
                path,
                message: discreet(message),
            });
        }
    }
    out
}

/// What to call an item: `service "a"`, or `route 2` by its place in the list.
pub(super) fn subject(item: &Item<'_, '_>) -> String {
    let label = item.kind.label(&item.own).or_else(|| item.own.get("name").and_then(Value::as_str));
    match label {
        Some(label) => format!("{} \"{label}\"", item.kind.singular()),
        None => format!("{} {}", item.kind.singular(), item.index + 1),
    }
}

fn hint(item: &Item<'_, '_>, registry: &Registry, path: &str, message: &str) -> Option<String> {
    let written = item.node.get(path).map(|n| n.to_value().to_string()).unwrap_or_default();
    if written.contains("${{") {
        return Some(
            "${{ env \"...\" }} is filled in by decK: run `deck file render`, or use {vault://env/...}".to_owned(),
        );
    }
    if message == "unknown field" {
        let schema = registry.schema_of(item.kind, &item.own).ok()?;
        let (above, name) = path.rsplit_once('.').unwrap_or(("", path));
        let record = match above {
            "" => schema,
            above => match &schema.field_at(above)?.kind {
                cardinal_schema::Kind::Record(record) => record,
                _ => return None,
            },
        };
        let children: Vec<&str> = match above {
            "" => registry.children(item.kind.name).map(|(k, _)| k.name).collect(),
            _ => Vec::new(),
        };
        let names = record.names().chain(children);
        return cardinal_schema::suggest(name, names).map(|s| format!("did you mean '{s}'?"));
    }
    if message.starts_with("plugin '") {
        let name = item.own.get("name").and_then(Value::as_str)?;
        let near = cardinal_schema::suggest(name, registry.plugins().map(|p| p.def.name));
        return Some(match near {
            Some(near) => format!("did you mean '{near}'?"),
            None => "`cardinal plugins` lists those that there are; see docs/compatibility.md".to_owned(),
        });
    }
    if let Some(rest) = message.strip_prefix("expected one of: ") {
        let value = item.node.get(path)?.to_value();
        return cardinal_schema::suggest(value.as_str()?, rest.split(", ")).map(|s| format!("did you mean '{s}'?"));
    }
    None
}

/// For a name that leads nowhere: the nearest one that leads somewhere.
fn reference_hint(item: &Item<'_, '_>, items: &[Item<'_, '_>], path: &str, message: &str) -> Option<String> {
    let field = path.strip_suffix(".id").unwrap_or(path);
    if message != "missing primary key" && !message.starts_with("invalid reference '") {
        return None;
    }
    let (_, target) = item.kind.references().find(|(name, _)| *name == field)?;
    let name = item.own.get(field)?.as_str()?;
    let names = items.iter().filter(|i| i.kind.name == target).filter_map(|i| i.kind.label(&i.own));
    match cardinal_schema::suggest(name, names) {
        Some(near) => Some(format!("there is no '{name}' in '{target}', did you mean '{near}'?")),
        None => Some(format!("there is no '{name}' in '{target}'")),
    }
}

/// A value as Penlight writes a Lua table on one line, keys sorted.
fn lua_table(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            let plain = |k: &str| {
                !k.starts_with(|c: char| c.is_ascii_digit())
                    && k.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            };
            let parts: Vec<String> = keys
                .into_iter()
                .map(|k| {
                    let name = if plain(k) { k.clone() } else { format!("[\"{k}\"]") };
                    format!("{name}={}", lua_table(&map[k]))
                })
                .collect();
            format!("{{{}}}", parts.join(","))
        }
        Value::Array(list) => {
            let parts: Vec<String> = list.iter().map(lua_table).collect();
            format!("{{{}}}", parts.join(","))
        }
        Value::Null => "nil".to_owned(),
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}
