//! `request-transformer`: changes path, method, headers, query and body of a request on its way to the upstream.

mod arguments;
mod body;
mod filter;
mod multipart;
mod ops;
mod schema;
#[cfg(test)]
mod tests;

use cardinal_sdk::{FailureMode, HTTP_PROTOCOLS, PluginDef, Scopes};

/// The plugin.
pub const PLUGIN: PluginDef = PluginDef {
    name: "request-transformer",
    summary: "Removes, renames, replaces, adds and appends headers, query arguments and body fields of requests.",
    priority: 801,
    schema: schema::config,
    entities: &[],
    scopes: Scopes::ALL,
    protocols: HTTP_PROTOCOLS,
    failure: FailureMode::Closed,
    build: filter::build,
    lower: None,
};
