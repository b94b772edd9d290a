//! `basic-auth`: user name and password (RFC 7617).

mod entities;
mod filter;
mod schema;
#[cfg(test)]
mod tests;

use cardinal_sdk::{FailureMode, HTTP_PROTOCOLS, PluginDef, Scopes};

/// The plugin.
pub const PLUGIN: PluginDef = PluginDef {
    name: "basic-auth",
    summary: "Authenticates requests by user name and password.",
    priority: 1100,
    schema: schema::config,
    entities: &[entities::ACCOUNTS],
    scopes: Scopes { consumer: false, ..Scopes::ALL },
    protocols: HTTP_PROTOCOLS,
    failure: FailureMode::Closed,
    build: filter::build,
    lower: None,
};
