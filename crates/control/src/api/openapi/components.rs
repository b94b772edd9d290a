//! The schemas of entities, plugins and answers.

use cardinal_kong::Registry;
use cardinal_kong::entities::Kind;
use cardinal_schema::{JsonForm, Schema, View};
use serde_json::{Map, Value, json};

use super::values::set as set_at;
use crate::dao::document::unique_keys;
use crate::rbac::{hide, kinds};

/// A reference to a schema among the components.
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// The name of the schema of an entity: `services`, `services.new`, `services.change`.
pub(super) fn name_of(kind: &str, view: View) -> String {
    match view {
        View::Shown => kind.to_owned(),
        View::New => format!("{kind}.new"),
        View::Change => format!("{kind}.change"),
    }
}

/// All schemas.
pub(super) fn all(registry: &Registry) -> Map<String, Value> {
    let mut out = answers();
    for kind in registry.kinds() {
        let Kind { name, schema, .. } = kind;
        if registry.children(name).next().is_some() {
            out.insert(format!("{name}.id"), by_id(name));
            out.insert(format!("{name}.reference"), by_key(kind));
        }
        out.insert(format!("{name}.page"), page(reference(name)));
        for view in [View::Shown, View::New, View::Change] {
            let of = of_schema(schema, view);
            let of = if view == View::New { with_null(without(of, &set_by_path(kind)), kind) } else { of };
            out.insert(name_of(name, view), of);
        }
    }
    let plugins = registry.plugins().map(|plugin| (plugin.def.name, &plugin.schema));
    add_variants(&mut out, registry.kind("plugins"), &plugins.collect::<Vec<_>>());
    add_variants(&mut out, registry.kind("vaults"), &registry.vaults().collect::<Vec<_>>());
    add_details(&mut out);
    add_users(&mut out);
    out
}

/// Users, roles and their rules.
fn add_users(out: &mut Map<String, Value>) {
    let kinds = kinds();
    out.insert(format!("{}.id", kinds.roles.name), by_id(kinds.roles.name));
    out.insert(format!("{}.reference", kinds.roles.name), by_key(&kinds.roles));
    for kind in [&kinds.users, &kinds.roles, &kinds.endpoints, &kinds.entities] {
        out.insert(format!("{}.page", kind.name), page(reference(kind.name)));
        for view in [View::Shown, View::New, View::Change] {
            let mut of = of_schema(&kind.schema, view);
            if let (View::Shown, Some(Value::Object(fields))) = (view, of.get_mut("properties")) {
                hide(kind, fields);
            }
            if view != View::Shown && of.pointer("/properties/actions").is_some() {
                let about = "Actions in a list or separated by commas; `*` for all.";
                let text = json!({ "type": "string" });
                let any = json!({ "anyOf": [text, { "type": "array", "items": text }], "description": about });
                set_at(&mut of, &["properties", "actions"], any);
            }
            // What is not shown, what the path says, and what has a value of its own without being given.
            let hidden =
                ["user_token", "id"].iter().filter(|name| of.pointer(&format!("/properties/{name}")).is_none());
            let own = ["workspace", "entity_type"].iter().filter(|_| view == View::New);
            let set = set_by_path(kind).into_iter().filter(|_| view == View::New);
            let absent: Vec<&str> = hidden.chain(own).copied().chain(set).collect();
            let of = without(of, &absent);
            out.insert(name_of(kind.name, view), if view == View::New { with_null(of, kind) } else { of });
        }
    }
}

/// The schema of an entity in one view.
fn of_schema(schema: &Schema, view: View) -> Value {
    let suffix = if view == View::Shown { "id" } else { "reference" };
    schema.json_schema_as(&JsonForm { view, foreign: &|kind| reference(&format!("{kind}.{suffix}")) })
}

/// The fields that a path may set: references, and the name of the entity.
fn set_by_path(kind: &Kind) -> Vec<&'static str> {
    kind.references().map(|(field, _)| field).chain(kind.key.map(|key| key.field)).collect()
}

