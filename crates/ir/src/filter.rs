//! Filters and where they apply.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Id, Origin, Wire};

/// Filters of one author with one scope. A Kong plugin instance is a set of one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FilterSet {
    /// The user's object.
    pub origin: Origin,
    /// What requests it is for.
    pub scope: Scope,
    /// Among sets that hold the same kind of filter for a request, the highest wins. The front end computes it.
    pub precedence: u32,
    /// The filters.
    pub filters: Vec<Filter>,
}

/// What requests a set is for: all parts that are set must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Scope {
    /// Requests that arrive at the listeners of this group; `None` is the default group, that of listeners which have
    /// none. It does not count where [`route`](Self::route) is set: a route has a group itself.
    pub listeners: Option<Id>,
    /// Requests of this route (the origin id, so that it holds for every part of a split route).
    pub route: Option<Id>,
    /// Requests to this backend.
    pub backend: Option<Id>,
    /// Requests authenticated as this principal.
    pub principal: Option<Id>,
    /// Requests authenticated as a member of this group.
    pub group: Option<Id>,
}

impl Scope {
    /// Whether the scope can be decided by the route alone, before anybody is authenticated.
    pub fn is_static(&self) -> bool {
        self.principal.is_none() && self.group.is_none()
    }
}

/// An intrinsic: what only its plugin can read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// The plugin's name.
    pub kind: Box<str>,
    /// Its parameters, which instances that say the same may share: complete with defaults and valid by the plugin's schema.
    #[serde(serialize_with = "crate::binary::shared_in_key_order")]
    pub params: Arc<Value>,
    /// Wire forms it acts on; empty means any.
    pub wires: Vec<Wire>,
    /// The user's name for this instance.
    pub instance_name: Option<Box<str>>,
}
