//! `response-transformer`: changes headers and JSON fields of a response on its way to the client.

mod body;
mod filter;
mod schema;
#[cfg(test)]
mod tests;

use cardinal_sdk::{FailureMode, HTTP_PROTOCOLS, PluginDef, Scopes};

/// The plugin.
pub const PLUGIN: PluginDef = PluginDef {
    name: "response-transformer",
    summary: "Removes, renames, replaces, adds and appends headers and JSON fields of responses.",
    priority: 800,
    schema: schema::config,
    entities: &[],
    scopes: Scopes::ALL,
    protocols: HTTP_PROTOCOLS,
    failure: FailureMode::Closed,
    build: filter::build,
    lower: None,
};
