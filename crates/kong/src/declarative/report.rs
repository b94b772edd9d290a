//! What is wrong with a configuration: for people (places, source lines, hints) and in Kong's forms.

use std::collections::HashMap;

use cardinal_schema::{Errors, Kind, Schema, Step};
use serde_json::{Map, Value, json};

use super::excerpt::{Excerpts, MASK, discreet, is_secret};
use super::hidden::Hidden;
use super::item::Item;
use super::redact::{hide_additions, hide_fields};
use super::source::{Data, Node, Place, Scalar, Source};
use crate::entities::Registry;

/// Maximum number of findings in text for people.
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
    /// Unknown fields of entities with secrets: perhaps a misspelt name of a secret.
    pub(super) unknown_secrets: Vec<String>,
    /// What is shown in the place of messages that quote a secret.
    pub(super) discreet: HashMap<String, String>,
    /// Kinds of entities whose lookup keys are secret, such as keys of consumers.
    pub(super) secret_keys: Vec<&'static str>,
}

impl LoadErrors {
    /// Files that cannot be read, or cannot be filled in.
    pub(super) fn unreadable(findings: Vec<Finding>, files: &[Source]) -> Self {
        let message = findings.first().map(|first| first.message.clone());
        let (fields, leftover) = (Errors::default(), Errors::default());
        let (flattened, sound, sources) = (Vec::new(), Vec::new(), files.to_vec());
        let (unknown_secrets, discreet, secret_keys) = (Vec::new(), HashMap::new(), Vec::new());
        Self { fields, leftover, flattened, findings, sources, message, sound, unknown_secrets, discreet, secret_keys }
    }

    /// Takes secrets out of all messages.
    pub(super) fn hide(&mut self, hidden: &Hidden) {
        let hide = |text: &str| hidden.hide(text).into_owned();
        self.fields.map_texts(&hide);
        self.leftover.map_texts(&hide);
        for entry in &mut self.flattened {
            *entry = hidden.hide_value(std::mem::take(entry));
        }
        for finding in &mut self.findings {
            finding.message = hide(&finding.message);
            finding.subject = hide(&finding.subject);
            finding.path = hide(&finding.path);
            finding.hint = finding.hint.take().map(|hint| hide(&hint));
        }
        self.message = self.message.take().map(|message| hide(&message));
        self.sound.iter_mut().for_each(|subject| *subject = hide(subject));
        self.discreet = std::mem::take(&mut self.discreet).into_iter().map(|(of, to)| (hide(&of), hide(&to))).collect();
    }

    /// The tree of errors by position, as Kong's `fields`.
    pub fn fields(&self) -> Value {
        self.fields.to_json()
    }

    /// The same without secrets in messages and in names of entities.
    pub fn fields_without_secrets(&self) -> Value {
        let mut fields = self.discreet_texts(self.fields.to_json());
        for kind in &self.secret_keys {
            if let Some(Value::Object(by_key)) = fields.get_mut(*kind) {
                let entries = std::mem::take(by_key).into_iter().enumerate();
                by_key.extend(entries.map(|(at, (_, below))| match at {
                    0 => (MASK.to_owned(), below),
                    at => (format!("{MASK} ({})", at + 1), below),
                }));
            }
        }
        fields
    }

    /// A tree of messages in which no message names a secret.
    fn discreet_texts(&self, tree: Value) -> Value {
        match tree {
            Value::Object(map) => map.into_iter().map(|(name, below)| (name, self.discreet_texts(below))).collect(),
            Value::Array(list) => list.into_iter().map(|below| self.discreet_texts(below)).collect(),
            Value::String(text) => self.discreet.get(&text).cloned().unwrap_or_else(|| discreet(&text)).into(),
            other => other,
        }
    }

    /// One entry for each entity with errors, as Kong's `flattened_errors`.
    pub fn flattened(&self) -> &[Value] {
        &self.flattened
    }

