//! Settings of a node as a whole: sockets, limits, header policy, error pages.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{Id, Labels, Listener, Locality, Origin};

/// The settings made by the operator of one node. They are not part of a generation, which all nodes of a role receive:
/// a plan is built from both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeSettings {
    /// Listeners configured by the operator of the node. They belong to the default group and are opened when the node
    /// starts; [`Ir::listeners`](crate::Ir::listeners) change with generations.
    pub listeners: Vec<Listener>,
    /// The node's id, for hash seeds, logs and metrics.
    pub id: Id,
    /// Limits for clients.
    pub limits: Limits,
    /// Header names and tokens of the front end.
    pub headers: HeaderPolicy,
    /// Trusted proxies.
    pub real_ip: RealIp,
    /// Forwarding headers.
    pub forwarded: ForwardedPolicy,
    /// Names (lower-case) of the request trailer fields that are forwarded to upstreams; others are dropped.
    pub request_trailers: Vec<Box<str>>,
    /// Texts of generated error responses.
    pub errors: ErrorPages,
    /// Connections to upstreams.
    pub upstream_pool: UpstreamPool,
    /// Name resolution.
    pub resolver: Resolver,
    /// Certificate used if no server name matches; if absent, the node creates a self-signed one.
    pub default_certificate: Option<NodeCertificate>,
    /// Request a client certificate and verify it by these authorities (PEM bundle); `None` requests none.
    pub client_authorities: Option<Box<str>>,
    /// Reject clients without a valid certificate.
    pub client_certificate_required: bool,
    /// Authorities for upstream certificates (PEM bundle); `None` means the system's.
    pub upstream_authorities: Option<Box<str>>,
    /// Request header names (lower-case) whose values are not logged.
    pub redacted_headers: Vec<Box<str>>,
    /// Cipher suites by IANA or OpenSSL name, first is preferred; empty means the library's.
    pub cipher_suites: Vec<Box<str>>,
    /// Require TLS 1.3.
    pub tls13_only: bool,
    /// Location of the node, for [`ZonePreference`](crate::policy::ZonePreference).
    pub locality: Locality,
    /// Labels of the node, for affinities.
    pub labels: Labels,
}

/// A certificate of the node itself. Its keys are supplied by the operator of the node and stay on the node, so they
/// are not references to secrets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeCertificate {
    /// The setting from which it was read.
    pub origin: Origin,
    /// Chain and key; one or more pairs with different key types.
    pub pairs: Vec<PemPair>,
}

/// A chain and its key. The key is neither displayed nor serialized.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PemPair {
    /// PEM, leaf first.
    pub chain: Box<str>,
    /// PEM.
    #[serde(skip_serializing)]
    pub key: Box<str>,
}

impl std::fmt::Debug for PemPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PemPair").field("chain", &self.chain).finish_non_exhaustive()
    }
}

/// Limits on the resources that clients may use. All have defaults; the meaning of 0 is documented at each field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Size of a request head, bytes.
    pub head_bytes_max: u32,
    /// Size of a request line, bytes.
    pub line_bytes_max: u32,
    /// Number of header fields of a head, and of a trailer section.
    pub header_count_max: u32,
    /// Size of a response head, bytes.
    pub response_head_bytes_max: u32,
    /// Size of a request body, bytes; 0 is unlimited.
    pub body_bytes_max: u64,
    /// Size of a body that is buffered for a filter, bytes.
    pub buffered_body_bytes_max: u64,
    /// Total size of bodies and log entries that the node buffers, bytes.
    pub buffered_bytes_total_max: u64,
    /// Number of open client connections of the node.
    pub connections_max: u32,
    /// Number of concurrent streams of an HTTP/2 connection.
    pub streams_max: u32,
    /// Number of requests after which a connection is closed.
    pub requests_per_connection_max: u64,
    /// Timeout for receiving a request head, milliseconds.
    pub head_timeout_ms: u64,
    /// Timeout between two reads of a request body, milliseconds.
    pub body_timeout_ms: u64,
    /// Timeout between two writes to a client, milliseconds.
    pub send_timeout_ms: u64,
    /// Idle timeout between two requests, milliseconds.
    pub keepalive_timeout_ms: u64,
    /// Timeout for a TLS handshake or a PROXY protocol header, milliseconds.
    pub handshake_timeout_ms: u64,
    /// Drain timeout when the node stops, milliseconds.
    pub drain_timeout_ms: u64,
    /// Idle timeout of a UDP session, milliseconds.
    pub udp_idle_timeout_ms: u64,
    /// Number of UDP sessions of a listener.
    pub udp_sessions_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: 32 * 1024,
            line_bytes_max: 16 * 1024,
            header_count_max: 1_000,
            response_head_bytes_max: 64 * 1024,
            body_bytes_max: 0,
            buffered_body_bytes_max: 16 * 1024 * 1024,
            buffered_bytes_total_max: 256 * 1024 * 1024,
            connections_max: 16_384,
            streams_max: 128,
            requests_per_connection_max: 10_000,
            head_timeout_ms: 60_000,
            body_timeout_ms: 60_000,
            send_timeout_ms: 60_000,
            keepalive_timeout_ms: 75_000,
            handshake_timeout_ms: 10_000,
            drain_timeout_ms: 30_000,
            udp_idle_timeout_ms: 60_000,
            udp_sessions_max: 8_192,
        }
    }
}

