//! [`Route`]: a condition and the handling of matches.

use serde::{Deserialize, Serialize};

use crate::document::documented;
use crate::policy::RoutePolicies;
use crate::{Action, Document, Id, Matches, Origin};

/// A rule that connections or requests may match.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Route {
    /// The user's object. Several records share one origin where a front end splits its object.
    pub origin: Origin,
    /// The group of the route: that of its listeners, or its tenant; `None` is the default group.
    pub group: Option<Id>,
    /// The group is a tenant: the route is in the tables of the default group, with the routes of other tenants, while
    /// filters, policies, principals and credentials are those of the group.
    pub of_tenant: bool,
    /// The order among routes of the group: higher ranks are tried first.
    pub rank: Rank,
    /// Whether requests or connections are matched.
    pub traffic: Traffic,
    /// The condition.
    pub matches: Matches,
    /// The action for a match if no filter replies.
    pub action: Action,
    /// How the upstream request target and Host are formed.
    pub rewrite: Rewrite,
    /// Requirements on a matching request, and the reply if they are not met.
    pub require: Require,
    /// Forward a request only after its body has been received completely.
    pub request_buffering: bool,
    /// Read a response as fast as the upstream sends it, within the buffer limits.
    pub response_buffering: bool,
    /// Policies that override those of the backend.
    pub policies: Option<Box<RoutePolicies>>,
    /// The data of [`Route::document`].
    pub document: Document,
}

documented!(Route {
    origin,
    group,
    rank,
    traffic,
    matches,
    action,
    rewrite,
    require,
    request_buffering,
    response_buffering,
    policies
} sparse { of_tenant });

impl Route {
    /// The listener group whose tables have the route; `None` is the default group.
    pub fn listeners(&self) -> Option<Id> {
        if self.of_tenant { None } else { self.group }
    }

    /// The tenant of the route.
    pub fn tenant(&self) -> Option<Id> {
        self.group.filter(|_| self.of_tenant)
    }
}

impl Default for Route {
    fn default() -> Self {
        Self {
            origin: Origin::default(),
            group: None,
            of_tenant: false,
            rank: Rank::default(),
            traffic: Traffic::default(),
            matches: Matches::default(),
            action: Action::default(),
            rewrite: Rewrite::default(),
            require: Require::default(),
            request_buffering: true,
            response_buffering: true,
            policies: None,
            document: Document::default(),
        }
    }
}

/// The kind of traffic that a route matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Traffic {
    /// Requests of HTTP/1.1, HTTP/2 and gRPC.
    #[default]
    Http,
    /// Connections of TCP and TLS, UDP sessions, and TLS passthrough.
    Stream,
}

/// Total order among routes. Compared as (`weight`, `tie`), higher first; computed by the front end. Packed, so that routes
/// are not padded to a multiple of 16 bytes.
#[repr(Rust, packed(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Rank {
    /// Specificity.
    #[serde(with = "crate::binary::wide")]
    pub weight: u128,
    /// Breaks ties between equal weights; different for each route, so that the order is total.
    #[serde(with = "crate::binary::wide")]
    pub tie: u128,
}

/// How the upstream request line and Host are formed from the client's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rewrite {
    /// Remove the matched part of the path.
    pub strip_path: bool,
    /// How the backend's path and the request's path are joined.
    pub path_handling: PathHandling,
    /// Send the client's Host instead of the backend's.
    pub preserve_host: bool,
}

/// How the backend's path and the request's path are joined (Kong's `path_handling`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathHandling {
    /// Slashes at the joint are merged.
    #[default]
    V0,
    /// Plain concatenation.
    V1,
}

/// Requirements on a matching request. Checked after the match, so that the reply can state which one is not met.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Require {
    /// TLS is required; the reply to a request without it.
    pub tls: Option<TlsRequired>,
    /// Only gRPC over HTTP/2 is allowed.
    pub grpc: bool,
}

/// The reply to a request without TLS on a route that requires it. Serialized as its status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "u16", try_from = "u16")]
pub enum TlsRequired {
    /// 426, which requests an upgrade to TLS.
    #[default]
    Upgrade,
    /// 301 to the same URL with `https`.
    Moved,
    /// 302.
    Found,
    /// 307.
    Temporary,
    /// 308.
    Permanent,
}

impl TlsRequired {
    /// The status.
    pub fn status(self) -> u16 {
        match self {
            Self::Upgrade => 426,
            Self::Moved => 301,
            Self::Found => 302,
            Self::Temporary => 307,
            Self::Permanent => 308,
        }
    }

    /// The reply with this status, if there is one.
    pub fn of(status: u16) -> Option<Self> {
        [Self::Upgrade, Self::Moved, Self::Found, Self::Temporary, Self::Permanent]
            .into_iter()
            .find(|reply| reply.status() == status)
    }
}

impl From<TlsRequired> for u16 {
    fn from(reply: TlsRequired) -> Self {
        reply.status()
    }
}

impl TryFrom<u16> for TlsRequired {
    type Error = String;

    fn try_from(status: u16) -> Result<Self, String> {
        Self::of(status).ok_or_else(|| format!("no reply of status {status} asks for TLS"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A generation may have hundreds of thousands of records.
    #[test]
    fn records_are_small() {
        assert_eq!((size_of::<Matches>(), size_of::<Origin>()), (64, 40));
        assert_eq!((size_of::<Route>(), size_of::<crate::Credential>()), (208, 88));
        assert_eq!((size_of::<Action>(), size_of::<Require>()), (24, 2));
    }
}
