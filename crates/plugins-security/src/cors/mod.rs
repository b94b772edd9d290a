//! `cors`: tells browsers which other origins may call (the CORS protocol of the Fetch standard).

mod filter;
mod origins;
mod schema;
#[cfg(test)]
mod tests;

use cardinal_sdk::{FailureMode, HTTP_PROTOCOLS, PluginDef, Scopes};

/// The plugin.
pub const PLUGIN: PluginDef = PluginDef {
    name: "cors",
    summary: "Adds CORS headers to responses, and responds to preflight requests.",
    priority: 2000,
    schema: schema::config,
    entities: &[],
    scopes: Scopes { consumer: false, ..Scopes::ALL },
    protocols: HTTP_PROTOCOLS,
    failure: FailureMode::Closed,
    build: filter::build,
    lower: None,
};
