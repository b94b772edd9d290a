//! What holds for a node as a whole: sockets, limits, header policy, error pages.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{Id, Labels, Listener, Locality, Origin};

/// What the operator of one node configured. It is not part of a generation, which all nodes of a role receive: a plan is
/// made from both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeSettings {
    /// Sockets that the operator of the node asked for. They belong to the default group and are opened when the node
    /// starts; [`Ir::listeners`](crate::Ir::listeners) come and go with generations.
    pub listeners: Vec<Listener>,
    /// The node's id, for hash seeds, logs and metrics.
    pub id: Id,
    /// Limits on clients.
    pub limits: Limits,
    /// Header names and tokens of this front end.
    pub headers: HeaderPolicy,
    /// Whom to believe about the client.
    pub real_ip: RealIp,
    /// Forwarding headers.
    pub forwarded: ForwardedPolicy,
    /// Names (lower-case) of the trailer fields of requests that are passed to upstreams; others are dropped.
    pub request_trailers: Vec<Box<str>>,
    /// Texts of generated errors.
    pub errors: ErrorPages,
    /// Connections to upstreams.
    pub upstream_pool: UpstreamPool,
    /// Name resolution.
    pub resolver: Resolver,
    /// Certificate to serve when no name matches; the node makes a self-signed one when absent.
    pub default_certificate: Option<NodeCertificate>,
    /// Ask clients for a certificate and verify it against these authorities (PEM bundle); `None` does not ask.
    pub client_authorities: Option<Box<str>>,
    /// Refuse clients without a valid certificate.
    pub client_certificate_required: bool,
    /// Authorities for upstream certificates (PEM bundle); `None` means the system's.
    pub upstream_authorities: Option<Box<str>>,
    /// Request header names (lower-case) whose values logs must not show.
    pub redacted_headers: Vec<Box<str>>,
    /// Cipher suites by IANA or OpenSSL name, first is preferred; empty means the library's.
    pub cipher_suites: Vec<Box<str>>,
    /// Lowest TLS version served is 1.3.
    pub tls13_only: bool,
    /// Where the node is, for [`ZonePreference`](crate::policy::ZonePreference).
    pub locality: Locality,
    /// What the node is, for affinities.
    pub labels: Labels,
}

/// A certificate of the node itself. Its keys come from the operator of the node and stay there, so they are not references
/// to secrets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeCertificate {
    /// The setting that it comes from.
    pub origin: Origin,
    /// Chain and key, one or more of them with different key types.
    pub pairs: Vec<PemPair>,
}

/// A chain and its key. The key is neither shown nor serialised.
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

/// Limits on what a client may make the node hold or do. Everything has a default; 0 means what the comment says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Request head, bytes.
    pub head_bytes_max: u32,
    /// Request line, bytes.
    pub line_bytes_max: u32,
    /// Header fields of a head, and of a trailer section.
    pub header_count_max: u32,
    /// Response head, bytes.
    pub response_head_bytes_max: u32,
    /// Request body, bytes; 0 is unlimited.
    pub body_bytes_max: u64,
    /// Body held in memory for a filter that needs it whole, bytes.
    pub buffered_body_bytes_max: u64,
    /// Bodies and log entries held in memory by the node at once, bytes.
    pub buffered_bytes_total_max: u64,
    /// Open client connections of the node.
    pub connections_max: u32,
    /// Concurrent streams of an HTTP/2 connection.
    pub streams_max: u32,
    /// Requests of a connection before it is closed.
    pub requests_per_connection_max: u64,
    /// For a request head to arrive, milliseconds.
    pub head_timeout_ms: u64,
    /// Between two reads of a request body, milliseconds.
    pub body_timeout_ms: u64,
    /// Between two writes to a client, milliseconds.
    pub send_timeout_ms: u64,
    /// Between two requests, milliseconds.
    pub keepalive_timeout_ms: u64,
    /// For a TLS handshake, or a PROXY header, milliseconds.
    pub handshake_timeout_ms: u64,
    /// For open requests to end when the node stops, milliseconds.
    pub drain_timeout_ms: u64,
    /// Idle time of a UDP session, milliseconds.
    pub udp_idle_timeout_ms: u64,
    /// UDP sessions of a listener.
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

