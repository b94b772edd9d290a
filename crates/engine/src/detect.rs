//! Protocol detection by the first bytes of a connection: HTTP goes to HTTP routes, anything else to stream routes.
//! The reasons are in `docs/adr/0013-arrivals.md`.

use std::rc::Rc;
use std::sync::Arc;

use cardinal_ir::Wire;
use cardinal_net::buffer::Buffer;
use cardinal_net::h1::H1;
use cardinal_net::{ByteStream, Detection, Io, Protocol, SniffTimeouts, Sniffed, Timer, sniff};
use cardinal_sdk::{Client, TlsInfo};
use tokio::net::TcpStream;

use crate::arrival::{Arrived, ConnectionTls, handshake_failed};
use crate::certificates::{self, Answer, Handshake};
use crate::http::{serve_h1, serve_h2};
use crate::stream::serve_bytes;
use crate::worker::Worker;

/// Serves a connection until it ends.
///
/// A byte stream never reaches HTTP routes, and HTTP never reaches stream routes, so a client cannot bypass HTTP rules
/// by delaying its first bytes. A byte stream without a matching stream route is closed.
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
            let (info, entry) = (arrived.info(&client), arrived.register(&worker, &client));
            drop((arrived, tls));
            let h1 = Box::new(H1::with_input(io, sniffed.prefix));
            entry.unless_revoked(Box::pin(serve_h1(worker, h1, client, info))).await;
        }
        (Protocol::Bytes, _) => {
            let stream = ByteStream::new(io, sniffed.prefix);
            serve_bytes(worker, stream, client, arrived, Wire::Tcp).await;
        }
    }
}

/// Determines the protocol; `None` if the connection failed.
async fn find_protocol(worker: &Rc<Worker>, io: &mut Io, client: &Client, arrived: &Arrived) -> Option<Sniffed> {
    // The original destination port indicates whether the server is likely to speak first.
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

/// Terminates TLS, then detects the protocol inside.
async fn terminated(
    worker: Rc<Worker>,
    io: Io,
    Sniffed { prefix, hello, .. }: Sniffed,
    mut client: Client,
    (mut arrived, tls): (Arrived, &ConnectionTls),
) {
    let (hello, mut down) = (hello.unwrap_or_default(), ByteStream::new(io, prefix));
    let handshake = Handshake { worker: &worker, tls, client: &client, arrived: &arrived };
    let answer = if certificates::are_asked(&worker.plan(), tls, &arrived.listener) {
        Box::pin(handshake.ask(&hello, &mut down)).await
    } else {
        Answer::Configured
    };
    let accepted = match Box::pin(handshake.finish(answer, down)).await {
        Some(Ok(Some(accepted))) => accepted,
        Some(Ok(None)) => return,
        failed => {
            let error = failed.and_then(Result::err);
            let text = certificates::failure_text(&worker, error.as_ref());
            return handshake_failed(&worker, &client, &arrived.listener, &text);
        }
    };
    drop(hello);
    let mut io = Io::ServerTls(accepted.stream);
    let agreed = accepted.info.alpn.clone();
    client.tls = Some(Arc::new(accepted.info));
    client.peer_identity = accepted.peer;
    arrived.verification = Some(accepted.verification);
    let mut info = arrived.info(&client);
    (info.tls, info.verification) = (true, arrived.verification);
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
            entry.unless_revoked(Box::pin(serve_h2(worker, io, prefix, client, info))).await;
        }
        Protocol::Http1 => {
            let entry = arrived.register(&worker, &client);
            let h1 = Box::new(H1::with_input(io, prefix));
            entry.unless_revoked(Box::pin(serve_h1(worker, h1, client, info))).await;
        }
        Protocol::Tls | Protocol::Bytes => {
            serve_bytes(worker, ByteStream::new(io, prefix), client, arrived, Wire::Tls).await;
        }
    }
}
