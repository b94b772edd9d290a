//! [`UrlRewrite`]: another URL towards the backend.

use serde::{Deserialize, Serialize};

use crate::PathRewrite;

/// Another URL towards the backend. Filters see it, and may change it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UrlRewrite {
    /// Host, with an optional port. It goes before the client's and the endpoint's.
    pub host: Option<Box<str>>,
    /// Path, which is put behind that of the backend. It goes before [`Rewrite::strip_path`](crate::Rewrite).
    pub path: Option<PathRewrite>,
}
