//! `http-log`: a record of each request, sent to an HTTP server.

mod endpoint;
mod filter;
mod schema;
#[cfg(test)]
mod tests;

use cardinal_sdk::{FailureMode, HTTP_PROTOCOLS, PluginDef, Scopes};

/// The plugin.
pub const PLUGIN: PluginDef = PluginDef {
    name: "http-log",
    summary: "Sends a JSON record about each request to an HTTP server.",
    priority: 12,
    schema: schema::config,
    entities: &[],
    scopes: Scopes::ALL,
    protocols: HTTP_PROTOCOLS,
    failure: FailureMode::Open,
    build: filter::build,
    lower: None,
};
