//! `acl`: consumers in some groups may pass, or may not.

mod entities;
mod lower;
mod schema;
#[cfg(test)]
mod tests;

use cardinal_sdk::{FailureMode, HTTP_PROTOCOLS, PluginDef, Scopes};

/// The plugin.
pub const PLUGIN: PluginDef = PluginDef {
    name: "acl",
    summary: "Allows or rejects consumers by their groups.",
    priority: 950,
    schema: schema::config,
    entities: &[entities::GROUPS],
    scopes: Scopes { consumer: false, ..Scopes::ALL },
    protocols: HTTP_PROTOCOLS,
    failure: FailureMode::Closed,
    build: PluginDef::NO_FILTER,
    lower: Some(lower::lower),
};
