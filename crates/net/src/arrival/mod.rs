//! Arrivals: the original destination and the source of an accepted connection.
//!
//! A listener for captured connections is the target of a `REDIRECT` rule or of a `TPROXY` rule. With `REDIRECT`, the
//! kernel keeps the original destination as a property of the connection; with `TPROXY`, the local address of the
//! connection is the original destination. The reasons are in `docs/adr/0013-arrivals.md`.

mod original;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use cardinal_base::Id;
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::Protocol;
use crate::listener::{self, Bound};

/// An accepted connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The listener.
    pub listener: Id,
    /// Address of the client, or of a proxy in front of it.
    pub peer: SocketAddr,
    /// Local address of the connection.
    pub local: SocketAddr,
    /// The original destination; `None` if the connection was not captured.
    pub original_dst: Option<SocketAddr>,
    /// Verified identity of the peer, as a URI; `None` before a TLS handshake, and without a client certificate.
    pub peer_identity: Option<Arc<str>>,
    /// The protocol of the client.
    pub protocol: Protocol,
}

impl Arrival {
    /// A connection that `listener`, which is bound to `bound`, accepted from `peer`. Its peer identity is not known
    /// yet; `protocol` is the expected protocol.
    ///
    /// # Errors
    /// If the system does not return the addresses: the connection has been reset.
    pub fn accepted(
        listener: Id,
        bound: SocketAddr,
        capture: Capture,
        (tcp, peer): (&TcpStream, SocketAddr),
        protocol: Protocol,
    ) -> io::Result<Self> {
        let local = tcp.local_addr()?;
        let original_dst = capture.original_dst(tcp, bound, local)?;
        Ok(Self { listener, peer, local, original_dst, peer_identity: None, protocol })
    }

    /// The address that the client connected to: the original destination of a captured connection.
    pub fn destination(&self) -> SocketAddr {
        self.original_dst.unwrap_or(self.local)
    }
}

/// How connections are directed to a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Capture {
    /// Clients connect to the listener.
    #[default]
    Direct,
    /// Redirected by a `REDIRECT` rule of the packet filter.
    Redirect,
    /// Redirected by a `TPROXY` rule. Bind the listener with [`bind_transparent`].
    Transparent,
}

impl Capture {
    /// The original destination of this connection, if it differs from the listener, which is bound to `bound`.
    ///
    /// Returns `None` for a connection that was not captured. Forwarding such a connection to its destination would
    /// lead back to the listener, so a listener for captured connections has to close it.
    ///
    /// # Errors
    /// If the system does not return the address: the connection has been reset.
    pub fn original_dst(self, tcp: &TcpStream, bound: SocketAddr, local: SocketAddr) -> io::Result<Option<SocketAddr>> {
        let original = match self {
            Self::Direct => None,
            Self::Redirect => original::of_redirect(tcp, local)?,
            Self::Transparent => Some(original::canonical(local)),
        };
        Ok(original.filter(|original| !original::is_listener(*original, bound)))
    }
}

/// Why a transparent socket cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum TransparentError {
    /// The process may not accept connections to addresses of other hosts.
    #[error(
        "cannot set IP_TRANSPARENT on the listener {address}: {error}; the process needs the capability CAP_NET_ADMIN"
    )]
    Option {
        /// The listener.
        address: SocketAddr,
        /// The error of the system.
        error: io::Error,
    },
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {error}")]
    Bind {
        /// The listener.
        address: SocketAddr,
        /// The error of the system.
        error: io::Error,
    },
}

/// Listens on TCP for connections to any address that a `TPROXY` rule directs here.
///
/// # Errors
/// If the capability is missing or the address cannot be bound.
pub fn bind_transparent(address: SocketAddr, backlog: u32) -> Result<Bound<std::net::TcpListener>, TransparentError> {
    let mut refused = None;
    let bound = listener::bind_tcp_with(address, backlog, |socket| {
        let set = set_transparent(&SockRef::from(socket), address.is_ipv6());
        set.map_err(|error| {
            let kind = error.kind();
            refused = Some(error);
            io::Error::from(kind)
        })
    });
    bound.map_err(|error| match refused {
        Some(error) => TransparentError::Option { address, error },
        None => TransparentError::Bind { address, error },
    })
}

/// Allows a socket to use addresses that do not belong to this machine.
pub(crate) fn set_transparent(socket: &SockRef<'_>, ipv6: bool) -> io::Result<()> {
    if ipv6 { socket.set_ip_transparent_v6(true) } else { socket.set_ip_transparent_v4(true) }
}
