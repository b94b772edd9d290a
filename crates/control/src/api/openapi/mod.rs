//! The API described in OpenAPI 3.1: paths from the list that requests are matched with, bodies from the schemas that they
//! are checked by.
//!
//! `operations` says what each path does, `components` has the schemas, `answers` the responses.

mod answers;
mod components;
mod operations;
mod values;

use cardinal_kong::Registry;
use serde_json::{Map, Value, json};

use self::operations::Operation;
use super::path::{Route, Routes};

const ABOUT: &str = "Kong's Admin API as Cardinal serves it. Every path takes OPTIONS, and HEAD where it takes GET. Paths may begin \
                     with the name of a workspace, such as `/default`. Bodies are JSON, or forms whose names have dots and brackets: \
                     `config.minute=5`, `hosts[]=a.test`, `hosts[2]=b.test`. Requests of web pages of foreign origins are \
                     refused with 403.";

/// The description of the API for these kinds of entities and plugins.
pub fn openapi(registry: &Registry) -> Value {
    document(&Routes::of(registry), registry)
}

/// The description of these paths.
pub(super) fn document(routes: &Routes, registry: &Registry) -> Value {
    let paths: Map<String, Value> =
        routes.iter().map(|route| (route.template.clone(), path(route, registry))).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": { "schemas": components::all(registry), "responses": answers::all() },
    })
}

/// A path with its methods.
fn path(route: &Route, registry: &Registry) -> Value {
    let names = route.template.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameters: Vec<Value> = names.map(|name| operations::name_parameter(name, registry)).collect();
    let mut out = Map::new();
    if !parameters.is_empty() {
        out.insert("parameters".to_owned(), parameters.into());
    }
    for method in route.endpoint.methods() {
        let operation = Operation::of(route.endpoint, method, registry);
        out.insert(method.to_ascii_lowercase(), operation.to_json(&route.template, method));
    }
    Value::Object(out)
}
