//! Plugins that reject requests: by address, origin, size, or all of them.
//!
//! One folder a plugin; registration is the array below. *Must not know*: other families, the engine.
//!
//! Start at [`request_size_limiting`], the shortest of them.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod cors;
pub mod ip_restriction;
pub mod request_size_limiting;
pub mod request_termination;

use cardinal_sdk::{BuildError, PluginDef};

/// All plugins of the family, in alphabetical order.
pub const PLUGINS: &[&PluginDef] =
    &[&cors::PLUGIN, &ip_restriction::PLUGIN, &request_size_limiting::PLUGIN, &request_termination::PLUGIN];

/// A configuration that its schema has completed, as the plugin's own type.
fn parse_config<T: serde::de::DeserializeOwned>(config: &serde_json::Value) -> Result<T, BuildError> {
    T::deserialize(config).map_err(|error| BuildError::new("config", error.to_string()))
}