    /// The same without the values of fields that may be misspelt secrets.
    pub fn flattened_without_secrets(&self) -> Vec<Value> {
        let mut entries = self.flattened.clone();
        for entry in &mut entries {
            if let Some(entity) = entry.get_mut("entity") {
                hide_fields(entity, &self.unknown_secrets);
                hide_additions(entity);
            }
            if let Some(errors) = entry.get_mut("errors") {
                *errors = self.discreet_texts(errors.take());
            }
        }
        entries
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
            None => format!("declarative config is invalid: {}", lua_table(&self.fields_without_secrets())),
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
        let (mut out, mut excerpts) = (String::new(), Excerpts::without(&self.unknown_secrets));
        for finding in self.findings.iter().take(RENDERED_MAX) {
            self.render_one(finding, &mut excerpts, &mut out);
        }
        if let more @ 1.. = self.findings.len().saturating_sub(RENDERED_MAX) {
            out.push_str(&format!("and {more} more\n"));
        }
        if let (true, Some(message)) = (self.findings.is_empty(), &self.message) {
            out.push_str(&format!("error: {message}\n"));
        }
        out
    }

    fn render_one<'s>(&'s self, finding: &Finding, excerpts: &mut Excerpts<'s>, out: &mut String) {
        let about = match (finding.subject.as_str(), finding.path.as_str()) {
            ("", "") => String::new(),
            ("", path) => format!("{path}: "),
            (subject, "") => format!("{subject}: "),
            (subject, path) => format!("{subject}: {path}: "),
        };
        // A line end in a value would begin a line that looks like another message.
        out.push_str(&format!("error: {}\n", format!("{about}{}", finding.message).replace('\n', "\\n")));
        let Place { line, column } = finding.place;
        let source = self.sources.get(finding.file);
        if let Some(source) = source {
            let at = if line == 0 { source.name.clone() } else { format!("{}:{line}:{column}", source.name) };
            out.push_str(&format!("  --> {at}\n"));
        }
        out.extend(source.and_then(|source| excerpts.of(source, finding.place)));
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
    tree_of(root, items, &items.iter().collect::<Vec<_>>())
}

/// The same for some of the items.
pub(super) fn tree_of(root: &Errors, items: &[Item<'_, '_>], some: &[&Item<'_, '_>]) -> Errors {
    let mut out = root.clone();
    for item in some.iter().filter(|i| !i.errors().is_empty()) {
        // From the item to the root, then turned around.
        let mut path = Vec::new();
        let mut at = Some(*item);
        while let Some(item) = at {
            path.extend([Step::Item(item.index as usize), Step::Field(item.kind.name)]);
            at = item.parent.and_then(|(parent, _)| items.get(parent));
        }
        path.reverse();
        out.merge_at(&path, item.errors().clone());
    }
    out
}

/// The findings of all entities, with hints.
pub(super) fn findings(
    items: &[Item<'_, '_>],
    registry: &Registry,
    files: &[Source],
    declared_first: &[(usize, String, (u32, Place))],
) -> Vec<Finding> {
    let declared_first: HashMap<_, _> =
        declared_first.iter().map(|(at, text, first)| ((*at, text.as_str()), first)).collect();
    let first = |at: usize, message: &str| {
        let (file, place) = declared_first.get(&(at, message))?;
        let file = files.get(*file as usize)?;
        Some(format!("first declared at {}:{}", file.name, place.line))
    };
    let mut out = Vec::new();
    for (at, item) in items.iter().enumerate().filter(|(_, i)| !i.errors().is_empty()) {
        let subject = subject(item);
        for (path, message) in item.errors().messages() {
            out.push(Finding {
                file: item.file as usize,
                place: item.place_of(&path),
                subject: subject.clone(),
                hint: first(at, message)
                    .or_else(|| hint(item, registry, &path, message))
                    .or_else(|| reference_hint(item, items, &path, message)),
                message: for_people(item, registry, message)
                    .or_else(|| missing_target(item, &path).map(|(_, text)| text))
                    .unwrap_or_else(|| discreet_of(item, registry, &path, message)),
                path,
            });
        }
    }
    out
}

