//! Declarative files: what users write, to a [`Snapshot`] of complete entities.
//!
//! Formats 1.1, 2.1 and 3.0, YAML or JSON, one file or many. The behaviour is that of
//! `kong/db/schema/others/declarative_config.lua`; errors have their places in addition.

mod collect;
mod complete;
mod edit;
mod excerpt;
mod export;
mod fill;
mod flatten;
mod hidden;
mod ids;
mod item;
mod masks;
mod migrate;
mod order;
mod quick;
mod redact;
mod references;
mod report;
mod resolve;
mod scalars;
mod snapshot;
mod source;
#[cfg(test)]
mod tests;
mod variables;

use std::collections::BTreeMap;
use std::sync::Arc;

use cardinal_ir::{Code, Diagnostic, Id, Location, Origin, OriginKind, Severity};
use cardinal_schema::{Auto, Errors};
use serde_json::{Map, Value};

pub use edit::{Change, EditError, Fill, Meaning, edit};
pub use excerpt::{Excerpts, discreet, is_secret};
pub use export::export;
pub use fill::fill;
pub use hidden::Hidden;
pub use ids::usual_id;
pub use redact::{redact, redact_map, redact_text};
pub use report::{Finding, LoadErrors};
pub use snapshot::{Entity, Snapshot, WORKSPACE_FIELD};
pub use source::{
    BYTES_MAX, DEPTH_MAX, Data, Duplicate, Key, Node, Oddities, ParseError, Place, Scalar, Source, VALUES_MAX, parse,
    parse_noting,
};

use collect::{Collected, collect, consume};
use complete::{Completed, Load, MUST_BE_NULL, Pass};
use item::Item;
use resolve::Index;
use snapshot::Stored;

use crate::entities::{Registry, pem};
use crate::settings::Settings;

/// Bytes of text from which on memory that was freed is given back to the system between two steps.
const LARGE: usize = 1 << 20;

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
    let loaded = parse_all(files, registry).and_then(|(roots, warnings)| {
        let parsed_again = || parse_all(files, registry).map(|(roots, _)| roots).unwrap_or_default();
        let mut snapshot = load_nodes(roots, parsed_again, files, (registry, settings))?;
        snapshot.warnings.splice(0..0, warnings);
        Ok(snapshot)
    });
    loaded.map_err(|mut errors| {
        errors.hide(&Hidden::of_files(files, registry));
        errors
    })
}

/// The trees of files, with warnings.
fn parse_all(files: &[Source], registry: &Registry) -> Result<(Vec<Node>, Vec<Diagnostic>), Box<LoadErrors>> {
    let mut roots = Vec::with_capacity(files.len());
    let (mut findings, mut warnings) = (Vec::new(), Vec::new());
    for (i, file) in files.iter().enumerate() {
        let place = |place: Place| file.filled.as_ref().map_or(place, |filled| filled.place(place));
        match parse_noting(without_mark(file.read())) {
            Ok((mut node, oddities)) => {
                if file.filled.is_some() {
                    node.set_places(&place);
                }
                warnings.extend(variables::unresolved(&node, file));
                warnings.extend(references::literal(&node, file, registry));
                roots.push(node);
                let duplicates = oddities.duplicates.into_iter().map(|d| Duplicate { place: place(d.place), ..d });
                warnings.extend(duplicates.map(|duplicate| twice(file, duplicate)));
                warnings.extend(oddities.second_document.map(|at| second_document(file, place(at))));
            }
            Err(e) => findings.push(Finding::at(i, place(e.place), "", &e.message, None)),
        }
    }
    if findings.is_empty() { Ok((roots, warnings)) } else { Err(Box::new(LoadErrors::unreadable(findings, files))) }
}

/// A warning about a place of a file.
fn warning(file: &Source, (kind, name): (&str, Option<&str>), place: Place, code: Code, message: String) -> Diagnostic {
    let kind = OriginKind { front_end: "kong".into(), noun: kind.into() };
    let origin = Origin::of(&Arc::new(kind), Id::nil(), name.map(Into::into));
    let location = Location { file: file.name.as_str().into(), line: place.line, column: place.column };
    let (severity, location, path) = (Severity::Warning, Some(location), String::new());
    Diagnostic { severity, code, origin, location, path, message, hint: None }
}