/// Names of the headers about the proxy, and their tokens. `None` omits a header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeaderPolicy {
    /// `Server` of local replies: `cardinal/0.1.0`.
    pub server: Option<Box<str>>,
    /// The pseudonym in `Via` of responses, after the protocol version: `cardinal`.
    pub via: Option<Box<str>>,
    /// The pseudonym in `Via` of upstream requests.
    pub via_upstream: Option<Box<str>>,
    /// Header with the request id for upstreams.
    pub request_id_upstream: Option<Box<str>>,
    /// Header with the request id for clients.
    pub request_id: Option<Box<str>>,
    /// Header with the milliseconds until the upstream's response head.
    pub upstream_latency: Option<Box<str>>,
    /// Header with the milliseconds spent in the gateway, for proxied responses.
    pub proxy_latency: Option<Box<str>>,
    /// Header with the milliseconds spent in the gateway, for local replies.
    pub response_latency: Option<Box<str>>,
    /// Header with the status of the upstream's response.
    pub upstream_status: Option<Box<str>>,
    /// Debug headers that name the route and backend of a request, if enabled.
    pub debug: Option<Box<DebugHeaders>>,
}

/// Debug headers that name the route and backend of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DebugHeaders {
    /// Request header that enables them, with the value `1`.
    pub request: Box<str>,
    /// Header with the id of the route.
    pub route_id: Box<str>,
    /// Header with the name of the route; empty if it has none.
    pub route_name: Box<str>,
    /// Header with the id of the backend.
    pub backend_id: Box<str>,
    /// Header with the name of the backend; empty if it has none.
    pub backend_name: Box<str>,
}

/// How the client address is determined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RealIp {
    /// Addresses of trusted proxies.
    pub trusted: Vec<IpNet>,
    /// Where the client address is read from.
    pub source: RealIpSource,
    /// For a list: skip trusted addresses from the right.
    pub recursive: bool,
}

/// Where the client address is read from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RealIpSource {
    /// The connection itself.
    #[default]
    Peer,
    /// A request header, lower-case name.
    Header(Box<str>),
    /// The PROXY protocol header.
    ProxyProtocol,
}

/// Forwarding headers in upstream requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ForwardedPolicy {
    /// `X-Real-IP`, `X-Forwarded-For`, `-Proto`, `-Host`, `-Port`.
    pub x_forwarded: bool,
    /// `X-Forwarded-Path` and `-Prefix`.
    pub path_and_prefix: bool,
}

impl Default for ForwardedPolicy {
    fn default() -> Self {
        Self { x_forwarded: true, path_and_prefix: true }
    }
}

/// Texts of local error replies. `{{message}}` and `{{request_id}}` in a template are replaced, escaped for the format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorPages {
    /// For `application/json`; `None` uses the built-in template.
    pub json: Option<Box<str>>,
    /// For `text/html`.
    pub html: Option<Box<str>>,
    /// For `text/plain`.
    pub plain: Option<Box<str>>,
    /// For `application/xml`.
    pub xml: Option<Box<str>>,
    /// Media type if the request does not specify one; `text/plain` if absent.
    pub default_type: Option<Box<str>>,
    /// Messages by the label of a failure (`no_route`, `upstream_timeout`) or of an unmet requirement
    /// (`method_refused`, `tls_required`, `http2_required`, `grpc_required`, `grpc_tls_required`); the built-in text if
    /// absent.
    pub messages: BTreeMap<Box<str>, Box<str>>,
}

/// Idle upstream connections, per worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpstreamPool {
    /// Maximum number of idle connections to one endpoint; with 0, connections are closed after each request.
    pub idle_max: u32,
    /// Number of requests after which a connection is closed; 0 is unlimited.
    pub requests_max: u32,
    /// Idle timeout, milliseconds.
    pub idle_timeout_ms: u64,
    /// Maximum number of different TLS settings and server names with kept connections; the least recently used one is
    /// evicted.
    pub classes_max: u32,
}

impl Default for UpstreamPool {
    fn default() -> Self {
        Self { idle_max: 512, requests_max: 10_000, idle_timeout_ms: 60_000, classes_max: 8_192 }
    }
}

/// Name resolution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resolver {
    /// Servers; if empty, those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// Hosts file.
    pub hosts_file: Box<str>,
    /// Record types in the order of queries: `LAST`, `SRV`, `A`, `AAAA`, `CNAME`.
    pub order: Vec<Box<str>>,
    /// How long an expired answer may be served while a new one is fetched, seconds.
    pub stale_ttl_s: u32,
    /// How long "no such name" is cached, seconds.
    pub not_found_ttl_s: u32,
    /// How long other failures are cached, seconds.
    pub error_ttl_s: u32,
    /// TTL that replaces the TTL of answers, seconds.
    pub valid_ttl_s: Option<u32>,
    /// Maximum number of cached names; the least recently used ones are evicted.
    pub names_max: u32,
}

impl Default for Resolver {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            hosts_file: "/etc/hosts".into(),
            order: ["LAST", "SRV", "A", "AAAA", "CNAME"].map(Into::into).into(),
            stale_ttl_s: 3_600,
            not_found_ttl_s: 30,
            error_ttl_s: 1,
            valid_ttl_s: None,
            names_max: 10_000,
        }
    }
}
