//! Accepts connections and finds out what is spoken on them.

use std::fs::File;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cardinal_base::{descriptors, task};
use cardinal_ir::{Listener, ListenerKind};
use cardinal_net::buffer::Buffer;
use cardinal_net::tls::{self, ServerTls};
use cardinal_net::{Io, Timer, proxy_protocol};
use cardinal_sdk::{Client, TlsInfo};
use rustls::ServerConnection;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::http::{Facts, serve_h1, serve_h2};
use crate::stream;
use crate::worker::{ConnectionGuard, Worker};

/// After accepting failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts on one socket until it is told to stop.
pub(crate) async fn accept(worker: Rc<Worker>, socket: TcpListener, listener: Rc<Listener>, stop: Rc<Notify>) {
    // Connections have it from their listener: without it small responses may wait for an acknowledgement. A failure
    // costs only speed.
    cardinal_net::send_at_once(&socket).ok();
    // Who listens on one address need not ask each connection for it.
    let fixed = socket.local_addr().ok().filter(|address| !address.ip().is_unspecified());
    let mut spare = spare_descriptor();
    let mut stopped = pin!(stop.notified());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stopped => break,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => take(&worker, tcp, peer, fixed, &listener),
            Err(error) => {
                tracing::warn!(listener = %listener.name, %error, "cannot accept a connection");
                if descriptors::is_exhausted(&error) && refuse(&worker, &socket, &mut spare).await {
                    continue;
                }
                // The peer may have left the queue, or there may be a descriptor a little later.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Those that the system has accepted for us would be reset with the socket.
    let Ok(socket) = socket.into_std() else { return };
    for _ in 0..listener.backlog {
        let Ok((tcp, peer)) = socket.accept() else { return };
        match tcp.set_nonblocking(true).and_then(|()| TcpStream::from_std(tcp)) {
            Ok(tcp) => take(&worker, tcp, peer, fixed, &listener),
            Err(error) => tracing::warn!(listener = %listener.name, %error, "cannot set up an accepted connection"),
        }
    }
}

/// A descriptor to give up when there is no other: then a client can be told at once that it is not served, instead of
/// waiting in the system's queue.
fn spare_descriptor() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Accepts a connection by means of the spare descriptor, and closes it. `false` when that was not possible.
async fn refuse(worker: &Worker, socket: &TcpListener, spare: &mut Option<File>) -> bool {
    if spare.take().is_none() {
        *spare = spare_descriptor();
        return false;
    }
    let accepted = tokio::time::timeout(Duration::ZERO, socket.accept()).await;
    let refused = matches!(accepted, Ok(Ok(_)));
    drop(accepted);
    *spare = spare_descriptor();
    if refused {
        worker.counters().refused();
    }
    refused
}

/// Serves a connection, if the node may have one more.
fn take(worker: &Rc<Worker>, tcp: TcpStream, peer: SocketAddr, fixed: Option<SocketAddr>, listener: &Rc<Listener>) {
    // Idle connections to upstreams make room.
    if descriptors::check(&tcp).is_err() && !worker.pool.borrow_mut().close_idle() {
        worker.counters().refused();
        tracing::warn!(listener = %listener.name, "connection refused: no file descriptors left");
        return;
    }
    let max = worker.node.connections_max(worker.plan().node().limits.connections_max);
    let Some(guard) = ConnectionGuard::new(worker, max) else {
        tracing::warn!(listener = %listener.name, limit = max, "connection refused: too many are open");
        return;
    };
    let (worker, listener) = (Rc::clone(worker), Rc::clone(listener));
    drop(task::spawn_local("connection", async move {
        let _guard = guard;
        let local = fixed.or_else(|| tcp.local_addr().ok()).unwrap_or(listener.address);
        connection(worker, tcp, Client::at(peer, local), listener).await;
    }));
}

/// What is rare, or lasts, is boxed: a future is as large as its largest branch, and this one stays for as long as the
/// connection.
async fn connection(worker: Rc<Worker>, tcp: TcpStream, mut client: Client, listener: Rc<Listener>) {
    let peer = client.peer;
    client.connection = worker.node.next_connection.fetch_add(1, Ordering::Relaxed);
    // A connection may live long; it holds no plan.
    let limit_ms = worker.plan().node().limits.handshake_timeout_ms;
    let timer = Timer::new(&worker.wheel);
    let mut tcp = tcp;
    if listener.proxy_protocol {
        match timer.limit(limit_ms, Box::pin(read_proxy_header(&mut tcp))).await {
            Some(Ok(proxy_protocol::Header::Local)) => {}
            // Whether it is believed depends on who the peer is.
            Some(Ok(proxy_protocol::Header::Proxied { source, .. })) => {
                (client.ip, client.port) = (source.ip(), source.port());
            }
            Some(Err(reason)) => {
                tracing::info!(listener = %listener.name, client = %peer, "connection closed: {reason}");
                return;
            }
            None => {
                tracing::info!(listener = %listener.name, client = %peer, "connection closed: no PROXY header within client_handshake_timeout {limit_ms} ms");
                return;
            }
        }
    }
    if listener.kind == ListenerKind::Stream {
        return Box::pin(stream::serve_tcp(worker, tcp, client, listener)).await;
    }
    let listener_port = listener.mapped_port.unwrap_or(client.local.port());
    let mut facts = Facts { tls: listener.tls, plain_on_tls: false, listener_port, verification: None };
    if !listener.tls {
        return Box::pin(serve_h1(worker, Io::Tcp(tcp), client, facts)).await;
    }
    let tls = {
        let plan = worker.plan();
        if listener.http2 { plan.tls.http2.clone() } else { plan.tls.http1.clone() }
    };
    facts.verification = Some(tls.verification());
    let accepted = timer.limit(limit_ms, Box::pin(handshake(&tls, tcp))).await;
    drop(timer);
    let tls = match accepted {
        Some(Ok(Accepted::Tls(tls))) => tls,
        Some(Ok(Accepted::PlainHttp(tcp))) => {
            let facts = Facts { tls: false, plain_on_tls: true, verification: None, ..facts };
            return Box::pin(serve_h1(worker, Io::Tcp(tcp), client, facts)).await;
        }
        Some(Err(error)) => {
            worker.counters().failed(cardinal_http::FailureKind::ClientTls);
            tracing::info!(failure = "client_tls", listener = %listener.name, client = %peer, "client_tls: TLS handshake with the client: {}", tls::io_text(&error));
            return;
        }
        None => {
            worker.counters().failed(cardinal_http::FailureKind::ClientTls);
            tracing::info!(failure = "client_tls", listener = %listener.name, client = %peer, "client_tls: no TLS handshake within client_handshake_timeout {limit_ms} ms");
            return;
        }
    };
    let info = tls_info(tls.get_ref().1);
    let h2 = info.alpn.as_deref() == Some("h2");
    client.tls = Some(Arc::new(info));
    let io = Io::ServerTls(tls);
    if h2 {
        Box::pin(serve_h2(worker, io, Buffer::default(), client, facts)).await
    } else {
        Box::pin(serve_h1(worker, io, client, facts)).await
    }
}

/// The protocol that a client uses at a listener with TLS.
enum Accepted {
    Tls(Box<TlsStream<TcpStream>>),
    /// Requests are answered with an error, as nginx does.
    PlainHttp(TcpStream),
}

/// The TLS handshake with a client, unless the first byte is that of plain HTTP: a method begins with a capital letter,
/// and no type of a TLS record is the code of one.
async fn handshake(tls: &ServerTls, tcp: TcpStream) -> std::io::Result<Accepted> {
    let mut first = [0];
    if tcp.peek(&mut first).await? == 1 && first.iter().all(u8::is_ascii_uppercase) {
        return Ok(Accepted::PlainHttp(tcp));
    }
    let stream = TlsAcceptor::from(Arc::clone(tls.config())).accept(tcp).await?;
    tls.verify_resumed(stream.get_ref().1).map_err(resumed_error)?;
    Ok(Accepted::Tls(Box::new(stream)))
}

/// Why a session that was resumed is not served.
pub(crate) fn resumed_error(error: rustls::Error) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::PermissionDenied, format!("resumed session: {}", tls::text(&error)))
}

/// Reads exactly the PROXY header, so that what follows it is still to be read.
async fn read_proxy_header(tcp: &mut TcpStream) -> Result<proxy_protocol::Header, &'static str> {
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
        // What was peeked at stays readable, so the rest of a header in pieces is looked for after a moment.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What logs and filters are told about TLS.
pub(crate) fn tls_info(connection: &ServerConnection) -> TlsInfo {
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "",
    };
    let cipher = connection
        .negotiated_cipher_suite()
        .map(|suite| suite.suite().as_str().unwrap_or_default().replace("TLS13_", "TLS_"));
    let certificate = connection.peer_certificates().and_then(<[_]>::first).map(|c| Arc::from(c.as_ref()));
    TlsInfo {
        version,
        cipher: cipher.unwrap_or_default(),
        sni: connection.server_name().map(|name| name.to_ascii_lowercase().into()),
        alpn: connection.alpn_protocol().map(|p| String::from_utf8_lossy(p).into()),
        client_verify: if certificate.is_some() { "SUCCESS".into() } else { "NONE".into() },
        client_certificate: certificate,
    }
}
