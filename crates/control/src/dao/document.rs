//! The form of an entity in the store: its unique keys, references, tags and secrets.

use std::fmt::Write as _;
use std::sync::Arc;

use cardinal_kong::entities::{Kind, WORKSPACES};
use cardinal_schema::{Field, Kind as FieldKind, Schema};
use cardinal_store::{Key, NewDocument, OnDelete, Reference, Unique};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::access::{DEFAULT_WORKSPACE, Fields};

/// Kinds that exist once for all workspaces.
const GLOBAL: [&str; 2] = ["ca_certificates", WORKSPACES];
/// Kinds whose unique values are unique among all workspaces, although each of their entities is in one of them.
const UNIQUE_EVERYWHERE: [&str; 1] = ["snis"];

/// The field by which documents reference their workspace.
pub(super) const WORKSPACE: &str = "workspace";

/// Fields that are stored as tags, for entities to be found by values that are not unique.
const FOUND_BY: [(&str, &str); 1] = [("rbac_users", "user_token_ident")];

/// The key of an entity.
pub(super) fn key(kind: &Kind, id: &str) -> Key {
    Key::new(kind.name, id)
}

/// The tenant that entities of a kind are stored for. Those of the workspace `default` that are unique everywhere are
/// stored for none, as stores have them from before there were other workspaces.
pub(crate) fn space(kind: &Kind, workspace: &Arc<str>) -> Arc<str> {
    let is_shared = UNIQUE_EVERYWHERE.contains(&kind.name) && &**workspace == DEFAULT_WORKSPACE;
    if is_shared || GLOBAL.contains(&kind.name) { "".into() } else { Arc::clone(workspace) }
}

/// The document of a complete entity.
pub(crate) fn document(kind: &Kind, schema: &Schema, workspace: &Arc<str>, fields: Fields) -> NewDocument {
    let id = fields.get(kind.primary_key).and_then(Value::as_str).unwrap_or_default();
    let keys = unique_keys(kind, schema);
    let uniques = keys.iter().filter_map(|names| unique(kind, schema, workspace, names, &fields)).collect();
    let tags = fields.get("tags").and_then(Value::as_array).into_iter().flatten();
    let tags = tags.chain(FOUND_BY.iter().filter(|(name, _)| *name == kind.name).filter_map(|(_, by)| fields.get(*by)));
    let mut secrets = Vec::new();
    for (name, value) in &fields {
        let own = kind.brought_by.is_some_and(|def| def.secrets.contains(&name.as_str()));
        if let Some(field) = schema.field(name) {
            collect_secrets(field, value, &mut format!("/{}", escaped(name)), own, &mut secrets);
        }
    }
    let space = space(kind, workspace);
    let mut references = references(kind, &fields);
    references.extend(workspace_reference(&space));
    NewDocument {
        key: key(kind, id),
        space,
        uniques,
        references,
        tags: tags.filter_map(Value::as_str).map(Into::into).collect(),
        secrets,
        value: Value::Object(fields),
    }
}

/// The unique keys of a kind: the names of their fields.
pub(crate) fn unique_keys(kind: &Kind, schema: &Schema) -> Vec<Vec<&'static str>> {
    let mut keys: Vec<Vec<&'static str>> = Vec::new();
    let mut add = |key: Vec<&'static str>| {
        if !key.is_empty() && !keys.contains(&key) {
            keys.push(key);
        }
    };
    for named in schema.fields.iter().filter(|named| named.field.unique) {
        add(vec![named.name]);
    }
    if let Some(key) = kind.key.filter(|key| key.unique) {
        add(vec![key.field]);
    }
    if kind.cache_key.len() > 1 {
        let groups = (kind.name == "plugins").then_some("consumer_group");
        add(kind.cache_key.iter().copied().chain(groups).collect());
    }
    keys
}

/// The name of a unique key.
pub(crate) fn unique_name(fields: &[&str]) -> Arc<str> {
    fields.join(",").into()
}

