//! Connections of which the first bytes tell what is spoken: HTTP goes to HTTP routes, anything else to stream routes.
//! The reasons are in `docs/adr/0013-arrivals.md`.

use std::rc::Rc;
use std::sync::Arc;

use cardinal_ir::Wire;
use cardinal_net::buffer::Buffer;
use cardinal_net::h1::H1;
use cardinal_net::{ByteStream, Detection, Io, Protocol, SniffTimeouts, Sniffed, Timer, sniff, tls};
use cardinal_sdk::{Client, TlsInfo};
use tokio::net::TcpStream;

use crate::arrival::{Arrived, ConnectionTls, handshake_failed};
use crate::certificates::{self, Answer};
use crate::http::{serve_h1, serve_h2};
use crate::stream::serve_bytes;
use crate::worker::Worker;

/// Serves a connection to its end.
///
/// Bytes never reach HTTP routes, and HTTP never reaches stream routes: what is forbidden to HTTP cannot be had by staying
/// silent. Without a stream route for it, a connection of bytes is closed.
pub(crate) async fn serve(worker: Rc<Worker>, tcp: TcpStream, mut client: Client, arrived: Arrived) {
    let mut io = Io::Tcp(tcp);
    let Some(sniffed) = find_protocol(&worker, &mut io, &client, &arrived).await else { return };
    let Some(tls) = arrived.tls(&worker.plan()) else { return };
    match (sniffed.protocol, &tls) {
        (Protocol::Tls, ConnectionTls::Clear) => {
            let sni = sniffed.hello.and_then(|hello| hello.sni).map(Into::into);
            client.tls = Some(Arc::new(TlsInfo { sni, ..TlsInfo::default() }));
            let stream = ByteStream::new(io, sniffed.prefix);
            serve_bytes(worker, stream, client, arrived, Wire::TlsPassthrough).await;
        }
        (Protocol::Tls, tls) => Box::pin(terminated(worker, io, sniffed, client, (arrived, tls))).await,
        (_, tls) if !tls.allows_clear_text() => {
            handshake_failed(&worker, &client, &arrived.listener, "not a TLS handshake");
        }
        (Protocol::Http1 | Protocol::Http2, _) => {
            let (facts, entry) = (arrived.facts(&client), arrived.register(&worker, &client));
            drop((arrived, tls));
            let h1 = Box::new(H1::with_input(io, sniffed.prefix));
            entry.unless_revoked(Box::pin(serve_h1(worker, h1, client, facts))).await;
        }
        (Protocol::Bytes, _) => {
            let stream = ByteStream::new(io, sniffed.prefix);
            serve_bytes(worker, stream, client, arrived, Wire::Tcp).await;
        }
    }
}

/// Finds out what is spoken; `None` when the connection broke.
async fn find_protocol(worker: &Rc<Worker>, io: &mut Io, client: &Client, arrived: &Arrived) -> Option<Sniffed> {
    // The port that the client wanted tells whether the server is likely to speak first.
    let detection = Detection::for_port(client.local.port(), SniffTimeouts::default());
    let timer = Timer::new(&worker.wheel);
    match sniff(io, detection, &timer).await {
        Ok(sniffed) => Some(sniffed),
        Err(error) => {
            tracing::debug!(listener = %arrived.listener.name, client = %client.peer, %error, "connection broke");
            None
        }
    }
}

/// Terminates TLS, and goes by what is spoken inside.
async fn terminated(
    worker: Rc<Worker>,
    io: Io,
    Sniffed { prefix, hello, .. }: Sniffed,
    mut client: Client,
    (arrived, tls): (Arrived, &ConnectionTls),
) {
    let Io::Tcp(tcp) = io else { return };
    let limit_ms = worker.plan().node().limits.handshake_timeout_ms;
    let timer = Timer::new(&worker.wheel);
    let answer = if certificates::are_asked(&worker.plan(), tls, &arrived.listener) {
        let hello = hello.unwrap_or_default();
        Box::pin(certificates::ask(&worker, tls, &client, &arrived.listener, &hello)).await
    } else {
        Answer::Configured
    };
    let finishing = Box::pin(certificates::finish(answer, tls, tcp, prefix.filled()));
    let accepted = match timer.limit(limit_ms, finishing).await {
        Some(Ok(Some(accepted))) => accepted,
        Some(Ok(None)) => return,
        Some(Err(error)) => {
            let text = format!("TLS handshake with the client: {}", tls::io_text(&error));
            return handshake_failed(&worker, &client, &arrived.listener, &text);
        }
        None => {
            let text = format!("no TLS handshake within client_handshake_timeout {limit_ms} ms");
            return handshake_failed(&worker, &client, &arrived.listener, &text);
        }
    };
    drop((prefix, timer));
    let mut io = Io::ServerTls(accepted.stream);
    let agreed = accepted.info.alpn.clone();
    client.tls = Some(Arc::new(accepted.info));
    client.peer_identity = accepted.peer;
    let mut facts = arrived.facts(&client);
    (facts.tls, facts.verification) = (true, Some(accepted.verification));
    let (protocol, prefix) = match agreed.as_deref() {
        Some("h2") => (Protocol::Http2, Buffer::default()),
        Some("http/1.1") => (Protocol::Http1, Buffer::default()),
        _ => match find_protocol(&worker, &mut io, &client, &arrived).await {
            Some(Sniffed { protocol, prefix, .. }) => (protocol, prefix),
            None => return,
        },
    };
    match protocol {
        Protocol::Http2 => {
            let entry = arrived.register(&worker, &client);
            entry.unless_revoked(Box::pin(serve_h2(worker, io, prefix, client, facts))).await;
        }
        Protocol::Http1 => {
            let entry = arrived.register(&worker, &client);
            let h1 = Box::new(H1::with_input(io, prefix));
            entry.unless_revoked(Box::pin(serve_h1(worker, h1, client, facts))).await;
        }
        Protocol::Tls | Protocol::Bytes => {
            serve_bytes(worker, ByteStream::new(io, prefix), client, arrived, Wire::Tls).await;
        }
    }
}
