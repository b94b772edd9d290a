//! The transformation family of plugins: they change requests and responses.
//!
//! One folder a plugin; registration is the array below. [`template`] evaluates the `$(...)` expressions of values.
//! *Must not know*: each other, the engine.
//!
//! Start at a plugin's `mod.rs`, then its `filter.rs`.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod correlation_id;
mod pairs;
pub mod request_transformer;
pub mod response_transformer;
mod template;

use cardinal_sdk::PluginDef;

/// All plugins of the family, in alphabetical order.
pub const PLUGINS: &[&PluginDef] =
    &[&correlation_id::PLUGIN, &request_transformer::PLUGIN, &response_transformer::PLUGIN];

#[cfg(test)]
mod tests;
