//! `jwt`: signed tokens (RFC 7519), verified with keys of consumers or of an identity provider.
//!
//! A token is found (`retrieve`), taken apart (`token`), its key looked up (among credentials in `entities`, or in
//! a published key set in `key_source`), its signature verified (`algorithm`), its claims checked (`filter`).

mod algorithm;
mod entities;
mod filter;
mod key_set;
mod key_source;
mod pem;
mod retrieve;
mod schema;
#[cfg(test)]
mod tests;
mod token;

pub use algorithm::Algorithm;
pub use token::{TOKEN_MAX, Token, TokenError, parse};

use cardinal_sdk::{FailureMode, HTTP_PROTOCOLS, PluginDef, Scopes};

/// The plugin.
pub const PLUGIN: PluginDef = PluginDef {
    name: "jwt",
    summary: "Authenticates requests by a signed JSON Web Token.",
    priority: 1450,
    schema: schema::config,
    entities: &[entities::SECRETS],
    scopes: Scopes { consumer: false, ..Scopes::ALL },
    protocols: HTTP_PROTOCOLS,
    failure: FailureMode::Closed,
    build: filter::build,
    lower: None,
};