/// The messages that quote a secret, with what is shown instead.
pub(super) fn discreet_messages(items: &[Item<'_, '_>], registry: &Registry) -> HashMap<String, String> {
    let mut out = HashMap::new();
    for item in items.iter().filter(|item| !item.errors().is_empty()) {
        for (path, message) in item.errors().messages() {
            let shown = discreet_of(item, registry, &path, message);
            if shown != message {
                out.insert(message.to_owned(), shown);
            }
        }
    }
    out
}

/// Kong's message about a field without the value, should that be a secret.
fn discreet_of(item: &Item<'_, '_>, registry: &Registry, path: &str, message: &str) -> String {
    let mut shown = discreet(message);
    if may_hold_secret(item, registry, path) {
        let mut texts = Vec::new();
        if let Some(node) = node_at(item, path) {
            texts_of(node, &mut texts);
        }
        for text in texts {
            // Of `name:value` the name is shown.
            let parts = [Some(text), text.split_once(':').map(|(_, value)| value.trim())];
            parts.into_iter().flatten().filter(|part| !part.is_empty()).for_each(|part| without(&mut shown, part));
        }
    }
    shown
}

/// Shorter texts are replaced only where a message quotes them.
const QUOTED_ANYWHERE: usize = 4;

fn without(message: &mut String, secret: &str) {
    if secret.len() >= QUOTED_ANYWHERE {
        *message = message.replace(secret, MASK);
        return;
    }
    *message = message.replace(&format!("'{secret}'"), &format!("'{MASK}'"));
    if let Some(head) = message.strip_suffix(secret).filter(|head| head.ends_with(": ")) {
        *message = format!("{head}{MASK}");
    }
}

fn texts_of<'n>(node: &'n Node, out: &mut Vec<&'n str>) {
    match &node.data {
        Data::Scalar(Scalar::String(text)) => out.push(text),
        Data::Scalar(_) => {}
        Data::List(list) => list.iter().for_each(|node| texts_of(node, out)),
        Data::Map(map) => map.iter().for_each(|(_, _, node)| texts_of(node, out)),
    }
}

/// Whether a field may hold a secret: by its name, by its schema, or as a value that a transformer adds.
fn may_hold_secret(item: &Item<'_, '_>, registry: &Registry, path: &str) -> bool {
    let steps: Vec<&str> = path.split(['.', '[']).filter(|step| !step.is_empty()).collect();
    let is_added = |pair: &[&str]| match pair {
        [group, list] => {
            matches!(*group, "add" | "append" | "rename" | "replace")
                && matches!(*list, "body" | "headers" | "json" | "querystring" | "uri")
        }
        _ => false,
    };
    if steps.iter().any(|step| is_secret(step)) || steps.windows(2).any(is_added) {
        return true;
    }
    let own = item.own();
    let Ok(schema) = registry.schema_of(item.kind, &own) else { return false };
    let mut steps = steps.into_iter();
    let mut field = steps.next().and_then(|name| schema.field(name));
    while let Some(at) = field {
        if at.encrypted || at.referenceable {
            return true;
        }
        field = match (&at.kind, steps.next()) {
            (Kind::Record(schema), Some(name)) => schema.field(name),
            (Kind::Array(of) | Kind::Set(of) | Kind::Map(_, of), Some(_)) => Some(&**of),
            // An error of the whole may quote an element.
            (Kind::Array(of) | Kind::Set(of) | Kind::Map(_, of), None) => Some(&**of),
            _ => None,
        };
    }
    false
}

/// The names of unknown fields beside secrets: in credentials, and in records with encrypted fields.
pub(super) fn unknown_secrets(items: &[Item<'_, '_>], registry: &Registry) -> Vec<String> {
    let mut names = Vec::new();
    for item in items.iter().filter(|item| !item.errors().is_empty()) {
        let own = item.own();
        let schema = registry.schema_of(item.kind, &own).ok();
        for (path, _) in item.errors().messages().into_iter().filter(|(_, message)| *message == "unknown field") {
            let (above, name) = path.rsplit_once('.').unwrap_or(("", &path));
            let record = match above {
                "" => schema,
                above => schema.and_then(|schema| match &schema.field_at(above)?.kind {
                    Kind::Record(record) => Some(&**record),
                    _ => None,
                }),
            };
            let has_secrets = |record: &Schema| record.fields.iter().any(|f| f.field.encrypted || is_secret(f.name));
            if item.kind.brought_by.is_some() || record.is_some_and(has_secrets) {
                names.push(name.to_owned());
            }
        }
    }
    names.sort();
    names.dedup();
    names
}

