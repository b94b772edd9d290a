//! `file-log`: a line of JSON for each request, in a file.

mod filter;
mod schema;
#[cfg(test)]
mod tests;

use cardinal_sdk::{FailureMode, HTTP_PROTOCOLS, PluginDef, Scopes};

/// The plugin.
pub const PLUGIN: PluginDef = PluginDef {
    name: "file-log",
    summary: "Writes a line of JSON about each request to a file.",
    priority: 9,
    schema: schema::config,
    entities: &[],
    scopes: Scopes::ALL,
    protocols: HTTP_PROTOCOLS,
    failure: FailureMode::Open,
    build: filter::build,
    lower: None,
};
