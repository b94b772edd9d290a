//! [`Arrived`]: an accepted connection with its TLS session and the properties that all of its requests share.

use std::rc::Rc;
use std::sync::Arc;

use cardinal_base::Tick;
use cardinal_ir::{Id, Listener, ListenerKind};
use cardinal_net::identity::IdentityServer;
use cardinal_net::tls::{self, ServerTls};
use cardinal_net::{ConnectionEntry, ConnectionProperties, Timer};
use cardinal_sdk::{Client, TlsInfo};
use rustls::ServerConnection;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::plan::{Plan, TlsPolicy, own_identity};
use crate::worker::Worker;

/// The properties of a request that follow from its connection instead of its head.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionInfo {
    /// Whether the request arrived over TLS.
    pub(crate) tls: bool,
    /// The client sends plain HTTP to a listener with TLS.
    pub(crate) plain_on_tls: bool,
    /// Port of the listener, after port mapping.
    pub(crate) listener_port: u16,
    /// Number of the client verification of the TLS handshake, see [`Plan::admits`].
    pub(crate) verification: Option<u64>,
    /// The listener that accepted the connection; `None` for a listener of the node's settings.
    pub(crate) entrance: Option<Rc<Entrance>>,
}

/// The listener that accepted a connection.
#[derive(Clone, Debug)]
pub(crate) struct Entrance {
    /// The listener at the time of accepting, with the id of its record; `None` for a listener of the node's settings.
    pub(crate) listener: Option<(Id, Arc<Listener>)>,
    /// The listener's group; `None` is the default group.
    pub(crate) group: Option<Id>,
}

impl ConnectionInfo {
    /// The group of the listener.
    pub(crate) fn group(&self) -> Option<Id> {
        self.entrance.as_ref()?.group
    }

    /// Whether the listener may be removed while the node keeps running.
    pub(crate) fn may_be_closed(&self) -> bool {
        self.entrance.is_some()
    }

    /// Whether a plan allows serving further requests of the connection.
    pub(crate) fn are_admitted(&self, plan: &Plan, client: &Client) -> bool {
        // Plain HTTP on a listener with TLS always receives an error.
        let listener = self.entrance.as_ref().and_then(|entrance| entrance.listener.as_ref());
        self.plain_on_tls || plan.admits(listener, self.verification, client.peer_identity.as_deref())
    }
}

/// An accepted connection with its listener, as it was at the time of accepting.
pub(crate) struct Arrived {
    /// The listener's record, unless it is a listener of the node's settings.
    pub(crate) record: Option<Id>,
    pub(crate) listener: Arc<Listener>,
    /// Time of accepting.
    pub(crate) accepted: Tick,
    /// Number of the client verification, see [`Plan::admits`]. TLS that a listener passes through counts as verified
    /// by the TLS settings of that listener.
    pub(crate) verification: Option<u64>,
}

impl Arrived {
    /// Limits a future to the rest of the time for the arrival: PROXY protocol header, ClientHello, filters and
    /// handshake share `client_handshake_timeout`, which starts when the connection is accepted. `None` if it has
    /// expired.
    pub(crate) async fn in_time<F: Future>(&self, worker: &Worker, future: F) -> Option<F::Output> {
        Timer::new(&worker.wheel).limit(self.left_ms(worker), future).await
    }

    /// The rest of that time, milliseconds.
    pub(crate) fn left_ms(&self, worker: &Worker) -> u64 {
        let limit_ms = worker.plan().node().limits.handshake_timeout_ms;
        limit_ms.saturating_sub(worker.now().millis_since(self.accepted))
    }

    /// The properties shared by all requests of a clear-text connection.
    pub(crate) fn info(&self, client: &Client) -> ConnectionInfo {
        ConnectionInfo {
            tls: false,
            plain_on_tls: false,
            listener_port: self.listener.mapped_port.unwrap_or(client.local.port()),
            verification: None,
            entrance: self.record.map(|id| {
                let listener = Some((id, Arc::clone(&self.listener)));
                Rc::new(Entrance { listener, group: self.listener.group })
            }),
        }
    }