/// What to call an item: `service "a"`, or `route 2` by its place in the list.
pub(super) fn subject(item: &Item<'_, '_>) -> String {
    let label = item.label().or_else(|| item.text("name"));
    match label {
        Some(label) => format!("{} \"{label}\"", item.kind.singular()),
        None => format!("{} {}", item.kind.singular(), item.index + 1),
    }
}

fn hint(item: &Item<'_, '_>, registry: &Registry, path: &str, message: &str) -> Option<String> {
    if item.kind.name == "vaults" && path == "name" {
        return crate::known::vault(item.own().get("name").and_then(Value::as_str)?);
    }
    let written = written_at(item, path);
    if let Some(hint) = variable_hint(&written) {
        return Some(hint);
    }
    if message == "unknown field" {
        return unknown_field_hint(item, registry, path);
    }
    if message.starts_with("plugin '") {
        let name = item.text("name")?;
        let name = name.as_str();
        let list = || "`cardinal plugins` lists the plugins that there are; see docs/compatibility.md".to_owned();
        if registry.has_disabled(name) {
            return None;
        }
        if crate::known::is_plugin(name) {
            return Some(list());
        }
        let near = cardinal_schema::suggest(name, registry.plugins().map(|p| p.def.name));
        return Some(near.map_or_else(list, |near| format!("did you mean '{near}'?")));
    }
    if let Some(rest) = message.strip_prefix("expected one of: ") {
        let value = item.node?.get(path)?.to_value();
        return cardinal_schema::suggest(value.as_str()?, rest.split(", ")).map(|s| format!("did you mean '{s}'?"));
    }
    None
}

/// What the user wrote at a dotted path, or the nearest above it.
fn node_at<'n>(item: &Item<'_, 'n>, path: &str) -> Option<&'n Node> {
    let mut node = item.node?;
    for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
        let list_at = step.strip_suffix(']').and_then(|step| step.parse::<usize>().ok());
        let next = match list_at {
            Some(at) => node.list().and_then(|list| list.get(at)),
            None => node.get(step),
        };
        let Some(next) = next else { break };
        node = next;
    }
    Some(node)
}

/// The scalar that the user wrote at a dotted path.
fn written_at(item: &Item<'_, '_>, path: &str) -> String {
    let (Some(whole), Some(node)) = (item.node, node_at(item, path)) else { return String::new() };
    // The host of a URL is wrong because the URL is.
    let node = if node.place == whole.place { whole.get("url").unwrap_or(node) } else { node };
    match &node.data {
        Data::Scalar(Scalar::String(text)) => text.to_string(),
        Data::Scalar(_) | Data::List(_) | Data::Map(_) => String::new(),
    }
}

/// The hint for a value with a variable that was not filled in.
pub(super) fn variable_hint(written: &str) -> Option<String> {
    if written.contains("${{") {
        return Some(
            "${{ env \"DECK_...\" }} is filled in by decK: add --fill-env, run `deck file render`, or use \
             {vault://env/...}"
                .to_owned(),
        );
    }
    let name = variable(written)?;
    Some(format!(
        "environment variables such as ${name} are not filled in here; use a template tool, or \
                  {{vault://env/...}} in fields that may hold secrets"
    ))
}

