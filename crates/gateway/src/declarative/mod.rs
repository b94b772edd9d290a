//! Declarative files: what users write, to a [`Snapshot`] of complete entities.
//!
//! Formats 1.1, 2.1 and 3.0, YAML or JSON, one file or many. The behaviour is that of
//! `kong/db/schema/others/declarative_config.lua`; errors are told with their places besides.

mod collect;
mod excerpt;
mod ids;
mod migrate;
mod quick;
mod redact;
mod report;
mod resolve;
mod snapshot;
mod source;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use cardinal_ir::{Code, Diagnostic, Id, Location, Noun, Origin, Severity};
use cardinal_schema::{Auto, Errors, Options};
use serde_json::{Map, Value, json};

pub use excerpt::{discreet, excerpt, is_secret};
pub use redact::{redact, redact_map, redact_text};
pub use report::{Finding, LoadErrors};
pub use snapshot::{Entity, Snapshot};
pub use source::{
    BYTES_MAX, DEPTH_MAX, Data, Duplicate, Key, Node, ParseError, Place, Scalar, Source, VALUES_MAX, parse,
    parse_noting,
};

use collect::{Collected, Item, collect};
use resolve::Index;

use crate::entities::{Kind, Registry, pem};
use crate::settings::Settings;

/// Entities from which on checking them is shared by threads.
const PARALLEL_MIN: usize = 4_096;
/// Most threads that share it.
const THREADS_MAX: usize = 8;

/// Reads bytes as one file. Never panics, whatever the bytes are.
///
/// # Errors
/// The bytes are not UTF-8, not YAML or JSON, or over a limit.
pub fn parse_bytes(bytes: &[u8]) -> Result<Node, ParseError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(without_mark(text)),
        Err(e) => {
            let before = String::from_utf8_lossy(bytes.get(..e.valid_up_to()).unwrap_or_default());
            let line = u32::try_from(before.lines().count().max(1)).unwrap_or(u32::MAX);
            Err(ParseError { message: "not UTF-8".to_owned(), place: Place { line, column: 1 } })
        }
    }
}

/// The text without its byte order mark.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Reads a configuration from files, whose lists are joined.
///
/// # Errors
/// Everything that is wrong: nothing is left out silently.
pub fn load(files: &[Source], registry: &Registry, settings: &Settings) -> Result<Snapshot, Box<LoadErrors>> {
    let mut roots = Vec::with_capacity(files.len());
    let (mut findings, mut warnings) = (Vec::new(), Vec::new());
    for (i, file) in files.iter().enumerate() {
        match parse_noting(without_mark(&file.text)) {
            Ok((node, duplicates)) => {
                roots.push(node);
                warnings.extend(duplicates.into_iter().map(|duplicate| twice(file, duplicate)));
            }
            Err(e) => findings.push(Finding::at(i, e.place, "", &e.message, None)),
        }
    }
    if let Some(first) = findings.first() {
        let message = Some(first.message.clone());
        let (fields, leftover) = (Errors::default(), Errors::default());
        let (flattened, sound, sources) = (Vec::new(), Vec::new(), files.to_vec());
        let errors = LoadErrors { fields, leftover, flattened, findings, sources, message, sound };
        return Err(Box::new(errors));
    }
    let mut snapshot = load_nodes(&roots, files, registry, settings)?;
    snapshot.warnings = warnings;
    Ok(snapshot)
}

/// Kong takes the last of equal keys without a word.
fn twice(file: &Source, duplicate: Duplicate) -> Diagnostic {
    let Duplicate { place, key, before } = duplicate;
    let noun = Noun { front_end: "kong".into(), kind: "key".into(), file: Some(file.name.as_str().into()) };
    let origin = Origin::at(&Arc::new(noun), Id::nil(), Some(key.into()), place.line, place.column);
    let message = match before.line {
        0 => "stands twice in one map, the last one counts".to_owned(),
        line => format!("stands twice in one map, the last one counts and that of line {line} does not"),
    };
    let (severity, code) = (Severity::Warning, Code::Unique);
    Diagnostic { severity, code, origin, path: String::new(), message, hint: None }
}

