//! `hmac-auth`: requests signed with a shared secret.
//!
//! The parameters of a signature are read (`parameters`), the request's own signature is made of what they list
//! (`signing`), with the secret of the credential that they name (`entities`), and both are compared (`filter`).

mod entities;
mod filter;
mod parameters;
mod schema;
mod signing;
#[cfg(test)]
mod tests;

use cardinal_sdk::{FailureMode, HTTP_PROTOCOLS, PluginDef, Scopes};

/// The plugin.
pub const PLUGIN: PluginDef = PluginDef {
    name: "hmac-auth",
    summary: "Authenticates requests by an HMAC signature of their headers.",
    priority: 1030,
    schema: schema::config,
    entities: &[entities::SECRETS],
    scopes: Scopes { consumer: false, ..Scopes::ALL },
    protocols: HTTP_PROTOCOLS,
    failure: FailureMode::Closed,
    build: filter::build,
    lower: None,
};
