//! Listening sockets: `SO_REUSEPORT` gives each worker, and a successor of this process, its own queue.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

/// A bound socket with its address.
#[derive(Debug)]
pub struct Bound<S> {
    /// The socket, not yet registered with a runtime.
    pub socket: S,
    /// Its address, with the port that the system assigned.
    pub address: SocketAddr,
}

/// Listens on TCP. `backlog` is the maximum number of connections waiting to be accepted.
pub fn bind_tcp(address: SocketAddr, backlog: u32) -> io::Result<Bound<std::net::TcpListener>> {
    bind_tcp_with(address, backlog, |_| Ok(()))
}

/// Like [`bind_tcp`], with options that `prepare` sets before the socket is bound.
pub(crate) fn bind_tcp_with(
    address: SocketAddr,
    backlog: u32,
    prepare: impl FnOnce(&Socket) -> io::Result<()>,
) -> io::Result<Bound<std::net::TcpListener>> {
    let socket = bind(address, Type::STREAM, Protocol::TCP, prepare)?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    let socket = std::net::TcpListener::from(socket);
    let address = socket.local_addr()?;
    Ok(Bound { socket, address })
}

/// Sets `TCP_NODELAY` for all connections accepted from now on; on Linux, they inherit it from the listening socket.
pub fn send_at_once(listener: &tokio::net::TcpListener) -> io::Result<()> {
    SockRef::from(listener).set_tcp_nodelay(true)
}

/// Binds UDP.
pub fn bind_udp(address: SocketAddr) -> io::Result<Bound<std::net::UdpSocket>> {
    let socket = std::net::UdpSocket::from(bind(address, Type::DGRAM, Protocol::UDP, |_| Ok(()))?);
    let address = socket.local_addr()?;
    Ok(Bound { socket, address })
}

/// Whether a socket of another process is bound to the address: the system would then distribute connections between
/// both sockets.
pub fn is_taken(address: SocketAddr, udp: bool) -> bool {
    let (kind, protocol) = if udp { (Type::DGRAM, Protocol::UDP) } else { (Type::STREAM, Protocol::TCP) };
    let probe = || -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if !udp {
            // Ignores remains of closed connections.
            socket.set_reuse_address(true)?;
        }
        socket.bind(&SockAddr::from(address))
    };
    address.port() != 0 && probe().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

fn bind(
    address: SocketAddr,
    kind: Type,
    protocol: Protocol,
    prepare: impl FnOnce(&Socket) -> io::Result<()>,
) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // As in nginx, `[::]` does not include `0.0.0.0`.
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    prepare(&socket)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_send_at_once_when_their_listener_does() {
        let bound = bind_tcp(SocketAddr::from(([127, 0, 0, 1], 0)), 16).unwrap();
        let listener = tokio::net::TcpListener::from_std(bound.socket).unwrap();
        send_at_once(&listener).unwrap();
        let (client, accepted) = tokio::join!(tokio::net::TcpStream::connect(bound.address), listener.accept());
        assert!(accepted.unwrap().0.nodelay().unwrap());
        drop(client);
    }

    #[test]
    fn an_address_is_taken_while_somebody_listens() {
        let bound = bind_tcp(SocketAddr::from(([127, 0, 0, 1], 0)), 16).unwrap();
        assert!(is_taken(bound.address, false));
        drop(bound.socket);
        assert!(!is_taken(bound.address, false));
        assert!(!is_taken(SocketAddr::from(([127, 0, 0, 1], 0)), false));
    }
}