/// The same for a document that is already a value, as an Admin API gets it.
///
/// # Errors
/// Everything that is wrong.
pub fn load_value(document: &Value, registry: &Registry, settings: &Settings) -> Result<Snapshot, Box<LoadErrors>> {
    let root = node_of(document);
    load_nodes(&[root], &[], registry, settings)
}

fn node_of(value: &Value) -> Node {
    let data = match value {
        Value::Array(list) => Data::List(list.iter().map(node_of).collect()),
        Value::Object(map) => {
            Data::Map(map.iter().map(|(k, v)| (k.as_str().into(), Place::default(), node_of(v))).collect())
        }
        Value::Null => Data::Scalar(Scalar::Null),
        Value::Bool(flag) => Data::Scalar(Scalar::Bool(*flag)),
        Value::Number(number) => Data::Scalar(Scalar::Number(number.clone())),
        Value::String(text) => Data::Scalar(text.as_str().into()),
    };
    Node { place: Place::default(), data }
}

fn load_nodes(
    roots: &[Node],
    files: &[Source],
    registry: &Registry,
    settings: &Settings,
) -> Result<Snapshot, Box<LoadErrors>> {
    let mut all = collect(registry, roots);
    let index = Index::new(&all.items);
    let completed = complete(&mut all, registry, &index, settings);
    if !all.root.is_empty() || all.items.iter().any(|i| !i.errors.is_empty()) {
        resolve::mark_unresolved(&mut all, &index);
        return Err(refuse(all, registry, files, None));
    }
    // Kong looks at references and unique values only when every entity is sound by itself.
    let broken = resolve::check(&mut all, &index, &completed);
    if !broken.is_empty() {
        return Err(refuse(all, registry, files, Some(broken)));
    }
    Ok(publish(&all, &index, completed, files, registry))
}

fn refuse(all: Collected<'_, '_>, registry: &Registry, files: &[Source], broken: Option<Errors>) -> Box<LoadErrors> {
    let Collected { items, root, mut findings, .. } = all;
    findings.extend(report::findings(&items, registry));
    findings.sort_by_key(|f| (f.file, f.place));
    let fields = broken.unwrap_or_else(|| report::tree(&root, &items));
    let flattened = report::flatten(&items);
    let sound = items.iter().filter(|i| i.errors.is_empty()).map(report::subject).collect();
    let sources = files.to_vec();
    Box::new(LoadErrors { fields, leftover: root, flattened, findings, sources, message: None, sound })
}

/// Fills in defaults and checks each entity by its schema.
fn complete(
    all: &mut Collected<'_, '_>,
    registry: &Registry,
    index: &Index,
    settings: &Settings,
) -> Vec<Map<String, Value>> {
    let transform = all.transform;
    let ids: Vec<String> = all.items.iter().map(|i| i.id.clone()).collect();
    let auto = Fresh { now: settings.loaded_at.max(1.0) };
    let one = |item: &mut Item<'_, '_>| complete_one(item, registry, index, &ids, &auto, transform);
    if all.items.len() < PARALLEL_MIN {
        return all.items.iter_mut().map(one).collect();
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let share = all.items.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let one = &one;
        let shares: Vec<_> = all
            .items
            .chunks_mut(share)
            .map(|items| scope.spawn(move || items.iter_mut().map(one).collect::<Vec<_>>()))
            .collect();
        let joined = |share: std::thread::ScopedJoinHandle<'_, Vec<_>>| match share.join() {
            Ok(maps) => maps,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        shares.into_iter().flat_map(joined).collect()
    })
}

