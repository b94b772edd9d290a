//! [`Arrived`]: a connection of a listener, what its requests have in common, and its TLS.

use std::rc::Rc;
use std::sync::Arc;

use cardinal_ir::{Id, Listener, ListenerKind};
use cardinal_net::identity::IdentityServer;
use cardinal_net::tls::{self, ServerTls};
use cardinal_net::{ConnectionEntry, ConnectionFacts};
use cardinal_sdk::{Client, TlsInfo};
use rustls::ServerConnection;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::plan::{Plan, TlsPolicy, own_identity};
use crate::worker::Worker;

/// What a request says about itself that is not in its head.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionInfo {
    /// The request counts as made over TLS on the wire.
    pub(crate) tls: bool,
    /// The client sends plain HTTP to a listener with TLS.
    pub(crate) plain_on_tls: bool,
    /// Port of the listener, mapped.
    pub(crate) listener_port: u16,
    /// How the client was verified in its TLS handshake, see [`Plan::admits`].
    pub(crate) verification: Option<u64>,
    /// Where the connection came in; `None` for a listener of the node's settings.
    pub(crate) entrance: Option<Rc<Entrance>>,
}

/// Where a connection came in.
#[derive(Clone, Debug)]
pub(crate) struct Entrance {
    /// The listener as it was then, by the id of its record; `None` for a listener of the node's settings.
    pub(crate) listener: Option<(Id, Arc<Listener>)>,
    /// The listener's group; `None` is the default group.
    pub(crate) group: Option<Id>,
}

impl ConnectionInfo {
    /// The group of the listener.
    pub(crate) fn group(&self) -> Option<Id> {
        self.entrance.as_ref()?.group
    }

    /// Whether the listener may go while the node goes on.
    pub(crate) fn may_be_closed(&self) -> bool {
        self.entrance.is_some()
    }

    /// Whether a plan lets requests of the connection be served.
    pub(crate) fn are_admitted(&self, plan: &Plan, client: &Client) -> bool {
        // Plain HTTP on a listener with TLS is answered with an error, whatever it asks for.
        let listener = self.entrance.as_ref().and_then(|entrance| entrance.listener.as_ref());
        self.plain_on_tls || plan.admits(listener, self.verification, client.peer_identity.as_deref())
    }
}

/// The listener of a connection, as it was when the connection came.
pub(crate) struct Arrived {
    /// The record, unless it is a listener of the node's settings.
    pub(crate) record: Option<Id>,
    pub(crate) listener: Arc<Listener>,
}

impl Arrived {
    /// What requests of a connection in clear text have in common.
    pub(crate) fn facts(&self, client: &Client) -> ConnectionInfo {
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

    /// TLS of the listener now; `None` when it had some and is gone, so that nobody can say how clients are verified.
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

    /// Enters a connection in the worker's registry.
    pub(crate) fn register(&self, worker: &Worker, client: &Client) -> ConnectionEntry {
        worker.connections().add(ConnectionFacts {
            listener: self.record,
            group: self.listener.group,
            peer_identity: client.peer_identity.clone(),
            started: worker.now(),
        })
    }
}

/// TLS of a connection.
pub(crate) enum ConnectionTls {
    Clear,
    Server(ServerTls),
    Identity { server: Arc<IdentityServer>, clear_text: bool },
}

impl ConnectionTls {
    /// Whether clients may do without.
    pub(crate) fn allows_clear_text(&self) -> bool {
        match self {
            Self::Clear => true,
            Self::Server(_) => false,
            Self::Identity { clear_text, .. } => *clear_text,
        }
    }
}

/// A connection over TLS.
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

/// Does the handshake on a connection of which `prefix` was read.
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

/// What logs and filters are told about TLS.
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
