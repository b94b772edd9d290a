//! The observability family of plugins: logs and metrics of requests and stream sessions.
//!
//! One folder a plugin; registration is the array below. [`custom_fields`] is what the loggers share.
//! *Must not know*: each other, the engine.
//!
//! Start at a plugin's `mod.rs`, then its `filter.rs`.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod custom_fields;
pub mod file_log;
pub mod http_log;
pub mod prometheus;

use cardinal_sdk::PluginDef;

/// All plugins of the family, in alphabetical order.
pub const PLUGINS: &[&PluginDef] = &[&file_log::PLUGIN, &http_log::PLUGIN, &prometheus::PLUGIN];

#[cfg(test)]
mod tests;