fn complete_one(
    item: &mut Item<'_, '_>,
    registry: &Registry,
    index: &Index,
    ids: &[String],
    auto: &Fresh,
    transform: bool,
) -> Map<String, Value> {
    let none = Map::new();
    if matches!(item.errors, Errors::Message(_)) {
        return none;
    }
    let schema = match registry.schema_of(item.kind, &item.own) {
        Ok(schema) => schema,
        Err(errors) => {
            item.errors.merge(errors);
            return none;
        }
    };
    let mut value = item.own.clone();
    value.entry("id").or_insert_with(|| item.id.clone().into());
    for (field, target) in item.kind.references() {
        let name = match value.get(field) {
            Some(Value::String(name)) => name.clone(),
            _ => continue,
        };
        // A name that is not found is told later; until then any id will do.
        let id = index.find(target, &name).map_or_else(|| uuid::Uuid::nil().to_string(), |at| ids[at].clone());
        value.insert(field.to_owned(), json!({ "id": id }));
    }
    if let Some((parent, field)) = item.parent {
        if !agrees(&item.own, field, item.kind, index, parent) {
            item.errors.set(field, "value must be null".into());
        }
        value.insert(field.to_owned(), json!({ "id": ids[parent] }));
    }
    match schema.process_map(value, &Options { auto: Some(auto), no_defaults: false }) {
        Ok(Value::Object(mut map)) => {
            finish(item, &mut map, transform);
            map
        }
        Ok(_) => none,
        Err(errors) => {
            item.errors.merge(errors);
            none
        }
    }
}

/// Whether an entity that is nested says nothing else about its parent. An id that is nobody's is told later.
fn agrees(own: &Map<String, Value>, field: &str, kind: &Kind, index: &Index, parent: usize) -> bool {
    let target = kind.references().find(|(name, _)| *name == field).map_or("", |(_, target)| target);
    match own.get(field) {
        None | Some(Value::Null) => true,
        Some(Value::String(name)) => index.find(target, name) == Some(parent),
        Some(other) => {
            let id = other.get("id").and_then(Value::as_str);
            id.is_some_and(|id| index.find(target, id).is_none_or(|at| at == parent))
        }
    }
}

/// What the program adds to a sound entity.
fn finish(item: &Item<'_, '_>, map: &mut Map<String, Value>, transform: bool) {
    if item.kind.name == "ca_certificates" {
        let digest = map.get("cert").and_then(Value::as_str).and_then(|text| pem::digest(text).ok());
        map.insert("cert_digest".to_owned(), digest.map_or(Value::Null, Value::String));
    }
    let seal = item.kind.brought_by.and_then(|def| def.seal).filter(|_| transform);
    let consumer = map.get("consumer").and_then(|c| c.get("id")).and_then(Value::as_str);
    if let (Some(seal), Some(consumer)) = (seal, consumer.and_then(|id| id.parse().ok())) {
        let mut value = Value::Object(std::mem::take(map));
        seal(&mut value, consumer);
        if let Value::Object(sealed) = value {
            *map = sealed;
        }
    }
}

fn publish(
    all: &Collected<'_, '_>,
    index: &Index,
    completed: Vec<Map<String, Value>>,
    files: &[Source],
    registry: &Registry,
) -> Snapshot {
    let mut snapshot = Snapshot::new(registry.field_names());
    let names: Vec<Arc<str>> = files.iter().map(|file| file.name.as_str().into()).collect();
    for (item, value) in all.items.iter().zip(completed) {
        let Ok(id) = item.id.parse() else { continue };
        let name = item.kind.label(&value).or_else(|| match item.kind.name {
            "plugins" => value.get("name").and_then(Value::as_str),
            _ => None,
        });
        let location = names.get(item.file).map(|file| Location {
            file: Arc::clone(file),
            line: item.node.place.line,
            column: item.node.place.column,
        });
        let entity = Entity { id, name: name.map(Into::into), location, value };
        snapshot.put(item.kind.name, entity);
    }
    for (consumer, group) in resolve::memberships(all, index) {
        let groups = snapshot.memberships.entry(consumer).or_default();
        if !groups.contains(&group) {
            groups.push(group);
            groups.sort();
        }
    }
    snapshot
}

/// Times and random values for entities of one load.
struct Fresh {
    now: f64,
}

impl Auto for Fresh {
    fn now(&self) -> f64 {
        self.now
    }

    fn id(&self) -> uuid::Uuid {
        uuid::Uuid::new_v4()
    }

    fn secret(&self) -> String {
        uuid::Uuid::new_v4().simple().to_string()
    }
}