/// Kong reads the first document of a file and no other.
fn second_document(file: &Source, place: Place) -> Diagnostic {
    let message = format!("the document that starts in line {} is ignored: only the first one is read", place.line);
    warning(file, ("document", Some("2")), place, Code::Unsupported, message)
}

/// Kong takes the last of equal keys without a word.
fn twice(file: &Source, duplicate: Duplicate) -> Diagnostic {
    let Duplicate { place, key, before } = duplicate;
    let message = match before.line {
        0 => "duplicate key in a map: the last value is used".to_owned(),
        line => format!("duplicate key in a map: the last value is used, the one in line {line} is ignored"),
    };
    warning(file, ("key", Some(&key)), place, Code::Unique, message)
}

/// The same for a document that is already a value, as an Admin API gets it.
///
/// # Errors
/// Everything that is wrong.
pub fn load_value(document: &Value, registry: &Registry, settings: &Settings) -> Result<Snapshot, Box<LoadErrors>> {
    let roots = || vec![node_of(document)];
    load_nodes(roots(), roots, &[], (registry, settings))
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

/// The entities of trees. Nearly all configurations are valid, and need no nodes once their entities are collected:
/// only to report errors or warnings with places are the files parsed again and the trees kept.
fn load_nodes(
    roots: Vec<Node>,
    roots_again: impl Fn() -> Vec<Node>,
    files: &[Source],
    (registry, settings): (&Registry, &Settings),
) -> Result<Snapshot, Box<LoadErrors>> {
    let mut all = consume(registry, roots);
    // Threads that complete entities allocate elsewhere, and cannot use what the trees have left.
    release_if_large(files);
    let sound = load_items(&mut all, files, registry, settings);
    drop(all);
    sound.or_else(|_| load_with_nodes(&roots_again(), files, registry, settings))
}

/// Returns freed memory to the system between two steps, where that is much.
fn release_if_large(files: &[Source]) {
    if files.iter().map(|file| file.text.len()).sum::<usize>() >= LARGE {
        cardinal_base::memory::release_free();
    }
}

fn load_with_nodes(
    roots: &[Node],
    files: &[Source],
    registry: &Registry,
    settings: &Settings,
) -> Result<Snapshot, Box<LoadErrors>> {
    let mut all = collect(registry, roots);
    load_items(&mut all, files, registry, settings).map_err(|broken| refuse(all, registry, files, broken))
}

/// The entities of items, or what is wrong across them; what is wrong with an item is added to it.
fn load_items(
    all: &mut Collected<'_, '_>,
    files: &[Source],
    registry: &Registry,
    settings: &Settings,
) -> Result<Snapshot, Option<Errors>> {
    let index = Index::new(&all.items);
    resolve::restore_unknown_names(all, &index);
    let load =
        Load { registry, index: &index, auto: Fresh { now: settings.loaded_at.max(1.0) }, transform: all.transform };
    let mut completed = load.complete(all, Pass::Names);
    let is_sound =
        |all: &Collected<'_, '_>, completed: &[Completed]| all.is_sound() && completed.iter().all(Result::is_ok);
    if !is_sound(all, &completed) || load.may_differ(all) {
        if all.without_nodes {
            return Err(None);
        }
        // Kong checks once more, with references in place of names, and keeps the errors of the first round about
        // references that must be null.
        let first = std::mem::replace(&mut completed, load.complete(all, Pass::References));
        if !is_sound(all, &completed) {
            for (item, (first, second)) in all.items.iter_mut().zip(first.into_iter().zip(completed)) {
                if let Err(second) = second {
                    *item.errors_mut() = *second;
                }
                if let Err(first) = first {
                    item.errors_mut().overlay(first.only(MUST_BE_NULL));
                }
            }
            return Err(None);
        }
    }
    let completed: Vec<_> = completed.into_iter().filter_map(Result::ok).collect();
    // Kong looks at references and unique values only when every entity is valid by itself.
    let broken = resolve::check(all, &index, registry.names(), &completed);
    if !broken.is_empty() {
        return Err(Some(broken));
    }
    let differences = std::mem::take(&mut all.differences);
    let mut notes = std::mem::take(&mut all.notes);
    let overruled: Vec<_> = resolve::overruled(all, &index).collect();
    if all.without_nodes && !overruled.is_empty() {
        return Err(None);
    }
    notes.extend(overruled);
    let memberships = resolve::memberships(all, &index);
    drop(index);
    // What was written is needed no more, which halves the memory of the fields.
    all.items.iter_mut().zip(completed).for_each(|(item, fields)| item.complete(fields));
    release_if_large(files);
    let mut snapshot = publish(std::mem::take(&mut all.items), files, registry);
    for (consumer, group) in memberships {
        let groups = snapshot.memberships.entry(consumer).or_default();
        if !groups.contains(&group) {
            groups.push(group);
            groups.sort();
        }
    }
    snapshot.warnings = notes.into_iter().filter_map(|note| note.told(files)).collect();
    snapshot.differences = differences.iter().filter_map(|note| note.told(files)).collect();
    Ok(snapshot)
}

fn refuse(all: Collected<'_, '_>, registry: &Registry, files: &[Source], broken: Option<Errors>) -> Box<LoadErrors> {
    let Collected { items, root, mut findings, declared_first, .. } = all;
    findings.extend(report::findings(&items, registry, files, &declared_first));
    findings.sort_by_key(|f| (f.file, f.place));
    let flattened = flatten::flatten(&items, broken.is_some());
    let fields = broken.unwrap_or_else(|| report::tree(&root, &items));
    let lost: Vec<_> = items.iter().filter(|item| flatten::is_no_table(item)).collect();
    let leftover = report::tree_of(&root, &items, &lost);
    let sound = items.iter().filter(|i| i.errors().is_empty()).map(report::subject).collect();
    let sources = files.to_vec();
    let unknown_secrets = report::unknown_secrets(&items, registry);
    let discreet = report::discreet_messages(&items, registry);
    let is_secret = |kind: &&crate::entities::Kind| kind.key.is_some() && kind.label_field().is_none();
    let secret_keys = registry.kinds().filter(is_secret).map(|kind| kind.name).collect();
    Box::new(LoadErrors {
        fields,
        leftover,
        flattened,
        findings,
        sources,
        message: None,
        sound,
        unknown_secrets,
        discreet,
        secret_keys,
    })
}

/// Applies a plugin's `seal` to a valid entity before it is stored: a hash of a password.
fn seal(item: &Item<'_, '_>, map: &mut Map<String, Value>) {
    let Some(seal) = item.kind.brought_by.and_then(|def| def.seal.as_ref()) else { return };
    let consumer = map.get("consumer").and_then(|c| c.get("id")).and_then(Value::as_str);
    let Some(consumer) = consumer.and_then(|id| id.parse().ok()) else { return };
    let mut value = Value::Object(std::mem::take(map));
    (seal.run)(&mut value, consumer);
    if let Value::Object(sealed) = value {
        *map = sealed;
    }
}

fn publish(items: Vec<Item<'_, '_>>, files: &[Source], registry: &Registry) -> Snapshot {
    let files: Vec<Arc<str>> = files.iter().map(|file| file.name.as_str().into()).collect();
    let kept = |item: &Item<'_, '_>| registry.keeps(item.kind.name);
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    for item in items.iter().filter(|item| kept(item)) {
        *counts.entry(item.kind.name).or_default() += 1;
    }
    let mut entities: BTreeMap<&'static str, Vec<(Id, Stored)>> =
        counts.into_iter().map(|(kind, count)| (kind, Vec::with_capacity(count))).collect();
    for mut item in items.into_iter().filter(kept) {
        if item.kind.name == "ca_certificates" {
            let mut value = item.own();
            let digest = value.get("cert").and_then(Value::as_str).and_then(|text| pem::digest(text).ok());
            value.insert("cert_digest".to_owned(), digest.map_or(Value::Null, Value::String));
            item.set_own(&value);
        }
        let Some(id) = item.id.parsed() else { continue };
        let name = item.label().or_else(|| (item.kind.name == "plugins").then(|| item.text("name")).flatten());
        let name = name.map(String::into_boxed_str);
        let file = files.get(item.file as usize).map(Arc::clone);
        let Place { line, column } = if file.is_some() { item.place } else { Place::default() };
        let kind = item.kind.name;
        let stored = Stored { fields: item.into_fields(), name, file, line, column };
        entities.entry(kind).or_default().push((id, stored));
    }
    Snapshot::new(registry.field_names(), entities)
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
