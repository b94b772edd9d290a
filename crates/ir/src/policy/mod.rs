//! Typed policies: plain data, one implementation each in the engine. Every front end lowers its own form to them.

mod mirror;

pub use mirror::Mirror;

use serde::{Deserialize, Serialize};

/// Policies of a route. Each replaces that of the route's backends; one that is absent leaves theirs in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RoutePolicies {
    /// Where copies of the requests go.
    pub mirrors: Vec<Mirror>,
}
