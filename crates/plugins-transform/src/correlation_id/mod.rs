//! `correlation-id`: a header that names a request wherever it goes.

mod filter;
mod schema;
#[cfg(test)]
mod tests;

use cardinal_sdk::{FailureMode, HTTP_PROTOCOLS, PluginDef, Scopes};

/// The plugin.
pub const PLUGIN: PluginDef = PluginDef {
    name: "correlation-id",
    summary: "Gives each request an id in a header, for the upstream, the client and the logs.",
    priority: 100_001,
    schema: schema::config,
    entities: &[],
    scopes: Scopes::ALL,
    protocols: HTTP_PROTOCOLS,
    failure: FailureMode::Open,
    build: filter::build,
    lower: None,
};
