//! Listeners, and the groups that share routes.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{Id, Origin};

/// Listeners that share routes: `inbound`, `outbound`. Each group has route tables of its own, one for HTTP and one for
/// streams: the routes whose [`Route::group`](crate::Route::group) it is. Listeners without a group use the routes without
/// a group; that is the default group.
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
    /// Address. Port 0 lets the system choose.
    pub address: SocketAddr,
    /// What is served.
    pub kind: ListenerKind,
    /// TLS, which is terminated (for [`ListenerKind::Stream`]: unless a passthrough route matches); `None` for clear text.
    pub tls: Option<ListenerTls>,
    /// HTTP/2 by ALPN, and by prior knowledge in clear text.
    pub http2: bool,
    /// Each connection starts with a PROXY protocol header, version 1 or 2.
    pub proxy_protocol: bool,
    /// How connections get to the listener.
    pub capture: Capture,
    /// Pending connections.
    pub backlog: u32,
    /// The port that matching and `X-Forwarded-Port` see, when it differs (Kong's `port_maps`).
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

/// What a listener serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerKind {
    /// HTTP in all versions.
    #[default]
    Http,
    /// Bytes over TCP, by stream routes.
    Stream,
    /// What the first bytes of a connection tell: HTTP by HTTP routes, anything else by stream routes. TLS that the
    /// listener does not terminate is a stream. A client that stays silent is taken for one of a protocol in which the
    /// server speaks first.
    Detect,
    /// Datagrams, by stream routes.
    Udp,
    /// The node's own state: `/status`, `/metrics`.
    Status,
}

/// How connections get to a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capture {
    /// Clients connect to it.
    #[default]
    Direct,
    /// A `REDIRECT` rule of the packet filter leads connections to it. Routes see the original destination. Connections
    /// that were not redirected are closed.
    Redirect,
    /// A `TPROXY` rule leads connections to it, which needs the capability `CAP_NET_ADMIN`. Otherwise as
    /// [`Capture::Redirect`].
    Transparent,
}

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenerTls {
    /// By the settings of the node: all certificates of the generation by server name, and the node's rules for clients.
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
    /// Certificates, chosen by server name. Without one for a name the first is served.
    pub certificates: Vec<Id>,
    /// Authorities of client certificates. Empty: clients are not asked for one.
    pub client_trust_bundles: Vec<Id>,
    /// Clients without a certificate are refused.
    pub client_required: bool,
    /// Lowest TLS version served is 1.3.
    pub tls13_only: bool,
}

/// Mutual TLS by SPIFFE identities: both sides prove who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct MutualTls {
    /// The identity to prove.
    pub identity: Id,
    /// Peers that are allowed, verified by the trust bundle of their trust domain. Empty: none.
    pub peers: Vec<PeerMatch>,
    /// Clients may also connect without TLS; they have no identity then (Kuma's mode `Permissive`). Only of listeners.
    pub clear_text: bool,
}

/// A SPIFFE ID, or a family of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerMatch {
    /// This ID: `spiffe://example.org/ns/default/sa/web`.
    Exact(Box<str>),
    /// This ID and all below it, by whole path segments. `spiffe://example.org` stands for its whole trust domain.
    Within(Box<str>),
}
