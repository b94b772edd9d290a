//! [`Route`]: what to match, and what to do with a match.

use serde::{Deserialize, Serialize};

use crate::document::documented;
use crate::policy::RoutePolicies;
use crate::{Document, Id, Matches, Origin};

/// A rule that a connection or a request may match.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Route {
    /// The user's object. Several records share one origin where a front end splits its object.
    pub origin: Origin,
    /// The order among routes: higher is tried first.
    pub rank: Rank,
    /// Whether requests or connections are matched.
    pub traffic: Traffic,
    /// The condition.
    pub matches: Matches,
    /// Where matches go. `None`: a filter answers, or the reply is 503.
    pub backend: Option<Id>,
    /// How the request changes on its way.
    pub rewrite: Rewrite,
    /// What a matching request must be, and the reply when it is not.
    pub require: Require,
    /// Hold a request back until its body has arrived whole.
    pub request_buffering: bool,
    /// Read a response as fast as the upstream sends it, within the buffer limits.
    pub response_buffering: bool,
    /// Policies that replace those of the backend.
    pub policies: Option<Box<RoutePolicies>>,
    /// Behind [`Route::document`].
    pub document: Document,
}

documented!(Route {
    origin,
    rank,
    traffic,
    matches,
    backend,
    rewrite,
    require,
    request_buffering,
    response_buffering,
    policies
});

impl Default for Route {
    fn default() -> Self {
        Self {
            origin: Origin::default(),
            rank: Rank::default(),
            traffic: Traffic::default(),
            matches: Matches::default(),
            backend: None,
            rewrite: Rewrite::default(),
            require: Require::default(),
            request_buffering: true,
            response_buffering: true,
            policies: None,
            document: Document::default(),
        }
    }
}

/// What a route is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Traffic {
    /// Requests of HTTP/1.1, HTTP/2 and gRPC.
    #[default]
    Http,
    /// Connections of TCP and TLS, UDP sessions, and TLS passthrough.
    Stream,
}

/// Total order among routes. Compared as (`weight`, `tie`), higher first; computed by the front end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Rank {
    /// Specificity.
    #[serde(with = "crate::binary::wide")]
    pub weight: u128,
    /// What decides between equals; different for each route, so that the order is total.
    #[serde(with = "crate::binary::wide")]
    pub tie: u128,
}

/// How the upstream request line and Host are made from the client's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rewrite {
    /// Take the matched part of the path away.
    pub strip_path: bool,
    /// How the backend's path and the request's are joined.
    pub path_handling: PathHandling,
    /// Send the client's Host instead of the backend's.
    pub preserve_host: bool,
}

/// How the backend's path and the request's are joined (Kong's `path_handling`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathHandling {
    /// Slashes at the joint are made one.
    #[default]
    V0,
    /// Plain concatenation.
    V1,
}

/// What a matching request must be. Checked after the match, so that the reply can say what is missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Require {
    /// TLS is required; the status of the reply to a request without it: 426, 301, 302, 307 or 308.
    pub tls: Option<u16>,
    /// Only gRPC over HTTP/2 is served.
    pub grpc: bool,
    /// `false`: a request over TLS does not belong here (a route for plain gRPC only).
    pub plain_only: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There may be hundreds of thousands of them.
    #[test]
    fn records_are_small() {
        assert_eq!((size_of::<Matches>(), size_of::<Origin>()), (64, 40));
        assert_eq!((size_of::<Route>(), size_of::<crate::Credential>()), (192, 80));
    }
}