/// Names of the headers that tell about the proxy, and tokens in them. `None` leaves a header out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeaderPolicy {
    /// `Server` of replies made here: `cardinal/0.1.0`.
    pub server: Option<Box<str>>,
    /// The pseudonym in `Via` of responses, after the protocol version: `cardinal`.
    pub via: Option<Box<str>>,
    /// The same in requests to upstreams.
    pub via_upstream: Option<Box<str>>,
    /// Request id, to upstreams.
    pub request_id_upstream: Option<Box<str>>,
    /// Request id, to clients.
    pub request_id: Option<Box<str>>,
    /// Milliseconds until the upstream's response head.
    pub upstream_latency: Option<Box<str>>,
    /// Milliseconds spent here, on proxied responses.
    pub proxy_latency: Option<Box<str>>,
    /// Milliseconds spent here, on replies made here.
    pub response_latency: Option<Box<str>>,
    /// Status that the upstream answered with.
    pub upstream_status: Option<Box<str>>,
    /// Headers that tell a client which route and backend its request took, when allowed.
    pub debug: Option<Box<DebugHeaders>>,
}

/// Headers that tell a client which route and backend its request took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DebugHeaders {
    /// Request header that asks for them, with the value `1`.
    pub request: Box<str>,
    /// Id of the route.
    pub route_id: Box<str>,
    /// Name of the route; empty if it has none.
    pub route_name: Box<str>,
    /// Id of the backend.
    pub backend_id: Box<str>,
    /// Name of the backend; empty if it has none.
    pub backend_name: Box<str>,
}

/// Who may say what the client's address is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RealIp {
    /// Peers to believe.
    pub trusted: Vec<IpNet>,
    /// Where the address stands.
    pub source: RealIpSource,
    /// In a list, skip trusted addresses from the right.
    pub recursive: bool,
}

/// Where the client's address stands.
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

/// Which forwarding headers are sent upstream.
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

/// Texts of replies made here. `{{message}}` and `{{request_id}}` in a template are replaced, escaped for the format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorPages {
    /// For `application/json`; `None` takes the built-in template.
    pub json: Option<Box<str>>,
    /// For `text/html`.
    pub html: Option<Box<str>>,
    /// For `text/plain`.
    pub plain: Option<Box<str>>,
    /// For `application/xml`.
    pub xml: Option<Box<str>>,
    /// Media type when the request does not say; `text/plain` when absent.
    pub default_type: Option<Box<str>>,
    /// Message of a failure by the failure's label (`no_route`, `upstream_timeout`), and of a request that is not as
    /// required (`method_refused`, `tls_required`, `http2_required`, `grpc_required`, `grpc_tls_required`); the built-in
    /// text when absent.
    pub messages: BTreeMap<Box<str>, Box<str>>,
}

/// Idle connections to upstreams, for each worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpstreamPool {
    /// Idle connections kept for one endpoint; 0 closes after each request.
    pub idle_max: u32,
    /// Requests of a connection before it is closed; 0 is unlimited.
    pub requests_max: u32,
    /// How long a connection may be idle, milliseconds.
    pub idle_timeout_ms: u64,
    /// Different TLS settings and server names for which connections are kept; the least recently used one makes room
    /// for another one.
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
    /// Servers; empty means those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// Hosts file.
    pub hosts_file: Box<str>,
    /// Record types in the order they are tried: `LAST`, `SRV`, `A`, `AAAA`, `CNAME`.
    pub order: Vec<Box<str>>,
    /// How long an expired answer may serve while a new one is fetched, seconds.
    pub stale_ttl_s: u32,
    /// How long "no such name" is remembered, seconds.
    pub not_found_ttl_s: u32,
    /// How long another failure is remembered, seconds.
    pub error_ttl_s: u32,
    /// TTL to use instead of the answer's, seconds.
    pub valid_ttl_s: Option<u32>,
    /// Names held; the least recently used go first.
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
