//! [`Authorization`]: which clients may connect, and which requests they may send.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::Id;

/// Rules that are tried in their order. The first rule that matches and allows or denies decides. A request or connection
/// that no rule decides about is denied, unless `allow_by_default` is set.
///
/// On listeners of streams the policy decides about connections, where conditions about requests cannot be checked: there
/// an allowing rule with such conditions does not match, and a denying one matches as if it had none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Authorization {
    /// The rules, in the order in which they are tried.
    pub rules: Vec<AccessRule>,
    /// What no rule decides about is allowed.
    pub allow_by_default: bool,
    /// Denials are counted and logged, and nothing is refused.
    pub shadow: bool,
    /// The reply to a denied request.
    pub refusal: Refusal,
    /// The reply to a denied request that is not authenticated and of whose client no group is known. `None`: `refusal`.
    pub unidentified_refusal: Option<Refusal>,
    /// Where the groups of clients come from. `None`: no group is known.
    pub groups: Option<Box<GroupSource>>,
}

/// One rule. Each condition that is not empty must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccessRule {
    /// What happens to requests and connections that match.
    pub action: AccessAction,
    /// One of these describes the client.
    pub clients: Vec<ClientMatch>,
    /// The TLS server name is one of these, in lower case. A connection without a server name matches none.
    pub server_names: Vec<Box<str>>,
    /// One of these describes the request.
    pub requests: Vec<RequestCondition>,
}

/// What happens to requests and connections that match a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessAction {
    /// They are allowed.
    Allow,
    /// They are denied.
    #[default]
    Deny,
    /// They would be denied: that is counted and logged, and later rules decide.
    ShadowDeny,
}

/// A property of a client. What is not known about a client matches nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientMatch {
    /// The client's address is in this network. IPv4 addresses that are mapped into IPv6 are the IPv4 addresses.
    Network(IpNet),
    /// The SPIFFE identity that the peer has proved by mutual TLS.
    Identity(IdentityMatch),
    /// Member of this group; see [`Authorization::groups`].
    Group(Box<str>),
    /// Authenticated as this principal.
    Principal(Id),
    /// Authenticated with a credential.
    Authenticated,
    /// No principal, and no authentication filter vouches for any groups.
    Unidentified,
}

/// A condition on a SPIFFE identity, such as `spiffe://example.org/ns/shop/sa/web`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityMatch {
    /// This identity.
    Exact(Box<str>),
    /// Identities whose text starts with this. End it with `/` to match whole path segments.
    Prefix(Box<str>),
    /// Identities of this trust domain: `example.org`.
    TrustDomain(Box<str>),
}

/// A condition on a request. Each part that is not empty must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestCondition {
    /// The method is one of these (case-sensitive).
    pub methods: Vec<Box<str>>,
    /// The normalised path matches one of these.
    pub paths: Vec<PathCondition>,
    /// All of these hold.
    pub headers: Vec<HeaderCondition>,
}

/// A condition on a normalised path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathCondition {
    /// This path.
    Exact(Box<str>),
    /// This path and all below it, by whole segments: `/a` matches `/a` and `/a/b`, not `/ab`.
    Prefix(Box<str>),
}

/// A condition on a request header.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeaderCondition {
    /// The name, in any case; `_` counts as `-`.
    pub name: Box<str>,
    /// What its values must be. Of several fields of this name, one must match.
    pub value: ValueCondition,
}

/// A condition on the value of a header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueCondition {
    /// The header is there.
    #[default]
    Present,
    /// The header is not there.
    Absent,
    /// This value.
    Exact(Box<str>),
    /// A value that starts with this.
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

/// Where the groups of a client come from, and how the upstream gets to know them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupSource {
    /// The kind of [`Credential`](crate::Credential) that names a group of its principal in `lookup`.
    pub credential_kind: Box<str>,
    /// The names of the [`PrincipalGroup`](crate::PrincipalGroup)s of the principal count as well.
    pub principal_groups: bool,
    /// Groups that an authentication filter vouches for replace those of an authenticated principal. Otherwise they count
    /// only for requests without a principal and for those of an anonymous one.
    pub vouched_first: bool,
    /// The request header that tells the upstream the groups of a principal. Fields of this name from clients are removed.
    pub own_header: Box<str>,
    /// The same for groups that an authentication filter vouches for.
    pub vouched_header: Box<str>,
    /// The upstream is told the groups.
    pub send_headers: bool,
}
