//! [`UrlRewrite`]: rewrites the URL for the backend.

use serde::{Deserialize, Serialize};

use crate::PathRewrite;

/// Rewrites the URL for the backend. Filters see the result, and may change it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UrlRewrite {
    /// Host, with an optional port. It takes precedence over the client's and the endpoint's.
    pub host: Option<Box<str>>,
    /// Path, appended to the path of the backend. It takes precedence over [`Rewrite::strip_path`](crate::Rewrite).
    pub path: Option<PathRewrite>,
}
