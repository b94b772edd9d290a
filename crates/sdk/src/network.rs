//! [`Network`]: connections and datagrams of plugins to servers that speak neither HTTP nor Redis.

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

/// What a network service promises.
pub type NetworkFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, CallError>> + Send + 'a>>;

/// Largest datagram that UDP carries over IPv4, bytes.
pub const DATAGRAM_MAX: usize = 65_507;

/// Connections and datagrams. Names are resolved by the node's resolver, servers are verified by the node's certificate
/// authorities, and the number of connections is limited.
pub trait Network: Send + Sync {
    /// Connects to a server. Dropping the future ends it.
    fn connect(&self, to: ConnectTo) -> NetworkFuture<'static, ServerConnection>;

    /// A way for datagrams to a server. The name is resolved now; make another one to follow its changes.
    fn datagrams(&self, host: &str, port: u16) -> NetworkFuture<'static, Box<dyn Datagrams>>;

    /// The addresses of a name, as the resolver's order of record types gives them: A, AAAA, or those that SRV records
    /// of the lowest priority lead to. `port` is that of addresses that come with none.
    fn lookup(&self, host: &str, port: u16) -> NetworkFuture<'static, Vec<ResolvedAddress>>;
}

/// An address that a name resolves to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolvedAddress {
    /// The address; the port is the SRV record's, if that has led here.
    pub address: SocketAddr,
    /// Weight of the SRV record.
    pub weight: Option<u32>,
    /// Priority of the SRV record.
    pub priority: u16,
}

/// Where to connect to, and how.
#[derive(Clone, Debug)]
pub struct ConnectTo {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// TLS from the start; see [`ServerConnection::start_tls`] for later.
    pub tls: Option<ConnectTls>,
    /// Limit on connecting, and on each operation of the connection.
    pub timeout: Duration,
}

/// TLS with a server.
#[derive(Clone, Debug)]
pub struct ConnectTls {
    /// Verify the server's certificate.
    pub verify: bool,
    /// The name to ask for and to verify; the host's when `None`.
    pub server_name: Option<String>,
}

/// What carries a [`ServerConnection`]. Made by the engine, and by tests.
pub trait NetworkTransport: AsyncRead + AsyncWrite + Send + Sync + Unpin {
    /// Does the TLS handshake, on a transport that has none yet.
    fn start_tls(self: Box<Self>, host: &str, tls: ConnectTls) -> NetworkFuture<'static, Box<dyn NetworkTransport>>;
}

/// A connection to a server. Each operation has the time limit it was made with. Nothing is buffered beyond what the caller
/// provides.
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
    /// A connection over a transport.
    pub fn new(transport: Box<dyn NetworkTransport>, host: &str, clock: Arc<dyn Clock>, timeout: Duration) -> Self {
        Self { transport, host: host.into(), clock, timeout }
    }

    /// Sends all of these bytes.
    ///
    /// # Errors
    /// When the connection has failed or the server does not take them in time.
    pub async fn send(&mut self, data: &[u8]) -> Result<(), CallError> {
        let Self { transport, .. } = self;
        let sending = async {
            transport.write_all(data).await?;
            transport.flush().await
        };
        limited(&*self.clock, self.timeout, sending).await
    }

    /// Reads what comes next to the end of `into`, so that it has at most `max` bytes; how much came: 0 is the end.
    ///
    /// # Errors
    /// [`CallError::TooLarge`] when `into` has `max` bytes, or when the connection has failed or nothing comes in time.
    pub async fn receive(&mut self, into: &mut Vec<u8>, max: usize) -> Result<usize, CallError> {
        let room = max.saturating_sub(into.len()) as u64;
        if room == 0 {
            return Err(CallError::TooLarge(max as u64));
        }
        let mut bounded = (&mut self.transport).take(room);
        limited(&*self.clock, self.timeout, bounded.read_buf(into)).await
    }

    /// Tells the server that nothing follows.
    ///
    /// # Errors
    /// When the connection has failed or that takes too long.
    pub async fn finish(&mut self) -> Result<(), CallError> {
        limited(&*self.clock, self.timeout, self.transport.shutdown()).await
    }

    /// Goes on with TLS (LDAP's StartTLS). Bytes that the server has sent before are lost to it.
    ///
    /// # Errors
    /// When the handshake fails or takes too long.
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

/// A way for datagrams to one server.
pub trait Datagrams: Send + Sync {
    /// Sends a datagram of at most [`DATAGRAM_MAX`] bytes. Whether it arrives is not known.
    fn send<'a>(&'a self, datagram: &'a [u8]) -> NetworkFuture<'a, ()>;
}
