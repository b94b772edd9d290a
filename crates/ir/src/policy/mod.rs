//! Typed policies: plain data, one implementation each in the engine. Every front end lowers its own form to them.

mod headers;
mod mirror;
mod rewrite;

pub use headers::HeaderEdits;
pub use mirror::Mirror;
pub use rewrite::UrlRewrite;

use serde::{Deserialize, Serialize};

/// Policies of a route. Each replaces that of the route's backends; one that is absent leaves theirs in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RoutePolicies {
    /// Where copies of the requests go.
    pub mirrors: Vec<Mirror>,
    /// Changes of the head that goes to the backend, after all filters.
    pub request_headers: Option<HeaderEdits>,
    /// Changes of the head of the backend's response before filters see it, and of replies of the route's action.
    pub response_headers: Option<HeaderEdits>,
    /// Another URL towards the backend.
    pub rewrite: Option<UrlRewrite>,
}
