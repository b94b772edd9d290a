//! What a user of the Admin API may do: the decision about a request, as pure functions of the rules of the user's roles.
//!
//! [`allows`] decides about endpoints, [`EntityRules`] about single entities. The behaviour is that of Kong Enterprise.

mod actions;
mod endpoints;
mod entities;
#[cfg(test)]
mod tests;

pub use actions::{Action, Actions, UnknownAction};
pub use endpoints::{EndpointRule, allows, allows_everywhere, normalized};
pub use entities::{EntityRule, EntityRules};
