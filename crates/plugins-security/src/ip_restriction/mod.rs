//! `ip-restriction`: clients from some addresses may come, or may not.

mod lower;
mod schema;
#[cfg(test)]
mod tests;

use cardinal_sdk::{FailureMode, PluginDef, Scopes};

/// The plugin.
pub const PLUGIN: PluginDef = PluginDef {
    name: "ip-restriction",
    summary: "Allows or rejects clients by their IP address.",
    priority: 990,
    schema: schema::config,
    entities: &[],
    scopes: Scopes::ALL,
    protocols: &["http", "https", "tcp", "tls", "grpc", "grpcs"],
    failure: FailureMode::Closed,
    build: PluginDef::NO_FILTER,
    lower: Some(lower::lower),
};
