//! Destinations of requests: backends, clusters of endpoints, health checks.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::document::documented;
use crate::policy::{CircuitLimits, LocalityPolicy, OutlierDetection, Retry, SubsetFallback, Timeouts};
use crate::{Document, Id, Labels, Locality, MutualTls, Origin};

/// A destination of routes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Backend {
    /// The user's object.
    pub origin: Origin,
    /// TCP or UDP.
    pub l4: L4,
    /// HTTP version; `None` for byte streams and datagrams.
    pub http: Option<HttpVersion>,
    /// Requests to this backend are expected to be gRPC calls.
    pub grpc: bool,
    /// TLS towards the upstream; `None` for clear text.
    pub tls: Option<UpstreamTls>,
    /// The host or cluster to connect to.
    pub target: Target,
    /// Prefix of the upstream path.
    pub path: Option<Box<str>>,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Retry policy; `None` for no retries. Stream sessions only use `attempts`, and only retry failed connects. Equal
    /// policies may be shared between records.
    pub retry: Option<Arc<Retry>>,
    /// Allowed protocols of `Upgrade` in addition to `websocket`: lower-case names without a version.
    pub upgrade_protocols: Vec<Box<str>>,
    /// The data of [`Backend::document`].
    pub document: Document,
}

documented!(Backend { origin, l4, http, grpc, tls, target, path, timeouts, retry, upgrade_protocols });

/// Transport protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum L4 {
    /// Connections.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
}

/// The HTTP version for an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpVersion {
    /// HTTP/1.1.
    H1,
    /// HTTP/2 by prior knowledge, or by ALPN over TLS.
    H2,
    /// Negotiated by ALPN over TLS; HTTP/1.1 in clear text.
    Negotiate,
}

/// TLS towards an upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpstreamTls {
    /// Whether the peer's certificate is verified.
    pub verify: bool,
    /// Maximum number of intermediate certificates.
    pub verify_depth: Option<u8>,
    /// Trusted authorities; if empty, those of the node.
    pub trust_bundles: Vec<Id>,
    /// The client certificate.
    pub client_certificate: Option<Id>,
    /// Mutual TLS by SPIFFE identities. Replaces all fields above.
    pub identity: Option<Box<UpstreamIdentity>>,
}

/// Mutual TLS with an upstream by SPIFFE identities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpstreamIdentity {
    /// The node's own identity, and the allowed identities of the upstream.
    pub tls: MutualTls,
    /// The server name to send (SNI), which is not verified; if absent, the request's host.
    pub server_name: Option<Box<str>>,
}

/// The destination of a backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// One host, balanced over the addresses to which its name resolves.
    Host(Host),
    /// A load-balanced set of endpoints.
    Cluster {
        /// The cluster.
        id: Id,
        /// Port for members without a port.
        port: u16,
        /// Selects the endpoints that have all these labels; if empty, all endpoints. Subsets share the health, the
        /// ejections and the limits of the cluster; [`Cluster::subset_fallback`] applies if no endpoint matches.
        #[serde(default)]
        subset: Labels,
    },
}

impl Default for Target {
    fn default() -> Self {
        Self::Host(Host::default())
    }
}

impl Target {
    /// The cluster, if the target is one.
    pub fn cluster(&self) -> Option<Id> {
        match self {
            Self::Cluster { id, .. } => Some(*id),
            Self::Host(_) => None,
        }
    }
}

/// A host and port. The host is an address or a name, lower-case, without brackets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// Name or address.
    pub host: Box<str>,
    /// Port.
    pub port: u16,
}

impl Host {
    /// The address, if the host is an address.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

/// A load-balanced set of endpoints.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// The user's object.
    pub origin: Origin,
    /// The load balancing algorithm.
    pub algorithm: Algorithm,
    /// Points on the hash ring, and the wheel's size.
    pub slots: u32,
    /// The input of consistent hashing.
    pub hash_on: HashInput,
    /// The input if the first one is missing.
    pub hash_fallback: HashInput,
    /// Health checks.
    pub health: HealthChecks,
    /// Outlier detection by real traffic; `None` disables it.
    pub outlier: Option<Box<OutlierDetection>>,
    /// Circuit breaker limits; `None` for no limits.
    pub circuit: Option<Box<CircuitLimits>>,
    /// Distribution of requests over priorities and zones; `None` uses the lowest priority with an available endpoint.
    pub locality: Option<Box<LocalityPolicy>>,
    /// What a backend does if its subset has no endpoints.
    pub subset_fallback: SubsetFallback,
    /// Host header to send instead of the endpoint's name.
    pub host_header: Option<Box<str>>,
    /// The client certificate, if the backend does not set one.
    pub client_certificate: Option<Id>,
    /// Send the target name of the SRV record as Host.
    pub use_srv_name: bool,
    /// The data of [`Cluster::document`].
    pub document: Document,
}

