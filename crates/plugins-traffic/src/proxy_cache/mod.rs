//! `proxy-cache`: answers from memory what the upstream has answered before.

mod control;
mod filter;
mod key;
mod media;
mod schema;
mod store;
#[cfg(test)]
mod tests;
mod variants;

use cardinal_sdk::{FailureMode, HTTP_PROTOCOLS, PluginDef, Scopes};

pub use store::{fetch, flush, purge};

/// The plugin.
pub const PLUGIN: PluginDef = PluginDef {
    name: "proxy-cache",
    summary: "Caches responses in memory.",
    priority: 100,
    schema: schema::config,
    entities: &[],
    scopes: Scopes::ALL,
    protocols: HTTP_PROTOCOLS,
    failure: FailureMode::Closed,
    build: filter::build,
    lower: None,
};
