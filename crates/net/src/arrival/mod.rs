//! Arrivals: where a connection that was accepted wanted to go, and who sent it.
//!
//! A listener that takes captured connections is either the target of a `REDIRECT` rule, in which case the kernel keeps
//! the original destination beside the connection, or of a `TPROXY` rule, in which case the local address of the
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

/// A connection that a listener has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The listener.
    pub listener: Id,
    /// Address of the client, or of a proxy before it.
    pub peer: SocketAddr,
    /// Address that the connection was accepted on.
    pub local: SocketAddr,
    /// Where the client wanted to go; `None` if the connection was not captured.
    pub original_dst: Option<SocketAddr>,
    /// Verified identity of the peer, as a URI; `None` before a TLS handshake, and without a client certificate.
    pub peer_identity: Option<Arc<str>>,
    /// What is spoken.
    pub protocol: Protocol,
}

impl Arrival {
    /// A connection that `listener`, which is bound to `bound`, has accepted from `peer`. Neither its identity nor its
    /// protocol is known yet: they are `None` and `protocol`.
    ///
    /// # Errors
    /// When the system does not tell the addresses: the connection has been reset.
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

/// How connections get to a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Capture {
    /// Clients connect to it.
    #[default]
    Direct,
    /// A `REDIRECT` rule of the packet filter leads them to it.
    Redirect,
    /// A `TPROXY` rule leads them to it. Bind it with [`bind_transparent`].
    Transparent,
}

impl Capture {
    /// Where the client of this connection wanted to go, if that is not the listener itself, which is bound to `bound`.
    ///
    /// `None` for a connection that was not captured. To forward such a connection to its destination would lead back to
    /// the listener, so a listener that only takes captured connections has to close it.
    ///
    /// # Errors
    /// When the system does not tell: the connection has been reset.
    pub fn original_dst(self, tcp: &TcpStream, bound: SocketAddr, local: SocketAddr) -> io::Result<Option<SocketAddr>> {
        let original = match self {
            Self::Direct => None,
            Self::Redirect => original::of_redirect(tcp, local)?,
            Self::Transparent => Some(original::canonical(local)),
        };
        Ok(original.filter(|original| !original::is_listener(*original, bound)))
    }
}

/// Why a socket for captured connections cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum TransparentError {
    /// The process may not accept connections to foreign addresses.
    #[error(
        "cannot set IP_TRANSPARENT on the listener {address}: {error}; the process needs the capability CAP_NET_ADMIN"
    )]
    Option {
        /// The listener.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {error}")]
    Bind {
        /// The listener.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
}

/// Listens on TCP for connections to any address that a `TPROXY` rule leads here.
///
/// # Errors
/// Without the capability, or when the address cannot be bound.
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

/// Lets a socket have addresses that are not this machine's.
pub(crate) fn set_transparent(socket: &SockRef<'_>, ipv6: bool) -> io::Result<()> {
    if ipv6 { socket.set_ip_transparent_v6(true) } else { socket.set_ip_transparent_v4(true) }
}
