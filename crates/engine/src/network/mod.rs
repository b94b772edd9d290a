//! The network service: connections and datagrams for plugins.

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use cardinal_base::{descriptors, timeout};
use cardinal_net::Io;
use cardinal_net::dns::{Dns, DnsError};
use cardinal_sdk::CallError;
use cardinal_sdk::network::{
    ConnectTls, ConnectTo, DATAGRAM_MAX, Datagrams, Network, NetworkFuture, NetworkTransport, ResolvedAddress,
    ServerConnection,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::connector::{ConnectFailure, Connector, Tls, Trust};

/// Maximum number of open connections. Further ones fail as failures of the node.
const CONNECTIONS_MAX: usize = 1_024;

/// Limit on resolving a name for datagrams, and on sending one.
const DATAGRAM_TIMEOUT: Duration = Duration::from_secs(10);

/// The network of a node. Sockets belong to the resolver's runtime, regardless of the thread that uses them.
pub(crate) struct NodeNetwork {
    dns: Arc<Dns>,
    connector: Arc<Connector>,
    places: Arc<Semaphore>,
}

impl NodeNetwork {
    /// Creates a network that verifies servers by these authorities.
    pub(crate) fn new(dns: Arc<Dns>, trust: Arc<Trust>) -> Self {
        let connector = Arc::new(Connector::new(Arc::clone(&dns), trust, &[]));
        Self { dns, connector, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

impl Network for NodeNetwork {
    fn connect(&self, to: ConnectTo) -> NetworkFuture<'static, ServerConnection> {
        let (connector, places) = (Arc::clone(&self.connector), Arc::clone(&self.places));
        on(self.dns.runtime(), async move {
            let Ok(place) = places.try_acquire_owned() else {
                return Err(CallError::Local("too many connections of plugins".to_owned()));
            };
            let clock = Arc::clone(connector.clock());
            let connecting = async {
                let tls = to.tls.as_ref().map(|tls| tls_of(tls, &to.host));
                connector.connect(&to.host, to.port, tls).await.map_err(call_error)
            };
            let connected = timeout(&*clock, to.timeout, connecting).await.map_err(|_| CallError::Timeout)??;
            let transport = Box::new(Carrier { io: connected.io, connector: Arc::clone(&connector), place });
            Ok(ServerConnection::new(transport, &to.host, clock, to.timeout))
        })
    }

    fn datagrams(&self, host: &str, port: u16) -> NetworkFuture<'static, Box<dyn Datagrams>> {
        let (dns, host) = (Arc::clone(&self.dns), host.to_owned());
        on(self.dns.runtime(), async move {
            let resolved = timeout(&**dns.clock(), DATAGRAM_TIMEOUT, dns.resolve(&host, port)).await;
            let answer = resolved.map_err(|_| CallError::Timeout)?.map_err(|error| dns_error(&host, error))?;
            let Some(first) = answer.addresses().next() else {
                return Err(CallError::Transport(format!("{host}: the name has no addresses")));
            };
            let own = match first.addr {
                SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            };
            let socket = UdpSocket::bind(own).await.map_err(io_error)?;
            socket.connect(first.addr).await.map_err(io_error)?;
            Ok(Box::new(Socket { socket, dns }) as Box<dyn Datagrams>)
        })
    }

    fn lookup(&self, host: &str, port: u16) -> NetworkFuture<'static, Vec<ResolvedAddress>> {
        let (dns, host) = (Arc::clone(&self.dns), host.to_owned());
        Box::pin(async move {
            let answer = dns.resolve(&host, port).await.map_err(|error| dns_error(&host, error))?;
            let all = answer.addresses();
            Ok(all.map(|a| ResolvedAddress { address: a.addr, weight: a.weight, priority: a.priority }).collect())
        })
    }
}

/// Runs a future on the control runtime. Dropping the returned future aborts it.
fn on<T: Send + 'static>(
    runtime: &Handle,
    work: impl Future<Output = Result<T, CallError>> + Send + 'static,
) -> NetworkFuture<'static, T> {
    let runtime = runtime.clone();
    Box::pin(async move {
        let running = AbortOnDrop(runtime.spawn(work));
        running.await.unwrap_or_else(|error| Err(CallError::Transport(error.to_string())))
    })
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Future for AbortOnDrop<T> {
    type Output = Result<T, tokio::task::JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn tls_of<'x>(tls: &'x ConnectTls, host: &'x str) -> Tls<'x> {
    Tls { verify: tls.verify, server_name: tls.server_name.as_deref().unwrap_or(host) }
}

fn call_error(failure: ConnectFailure) -> CallError {
    match failure {
        ConnectFailure { is_local: true, reason } => CallError::Local(reason),
        ConnectFailure { reason, .. } => CallError::Transport(reason),
    }
}

fn dns_error(host: &str, error: DnsError) -> CallError {
    let reason = format!("{host}: {error}");
    if error.is_local() { CallError::Local(reason) } else { CallError::Transport(reason) }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn io_error(error: std::io::Error) -> CallError {
    if descriptors::is_local(&error) {
        CallError::Local(error.to_string())
    } else {
        CallError::Transport(error.to_string())
    }
}

/// A stream with its connection permit.
struct Carrier {
    io: Io,
    connector: Arc<Connector>,
    place: OwnedSemaphorePermit,
}

impl NetworkTransport for Carrier {
    fn start_tls(self: Box<Self>, host: &str, tls: ConnectTls) -> NetworkFuture<'static, Box<dyn NetworkTransport>> {
        let host = host.to_owned();
        let Self { io, connector, place } = *self;
        Box::pin(async move {
            let started = connector.start_tls(io, tls_of(&tls, &host)).await.map_err(call_error)?;
            Ok(Box::new(Self { io: started, connector, place }) as Box<dyn NetworkTransport>)
        })
    }
}

impl AsyncRead for Carrier {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

struct Socket {
    socket: UdpSocket,
    dns: Arc<Dns>,
}

impl Datagrams for Socket {
    fn send<'a>(&'a self, datagram: &'a [u8]) -> NetworkFuture<'a, ()> {
        Box::pin(async move {
            if datagram.len() > DATAGRAM_MAX {
                return Err(CallError::TooLarge(DATAGRAM_MAX as u64));
            }
            let sent = timeout(&**self.dns.clock(), DATAGRAM_TIMEOUT, self.socket.send(datagram)).await;
            sent.map_err(|_| CallError::Timeout)?.map(|_| ()).map_err(io_error)
        })
    }
}
