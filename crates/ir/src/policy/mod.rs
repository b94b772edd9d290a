//! Policies: behaviour that the engine itself implements, with a type for each kind.
//!
//! A [`Policy`] applies to requests by its scope and precedence like a [`FilterSet`](crate::FilterSet), and runs among
//! the filters at the position [`Policy::order`]. See [`resolve`](crate::resolve) for the selection among several
//! policies.

mod authorization;
mod circuit;
mod fault;
mod headers;
mod locality;
mod mirror;
mod outlier;
mod rate_limit;
mod respond;
mod retry;
mod rewrite;
mod timeouts;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Id, Origin, Scope, Wire};

pub use authorization::{
    AccessAction, AccessRule, Authorization, ClientMatch, GroupSource, HeaderCondition, IdentityMatch, PathCondition,
    Refusal, RefusalMessage, RequestCondition, ValueCondition,
};
pub use circuit::CircuitLimits;
pub use fault::{Fault, FaultAbort, FaultBandwidth, FaultDelay, FaultStatus};
pub use headers::HeaderEdits;
pub use locality::{Affinity, FailoverRule, LocalityPolicy, SubsetFallback, Unlisted, ZonePreference, ZoneSet};
pub use mirror::Mirror;
pub use outlier::{Detectors, FailurePercentage, OutlierDetection, SuccessRate};
pub use rate_limit::{LimitBy, Limiter, RateLimit, RatePeriod, RateWindow, TokenBucket, Windows};
pub use respond::{Respond, RespondBody};
pub use retry::{
    Backoff, GrpcCode, HeaderCheck, HeaderValue, RateLimitedBackoff, ResetFormat, ResetHeader, Retry, RetryBudget,
    RetryCondition, RetryMethods,
};
pub use rewrite::UrlRewrite;
pub use timeouts::{TimeoutOverrides, Timeouts};

/// A typed behaviour for the requests and connections in a scope.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// The user's object.
    pub origin: Origin,
    /// The requests that the policy applies to.
    pub scope: Scope,
    /// The clients to which the policy applies: those that match one of the entries. Empty: all clients. These
    /// conditions are known as soon as a client has connected; conditions on groups and principals belong in `scope`.
    pub clients: Vec<ClientMatch>,
    /// Among the policies in one slot (see [`resolve::SlotKey`](crate::resolve::SlotKey)) that apply to a request, the
    /// one with the highest precedence is used. Computed by the front end.
    pub precedence: u32,
    /// The position among filters and other policies: higher runs first (Kong's priority number).
    pub order: i32,
    /// The wire forms to which the policy applies; empty means all.
    pub wires: Vec<Wire>,
    /// The plugin instance from which the policy was lowered, if any.
    pub plugin: Option<PluginInstance>,
    /// The behaviour.
    pub spec: PolicySpec,
}

impl Policy {
    /// Whether the policy can be selected by the route alone, without knowing the client.
    pub fn is_static(&self) -> bool {
        self.scope.is_static() && self.clients.is_empty()
    }
}

/// A plugin instance of the user. The policy competes with filters of the plugin by precedence, runs at the plugin's
/// position, and is displayed under the plugin's name and with its parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginInstance {
    /// The plugin's name.
    pub name: Box<str>,
    /// The user's name for this instance.
    pub instance_name: Option<Box<str>>,
    /// The parameters as the user gave them, complete with defaults.
    #[serde(serialize_with = "crate::binary::shared_in_key_order")]
    pub params: Arc<Value>,
}

/// The behaviour of a policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicySpec {
    /// Access control: which clients may send which requests.
    Authorization(Authorization),
    /// Limits the number of requests or connections.
    RateLimit(RateLimit),
    /// Fault injection.
    Fault(Fault),
    /// A local reply.
    Respond(Respond),
}

impl Default for PolicySpec {
    /// Denies everything.
    fn default() -> Self {
        Self::Authorization(Authorization::default())
    }
}

impl PolicySpec {
    /// The type of the policy.
    pub fn kind(&self) -> PolicyKind {
        match self {
            Self::Authorization(_) => PolicyKind::Authorization,
            Self::RateLimit(_) => PolicyKind::RateLimit,
            Self::Fault(_) => PolicyKind::Fault,
            Self::Respond(_) => PolicyKind::Respond,
        }
    }

    /// The principals to which the behaviour refers.
    pub(crate) fn principals(&self) -> impl Iterator<Item = Id> {
        let rules = match self {
            Self::Authorization(authorization) => &authorization.rules[..],
            Self::RateLimit(_) | Self::Fault(_) | Self::Respond(_) => &[],
        };
        rules.iter().flat_map(|rule| &rule.clients).filter_map(|client| match client {
            ClientMatch::Principal(id) => Some(*id),
            _ => None,
        })
    }
}

/// The type of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyKind {
    /// [`PolicySpec::Authorization`]
    Authorization,
    /// [`PolicySpec::RateLimit`]
    RateLimit,
    /// [`PolicySpec::Fault`]
    Fault,
    /// [`PolicySpec::Respond`]
    Respond,
}

impl PolicyKind {
    /// The name in records: `rate_limit`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authorization => "authorization",
            Self::RateLimit => "rate_limit",
            Self::Fault => "fault",
            Self::Respond => "respond",
        }
    }
}

/// Policies of a route. Each replaces the corresponding policy of the route's backends; for an absent one, that of the
/// backend applies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RoutePolicies {
    /// Mirrors of the requests.
    pub mirrors: Vec<Mirror>,
    /// Edits of the upstream request head, after all filters.
    pub request_headers: Option<HeaderEdits>,
    /// Edits of the upstream response head before filters see it, and of replies of the route's action.
    pub response_headers: Option<HeaderEdits>,
    /// Rewrites the URL for the backend.
    pub rewrite: Option<UrlRewrite>,
    /// Replaces [`Backend::retry`](crate::Backend::retry) as a whole; `attempts: 0` disables retries.
    pub retry: Option<Arc<Retry>>,
    /// Replaces single values of [`Backend::timeouts`](crate::Backend::timeouts).
    pub timeouts: Option<TimeoutOverrides>,
}
