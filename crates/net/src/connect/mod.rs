//! Connections to upstreams: happy eyeballs, an optional tunnel, then TLS.
//!
//! [`Connector`] opens all of them; [`connect`] is the shortcut for direct ones.

mod options;
#[cfg(test)]
mod tests;
mod tunnel;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use cardinal_base::descriptors;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub use self::options::{OptionError, SocketOptions, Source};
pub use self::tunnel::{Tunnel, TunnelError};
use crate::io::Io;
use crate::tls;

/// Delay before the next address is tried in parallel (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// TLS settings for an upstream.
#[derive(Clone, Debug)]
pub struct TlsTarget {
    /// The TLS configuration.
    pub config: Arc<ClientConfig>,
    /// The server name to send and to verify.
    pub server_name: ServerName<'static>,
}

/// A new connection.
#[derive(Debug)]
pub struct Connected {
    /// The stream.
    pub io: Io,
    /// The address of the peer.
    pub address: SocketAddr,
    /// ALPN selected HTTP/2.
    pub h2: bool,
}

/// Why connecting failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// TCP or the tunnel failed; [`ConnectError::tunnel`] distinguishes these.
    #[error("connect to {address}: {error}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// The error.
        error: std::io::Error,
    },
    /// TLS failed.
    #[error("TLS with {address} (server name {server_name}): {}{explanation}", tls::io_text(.error))]
    Tls {
        /// The address.
        address: SocketAddr,
        /// The requested server name.
        server_name: Box<str>,
        /// The error.
        error: std::io::Error,
        /// An additional explanation, if the protocol error is not clear by itself; otherwise empty.
        explanation: Box<str>,
    },
}

impl ConnectError {
    /// The error of the system.
    pub fn io(&self) -> &std::io::Error {
        match self {
            Self::Tcp { error, .. } | Self::Tls { error, .. } => error,
        }
    }

    /// Whether the node has run out of a resource or may not set a socket option; the peer is not the cause.
    pub fn is_local(&self) -> bool {
        descriptors::is_local(self.io()) || self.option().is_some()
    }

    /// The tunnel error, if the tunnel failed.
    pub fn tunnel(&self) -> Option<&TunnelError> {
        self.io().get_ref()?.downcast_ref()
    }

    /// The socket option that could not be set, if that is the error.
    pub fn option(&self) -> Option<&OptionError> {
        self.io().get_ref()?.downcast_ref()
    }
}

/// The current step of connecting, so that a timeout error can name the slow step.
#[derive(Debug, Default)]
pub struct Stage(AtomicU8);

impl Stage {
    const TUNNEL: u8 = 1;
    const HANDSHAKE: u8 = 2;

    fn set(&self, stage: u8) {
        self.0.store(stage, Ordering::Relaxed);
    }

    /// Whether TCP is connected and the TLS handshake has started.
    pub fn is_handshake(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::HANDSHAKE
    }

    /// The missing part, for logs.
    pub fn missing(&self) -> &'static str {
        match self.0.load(Ordering::Relaxed) {
            Self::TUNNEL => "connected to the proxy, but the tunnel was not opened",
            Self::HANDSHAKE => "connected, but the TLS handshake was not finished",
            _ => "no connection",
        }
    }
}

/// Opens connections to upstreams.
#[derive(Clone, Debug, Default)]
pub struct Connector {
    /// Options of the sockets.
    pub options: SocketOptions,
    /// The proxy to tunnel through, if any.
    pub tunnel: Option<Box<Tunnel>>,
}

impl Connector {
    /// Connects directly.
    pub const DIRECT: Self = Self { options: SocketOptions::NONE, tunnel: None };

    /// Connects to `address`, or to `other` (an address of the other family) if that connects sooner; a tunnel always
    /// leads to `address`. The caller enforces the timeout; `stage` reports the current step to it.
    ///
    /// # Errors
    /// If connecting fails.
    pub async fn connect(
        &self,
        address: SocketAddr,
        other: Option<SocketAddr>,
        tls: Option<&TlsTarget>,
        stage: &Stage,
    ) -> Result<Connected, ConnectError> {
        if let Some(tunnel) = &self.tunnel {
            // Boxed, so that the future of direct connections stays small.
            return Box::pin(self.connect_through(tunnel, address, tls, stage)).await;
        }
        let (tcp, address) = match other {
            // The error of an address that does not fit the source address must not hide the error of the other one.
            Some(other) if !self.options.suit(address) => (self.options.connect(other).await?, other),
            Some(other) if self.options.suit(other) => race(&self.options, address, other).await?,
            _ => (self.options.connect(address).await?, address),
        };
        // Without the option, small messages may wait for an acknowledgement; a failure only costs speed.
        tcp.set_nodelay(true).ok();
        let Some(tls) = tls else { return Ok(Connected { io: Io::Tcp(tcp), address, h2: false }) };
        stage.set(Stage::HANDSHAKE);
        let (stream, h2) = handshake(tcp, address, tls).await?;
        Ok(Connected { io: Io::ClientTls(Box::new(stream)), address, h2 })
    }

