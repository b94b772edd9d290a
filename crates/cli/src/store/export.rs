//! `cardinal store export`: all entities as a declarative file, or all documents.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use cardinal_control::dao::DEFAULT_WORKSPACE;
use cardinal_control::rbac::is_internal;
use cardinal_kong::Registry;
use cardinal_kong::entities::{Kind, WORKSPACES};
use cardinal_schema::{Kind as FieldKind, Schema};
use cardinal_store::{Document, Key, Store as _};
use serde_json::{Map, Value, json};

use super::{Env, Missing, Opened, Plugins, yaml};
use crate::args::{ExportArgs, ExportFormat};
use crate::out;

/// Entities of these kinds are written below those that they reference by the field.
const NESTED: [(&str, &str); 3] = [("routes", "service"), ("targets", "upstream"), ("snis", "certificate")];
const MEMBERS: &str = "consumer_group_consumers";

pub(super) fn export(args: ExportArgs, plugins: Plugins, env: Env) -> Result<ExitCode> {
    let opened = Opened::new(args.store, plugins, env, Missing::Refuse)?;
    let (_, documents) = opened.wait(opened.store.snapshot())?;
    let text = match args.format {
        ExportFormat::Yaml => {
            // A file is the workspace `default`.
            let is_default = |document: &Document| {
                let is_here = document.space.is_empty() || &*document.space == DEFAULT_WORKSPACE;
                is_here && &*document.key.kind != WORKSPACES
            };
            let values = documents.into_iter().filter(is_default).map(|document| (document.key, document.value));
            file_text(opened.dao.registry(), values)
        }
        ExportFormat::JsonLines => {
            let exported = documents.iter().filter(|document| !is_internal(&document.key.kind));
            exported.map(|document| line(document).to_string() + "\n").collect()
        }
    };
    let Some(path) = args.out else {
        out::print(&text)?;
        return Ok(ExitCode::SUCCESS);
    };
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn line(document: &Document) -> Value {
    let Document { key, space, value, revision, tags: _ } = document;
    json!({ "kind": &*key.kind, "id": &*key.id, "workspace": &**space, "revision": revision, "value": value })
}

/// Documents as the text of a declarative file.
pub(super) fn file_text(registry: &Registry, documents: impl IntoIterator<Item = (Key, Value)>) -> String {
    yaml::text(&declarative(registry, documents))
}

/// A declarative file of format 3.0.
fn declarative(registry: &Registry, documents: impl IntoIterator<Item = (Key, Value)>) -> Value {
    let mut children: BTreeMap<(String, &str), Vec<Value>> = BTreeMap::new();
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut entities: Vec<(&Kind, Map<String, Value>)> = Vec::new();
    let mut is_sealed = false;
    for (key, value) in documents {
        if &*key.kind == MEMBERS {
            let id = |field: &str| value.get(field)?.get("id")?.as_str().map(str::to_owned);
            if let (Some(consumer), Some(group)) = (id("consumer"), id("consumer_group")) {
                groups.entry(consumer).or_default().push(group);
            }
            continue;
        }
        let (Some(kind), Value::Object(fields)) = (registry.kind(&key.kind), value) else { continue };
        is_sealed |= kind.brought_by.is_some_and(|def| def.seal.is_some());
        let (parent, fields) = written(registry, kind, fields);
        match parent {
            Some(parent) => children.entry((parent, kind.name)).or_default().push(fields.into()),
            None => entities.push((kind, fields)),
        }
    }
    let of_group = |(_, fields): &(&Kind, Map<String, Value>)| {
        let text = |field: &str| fields.get(field).and_then(Value::as_str).map(str::to_owned);
        text("id").zip(text("name"))
    };
    let names: BTreeMap<String, String> =
        entities.iter().filter(|(kind, _)| kind.name == "consumer_groups").filter_map(of_group).collect();
    let mut lists: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (kind, mut fields) in entities {
        let id = fields.get(kind.primary_key).and_then(Value::as_str).unwrap_or_default().to_owned();
        for below in registry.children(kind.name).map(|(below, _)| below.name) {
            if let Some(list) = children.remove(&(id.clone(), below)) {
                fields.insert(below.to_owned(), list.into());
            }
        }
        if let Some(groups) = groups.remove(&id).filter(|_| kind.name == "consumers") {
            let named = groups.iter().filter_map(|id| Some(json!({ "name": names.get(id)? }))).collect();
            fields.insert("groups".to_owned(), named);
        }
        lists.entry(kind.name).or_default().push(fields.into());
    }
    let mut file = Map::new();
    file.insert("_format_version".to_owned(), "3.0".into());
    if is_sealed {
        // Passwords are hashed, and must not be hashed again.
        file.insert("_transform".to_owned(), false.into());
    }
    file.extend(lists.into_iter().map(|(kind, list)| (kind.to_owned(), list.into())));
    Value::Object(file)
}

/// An entity as it is written: the id of the entity that it is below, and its fields.
fn written(registry: &Registry, kind: &Kind, mut fields: Map<String, Value>) -> (Option<String>, Map<String, Value>) {
    let has_life = fields.get("ttl").is_some_and(|ttl| !ttl.is_null());
    fields.retain(|name, _| name != "updated_at" && (has_life || name != "created_at"));
    let above = match NESTED.iter().find(|(name, _)| *name == kind.name) {
        Some((_, field)) => Some(*field),
        None => kind.brought_by.and(Some("consumer")),
    };
    let mut parent = None;
    for (field, _) in kind.references() {
        let id = fields.get(field).and_then(|value| value.get("id")).and_then(Value::as_str).map(str::to_owned);
        let Some(id) = id else { continue };
        if Some(field) == above {
            fields.shift_remove(field);
            parent = Some(id);
        } else {
            fields.insert(field.to_owned(), id.into());
        }
    }
    if let Ok(schema) = registry.schema_of(kind, &fields) {
        leave_out_nulls(schema, &mut fields);
    }
    (parent, fields)
}

/// Takes out fields without a value, unless that is not what they are by default.
fn leave_out_nulls(schema: &Schema, fields: &mut Map<String, Value>) {
    fields.retain(|name, value| {
        let field = schema.field(name);
        match (value, field.map(|field| &field.kind)) {
            (Value::Null, Some(FieldKind::Record(_))) => field.is_some_and(|field| field.required != Some(false)),
            (Value::Null, _) => field.is_some_and(|field| field.default.is_some()),
            (Value::Object(fields), Some(FieldKind::Record(schema))) => {
                leave_out_nulls(schema, fields);
                true
            }
            _ => true,
        }
    });
}
