//! Preference for endpoints by priority and location.

use serde::{Deserialize, Serialize};

/// How requests are distributed over the priorities of a cluster, and how the priority of an endpoint is determined.
///
/// Without this policy, the lowest [`Endpoint::priority`](crate::Endpoint::priority) with an available endpoint
/// receives all requests, and [`HealthChecks::threshold_percent`](crate::HealthChecks::threshold_percent) determines
/// whether the cluster is available. With it, a priority receives requests up to its availability times the
/// overprovisioning factor, and the rest goes to the next priority; the threshold is ignored. Availability is the share
/// of addresses that are healthy and not ejected.
///
/// Records are the same for all nodes: conditions that depend on the location of a node, its [`NodeSettings::locality`]
/// and [`NodeSettings::labels`], are evaluated when the node applies the records.
///
/// [`NodeSettings::locality`]: crate::NodeSettings::locality
/// [`NodeSettings::labels`]: crate::NodeSettings::labels
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LocalityPolicy {
    /// A priority of which `p` percent are available receives at most `p` times this, divided by 100, percent of the
    /// requests: with 140, it receives all of them while at least 72 % are available. With 0, it receives all of them
    /// while any endpoint is available.
    pub overprovisioning_percent: u32,
    /// If all priorities together cannot take all requests, a priority of which less than this percentage is available
    /// uses all its addresses, available or not: some failures are better than an overload of the few available
    /// addresses. 0 disables this.
    pub panic_percent: u32,
    /// Prefer endpoints of the node's own zone; `None` ignores the location of endpoints.
    pub zones: Option<ZonePreference>,
}

impl Default for LocalityPolicy {
    fn default() -> Self {
        Self { overprovisioning_percent: 140, panic_percent: 50, zones: None }
    }
}

/// Priorities by zone. They take precedence over [`Endpoint::priority`](crate::Endpoint::priority), which orders the
/// endpoints within one such priority. On a node with an unknown zone, all endpoints are local.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ZonePreference {
    /// Within the node's own zone: an endpoint belongs to the first entry whose label has the same value as on the
    /// node.
    pub affinity: Vec<Affinity>,
    /// The weight of the local endpoints that match no entry of [`ZonePreference::affinity`].
    pub rest_weight: u32,
    /// The destinations if the node's own zone does not suffice: rule `n`, counted from 0, has priority `n + 1`, even
    /// if rules before it do not apply to this node. The first rule that lists an endpoint's zone is used.
    pub failover: Vec<FailoverRule>,
    /// How endpoints of other zones without a rule are used.
    pub unlisted: Unlisted,
}

impl Default for ZonePreference {
    fn default() -> Self {
        Self { affinity: Vec::new(), rest_weight: 1, failover: Vec::new(), unlisted: Unlisted::default() }
    }
}

/// A preference within a zone. Requests are distributed over local endpoints in proportion to these weights, which
/// shrink as their endpoints become unavailable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Affinity {
    /// The label to compare.
    pub label: Box<str>,
    /// Share of the requests.
    pub weight: u32,
}

/// The destination of requests of some zones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailoverRule {
    /// Zones of nodes to which the rule applies; empty means all.
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
    /// Every zone except these.
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

/// How endpoints of other zones that no failover rule lists are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unlisted {
    /// After those of all rules.
    #[default]
    Last,
    /// Not at all.
    Unused,
}

/// What a backend does if its subset has no endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubsetFallback {
    /// Its requests fail with 503.
    #[default]
    Fail,
    /// It uses all endpoints of the cluster.
    AnyEndpoint,
}
