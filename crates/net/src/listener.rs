//! Sockets that accept: `SO_REUSEPORT`, so that each worker, and a successor of this process, has its own queue.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// A bound socket and the address it got.
#[derive(Debug)]
pub struct Bound<S> {
    /// The socket, not yet registered with a runtime.
    pub socket: S,
    /// Its address, with the port that the system chose.
    pub address: SocketAddr,
}

/// Listens on TCP. `backlog` is the length of the queue of connections that wait to be accepted.
pub fn bind_tcp(address: SocketAddr, backlog: u32) -> io::Result<Bound<std::net::TcpListener>> {
    let socket = bind(address, Type::STREAM, Protocol::TCP)?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    let socket = std::net::TcpListener::from(socket);
    let address = socket.local_addr()?;
    Ok(Bound { socket, address })
}

/// Binds UDP.
pub fn bind_udp(address: SocketAddr) -> io::Result<Bound<std::net::UdpSocket>> {
    let socket = std::net::UdpSocket::from(bind(address, Type::DGRAM, Protocol::UDP)?);
    let address = socket.local_addr()?;
    Ok(Bound { socket, address })
}

fn bind(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // As nginx: `[::]` does not take the place of `0.0.0.0`.
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}