    async fn connect_through(
        &self,
        tunnel: &Tunnel,
        address: SocketAddr,
        tls: Option<&TlsTarget>,
        stage: &Stage,
    ) -> Result<Connected, ConnectError> {
        let proxy = tunnel.proxy;
        let tcp = self.options.connect(proxy).await?;
        tcp.set_nodelay(true).ok();
        let mut io = match &tunnel.tls {
            None => Io::Tcp(tcp),
            Some(tls) => Io::ClientTls(Box::new(handshake(tcp, proxy, tls).await?.0)),
        };
        stage.set(Stage::TUNNEL);
        let opened = tunnel.open(&mut io, address).await;
        opened.map_err(|error| ConnectError::Tcp { address: proxy, error: io::Error::other(error) })?;
        let Some(tls) = tls else { return Ok(Connected { io, address, h2: false }) };
        stage.set(Stage::HANDSHAKE);
        let (io, h2) = match io {
            Io::Tcp(tcp) => {
                let (stream, h2) = handshake(tcp, address, tls).await?;
                (Io::ClientTls(Box::new(stream)), h2)
            }
            io => {
                let (stream, h2) = handshake(io, address, tls).await?;
                (Io::TunnelTls(Box::new(stream)), h2)
            }
        };
        Ok(Connected { io, address, h2 })
    }
}

/// Same as [`Connector::connect`] of [`Connector::DIRECT`].
///
/// # Errors
/// If connecting fails.
pub fn connect<'a>(
    address: SocketAddr,
    other: Option<SocketAddr>,
    tls: Option<&'a TlsTarget>,
    stage: &'a Stage,
) -> impl Future<Output = Result<Connected, ConnectError>> + use<'a> {
    static DIRECT: Connector = Connector::DIRECT;
    DIRECT.connect(address, other, tls, stage)
}

/// Performs the TLS handshake on a clear-text connection.
///
/// # Errors
/// If the handshake fails.
pub async fn start_tls(tcp: TcpStream, tls: &TlsTarget) -> Result<Io, ConnectError> {
    let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
    let address = tcp.peer_addr().unwrap_or(unspecified);
    let (stream, _) = handshake(tcp, address, tls).await?;
    Ok(Io::ClientTls(Box::new(stream)))
}

/// Performs the TLS handshake on a connection to `address`; returns whether ALPN selected HTTP/2.
async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    address: SocketAddr,
    tls: &TlsTarget,
) -> Result<(TlsStream<S>, bool), ConnectError> {
    let connector = TlsConnector::from(Arc::clone(&tls.config));
    let failed = |error| ConnectError::Tls {
        address,
        server_name: tls.server_name.to_str().into(),
        explanation: tls::explain(&error, &tls.config).into(),
        error,
    };
    let stream = connector.connect(tls.server_name.clone(), io).await.map_err(failed)?;
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok((stream, h2))
}

impl SocketOptions {
    async fn connect(&self, address: SocketAddr) -> Result<TcpStream, ConnectError> {
        let made = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let connecting = made.and_then(|socket| {
            descriptors::check(&socket)?;
            self.set(&socket, address)?;
            Ok(socket.connect(address))
        });
        match connecting {
            Ok(connecting) => connecting.await,
            Err(error) => Err(error),
        }
        .map_err(|error| ConnectError::Tcp { address, error })
    }
}

async fn race(
    options: &SocketOptions,
    first: SocketAddr,
    second: SocketAddr,
) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let mut one = std::pin::pin!(options.connect(first));
    tokio::select! {
        outcome = &mut one => return match outcome {
            Ok(stream) => Ok((stream, first)),
            Err(_) => Ok((options.connect(second).await?, second)),
        },
        () = tokio::time::sleep(STAGGER) => {}
    }
    let mut two = std::pin::pin!(options.connect(second));
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
