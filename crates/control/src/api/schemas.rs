//! `/schemas`: descriptions of entities, from which clients fill in defaults and build forms. Kong:
//! `kong/api/routes/kong.lua`.

use cardinal_schema::{Options, Schema, field, record, string};
use serde_json::Value;

use super::body::{self, Body};
use super::call::Call;
use super::form;
use super::message::Response;
use crate::dao::{Fault, Fields};

/// A path below `/schemas`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path {
    /// `/schemas/{kind}`
    Entity,
    /// `/schemas/plugins/{name}`
    Plugin,
    /// `/schemas/vaults/{name}`
    Vault,
    /// `/schemas/{kind}/validate`
    Validate,
    /// `/schemas/plugins/validate`, which would be the name of a plugin otherwise
    ValidateKind(&'static str),
}

/// The paths.
pub(super) const PATHS: [(&str, Path); 6] = [
    ("/schemas/{name}", Path::Entity),
    ("/schemas/plugins/{name}", Path::Plugin),
    ("/schemas/vaults/{name}", Path::Vault),
    ("/schemas/plugins/validate", Path::ValidateKind("plugins")),
    ("/schemas/vaults/validate", Path::ValidateKind("vaults")),
    ("/schemas/{db_entity_name}/validate", Path::Validate),
];

impl Path {
    pub(super) fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Validate | Self::ValidateKind(_) => &["POST"],
            Self::Entity | Self::Plugin | Self::Vault => &["GET"],
        }
    }

    pub(super) fn answer(self, call: &Call<'_>, names: &[&str]) -> Result<Response, Fault> {
        let name = names.first().copied().unwrap_or_default();
        let registry = call.dao().registry();
        let schema = match self {
            Self::Validate => return validate(call, name),
            Self::ValidateKind(kind) => return validate(call, kind),
            Self::Entity if name == "tags" => return Ok(Response::ok(tags().kong_form())),
            Self::Entity => {
                registry.kind(&name.replace('-', "_")).map(|kind| &kind.schema).ok_or_else(|| no_entity(name))?
            }
            Self::Plugin => {
                let message = || Fault::message(404, &format!("No plugin named '{name}'"));
                registry.plugin(name).map(|plugin| &plugin.schema).ok_or_else(message)?
            }
            Self::Vault => {
                let message = || Fault::message(404, &format!("No vault named '{name}'"));
                registry.vault(name).ok_or_else(message)?
            }
        };
        Ok(Response::ok(schema.kong_form()))
    }
}

/// Tags as Kong shows them: a view of the tags of all entities.
pub(super) fn tags() -> Schema {
    record([
        field("tag", string().required()),
        field("entity_name", string().required()),
        field("entity_id", string().required()),
    ])
}

fn no_entity(name: &str) -> Fault {
    Fault::message(404, &format!("No entity named '{name}'"))
}

/// Checks an entity without storing it. References are not looked up.
fn validate(call: &Call<'_>, name: &str) -> Result<Response, Fault> {
    let registry = call.dao().registry();
    let kind = registry.kind(&name.replace('-', "_")).ok_or_else(|| no_entity(name))?;
    let (mut fields, is_form) = match body::read(call.request)? {
        Body::Json(fields) => (fields, false),
        Body::Form(fields) => (fields, true),
    };
    let schema = call.dao().schema_of(kind, &fields)?;
    if is_form {
        form::infer(&mut fields, schema);
    }
    check(call, schema, fields)?;
    Ok(Response::message(200, "schema validation successful"))
}

fn check(call: &Call<'_>, schema: &Schema, fields: Fields) -> Result<(), Fault> {
    let options = Options { auto: Some(call.dao()), no_defaults: false };
    schema.process(&Value::Object(fields), &options).map(drop).map_err(|errors| Fault::schema(&errors))
}
