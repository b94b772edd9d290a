//! Ports for servers that cannot bind port 0 themselves.

use std::net::TcpListener;

/// A port of 127.0.0.1 that nobody uses now. Another process may take it before it is used; a server that binds port 0
/// itself is better.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("127.0.0.1 has a free port");
    listener.local_addr().expect("a bound listener has an address").port()
}
