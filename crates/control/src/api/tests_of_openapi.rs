//! The description of the API, and what is served.

use std::collections::BTreeSet;

use cardinal_kong::Registry;
use serde_json::{Value, json};

use super::openapi::openapi;
use super::tests::World;

/// The document that is served.
fn document(world: &World) -> Value {
    let (status, document) = world.get("/cardinal/v1/openapi.json");
    assert_eq!(status, 200);
    document
}

fn paths(document: &Value) -> impl Iterator<Item = (&str, &Value)> {
    document["paths"].as_object().unwrap().iter().map(|(path, of)| (path.as_str(), of))
}

/// A path with each name replaced.
fn filled(template: &str) -> String {
    let part = |part: &str| if part.starts_with('{') { "1".to_owned() } else { part.to_owned() };
    template.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[test]
fn what_is_served_is_described_and_what_is_described_is_served() {
    let world = World::new();
    let document = document(&world);
    let (_, endpoints) = world.get("/endpoints");
    let served: Vec<&str> = endpoints["data"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(served.len() > 100, "{}", served.len());
    assert_eq!(paths(&document).map(|(path, _)| path).collect::<Vec<_>>(), served);
    for (template, described) in paths(&document) {
        let described: BTreeSet<String> = described
            .as_object()
            .unwrap()
            .keys()
            .filter(|key| *key != "parameters")
            .map(|key| key.to_uppercase())
            .collect();
        let answer = world.answer("OPTIONS", &filled(template), None, "");
        let allow = answer.headers.iter().find(|(name, _)| *name == "allow").map(|(_, value)| value.as_str());
        let allow = allow.unwrap_or_else(|| panic!("{template} is not served: {}", answer.status));
        let taken = allow.split(", ").filter(|method| !["HEAD", "OPTIONS"].contains(method));
        assert_eq!(taken.map(str::to_owned).collect::<BTreeSet<_>>(), described, "{template}");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "PROPFIND", "TRACE", "get"] {
            if !described.contains(method) {
                assert_eq!(world.send(method, &filled(template), None, "").0, 405, "{method} {template}");
            }
        }
    }
}

/// Calls `visit` with every object of a value and the names on the way there.
fn visit(value: &Value, path: &str, see: &mut dyn FnMut(&str, &serde_json::Map<String, Value>)) {
    match value {
        Value::Object(fields) => {
            see(path, fields);
            fields.iter().for_each(|(name, value)| visit(value, &format!("{path}/{name}"), see));
        }
        Value::Array(items) => items.iter().for_each(|item| visit(item, path, see)),
        _ => {}
    }
}

#[test]
fn references_of_the_document_lead_somewhere() {
    let world = World::new();
    let document = document(&world);
    let mut used = BTreeSet::new();
    visit(&document, "", &mut |path, fields| {
        if let Some(to) = fields.get("$ref").and_then(Value::as_str) {
            assert!(document.pointer(to.trim_start_matches('#')).is_some(), "{path}: {to}");
            used.insert(to.to_owned());
        }
    });
    for group in ["schemas", "responses"] {
        for name in document["components"][group].as_object().unwrap().keys() {
            let path = format!("#/components/{group}/{name}");
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)), "{name}");
            assert!(used.contains(&path), "{path} is not used");
        }
    }
    let mut ids = BTreeSet::new();
    for (path, methods) in paths(&document) {
        for (method, operation) in methods.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters") {
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path}");
        }
    }
}

#[test]
fn entities_are_described_by_their_schemas() {
    let world = World::new();
    let document = document(&world);
    let schema = |name: &str| &document["components"]["schemas"][name];
    let port = &schema("services.new")["properties"]["port"];
    assert_eq!((&port["minimum"], &port["maximum"], &port["default"]), (&0.into(), &65_535.into(), &80.into()));
    assert_eq!(schema("services.new")["required"], Value::Null, "`url` stands for `host`");
    assert_eq!(schema("ca_certificates.new")["required"], serde_json::json!(["cert"]));
    assert_eq!(schema("ca_certificates.change")["required"], Value::Null);
    let body = |path: &str, method: &str| {
        &document["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"]
    };
    let required = serde_json::json!({ "required": ["name"] });
    assert_eq!(body("/consumer_groups", "post")["allOf"][1], required, "a path may name it instead");
    let named = serde_json::json!({ "$ref": "#/components/schemas/consumer_groups.new" });
    assert_eq!(body("/consumer_groups/{consumer_groups}", "put"), &named);
    assert_eq!(schema("routes")["properties"]["service"]["anyOf"][0]["$ref"], "#/components/schemas/services.id");
    assert_eq!(schema("plugins.key-auth.new")["properties"]["consumer"]["type"], "null");
    let config = &schema("plugins.key-auth.config.new")["properties"]["key_names"];
    assert_eq!(config["default"], serde_json::json!(["apikey"]));
    let mapping = schema("plugins.new")["discriminator"]["mapping"].as_object().unwrap();
    let (_, enabled) = world.get("/plugins/enabled");
    assert_eq!(mapping.len(), enabled["enabled_plugins"].as_array().unwrap().len());
    let list = &document["paths"]["/services"]["get"];
    assert_eq!(list["parameters"][0]["schema"]["maximum"], 1_000);
    let created = &document["paths"]["/services/{services}/routes"]["post"]["responses"]["201"];
    assert_eq!(created["links"]["get"]["parameters"]["routes"], "$response.body#/id");
    assert_eq!(created["links"]["get"]["parameters"]["services"], "$request.path.services");
}

/// Where the path has the value, a body may have none.
#[test]
fn fields_that_paths_set_may_be_null() {
    let document = openapi(&Registry::new(&[]));
    let field = |of: &str, field: &str| document["components"]["schemas"][of]["properties"][field].clone();
    assert_eq!(field("consumer_groups.new", "name")["type"], json!(["string", "null"]));
    let certificate = field("snis.new", "certificate")["anyOf"].clone();
    assert_eq!(certificate, json!([{"$ref": "#/components/schemas/certificates.reference"}, {"type": "null"}]));
    let named = &document["paths"]["/rbac/roles/{rbac_roles}"]["put"]["requestBody"]["content"]["application/json"];
    assert_eq!(named["schema"], json!({"$ref": "#/components/schemas/rbac_roles.new"}));
}
