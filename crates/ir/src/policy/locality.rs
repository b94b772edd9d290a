//! Preference for endpoints by priority and by where they are.

use serde::{Deserialize, Serialize};

/// How requests are spread over the priorities of a cluster, and which priority an endpoint has.
///
/// Without this policy, the lowest [`Endpoint::priority`](crate::Endpoint::priority) that has an available endpoint gets
/// all requests, and [`HealthChecks::threshold_percent`](crate::HealthChecks::threshold_percent) decides whether the
/// cluster serves. With it, a priority gets requests as far as its availability times the overprovisioning factor
/// suffices, and the rest goes to the next one; the threshold is not consulted. Availability is the share of addresses
/// that are healthy and not ejected.
///
/// Records are the same for all nodes: what depends on where a node is, its own [`NodeSettings::locality`] and
/// [`NodeSettings::labels`], is compared when the node takes the records in.
///
/// [`NodeSettings::locality`]: crate::NodeSettings::locality
/// [`NodeSettings::labels`]: crate::NodeSettings::labels
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LocalityPolicy {
    /// A priority of which `p` percent are available gets at most `p` times this, divided by 100, percent of the requests:
    /// with 140, it gets all of them while at least 72 % are available. 0 lets it have all while any is available.
    pub overprovisioning_percent: u32,
    /// While all priorities together cannot take all requests, one of which less than this percentage is available uses
    /// all its addresses, available or not: better some failures than an overload of the few that are left. 0 is never.
    pub panic_percent: u32,
    /// Endpoints of the node's own zone come first; `None` ignores where endpoints are.
    pub zones: Option<ZonePreference>,
}

impl Default for LocalityPolicy {
    fn default() -> Self {
        Self { overprovisioning_percent: 140, panic_percent: 50, zones: None }
    }
}

/// Priorities by zone. They go before [`Endpoint::priority`](crate::Endpoint::priority), which orders the endpoints of one
/// such priority. On a node whose own zone is not known, all endpoints count as local.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ZonePreference {
    /// Within the node's own zone: an endpoint belongs to the first of these whose label it has with the node's own value.
    pub affinity: Vec<Affinity>,
    /// The weight of the local endpoints that belong to none of [`ZonePreference::affinity`].
    pub rest_weight: u32,
    /// Where requests go when the node's own zone does not suffice: rule `n`, counted from 0, has priority `n + 1`, whether
    /// or not rules before it apply to this node. The first rule that lists an endpoint's zone counts.
    pub failover: Vec<FailoverRule>,
    /// Endpoints of other zones that no rule lists.
    pub unlisted: Unlisted,
}

impl Default for ZonePreference {
    fn default() -> Self {
        Self { affinity: Vec::new(), rest_weight: 1, failover: Vec::new(), unlisted: Unlisted::default() }
    }
}

/// A preference within a zone. Local endpoints are picked in proportion to these weights, which shrink as their endpoints
/// become unavailable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Affinity {
    /// The label to compare.
    pub label: Box<str>,
    /// Share of the requests.
    pub weight: u32,
}

/// Where requests of some zones go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailoverRule {
    /// Zones of nodes that the rule is for; empty is all.
    pub from: Vec<Box<str>>,
    /// Zones of endpoints.
    pub to: ZoneSet,
}

/// A set of zones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZoneSet {
    /// No zone.
    #[default]
    None,
    /// Every zone.
    Any,
    /// Every zone but these.
    AnyExcept(Vec<Box<str>>),
    /// These zones.
    Only(Vec<Box<str>>),
}

impl ZoneSet {
    /// Whether a zone is in the set.
    pub fn contains(&self, zone: &str) -> bool {
        match self {
            Self::None => false,
            Self::Any => true,
            Self::AnyExcept(zones) => !zones.iter().any(|z| **z == *zone),
            Self::Only(zones) => zones.iter().any(|z| **z == *zone),
        }
    }
}

/// What becomes of endpoints of other zones that no failover rule lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unlisted {
    /// They come after those of all rules.
    #[default]
    Last,
    /// They get no requests.
    Unused,
}

/// What a backend does whose subset has no endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubsetFallback {
    /// Its requests fail with 503.
    #[default]
    Fail,
    /// It uses all endpoints of the cluster.
    AnyEndpoint,
}