documented!(Cluster {
    origin,
    algorithm,
    slots,
    hash_on,
    hash_fallback,
    health,
    outlier,
    circuit,
    locality,
    subset_fallback,
    host_header,
    client_certificate,
    use_srv_name
});

impl Default for Cluster {
    fn default() -> Self {
        Self {
            origin: Origin::default(),
            algorithm: Algorithm::default(),
            slots: 10_000,
            hash_on: HashInput::default(),
            hash_fallback: HashInput::default(),
            health: HealthChecks::default(),
            outlier: None,
            circuit: None,
            locality: None,
            subset_fallback: SubsetFallback::default(),
            host_header: None,
            client_certificate: None,
            use_srv_name: false,
            document: Document::default(),
        }
    }
}

/// One address in a cluster. Changes of the fields from `weight` on do not restart anything: they only replace the
/// snapshot of the cluster from which endpoints are picked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// The user's object.
    pub origin: Origin,
    /// The cluster.
    pub cluster: Id,
    /// Name or address, and port.
    pub host: Host,
    /// Share of the traffic; an endpoint with 0 receives none.
    pub weight: u32,
    /// Lower values are preferred; [`Cluster::locality`] determines how many of them have to be available.
    pub priority: u32,
    /// Location of the endpoint.
    pub locality: Locality,
    /// Labels of the endpoint, for subsets and affinities.
    pub labels: Labels,
}

impl Default for Endpoint {
    fn default() -> Self {
        Self {
            origin: Origin::default(),
            cluster: Id::nil(),
            host: Host::default(),
            weight: 100,
            priority: 0,
            locality: Locality::default(),
            labels: Labels::default(),
        }
    }
}

/// The load balancing algorithm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Weighted wheel.
    #[default]
    RoundRobin,
    /// Smallest (connections + 1) / weight.
    LeastConnections,
    /// Ketama ring.
    ConsistentHashing,
    /// Peak response time, two random choices.
    Latency,
    /// Sticky sessions: a cookie identifies the endpoint.
    Sticky {
        /// Cookie name.
        cookie: Box<str>,
        /// Cookie path.
        path: Box<str>,
    },
}

/// The input of a hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HashInput {
    /// None: all requests have the same hash, unless a fallback is set.
    #[default]
    None,
    /// The principal's id, or else the credential's id.
    Principal,
    /// The client's address.
    Ip,
    /// A header's values.
    Header(Box<str>),
    /// A cookie, which is created if absent.
    Cookie {
        /// Cookie name.
        name: Box<str>,
        /// Cookie path.
        path: Box<str>,
    },
    /// The normalized path.
    Path,
    /// A query argument.
    Query(Box<str>),
    /// A capture of the route's path pattern, by name or index.
    Capture(Box<str>),
}

/// Active and passive health checks of a group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthChecks {
    /// Probes.
    pub active: Active,
    /// Evaluation of real traffic.
    pub passive: Passive,
    /// The group is healthy while more than this percentage of its weight is available.
    #[serde(serialize_with = "crate::binary::one_zero")]
    pub threshold_percent: f64,
}

/// The protocol of a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeKind {
    /// Connecting succeeds.
    Tcp,
    /// GET over HTTP/1.1.
    #[default]
    Http,
    /// GET over HTTP/1.1 and TLS.
    Https,
    /// `grpc.health.v1.Health/Check` over h2c.
    Grpc,
    /// The same over TLS.
    Grpcs,
}

/// Active health checks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Active {
    /// The protocol.
    pub kind: ProbeKind,
    /// Timeout of a probe, milliseconds.
    pub timeout_ms: u64,
    /// Maximum number of concurrent probes.
    pub concurrency: u32,
    /// Path of the probe.
    pub path: Box<str>,
    /// Headers of the probe.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// Server name for TLS; if absent, the name of the endpoint.
    pub sni: Option<Box<str>>,
    /// Whether the certificate is verified.
    pub verify: bool,
    /// Interval between probes of healthy endpoints, milliseconds; 0 disables them.
    pub healthy_interval_ms: u64,
    /// Interval between probes of unhealthy endpoints, milliseconds; 0 disables them.
    pub unhealthy_interval_ms: u64,
    /// Thresholds for a change of state.
    pub counts: Counts,
}

/// Passive health checks, by real traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Passive {
    /// The protocol of the traffic.
    pub kind: ProbeKind,
    /// Thresholds for a change of state.
    pub counts: Counts,
}

/// Statuses, and the number of consecutive results that change the state; 0 disables a threshold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Statuses that count as success.
    pub healthy_statuses: Vec<u16>,
    /// Successes until an endpoint is healthy.
    pub successes: u8,
    /// Statuses that count as failure.
    pub unhealthy_statuses: Vec<u16>,
    /// Failed connections until an endpoint is unhealthy.
    pub tcp_failures: u8,
    /// Timeouts until an endpoint is unhealthy.
    pub timeouts: u8,
    /// Failure statuses until an endpoint is unhealthy.
    pub http_failures: u8,
}
