//! Listeners, and the groups that share routes.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{Id, Origin};

/// Listeners that share routes: `inbound`, `outbound`. Each group has its own route tables, one for HTTP and one for
/// streams, with the routes whose [`Route::group`](crate::Route::group) it is. Listeners without a group use the routes
/// without a group, which form the default group.
///
/// A group without listeners is a tenant: part of a configuration that is isolated from the others. Its routes, with
/// [`Route::of_tenant`](crate::Route::of_tenant), are in the tables of the default group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListenerGroup {
    /// The user's object.
    pub origin: Origin,
    /// The name, for logs and metrics.
    pub name: Box<str>,
}

/// A socket to accept traffic on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listener {
    /// The user's object.
    pub origin: Origin,
    /// The group; `None` is the default group.
    pub group: Option<Id>,
    /// For logs: `proxy 0.0.0.0:8000`.
    pub name: Box<str>,
    /// Address. With port 0, the system assigns a port.
    pub address: SocketAddr,
    /// The traffic to serve.
    pub kind: ListenerKind,
    /// TLS to terminate (for [`ListenerKind::Stream`]: unless a passthrough route matches); `None` for clear text.
    pub tls: Option<ListenerTls>,
    /// HTTP/2 by ALPN, or by prior knowledge in clear text.
    pub http2: bool,
    /// Each connection starts with a PROXY protocol header, version 1 or 2.
    pub proxy_protocol: bool,
    /// How connections are directed to the listener.
    pub capture: Capture,
    /// Length of the queue of pending connections.
    pub backlog: u32,
    /// The port used for matching and `X-Forwarded-Port`, if it differs (Kong's `port_maps`).
    pub mapped_port: Option<u16>,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            origin: Origin::default(),
            group: None,
            name: Box::default(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            kind: ListenerKind::default(),
            tls: None,
            http2: true,
            proxy_protocol: false,
            capture: Capture::default(),
            backlog: 1_024,
            mapped_port: None,
        }
    }
}

/// The traffic that a listener serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerKind {
    /// HTTP in all supported versions.
    #[default]
    Http,
    /// Byte streams over TCP, by stream routes.
    Stream,
    /// Detected by the first bytes of a connection: HTTP is served by HTTP routes, everything else by stream routes.
    /// TLS that the listener does not terminate is a stream. If a client sends nothing, a protocol in which the server
    /// speaks first is assumed.
    Detect,
    /// Datagrams, by stream routes.
    Udp,
    /// The state of the node: `/status`, `/metrics`.
    Status,
}

/// How connections are directed to a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capture {
    /// Clients connect to the listener.
    #[default]
    Direct,
    /// Redirected by a `REDIRECT` rule of the packet filter. Routes see the original destination. Connections that were
    /// not redirected are closed.
    Redirect,
    /// Redirected by a `TPROXY` rule, which requires the capability `CAP_NET_ADMIN`. Otherwise like
    /// [`Capture::Redirect`].
    Transparent,
}

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenerTls {
    /// By the node's settings: all certificates of the generation by server name, and the node's settings for client
    /// certificates.
    Node,
    /// With certificates of the generation.
    Certificates(TlsTermination),
    /// Mutual TLS by SPIFFE identities.
    Identity(MutualTls),
}

/// TLS with certificates of the generation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsTermination {
    /// Certificates, selected by server name. If none matches, the first one is used.
    pub certificates: Vec<Id>,
    /// Authorities of client certificates. If empty, no client certificate is requested.
    pub client_trust_bundles: Vec<Id>,
    /// Reject clients without a certificate.
    pub client_required: bool,
    /// Require TLS 1.3.
    pub tls13_only: bool,
}

/// Mutual TLS by SPIFFE identities: both sides prove their identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct MutualTls {
    /// The node's own identity.
    pub identity: Id,
    /// Allowed peers, verified by the trust bundle of their trust domain. If empty, no peer is allowed.
    pub peers: Vec<PeerMatch>,
    /// Clients may also connect without TLS, in which case they have no identity (Kuma's mode `Permissive`). Only for
    /// listeners.
    pub clear_text: bool,
}

/// A SPIFFE ID, or a set of IDs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerMatch {
    /// This ID: `spiffe://example.org/ns/default/sa/web`.
    Exact(Box<str>),
    /// This ID and all IDs below it, by whole path segments. `spiffe://example.org` matches its whole trust domain.
    Within(Box<str>),
}
