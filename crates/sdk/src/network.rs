//! [`Network`]: connections and datagrams for plugins to servers that use neither HTTP nor Redis.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cardinal_base::{Clock, timeout};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::services::CallError;

/// The future of a network operation.
pub type NetworkFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, CallError>> + Send + 'a>>;

/// Maximum size of a UDP datagram over IPv4, bytes.
pub const DATAGRAM_MAX: usize = 65_507;

/// Connections and datagrams. Names are resolved by the node's resolver, servers are verified by the node's certificate
/// authorities, and the number of connections is limited.
pub trait Network: Send + Sync {
    /// Connects to a server. Dropping the future cancels it.
    fn connect(&self, to: ConnectTo) -> NetworkFuture<'static, ServerConnection>;

    /// Opens a socket for datagrams to a server. The name is resolved once; open another socket to follow its changes.
    fn datagrams(&self, host: &str, port: u16) -> NetworkFuture<'static, Box<dyn Datagrams>>;

    /// The addresses of a name, according to the resolver's order of record types: A, AAAA, or the targets of the SRV
    /// records with the lowest priority. `port` is used for addresses without a port.
    fn lookup(&self, host: &str, port: u16) -> NetworkFuture<'static, Vec<ResolvedAddress>>;
}

/// An address to which a name resolves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolvedAddress {
    /// The address; with the port of the SRV record, if there is one.
    pub address: SocketAddr,
    /// Weight of the SRV record.
    pub weight: Option<u32>,
    /// Priority of the SRV record.
    pub priority: u16,
}

/// The server to connect to, and the settings.
#[derive(Clone, Debug)]
pub struct ConnectTo {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// TLS from the start; see [`ServerConnection::start_tls`] for later upgrades.
    pub tls: Option<ConnectTls>,
    /// Timeout of connecting, and of each operation of the connection.
    pub timeout: Duration,
}

/// TLS settings for a server.
#[derive(Clone, Debug)]
pub struct ConnectTls {
    /// Verify the server's certificate.
    pub verify: bool,
    /// The server name to send and to verify; `None` uses the host.
    pub server_name: Option<String>,
}

/// The transport of a [`ServerConnection`]. Implemented by the engine and by tests.
pub trait NetworkTransport: AsyncRead + AsyncWrite + Send + Sync + Unpin {
    /// Performs the TLS handshake on a clear-text transport.
    fn start_tls(self: Box<Self>, host: &str, tls: ConnectTls) -> NetworkFuture<'static, Box<dyn NetworkTransport>>;
}

/// A connection to a server. Each operation has the timeout given when connecting. Only the caller's buffers are used.
pub struct ServerConnection {
    transport: Box<dyn NetworkTransport>,
    host: Arc<str>,
    clock: Arc<dyn Clock>,
    timeout: Duration,
}

impl fmt::Debug for ServerConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConnection").field("host", &self.host).finish_non_exhaustive()
    }
}

impl ServerConnection {
    /// Creates a connection over a transport.
    pub fn new(transport: Box<dyn NetworkTransport>, host: &str, clock: Arc<dyn Clock>, timeout: Duration) -> Self {
        Self { transport, host: host.into(), clock, timeout }
    }

    /// Sends all bytes.
    ///
    /// # Errors
    /// If the connection has failed, or the server does not read them in time.
    pub async fn send(&mut self, data: &[u8]) -> Result<(), CallError> {
        let Self { transport, .. } = self;
        let sending = async {
            transport.write_all(data).await?;
            transport.flush().await
        };
        limited(&*self.clock, self.timeout, sending).await
    }

    /// Appends received bytes to `into`, up to a total of `max` bytes; returns how many were received: 0 is the end.
    ///
    /// # Errors
    /// [`CallError::TooLarge`] if `into` already has `max` bytes; otherwise if the connection has failed or no bytes
    /// arrive in time.
    pub async fn receive(&mut self, into: &mut Vec<u8>, max: usize) -> Result<usize, CallError> {
        let room = max.saturating_sub(into.len()) as u64;
        if room == 0 {
            return Err(CallError::TooLarge(max as u64));
        }
        let mut bounded = (&mut self.transport).take(room);
        limited(&*self.clock, self.timeout, bounded.read_buf(into)).await
    }

    /// Signals the end of the data to the server.
    ///
    /// # Errors
    /// If the connection has failed or the operation times out.
    pub async fn finish(&mut self) -> Result<(), CallError> {
        limited(&*self.clock, self.timeout, self.transport.shutdown()).await
    }

    /// Upgrades the connection to TLS (LDAP's StartTLS). Unread bytes from the server are dropped.
    ///
    /// # Errors
    /// If the handshake fails or times out.
    pub async fn start_tls(self, tls: ConnectTls) -> Result<Self, CallError> {
        let Self { transport, host, clock, timeout: limit } = self;
        let started = timeout(&*clock, limit, transport.start_tls(&host, tls)).await;
        let transport = started.map_err(|_| CallError::Timeout)??;
        Ok(Self { transport, host, clock, timeout: limit })
    }
}

async fn limited<T>(
    clock: &dyn Clock,
    limit: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, CallError> {
    match timeout(clock, limit, work).await {
        Ok(done) => done.map_err(|error| CallError::Transport(error.to_string())),
        Err(_) => Err(CallError::Timeout),
    }
}

/// A socket for datagrams to one server.
pub trait Datagrams: Send + Sync {
    /// Sends a datagram of at most [`DATAGRAM_MAX`] bytes, without confirmation of delivery.
    fn send<'a>(&'a self, datagram: &'a [u8]) -> NetworkFuture<'a, ()>;
}