/// A schema that does not require these fields.
fn without(mut schema: Value, fields: &[&str]) -> Value {
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| !fields.iter().any(|field| name == field));
    }
    schema
}

/// A schema with null for the fields that a path may set: there the path has the value.
fn with_null(mut schema: Value, kind: &Kind) -> Value {
    for field in set_by_path(kind) {
        let Some(of) = schema.pointer_mut(&format!("/properties/{field}")) else { continue };
        if let Some(Value::Array(any)) = of.get_mut("anyOf") {
            any.push(json!({ "type": "null" }));
        } else if let Some(Value::String(name)) = of.get("type").cloned() {
            set_at(of, &["type"], json!([name, "null"]));
        }
    }
    schema
}

/// The schema of a body of which the path sets these fields.
pub(super) fn body(kind: &Kind, set: &[&str]) -> Value {
    let whole = of_schema(&kind.schema, View::New);
    let required: Vec<&Value> = whole.get("required").and_then(Value::as_array).into_iter().flatten().collect();
    let own = set_by_path(kind);
    let required: Vec<&&Value> = required
        .iter()
        .filter(|name| own.iter().any(|own| **name == own) && !set.iter().any(|set| **name == set))
        .collect();
    let new = reference(&name_of(kind.name, View::New));
    if required.is_empty() { new } else { json!({ "allOf": [new, { "required": required }] }) }
}

