//! The original destination of a connection, and whether it is the listener itself.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use socket2::SockRef;
use tokio::net::TcpStream;

/// The destination before a `REDIRECT` rule changed it (`SO_ORIGINAL_DST`, `IP6T_SO_ORIGINAL_DST`). `None` if the
/// kernel has none: no rule has changed it, or connection tracking is off.
pub(super) fn of_redirect(tcp: &TcpStream, local: SocketAddr) -> io::Result<Option<SocketAddr>> {
    let socket = SockRef::from(tcp);
    // IPv4 connections to a dual-stack socket are tracked as IPv4.
    let found = if local.ip().to_canonical().is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    match found {
        Ok(address) => Ok(address.as_socket().map(canonical)),
        // ENOENT: not tracked; ENOPROTOOPT, EOPNOTSUPP: a kernel without connection tracking.
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_unsupported(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    let rustix = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    matches!(rustix, Some(rustix::io::Errno::NOPROTOOPT | rustix::io::Errno::OPNOTSUPP))
}

/// Converts an IPv4-mapped IPv6 address to IPv4, and removes the scope, which only belongs to a destination if it is
/// link-local.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match (address, address.ip().to_canonical()) {
        (SocketAddr::V6(v6), IpAddr::V6(ip)) if ip.is_unicast_link_local() => SocketAddr::V6(v6),
        (_, ip) => SocketAddr::new(ip, address.port()),
    }
}

/// Whether a connection to `original` would reach the listener that is bound to `bound`: the ports are equal, and the
/// addresses are equal or the listener is bound to all addresses and this is one of the machine's.
pub(super) fn is_listener(original: SocketAddr, bound: SocketAddr) -> bool {
    let ip = original.ip();
    let same_ip = || ip == bound.ip().to_canonical() || (bound.ip().is_unspecified() && is_own(ip));
    original.port() == bound.port() && same_ip()
}

/// Whether the machine has this address: a socket cannot be bound to any other address. Only checked for connections to
/// a listener's own port, which are rare.
fn is_own(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}
