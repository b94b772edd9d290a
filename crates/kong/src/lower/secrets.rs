//! Secrets of entities: what references to vaults lead to, and what records hold in the place of secrets.

use std::borrow::Cow;
use std::collections::BTreeMap;

use cardinal_ir::{Code, SecretRef};
use cardinal_schema::{Field, Kind as FieldKind, Schema, is_reference};
use serde_json::{Map, Value};

use super::Lowering;
use crate::declarative::Entity;
use crate::secrets::Vault;

/// A vault entity, by its prefix.
pub(crate) fn vault(entity: &Entity) -> Option<(String, Vault)> {
    let prefix = entity.get("config").and_then(|c| c.get("prefix")).and_then(Value::as_str).unwrap_or_default();
    let vault = Vault { kind: entity.text("name")?.to_owned(), prefix: prefix.to_owned() };
    Some((entity.text("prefix")?.to_owned(), vault))
}

impl Lowering<'_> {
    /// The fields of an entity with references replaced by secrets. What cannot be resolved is empty text, with a
    /// warning.
    pub(super) fn resolved<'e>(&mut self, kind: &str, entity: &'e Entity) -> Cow<'e, Map<String, Value>> {
        let registry = self.registry;
        let schema = registry.kind(kind).and_then(|k| registry.schema_of(k, &entity.value).ok());
        let Some(schema) = schema.filter(|s| may_refer(s)) else { return Cow::Borrowed(&entity.value) };
        let mut found = Vec::new();
        find_in_record(schema, &entity.value, String::new(), &mut found);
        if found.is_empty() {
            return Cow::Borrowed(&entity.value);
        }
        let mut value = Value::Object(entity.value.clone());
        let (none, names) = (BTreeMap::new(), self.names);
        let vaults = names.vaults.get(&entity.workspace()).unwrap_or(&none);
        for (path, reference) in found {
            let secret = self.settings.secrets.resolve(&reference, vaults).unwrap_or_else(|why| {
                self.warn(kind, entity, Code::Secret, &dotted(&path), format!("{reference} cannot be resolved: {why}"));
                String::new()
            });
            if let Some(slot) = value.pointer_mut(&path) {
                *slot = secret.into();
            }
        }
        match value {
            Value::Object(map) => Cow::Owned(map),
            _ => Cow::Borrowed(&entity.value),
        }
    }
}

impl Lowering<'_> {
    /// Keeps a secret, and returns what the record holds in its place.
    pub(super) fn secret(&mut self, text: &str) -> SecretRef {
        self.secrets.add(&self.settings.secret_key, text)
    }

    /// Replaces secrets by references: fields that the schema marks as encrypted, those that may refer to vaults, and fields
    /// of these names. A text that looks like a reference is a secret, too, so that users cannot write one.
    pub(super) fn take_secrets(&mut self, value: &mut Value, schema: Option<&Schema>, names: &[&str]) {
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    let field = schema.and_then(|schema| schema.field(name));
                    self.take_secret(value, field, names.contains(&name.as_str()));
                }
            }
            other => self.take_secret(other, None, false),
        }
    }

    fn take_secret(&mut self, value: &mut Value, field: Option<&Field>, is_secret: bool) {
        let is_secret = is_secret || field.is_some_and(|field| field.encrypted || field.referenceable);
        match value {
            Value::String(text) if (is_secret && !text.is_empty()) || SecretRef::is_meant_by(text) => {
                *value = self.secret(text).to_string().into();
            }
            Value::Array(list) => {
                let of = field.and_then(|field| match &field.kind {
                    FieldKind::Array(of) | FieldKind::Set(of) => Some(&**of),
                    _ => None,
                });
                list.iter_mut().for_each(|value| self.take_secret(value, of, is_secret));
            }
            Value::Object(map) => match field.map(|field| &field.kind) {
                Some(FieldKind::Record(schema)) if !is_secret => self.take_secrets(value, Some(schema), &[]),
                kind => {
                    let of = if let Some(FieldKind::Map(_, of)) = kind { Some(&**of) } else { None };
                    map.values_mut().for_each(|value| self.take_secret(value, of, is_secret));
                }
            },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

fn dotted(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".").replace("~1", "/").replace("~0", "~")
}

/// Whether any field of the record may hold a reference.
fn may_refer(schema: &Schema) -> bool {
    schema.fields.iter().any(|named| field_may_refer(&named.field))
}

fn field_may_refer(field: &Field) -> bool {
    match &field.kind {
        FieldKind::Record(schema) => may_refer(schema),
        FieldKind::Array(of) | FieldKind::Set(of) | FieldKind::Map(_, of) => field_may_refer(of),
        _ => field.referenceable,
    }
}

/// JSON pointers to references, with their texts.
fn find_in_record(schema: &Schema, map: &Map<String, Value>, at: String, out: &mut Vec<(String, String)>) {
    for named in &schema.fields {
        if let Some(value) = map.get(named.name) {
            find(&named.field, value, format!("{at}/{}", named.name), out);
        }
    }
}

fn find(field: &Field, value: &Value, at: String, out: &mut Vec<(String, String)>) {
    match (&field.kind, value) {
        (FieldKind::String, Value::String(text)) if field.referenceable && is_reference(value) => {
            out.push((at, text.clone()));
        }
        (FieldKind::Record(schema), Value::Object(map)) => find_in_record(schema, map, at, out),
        (FieldKind::Array(of) | FieldKind::Set(of), Value::Array(list)) => {
            for (i, value) in list.iter().enumerate() {
                find(of, value, format!("{at}/{i}"), out);
            }
        }
        (FieldKind::Map(_, of), Value::Object(map)) => {
            for (key, value) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                find(of, value, format!("{at}/{key}"), out);
            }
        }
        _ => {}
    }
}
