//! Filters and their scopes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Id, Origin, Wire};

/// Filters of one user object with a common scope. A Kong plugin instance is a set of one filter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FilterSet {
    /// The user's object.
    pub origin: Origin,
    /// The requests to which it applies.
    pub scope: Scope,
    /// Among the sets with the same kind of filter that apply to a request, the one with the highest precedence is
    /// used. Computed by the front end.
    pub precedence: u32,
    /// The filters.
    pub filters: Vec<Filter>,
}

/// The requests to which a set applies: all parts that are set must match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Scope {
    /// Requests that arrive at the listeners of this group, or that match a route of this tenant; `None` is the default
    /// group, of listeners without a group and routes without a tenant.
    /// Ignored if [`route`](Self::route) is set: a route itself belongs to a group.
    pub listeners: Option<Id>,
    /// Requests of this route (the origin id, so that it applies to every part of a split route).
    pub route: Option<Id>,
    /// Requests to this backend.
    pub backend: Option<Id>,
    /// Requests authenticated as this principal.
    pub principal: Option<Id>,
    /// Requests authenticated as a member of this group.
    pub group: Option<Id>,
}

impl Scope {
    /// Whether the scope can be evaluated by the route alone, before the client is authenticated.
    pub fn is_static(&self) -> bool {
        self.principal.is_none() && self.group.is_none()
    }
}

/// A filter, whose parameters only its plugin interprets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// The plugin's name.
    pub kind: Box<str>,
    /// Its parameters, which equal instances may share: complete with defaults, and valid by the plugin's schema.
    #[serde(serialize_with = "crate::binary::shared_in_key_order")]
    pub params: Arc<Value>,
    /// Wire forms to which it applies; empty means all.
    pub wires: Vec<Wire>,
    /// The user's name for this instance.
    pub instance_name: Option<Box<str>>,
}