/// The name in `$NAME` or `${NAME}`. Names in lower case count only where the variable is the whole text: elsewhere `$`
/// is usually the end in a regular expression, or begins an expression of a template.
pub(super) fn variable(text: &str) -> Option<&str> {
    let is_name = |name: &str, first: fn(&u8) -> bool, rest: fn(&u8) -> bool| {
        let mut bytes = name.bytes();
        name.len() > 1 && bytes.next().is_some_and(|b| first(&b) || b == b'_') && bytes.all(|b| rest(&b) || b == b'_')
    };
    let is_any_name = |name: &&str| is_name(name, u8::is_ascii_alphabetic, u8::is_ascii_alphanumeric);
    let whole = text
        .strip_prefix('$')
        .map(|rest| rest.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(rest));
    if let Some(name) = whole.filter(is_any_name) {
        return Some(name);
    }
    let is_regex = text.starts_with('~') || text.starts_with('^');
    let is_upper = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    text.match_indices('$').filter(|_| !is_regex).find_map(|(at, _)| {
        let rest = text.get(at + 1..)?;
        let name = match rest.strip_prefix('{') {
            Some(rest) => rest.split_once('}')?.0,
            None => {
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
                rest.get(..end)?
            }
        };
        is_name(name, u8::is_ascii_uppercase, is_upper).then_some(name)
    })
}

fn unknown_field_hint(item: &Item<'_, '_>, registry: &Registry, path: &str) -> Option<String> {
    let own = item.own();
    let schema = registry.schema_of(item.kind, &own).ok()?;
    let (above, name) = path.rsplit_once('.').unwrap_or(("", path));
    let record = match above {
        "" => schema,
        above => match &schema.field_at(above)?.kind {
            Kind::Record(record) => record,
            _ => return None,
        },
    };
    let of = match above {
        "config" if item.kind.name == "plugins" => own.get("name").and_then(Value::as_str).unwrap_or_default(),
        _ => item.kind.name,
    };
    if item.kind.name == "routes" && matches!(path, "expression" | "priority") {
        return Some("routes may be expressions with the setting router_flavor = expressions".to_owned());
    }
    let belongs =
        crate::known::field(of, name).or_else(|| if above.is_empty() { crate::known::list(name) } else { None });
    if belongs.is_some() {
        return belongs;
    }
    let children: Vec<&str> = match above {
        "" => registry.children(item.kind.name).map(|(k, _)| k.name).collect(),
        _ => Vec::new(),
    };
    let names = record.names().chain(children);
    cardinal_schema::suggest(name, names).map(|s| format!("did you mean '{s}'?"))
}

/// The text for people in place of Kong's message, where that one would mislead: a missing plugin cannot be
/// enabled.
fn for_people(item: &Item<'_, '_>, registry: &Registry, message: &str) -> Option<String> {
    if !message.starts_with("plugin '") || item.kind.name != "plugins" {
        return None;
    }
    let name = item.text("name")?;
    match name.as_str() {
        name if registry.has_disabled(name) => None,
        name if crate::known::is_plugin(name) => Some(crate::known::no_plugin(name)),
        name => Some(format!("there is no plugin '{name}'")),
    }
}

/// The field of a reference `{name: x}` without a target, by the path of Kong's error about it (`route.protocols`,
/// `service.id`), and the message instead.
fn missing_target<'p>(item: &Item<'_, '_>, path: &'p str) -> Option<(&'p str, String)> {
    let (field, _) = path.split_once('.')?;
    item.kind.references().find(|(name, _)| *name == field)?;
    let own = item.own();
    let map = own.get(field)?.as_object().filter(|map| map.len() == 1)?;
    let name = map.get("name").or_else(|| map.get("username"))?.as_str()?;
    Some((field, format!("there is no {} '{name}'", field.replace('_', " "))))
}

/// The hint for a name without a target: the nearest existing name.
fn reference_hint(item: &Item<'_, '_>, items: &[Item<'_, '_>], path: &str, message: &str) -> Option<String> {
    let field = missing_target(item, path).map_or(path, |(field, _)| field);
    if field == path && !message.starts_with("invalid reference '") {
        return None;
    }
    let (_, target) = item.kind.references().find(|(name, _)| *name == field)?;
    let given = item.get(field)?;
    let name = given.as_str().or_else(|| given.get("name").or_else(|| given.get("username"))?.as_str())?;
    let names: Vec<String> = items.iter().filter(|i| i.kind.name == target).filter_map(Item::label).collect();
    match cardinal_schema::suggest(name, names.iter().map(String::as_str)) {
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