/// The kinds whose schema depends on `name`: a schema for each name, and one for its `config`.
fn add_variants(out: &mut Map<String, Value>, of: Option<&Kind>, variants: &[(&'static str, &Schema)]) {
    let Some(of) = of else { return };
    let kind = of.name;
    let set = set_by_path(of);
    for view in [View::Shown, View::New] {
        let suffix = if view == View::New { ".new" } else { "" };
        let mut mapping = Map::new();
        for (name, schema) in variants {
            let own = format!("{kind}.{name}{suffix}");
            let config = format!("{kind}.{name}.config{suffix}");
            let of = of_schema(schema, view);
            let mut of = if view == View::New { without(of, &set) } else { of };
            set_at(&mut of, &["properties", "name"], json!({ "const": name }));
            let whole = of.pointer("/properties/config").cloned().unwrap_or_default();
            set_at(&mut of, &["properties", "config"], reference(&config));
            mapping.insert((*name).to_owned(), format!("#/components/schemas/{own}").into());
            out.insert(config, whole);
            out.insert(own, of);
        }
        let any: Vec<Value> = mapping.values().map(|path| json!({ "$ref": path })).collect();
        let choice = json!({ "oneOf": any, "discriminator": { "propertyName": "name", "mapping": mapping } });
        out.insert(name_of(kind, view), choice);
    }
    // Which plugin or vault is changed is not in the body.
    let config =
        json!({ "type": "object", "description": "The fields to change of the plugin's or vault's own schema." });
    if let Some(change) = out.get_mut(&name_of(kind, View::Change)) {
        set_at(change, &["properties", "config"], config);
    }
}

/// What is shown besides the schema of the entity.
fn add_details(out: &mut Map<String, Value>) {
    let entities = |kind: &str| json!({ "type": "array", "items": reference(kind) });
    out.insert(
        "consumer_groups.details".to_owned(),
        object(json!({
            "consumer_group": reference("consumer_groups"),
            "consumers": entities("consumers"),
            "plugins": entities("plugins"),
        })),
    );
    let mut target = out.get("targets").cloned().unwrap_or_default();
    let states = json!({ "enum": ["HEALTHY", "UNHEALTHY", "DNS_ERROR", "HEALTHCHECKS_OFF"] });
    set_at(&mut target, &["properties", "health"], states);
    set_at(&mut target, &["properties", "data"], json!({ "type": "object" }));
    out.insert("targets.health".to_owned(), target);
    let mut health = page(reference("targets.health"));
    set_at(&mut health, &["properties", "node_id"], json!({ "type": "string" }));
    // With `balancer_health=1`, it is one object.
    set_at(&mut health, &["properties", "data", "type"], json!(["array", "object"]));
    out.insert("upstreams.health".to_owned(), health);
}

/// A reference as it is shown.
fn by_id(kind: &str) -> Value {
    json!({
        "type": "object",
        "description": format!("A reference to an entity of {kind}."),
        "properties": { "id": { "type": "string", "format": "uuid" } },
        "required": ["id"],
        "additionalProperties": false,
    })
}

/// A reference as it is written: by the id, or by another unique field.
fn by_key(kind: &Kind) -> Value {
    let id =
        json!({ "type": "object", "properties": { "id": { "type": "string", "format": "uuid" } }, "required": ["id"] });
    let mut any = vec![id];
    let keys = unique_keys(kind, &kind.schema);
    for key in keys.iter().filter_map(|key| key.first().filter(|_| key.len() == 1)) {
        let of = of_schema(&kind.schema, View::New);
        any.push(json!({
            "type": "object",
            "properties": { "id": { "type": "null" }, *key: of.pointer(&format!("/properties/{key}")) },
            "required": [key],
        }));
    }
    json!({ "description": format!("A reference to an entity of {}.", kind.name), "anyOf": any })
}

/// An object with these fields, all of them required.
pub(super) fn object(properties: Value) -> Value {
    let required: Vec<String> = properties.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

/// A page of a list.
pub(super) fn page(items: Value) -> Value {
    json!({
        "type": "object",
        "properties": {
            "data": { "type": "array", "items": items },
            "next": { "type": ["string", "null"], "description": "Path of the next page." },
            "offset": { "type": "string", "description": "The argument `offset` of the next page." },
        },
        "required": ["data", "next"],
        "additionalProperties": false,
    })
}

/// Answers that have nothing to do with a kind of entity.
fn answers() -> Map<String, Value> {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| out.insert(name.to_owned(), value);
    put("message", object(json!({ "message": { "type": "string" } })));
    put("error", error());
    put(
        "form",
        json!({
            "type": "object",
            "description": "Fields by their names with dots and brackets: `config.minute`, `hosts[]`, `hosts[2]`. Values get the \
                            types of the fields; an empty value is null.",
            "additionalProperties": true,
        }),
    );
    put("tags.page", page(of_schema(&super::super::schemas::tags(), View::Shown)));
    put("generation", generation());
    put(
        "change",
        json!({ "type": "object", "properties": { "kind": { "type": "string" }, "id": { "type": "string" },
        "name": { "type": ["string", "null"] }, "action": { "type": "string" }, "cascaded": { "type": "boolean" },
        "fields": { "type": "array", "items": { "type": "object" } } }, "required": ["kind", "id", "action", "fields"] }),
    );
    out
}

fn error() -> Value {
    json!({
        "type": "object",
        "properties": {
            "message": { "type": "string", "description": "What is wrong, for people." },
            "code": { "type": "integer", "description": "Kong's number of the kind of error." },
            "name": { "type": "string", "description": "Kong's name of the kind of error." },
            "fields": { "description": "What is wrong, in the shape of the entity; `@entity` is about several fields." },
            "options": { "type": "object", "description": "What is wrong with arguments of the query." },
            "flattened_errors": { "type": "array", "items": { "type": "object" } },
            "write": { "type": "integer", "description": "The write of a batch that failed, counted from 0." },
        },
        "required": ["message"],
    })
}

fn generation() -> Value {
    json!({
        "type": "object",
        "properties": {
            "revision": { "type": "integer", "minimum": 0 },
            "hash": { "type": ["string", "null"], "description": "Of the change log up to this revision." },
            "at": { "type": ["string", "null"] },
            "author": { "type": "object" },
            "changes": { "type": "integer" },
            "kinds": { "type": "object", "additionalProperties": { "type": "integer" } },
            "entities": { "type": "array", "items": reference("change") },
        },
        "required": ["revision", "author", "changes", "kinds"],
        "additionalProperties": false,
    })
}
