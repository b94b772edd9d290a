//! `prometheus`: counters and histograms of requests, and facts about the node, in the Prometheus text format.
//!
//! [`registry`] holds the numbers and is shared by all instances and workers; [`filter`] counts; [`text`] writes.

mod ai;
mod families;
mod filter;
mod node;
mod registry;
mod schema;
mod series;
#[cfg(test)]
mod tests;
mod text;

use cardinal_sdk::{FailureMode, HTTP_PROTOCOLS, PluginDef, Scopes};

pub use registry::{SERIES_MAX, register};

/// The plugin.
pub const PLUGIN: PluginDef = PluginDef {
    name: "prometheus",
    summary: "Counts requests, bytes and latencies for Prometheus.",
    priority: 13,
    schema: schema::config,
    entities: &[],
    scopes: Scopes::ALL,
    protocols: HTTP_PROTOCOLS,
    failure: FailureMode::Open,
    build: filter::build,
    lower: None,
};
