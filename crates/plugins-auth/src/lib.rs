//! Plugins for authentication and access control.
//!
//! One folder a plugin; registration is the array below. What they share: `access` (anonymous consumers, several
//! plugins together), `consumer_headers` (headers for the upstream), `query_values` (keys and tokens in the query).
//!
//! *Must not know*: other families, the engine, how a front end spells consumers.
//!
//! Start at [`key_auth`], the shortest of them.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod access;
pub mod acl;
pub mod basic_auth;
mod consumer_headers;
#[cfg(test)]
mod fixture;
pub mod hmac_auth;
pub mod jwt;
pub mod key_auth;
mod query_values;

use cardinal_sdk::PluginDef;

/// All plugins of the family, in alphabetical order.
pub const PLUGINS: &[&PluginDef] =
    &[&acl::PLUGIN, &basic_auth::PLUGIN, &hmac_auth::PLUGIN, &jwt::PLUGIN, &key_auth::PLUGIN];
