//! The client address and the original destination of connections that were forwarded or captured: PROXY protocol
//! headers and original destinations.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use cardinal_ir::{Capture, Listener};
use cardinal_net::proxy_protocol;
use cardinal_sdk::Client;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::arrival::Arrived;
use crate::worker::Worker;

/// Reads a PROXY protocol header; `None` closes the connection.
pub(super) async fn proxied(
    worker: &Rc<Worker>,
    tcp: &mut TcpStream,
    client: &mut Client,
    arrived: &Arrived,
) -> Option<()> {
    let (peer, listener) = (client.peer, &arrived.listener);
    let limit_ms = worker.plan().node().limits.handshake_timeout_ms;
    match arrived.in_time(worker, read_proxy_header(worker, tcp)).await {
        Some(Ok(proxy_protocol::Header::Local)) => Some(()),
        // The header is only used if the peer is trusted.
        Some(Ok(proxy_protocol::Header::Proxied { source, .. })) => {
            (client.ip, client.port) = (source.ip(), source.port());
            Some(())
        }
        Some(Err(reason)) => {
            tracing::info!(listener = %listener.name, client = %peer, "connection closed: {reason}");
            None
        }
        None => {
            tracing::info!(listener = %listener.name, client = %peer, "connection closed: no PROXY header within client_handshake_timeout {limit_ms} ms");
            None
        }
    }
}

/// Reads exactly the PROXY protocol header, so that the bytes after it stay unread.
async fn read_proxy_header(worker: &Worker, tcp: &mut TcpStream) -> Result<proxy_protocol::Header, &'static str> {
    let mut bytes = vec![0; 4096 + 16];
    let mut seen = 0;
    loop {
        let count = tcp.peek(&mut bytes).await.map_err(|_| "connection lost before the PROXY header")?;
        if count == 0 {
            return Err("connection ended before the PROXY header");
        }
        if count > seen {
            seen = count;
            match proxy_protocol::parse(bytes.get(..count).unwrap_or_default()) {
                Ok(proxy_protocol::Parsed::Complete(length, header)) => {
                    let mut head = vec![0; length];
                    tcp.read_exact(&mut head).await.map_err(|_| "connection lost in the PROXY header")?;
                    return Ok(header);
                }
                Ok(proxy_protocol::Parsed::Partial) => {}
                Err(_) => return Err("no PROXY header where the listener expects one"),
            }
        }
        // Peeked bytes stay readable, so a socket with an incomplete header is always ready; the rest is polled for
        // after a pause.
        worker.sleep(Duration::from_millis(5)).await;
    }
}

/// The original destination of a captured connection. `None` closes the connection: it was not captured, and forwarding
/// it would lead back to this listener.
pub(super) fn original_destination(tcp: &TcpStream, client: &Client, listener: &Listener) -> Option<SocketAddr> {
    let capture = match listener.capture {
        Capture::Direct => cardinal_net::Capture::Direct,
        Capture::Redirect => cardinal_net::Capture::Redirect,
        Capture::Transparent => cardinal_net::Capture::Transparent,
    };
    let bound = SocketAddr::new(listener.address.ip(), client.local.port());
    let bound = if listener.address.port() == 0 { bound } else { listener.address };
    let local = tcp.local_addr().ok()?;
    match capture.original_dst(tcp, bound, local) {
        Ok(Some(original)) => Some(original),
        Ok(None) => {
            tracing::info!(listener = %listener.name, client = %client.peer, "connection closed: it was not captured, and this listener takes only captured connections");
            None
        }
        Err(error) => {
            tracing::debug!(listener = %listener.name, client = %client.peer, %error, "no original destination");
            None
        }
    }
}
