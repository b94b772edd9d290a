//! The traffic family of plugins: limits and caches.
//!
//! One folder a plugin; registration is the array below. *Must not know*: each other, the engine.
//!
//! Start at a plugin's `mod.rs`, then its `filter.rs`, and its `lower.rs` if it can be a policy.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod proxy_cache;
pub mod rate_limiting;

use cardinal_sdk::PluginDef;

/// All plugins of the family, in alphabetical order.
pub const PLUGINS: &[&PluginDef] = &[&proxy_cache::PLUGIN, &rate_limiting::PLUGIN];

#[cfg(test)]
mod tests;
