//! The traffic family of plugins.
//!
//! One folder a plugin; registration is the array below. *Must not know*: each other, the engine.

use cardinal_sdk::PluginDef;

/// All plugins of the family, in alphabetical order.
pub const PLUGINS: &[&PluginDef] = &[];
