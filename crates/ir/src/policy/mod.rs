//! Policies: behaviour that the engine itself implements, with a type for each kind.
//!
//! A [`Policy`] applies to requests by its scope and precedence like a [`FilterSet`](crate::FilterSet), and runs among the
//! filters at the position [`Policy::order`]. See [`resolve`](crate::resolve) for which of several policies applies.

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

/// Behaviour of one type for the requests and connections of a scope.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// The user's object.
    pub origin: Origin,
    /// The requests that the policy applies to.
    pub scope: Scope,
    /// The clients that the policy applies to: those that one of the entries matches. Empty: all clients. These conditions
    /// are known as soon as a client has connected; those about groups and principals belong in `scope`.
    pub clients: Vec<ClientMatch>,
    /// Of several policies in one slot (see [`resolve::SlotKey`](crate::resolve::SlotKey)) that apply to a request, the one
    /// of the highest precedence takes effect. The front end computes it.
    pub precedence: u32,
    /// The position among filters and other policies: higher runs first (Kong's priority number).
    pub order: i32,
    /// The wire forms that the policy applies to; empty: all.
    pub wires: Vec<Wire>,
    /// The plugin instance that the policy was lowered from, if it was.
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
/// position, and is shown to users under the plugin's name and with its parameters.
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
    /// Which clients may send which requests.
    Authorization(Authorization),
    /// How many requests or connections are let through.
    RateLimit(RateLimit),
    /// Faults that are injected to test clients.
    Fault(Fault),
    /// A response that is made here.
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

    /// The principals that the behaviour names.
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
    /// As in records: `rate_limit`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authorization => "authorization",
            Self::RateLimit => "rate_limit",
            Self::Fault => "fault",
            Self::Respond => "respond",
        }
    }
}

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
    /// Replaces [`Backend::retry`](crate::Backend::retry) as a whole; `attempts: 0` turns retries off.
    pub retry: Option<Arc<Retry>>,
    /// Replaces single values of [`Backend::timeouts`](crate::Backend::timeouts).
    pub timeouts: Option<TimeoutOverrides>,
}