/// A unique key of an entity. A single field without a value is no key.
pub(crate) fn unique(
    kind: &Kind,
    schema: &Schema,
    workspace: &Arc<str>,
    names: &[&str],
    fields: &Fields,
) -> Option<Unique> {
    let value = |name: &str| fields.get(name).filter(|value| !value.is_null());
    if let [name] = names {
        value(name)?;
    }
    let values: Vec<&Value> = names.iter().map(|name| value(name).unwrap_or(&Value::Null)).collect();
    let is_secret = |name: &&str| {
        schema.field(name).is_some_and(|field| field.encrypted)
            || kind.brought_by.is_some_and(|def| def.secrets.contains(name))
    };
    let text = unique_text(kind, workspace, &values, names.iter().any(is_secret));
    Some(Unique { name: unique_name(names), value: text })
}

/// The value of a unique key in the store. Secrets are hashed, since they are not to be found there in clear.
fn unique_text(kind: &Kind, workspace: &Arc<str>, values: &[&Value], is_secret: bool) -> Arc<str> {
    let is_everywhere = UNIQUE_EVERYWHERE.contains(&kind.name) || GLOBAL.contains(&kind.name);
    let mut text = if is_everywhere { String::new() } else { workspace.to_string() };
    for value in values {
        write!(text, "\u{1f}{value}").ok();
    }
    if !is_secret {
        return text.into();
    }
    let mut hash = Sha256::new();
    hash.update(kind.name.as_bytes());
    hash.update(text.as_bytes());
    hash.finalize()
        .iter()
        .fold(String::with_capacity(64), |mut out, byte| {
            write!(out, "{byte:02x}").ok();
            out
        })
        .into()
}

/// What an entity references.
pub(crate) fn references(kind: &Kind, fields: &Fields) -> Vec<Reference> {
    let mut out = Vec::new();
    for (field, target) in kind.references() {
        if let Some(id) = fields.get(field).and_then(|value| value.get("id")).and_then(Value::as_str) {
            let on_delete = if kind.cascade.contains(&field) || target == "certificates" && kind.name == "snis" {
                OnDelete::Cascade
            } else {
                OnDelete::Restrict
            };
            out.push(Reference { field: field.into(), to: Key::new(target, id), on_delete });
        }
    }
    let authorities = fields.get("ca_certificates").and_then(Value::as_array).into_iter().flatten();
    for id in authorities.filter_map(Value::as_str) {
        let field = format!("ca_certificates/{id}").into();
        out.push(Reference { field, to: Key::new("ca_certificates", id), on_delete: OnDelete::Restrict });
    }
    out
}

/// The reference to the workspace of a document, if that is another one than `default`.
pub(super) fn workspace_reference(workspace: &str) -> Option<Reference> {
    (workspace != DEFAULT_WORKSPACE && !workspace.is_empty()).then(|| Reference {
        field: WORKSPACE.into(),
        to: Key::new(WORKSPACES, workspace),
        on_delete: OnDelete::Restrict,
    })
}

/// Adds the JSON pointers to the secrets in a value.
fn collect_secrets(field: &Field, value: &Value, at: &mut String, is_secret: bool, out: &mut Vec<Arc<str>>) {
    let is_secret = is_secret || field.encrypted;
    let mut below = |name: &str, field: &Field, value: &Value| {
        let length = at.len();
        write!(at, "/{}", escaped(name)).ok();
        collect_secrets(field, value, at, is_secret, out);
        at.truncate(length);
    };
    match (&field.kind, value) {
        (FieldKind::Record(schema), Value::Object(map)) => {
            for (name, value) in map {
                if let Some(field) = schema.field(name) {
                    below(name, field, value);
                }
            }
        }
        (FieldKind::Array(of) | FieldKind::Set(of), Value::Array(list)) => {
            for (at, value) in list.iter().enumerate() {
                below(&at.to_string(), of, value);
            }
        }
        (FieldKind::Map(_, of), Value::Object(map)) => {
            for (name, value) in map {
                below(name, of, value);
            }
        }
        (_, Value::Null) => {}
        _ if is_secret => out.push(at.as_str().into()),
        _ => {}
    }
}

/// A name as a part of a JSON pointer (RFC 6901, section 3).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
