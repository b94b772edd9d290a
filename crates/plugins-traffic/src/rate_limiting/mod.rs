//! `rate-limiting`: at most so many requests a second, minute, hour, day, month, year.

mod filter;
mod lower;
mod mirror;
mod remote;
mod schema;
#[cfg(test)]
mod tests;

use cardinal_sdk::{FailureMode, HTTP_PROTOCOLS, PluginDef, Scopes};

/// The plugin.
pub const PLUGIN: PluginDef = PluginDef {
    name: "rate-limiting",
    summary: "Limits the number of requests in each second, minute, hour, day, month or year.",
    priority: 910,
    schema: schema::config,
    entities: &[],
    scopes: Scopes::ALL,
    protocols: HTTP_PROTOCOLS,
    failure: FailureMode::Closed,
    build: filter::build,
    lower: Some(lower::lower),
};
