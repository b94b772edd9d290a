//! `key-auth`: a request names its consumer by a secret key.

mod body_form;
mod entities;
mod filter;
mod schema;
#[cfg(test)]
mod tests;

use cardinal_sdk::{FailureMode, HTTP_PROTOCOLS, PluginDef, Scopes};

/// The plugin.
pub const PLUGIN: PluginDef = PluginDef {
    name: "key-auth",
    summary: "Authenticates requests by a secret key in a header, the query string or the body.",
    priority: 1250,
    schema: schema::config,
    entities: &[entities::KEYS],
    scopes: Scopes { consumer: false, ..Scopes::ALL },
    protocols: HTTP_PROTOCOLS,
    failure: FailureMode::Closed,
    build: filter::build,
    lower: None,
};
