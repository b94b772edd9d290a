//! [`Authorization`]: which clients may connect, and which requests they may send.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::Id;

/// Rules that are evaluated in order. The first rule that matches and allows or denies is decisive. A request or
/// connection without a decisive rule is denied, unless `allow_by_default` is set.
///
/// On stream listeners, the policy applies to connections, for which conditions on requests cannot be evaluated: an
/// allowing rule with such conditions does not match, and a denying rule matches regardless of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Authorization {
    /// The rules, in the order of evaluation.
    pub rules: Vec<AccessRule>,
    /// Requests and connections without a decisive rule are allowed.
    pub allow_by_default: bool,
    /// Denials are only counted and logged.
    pub shadow: bool,
    /// The reply to a denied request.
    pub refusal: Refusal,
    /// The reply to a denied request that is not authenticated and whose client has no known group. `None`: `refusal`.
    pub unidentified_refusal: Option<Refusal>,
    /// The source of the clients' groups. `None`: groups are unknown.
    pub groups: Option<Box<GroupSource>>,
}

/// One rule. All non-empty conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccessRule {
    /// The action for matching requests and connections.
    pub action: AccessAction,
    /// The client matches one of these.
    pub clients: Vec<ClientMatch>,
    /// The TLS server name is one of these, lower-case. A connection without a server name matches none.
    pub server_names: Vec<Box<str>>,
    /// The request matches one of these.
    pub requests: Vec<RequestCondition>,
}

/// The action for requests and connections that match a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessAction {
    /// Allow.
    Allow,
    /// Deny.
    #[default]
    Deny,
    /// Only count and log the denial, and continue with later rules.
    ShadowDeny,
}

/// A property of a client. Unknown properties match nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientMatch {
    /// The client address is in this network. IPv4-mapped IPv6 addresses are treated as IPv4.
    Network(IpNet),
    /// The SPIFFE identity that the peer has proved by mutual TLS.
    Identity(IdentityMatch),
    /// Member of this group; see [`Authorization::groups`].
    Group(Box<str>),
    /// Authenticated as this principal.
    Principal(Id),
    /// Authenticated with a credential.
    Authenticated,
    /// No principal, and no groups reported by an authentication filter.
    Unidentified,
}

/// A condition on a SPIFFE identity, such as `spiffe://example.org/ns/shop/sa/web`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityMatch {
    /// Exactly this identity.
    Exact(Box<str>),
    /// Identities that begin with this text. End it with `/` to match whole path segments.
    Prefix(Box<str>),
    /// Identities of this trust domain: `example.org`.
    TrustDomain(Box<str>),
}

/// A condition on a request. All non-empty parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestCondition {
    /// The method is one of these (case-sensitive).
    pub methods: Vec<Box<str>>,
    /// The normalized path matches one of these.
    pub paths: Vec<PathCondition>,
    /// All of these hold.
    pub headers: Vec<HeaderCondition>,
}

/// A condition on a normalized path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathCondition {
    /// Exactly this path.
    Exact(Box<str>),
    /// This path and all paths below it, by whole segments: `/a` matches `/a` and `/a/b`, not `/ab`.
    Prefix(Box<str>),
}

/// A condition on a request header.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeaderCondition {
    /// The name, case-insensitive; `_` is treated as `-`.
    pub name: Box<str>,
    /// The condition on its values. If there are several fields of this name, one must match.
    pub value: ValueCondition,
}

/// A condition on the value of a header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueCondition {
    /// The header is present.
    #[default]
    Present,
    /// The header is absent.
    Absent,
    /// Exactly this value.
    Exact(Box<str>),
    /// A value that begins with this text.
    Prefix(Box<str>),
}

/// The reply to a denied request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Refusal {
    /// The status, 200 to 599.
    pub status: u16,
    /// The message.
    pub message: RefusalMessage,
}

impl Default for Refusal {
    fn default() -> Self {
        Self { status: 403, message: RefusalMessage::Text("access denied".into()) }
    }
}

/// The message of a [`Refusal`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalMessage {
    /// This text.
    Text(Box<str>),
    /// This text, followed by the client's address.
    WithClientAddress(Box<str>),
}

/// The source of a client's groups, and the headers that pass them to the upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupSource {
    /// The kind of [`Credential`](crate::Credential) whose `lookup` names a group of its principal.
    pub credential_kind: Box<str>,
    /// Also use the names of the principal's [`PrincipalGroup`](crate::PrincipalGroup)s.
    pub principal_groups: bool,
    /// Groups reported by an authentication filter replace those of an authenticated principal. Otherwise they are only
    /// used for requests without a principal or with an anonymous one.
    pub vouched_first: bool,
    /// The upstream request header with the groups of a principal. Fields of this name from clients are removed.
    pub own_header: Box<str>,
    /// The upstream request header with the groups reported by an authentication filter.
    pub vouched_header: Box<str>,
    /// Send the groups to the upstream.
    pub send_headers: bool,
}