    /// The current TLS settings of the listener; `None` if a TLS listener was removed, so that its client verification
    /// is unknown.
    pub(crate) fn tls(&self, plan: &Plan) -> Option<ConnectionTls> {
        let policy = self.record.and_then(|id| plan.listeners.get(&id)).map(|plan| &plan.tls);
        Some(match policy {
            None if self.listener.tls.is_none() => ConnectionTls::Clear,
            None if self.record.is_some() => return None,
            Some(TlsPolicy::Clear) => ConnectionTls::Clear,
            None | Some(TlsPolicy::Node) => ConnectionTls::Server(match (self.listener.kind, self.listener.http2) {
                (ListenerKind::Stream, _) => plan.tls.stream.clone(),
                (_, true) => plan.tls.http2.clone(),
                (_, false) => plan.tls.http1.clone(),
            }),
            Some(TlsPolicy::Certificates(tls)) => ConnectionTls::Server(tls.clone()),
            Some(TlsPolicy::Identity { server, clear_text }) => {
                ConnectionTls::Identity { server: Arc::clone(server), clear_text: *clear_text }
            }
        })
    }

    /// Registers a connection with the worker.
    pub(crate) fn register(&self, worker: &Worker, client: &Client) -> ConnectionEntry {
        worker.connections().add(ConnectionProperties {
            listener: self.record,
            group: self.listener.group,
            peer_identity: client.peer_identity.clone(),
            verification: self.verification,
            started: worker.now(),
        })
    }
}

/// The TLS settings of a connection.
pub(crate) enum ConnectionTls {
    Clear,
    Server(ServerTls),
    Identity { server: Arc<IdentityServer>, clear_text: bool },
}

impl ConnectionTls {
    /// Number of the client verification of connections whose TLS is not terminated, see [`Plan::admits`].
    pub(crate) fn verification(&self) -> Option<u64> {
        match self {
            Self::Clear => None,
            Self::Server(tls) => Some(tls.verification()),
            Self::Identity { server, clear_text } => (!clear_text).then(|| own_identity(server)),
        }
    }

    /// Whether clients may connect without TLS.
    pub(crate) fn allows_clear_text(&self) -> bool {
        match self {
            Self::Clear => true,
            Self::Server(_) => false,
            Self::Identity { clear_text, .. } => *clear_text,
        }
    }
}

/// A connection after the TLS handshake.
pub(crate) struct AcceptedTls {
    pub(crate) stream: Box<TlsStream<TcpStream>>,
    pub(crate) info: TlsInfo,
    /// Verified identity of the peer.
    pub(crate) peer: Option<Arc<str>>,
    /// See [`Plan::admits`].
    pub(crate) verification: u64,
}

pub(crate) fn handshake_failed(worker: &Worker, client: &Client, listener: &Listener, text: &str) {
    worker.counters().failed(cardinal_http::FailureKind::ClientTls);
    tracing::info!(failure = "client_tls", listener = %listener.name, client = %client.peer, "client_tls: {text}");
}

/// Performs the handshake on a connection from which `prefix` was already read.
pub(crate) async fn accept_tls(tls: &ConnectionTls, tcp: TcpStream, prefix: &[u8]) -> std::io::Result<AcceptedTls> {
    match tls {
        ConnectionTls::Clear => Err(std::io::Error::new(std::io::ErrorKind::Unsupported, "the listener has no TLS")),
        ConnectionTls::Server(tls) => {
            let stream = tls::accept(tls, tcp, prefix).await?;
            let (info, verification) = (tls_info(stream.get_ref().1), tls.verification());
            Ok(AcceptedTls { stream: Box::new(stream), info, peer: None, verification })
        }
        ConnectionTls::Identity { server, .. } => {
            let accepted = server.accept_after(tcp, prefix).await.map_err(|error| error.0)?;
            let (info, verification) = (tls_info(accepted.stream.get_ref().1), own_identity(server));
            let peer = Some(accepted.peer.as_str().into());
            Ok(AcceptedTls { stream: Box::new(accepted.stream), info, peer, verification })
        }
    }
}

/// The TLS properties that logs and filters see.
fn tls_info(connection: &ServerConnection) -> TlsInfo {
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "",
    };
    let cipher = connection
        .negotiated_cipher_suite()
        .map(|suite| suite.suite().as_str().unwrap_or_default().replace("TLS13_", "TLS_"));
    let certificate = connection.peer_certificates().and_then(<[_]>::first).map(|c| Arc::from(c.as_ref()));
    TlsInfo {
        version,
        cipher: cipher.unwrap_or_default(),
        sni: connection.server_name().map(|name| name.to_ascii_lowercase().into()),
        alpn: connection.alpn_protocol().map(|p| String::from_utf8_lossy(p).into()),
        client_verify: if certificate.is_some() { "SUCCESS".into() } else { "NONE".into() },
        client_certificate: certificate,
    }
}
