//! `request-termination`: answers requests itself.

mod lower;
mod schema;
#[cfg(test)]
mod tests;

use cardinal_sdk::{FailureMode, HTTP_PROTOCOLS, PluginDef, Scopes};

/// The plugin.
pub const PLUGIN: PluginDef = PluginDef {
    name: "request-termination",
    summary: "Responds to requests with a fixed response, or with a copy of the request.",
    priority: 2,
    schema: schema::config,
    entities: &[],
    scopes: Scopes::ALL,
    protocols: HTTP_PROTOCOLS,
    failure: FailureMode::Closed,
    build: PluginDef::NO_FILTER,
    lower: Some(lower::lower),
};
