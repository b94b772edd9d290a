//! Where requests go: backends, clusters of endpoints, health checks.

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
    /// Which HTTP to speak; `None` for plain bytes.
    pub http: Option<HttpVersion>,
    /// gRPC is expected of this backend.
    pub grpc: bool,
    /// TLS towards the upstream; `None` for clear text.
    pub tls: Option<UpstreamTls>,
    /// Whom to connect to.
    pub target: Target,
    /// Path in front of the request's path.
    pub path: Option<Box<str>>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// When a request is sent again; `None`: never. Sessions of streams go by its `attempts` alone, and try again only
    /// what could not be connected. Records that have the same may share it.
    pub retry: Option<Arc<Retry>>,
    /// Protocols that clients may switch to with `Upgrade`, besides `websocket`: lower-case names without a version.
    pub upgrade_protocols: Vec<Box<str>>,
    /// Behind [`Backend::document`].
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

/// Which HTTP an upstream is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpVersion {
    /// HTTP/1.1.
    H1,
    /// HTTP/2 by prior knowledge, or by ALPN over TLS.
    H2,
    /// Over TLS what ALPN settles on; HTTP/1.1 in clear text.
    Negotiate,
}

/// TLS towards an upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpstreamTls {
    /// Whether the peer's certificate is verified.
    pub verify: bool,
    /// Longest chain between leaf and root when verifying.
    pub verify_depth: Option<u8>,
    /// Authorities to trust; empty means the node's.
    pub trust_bundles: Vec<Id>,
    /// The certificate to show.
    pub client_certificate: Option<Id>,
    /// Mutual TLS by SPIFFE identities. It replaces all of the fields above.
    pub identity: Option<Box<UpstreamIdentity>>,
}

/// Mutual TLS with an upstream by SPIFFE identities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpstreamIdentity {
    /// The identity to prove, and the upstreams that are allowed.
    pub tls: MutualTls,
    /// The server name to ask for (SNI), which says nothing about who the upstream is; that of the request's host when
    /// absent.
    pub server_name: Option<Box<str>>,
}

/// Whom to connect to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// One host, balanced over what its name resolves to.
    Host(Host),
    /// A load-balanced set of endpoints.
    Cluster {
        /// The cluster.
        id: Id,
        /// Port for members that have none of their own.
        port: u16,
        /// Only the endpoints that have all these labels; empty is all endpoints. Subsets of a cluster share the health,
        /// the ejections and the limits of the cluster; [`Cluster::subset_fallback`] applies to one without endpoints.
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
    /// The cluster, when the target is one.
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
    /// The address, when the host is one and not a name.
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
    /// How one is chosen.
    pub algorithm: Algorithm,
    /// Points on the hash ring, and the wheel's size.
    pub slots: u32,
    /// What consistent hashing hashes.
    pub hash_on: HashInput,
    /// What it hashes when the first is missing.
    pub hash_fallback: HashInput,
    /// Health checks.
    pub health: HealthChecks,
    /// Ejection of endpoints that fail real traffic; `None` ejects none.
    pub outlier: Option<Box<OutlierDetection>>,
    /// Limits on connections and requests; `None` has none.
    pub circuit: Option<Box<CircuitLimits>>,
    /// Spread of requests over priorities and zones; `None` uses the lowest priority that has an available endpoint.
    pub locality: Option<Box<LocalityPolicy>>,
    /// What a backend does whose subset has no endpoints.
    pub subset_fallback: SubsetFallback,
    /// Host header to send instead of the endpoint's name.
    pub host_header: Option<Box<str>>,
    /// The certificate to show when the backend has none of its own.
    pub client_certificate: Option<Id>,
    /// Send the name of the SRV record that was followed as Host.
    pub use_srv_name: bool,
    /// Behind [`Cluster::document`].
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

/// One address in a cluster. The fields from `weight` on are data: a change of them replaces nothing but the picture of
/// the cluster that picks look at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// The user's object.
    pub origin: Origin,
    /// The cluster.
    pub cluster: Id,
    /// Name or address, and port.
    pub host: Host,
    /// Share of the traffic; 0 takes none.
    pub weight: u32,
    /// Lower ones come first; how much of them has to be available is up to [`Cluster::locality`].
    pub priority: u32,
    /// Where it is.
    pub locality: Locality,
    /// What it is, for subsets and affinities.
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

/// How an endpoint is chosen.
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
    /// A cookie names the endpoint.
    Sticky {
        /// Cookie name.
        cookie: Box<str>,
        /// Cookie path.
        path: Box<str>,
    },
}

/// What a hash is computed from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HashInput {
    /// Nothing: every request hashes alike, unless a fallback says otherwise.
    #[default]
    None,
    /// The principal's id, else the credential's.
    Principal,
    /// The client's address.
    Ip,
    /// A header's values.
    Header(Box<str>),
    /// A cookie, made when absent.
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
    /// Judgement by real traffic.
    pub passive: Passive,
    /// The group is healthy while strictly more than this percentage of its weight is available.
    #[serde(serialize_with = "crate::binary::one_zero")]
    pub threshold_percent: f64,
}

/// What a probe speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeKind {
    /// A connection is enough.
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

/// Probes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Active {
    /// What to speak.
    pub kind: ProbeKind,
    /// Limit on one probe, in milliseconds.
    pub timeout_ms: u64,
    /// Probes in progress at once.
    pub concurrency: u32,
    /// Path of the probe.
    pub path: Box<str>,
    /// Headers of the probe.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// Server name for TLS; the endpoint's name when absent.
    pub sni: Option<Box<str>>,
    /// Whether the certificate is verified.
    pub verify: bool,
    /// Between probes of healthy endpoints, in milliseconds; 0 is off.
    pub healthy_interval_ms: u64,
    /// Between probes of unhealthy endpoints, in milliseconds; 0 is off.
    pub unhealthy_interval_ms: u64,
    /// When to change one's mind.
    pub counts: Counts,
}

/// Judgement by real traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Passive {
    /// What the traffic is.
    pub kind: ProbeKind,
    /// When to change one's mind.
    pub counts: Counts,
}

/// Statuses and how many of them in a row change the verdict; 0 disables a judgement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Statuses that count as success.
    pub healthy_statuses: Vec<u16>,
    /// Successes until healthy.
    pub successes: u8,
    /// Statuses that count as failure.
    pub unhealthy_statuses: Vec<u16>,
    /// Failed connections until unhealthy.
    pub tcp_failures: u8,
    /// Timeouts until unhealthy.
    pub timeouts: u8,
    /// Failure statuses until unhealthy.
    pub http_failures: u8,
}
