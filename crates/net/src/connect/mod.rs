//! Connections to upstreams: happy eyeballs, then TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cardinal_base::descriptors;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::io::Io;
use crate::tls;

/// How long an address has before the next one is tried beside it (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// TLS with an upstream.
#[derive(Clone, Debug)]
pub struct TlsTarget {
    /// Settings.
    pub config: Arc<ClientConfig>,
    /// Name to ask for and to verify.
    pub server_name: ServerName<'static>,
}

/// A new connection.
#[derive(Debug)]
pub struct Connected {
    /// The stream.
    pub io: Io,
    /// Whom it leads to.
    pub address: SocketAddr,
    /// ALPN settled on HTTP/2.
    pub h2: bool,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// TCP.
    #[error("connect to {address}: {error}")]
    Tcp {
        /// Whom.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// TLS.
    #[error("TLS with {address} (server name {server_name}): {}{explanation}", tls::io_text(.error))]
    Tls {
        /// Whom.
        address: SocketAddr,
        /// The name that was asked for.
        server_name: Box<str>,
        /// Why.
        error: std::io::Error,
        /// The reason in other words, where those of the protocol tell little; empty elsewhere.
        explanation: Box<str>,
    },
}

impl ConnectError {
    /// What the system said.
    pub fn io(&self) -> &std::io::Error {
        match self {
            Self::Tcp { error, .. } | Self::Tls { error, .. } => error,
        }
    }

    /// Whether the node has run out of something, so that this tells nothing about the peer.
    pub fn is_local(&self) -> bool {
        descriptors::is_local(self.io())
    }
}

/// How far connecting has come, so that a caller whose time is over knows what was late.
#[derive(Debug, Default)]
pub struct Stage(AtomicBool);

impl Stage {
    /// Whether TCP is connected and the TLS handshake has begun.
    pub fn is_handshake(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// What is not there yet, for logs.
    pub fn missing(&self) -> &'static str {
        if self.is_handshake() { "connected, but the TLS handshake was not finished" } else { "no connection" }
    }
}

/// Connects to `address`, or to `other` (an address of the other family) where that answers sooner. The caller limits
/// the time; `stage` tells it how far the attempt came.
pub async fn connect(
    address: SocketAddr,
    other: Option<SocketAddr>,
    tls: Option<&TlsTarget>,
    stage: &Stage,
) -> Result<Connected, ConnectError> {
    let (tcp, address) = match other {
        None => (tcp(address).await?, address),
        Some(other) => race(address, other).await?,
    };
    // Without it small messages may wait for an acknowledgement; a failure costs only speed.
    tcp.set_nodelay(true).ok();
    let Some(tls) = tls else { return Ok(Connected { io: Io::Tcp(tcp), address, h2: false }) };
    stage.0.store(true, Ordering::Relaxed);
    let connector = TlsConnector::from(Arc::clone(&tls.config));
    let failed = |error| ConnectError::Tls {
        address,
        server_name: tls.server_name.to_str().into(),
        explanation: tls::explain(&error, &tls.config).into(),
        error,
    };
    let stream = connector.connect(tls.server_name.clone(), tcp).await.map_err(failed)?;
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Connected { io: Io::ClientTls(Box::new(stream)), address, h2 })
}

async fn tcp(address: SocketAddr) -> Result<TcpStream, ConnectError> {
    let made = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let connecting = made.and_then(|socket| descriptors::check(&socket).map(|()| socket.connect(address)));
    match connecting {
        Ok(connecting) => connecting.await,
        Err(error) => Err(error),
    }
    .map_err(|error| ConnectError::Tcp { address, error })
}

async fn race(first: SocketAddr, second: SocketAddr) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let mut one = std::pin::pin!(tcp(first));
    tokio::select! {
        outcome = &mut one => return match outcome {
            Ok(stream) => Ok((stream, first)),
            Err(_) => Ok((tcp(second).await?, second)),
        },
        () = tokio::time::sleep(STAGGER) => {}
    }
    let mut two = std::pin::pin!(tcp(second));
    tokio::select! {
        outcome = &mut one => match outcome {
            Ok(stream) => Ok((stream, first)),
            Err(_) => Ok((two.await?, second)),
        },
        outcome = &mut two => match outcome {
            Ok(stream) => Ok((stream, second)),
            Err(_) => Ok((one.await?, first)),
        },
    }
}
