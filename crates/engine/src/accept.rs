//! Accepts connections and finds out what is spoken on them.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use cardinal_base::{descriptors, task};
use cardinal_ir::{Capture, Listener, ListenerKind};
use cardinal_net::buffer::Buffer;
use cardinal_net::h1::H1;
use cardinal_net::{ByteStream, Io, Timer, proxy_protocol, tls};
use cardinal_sdk::{Client, TlsAlert};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::arrival::{AcceptedTls, Arrived, ConnectionInfo, ConnectionTls, accept_tls, handshake_failed};
use crate::certificates::{self, Answer};
use crate::detect;
use crate::http::{serve_h1, serve_h2};
use crate::listening::Listening;
use crate::stream;
use crate::worker::{ConnectionGuard, Worker};

/// After accepting failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts on one socket until it is told to stop.
pub(crate) async fn accept(worker: Rc<Worker>, socket: TcpListener, at: Listening, stop: Rc<Notify>) {
    let at = Rc::new(at);
    let listener = &at.listener;
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
            Ok((tcp, peer)) => take(&worker, tcp, peer, fixed, &at),
            Err(error) => {
                tracing::warn!(listener = %listener.name, %error, "cannot accept a connection");
                if descriptors::is_exhausted(&error) && refuse(&worker, &socket, &mut spare).await {
                    continue;
                }
                // The peer may have left the queue, or there may be a descriptor a little later.
                worker.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Those that the system has accepted for us would be reset with the socket.
    let Ok(socket) = socket.into_std() else { return };
    for _ in 0..listener.backlog {
        let Ok((tcp, peer)) = socket.accept() else { return };
        match tcp.set_nonblocking(true).and_then(|()| TcpStream::from_std(tcp)) {
            Ok(tcp) => take(&worker, tcp, peer, fixed, &at),
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
    // What is in the queue now.
    let accepted = poll_fn(|cx| Poll::Ready(socket.poll_accept(cx))).await;
    let refused = matches!(accepted, Poll::Ready(Ok(_)));
    drop(accepted);
    *spare = spare_descriptor();
    if refused {
        worker.counters().refused();
    }
    refused
}

/// Serves a connection, if the node may have one more.
fn take(worker: &Rc<Worker>, tcp: TcpStream, peer: SocketAddr, fixed: Option<SocketAddr>, at: &Rc<Listening>) {
    let name = &at.listener.name;
    // Idle connections to upstreams make room.
    if descriptors::check(&tcp).is_err() && !worker.pool.borrow_mut().close_idle() {
        worker.counters().refused();
        tracing::warn!(listener = %name, "connection refused: no file descriptors left");
        return;
    }
    let max = worker.node.connections_max(worker.plan().node().limits.connections_max);
    let Some(guard) = ConnectionGuard::new(worker, max) else {
        tracing::warn!(listener = %name, limit = max, "connection refused: too many are open");
        return;
    };
    let (worker, at) = (Rc::clone(worker), Rc::clone(at));
    drop(task::spawn_local("connection", async move {
        let _guard = guard;
        let local = fixed.or_else(|| tcp.local_addr().ok()).unwrap_or(at.listener.address);
        connection(worker, tcp, Client::at(peer, local), at).await;
    }));
}

/// What is rare, or lasts, is boxed: a future is as large as its largest branch, and this one stays for as long as the
/// connection.
async fn connection(worker: Rc<Worker>, mut tcp: TcpStream, mut client: Client, at: Rc<Listening>) {
    client.connection = worker.node.next_connection.fetch_add(1, Ordering::Relaxed);
    // A connection may live long; it holds no plan.
    let Some(listener) = at.current(&worker.plan()) else { return };
    if listener.proxy_protocol && Box::pin(proxied(&worker, &mut tcp, &mut client, &listener)).await.is_none() {
        return;
    }
    if listener.capture != Capture::Direct {
        match original_destination(&tcp, &client, &listener) {
            Some(original) => client.local = original,
            None => return,
        }
    }
    let arrived = Arrived { record: at.record, listener };
    match arrived.listener.kind {
        ListenerKind::Stream => Box::pin(stream::serve_tcp(worker, tcp, client, arrived)).await,
        ListenerKind::Detect => Box::pin(detect::serve(worker, tcp, client, arrived)).await,
        ListenerKind::Http | ListenerKind::Status | ListenerKind::Udp => http(worker, tcp, client, arrived).await,
    }
}

/// Reads a PROXY header; `None` closes the connection.
async fn proxied(worker: &Rc<Worker>, tcp: &mut TcpStream, client: &mut Client, listener: &Listener) -> Option<()> {
    let (peer, timer) = (client.peer, Timer::new(&worker.wheel));
    let limit_ms = worker.plan().node().limits.handshake_timeout_ms;
    match timer.limit(limit_ms, read_proxy_header(worker, tcp)).await {
        Some(Ok(proxy_protocol::Header::Local)) => Some(()),
        // Whether it is believed depends on who the peer is.
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

/// Where the client of a captured connection wanted to go; `None` closes the connection: it was not captured, and to
/// forward it would lead back here.
fn original_destination(tcp: &TcpStream, client: &Client, listener: &Listener) -> Option<SocketAddr> {
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

/// HTTP on a listener that serves nothing else.
async fn http(worker: Rc<Worker>, tcp: TcpStream, mut client: Client, arrived: Arrived) {
    let mut facts = arrived.facts(&client);
    facts.tls = arrived.listener.tls.is_some();
    let tls = match facts.tls {
        false => ConnectionTls::Clear,
        true => match arrived.tls(&worker.plan()) {
            Some(tls) => tls,
            None => return,
        },
    };
    let accepted = match &tls {
        ConnectionTls::Clear => Accepted::Clear(tcp),
        tls => match Box::pin(handshake(&worker, tls, tcp, &client, &arrived.listener)).await {
            Some(accepted) => accepted,
            None => return,
        },
    };
    drop(tls);
    match accepted {
        Accepted::Clear(tcp) => {
            facts = ConnectionInfo {
                tls: false,
                plain_on_tls: facts.tls && !facts_allow_clear(&worker, &arrived),
                ..facts
            };
            let entry = arrived.register(&worker, &client);
            drop(arrived);
            let h1 = Box::new(H1::new(Io::Tcp(tcp), b""));
            entry.unless_revoked(Box::pin(serve_h1(worker, h1, client, facts))).await;
        }
        Accepted::Tls(accepted) => {
            facts.verification = Some(accepted.verification);
            client.peer_identity = accepted.peer;
            let h2 = accepted.info.alpn.as_deref() == Some("h2");
            client.tls = Some(Arc::new(accepted.info));
            let entry = arrived.register(&worker, &client);
            drop(arrived);
            let io = Io::ServerTls(accepted.stream);
            if h2 {
                entry.unless_revoked(Box::pin(serve_h2(worker, io, Buffer::default(), client, facts))).await;
            } else {
                let h1 = Box::new(H1::new(io, b""));
                entry.unless_revoked(Box::pin(serve_h1(worker, h1, client, facts))).await;
            }
        }
    }
}

/// Whether clear text is served on a listener with TLS, and not answered with an error.
fn facts_allow_clear(worker: &Worker, arrived: &Arrived) -> bool {
    arrived.tls(&worker.plan()).is_some_and(|tls| tls.allows_clear_text())
}

/// What came of looking for TLS.
pub(crate) enum Accepted {
    Tls(Box<AcceptedTls>),
    /// The client sent something else first.
    Clear(TcpStream),
}

/// The TLS handshake with a client, within its time; `None` when it failed, which has been logged, or when all that was
/// wanted of it is done.
async fn handshake(
    worker: &Worker,
    tls: &ConnectionTls,
    tcp: TcpStream,
    client: &Client,
    listener: &Listener,
) -> Option<Accepted> {
    let limit_ms = worker.plan().node().limits.handshake_timeout_ms;
    let timer = Timer::new(&worker.wheel);
    let outcome = if certificates::are_asked(&worker.plan(), tls, listener) {
        Box::pin(ask_and_accept(worker, tls, tcp, client, listener)).await
    } else {
        timer.limit(limit_ms, peek_and_accept(tls, tcp)).await.map(|outcome| outcome.map(Some))
    };
    match outcome {
        Some(Ok(accepted)) => accepted,
        Some(Err(error)) => {
            handshake_failed(
                worker,
                client,
                listener,
                &format!("TLS handshake with the client: {}", tls::io_text(&error)),
            );
            None
        }
        None => {
            let text = format!("no TLS handshake within client_handshake_timeout {limit_ms} ms");
            handshake_failed(worker, client, listener, &text);
            None
        }
    }
}

/// Does the handshake, unless the first byte is that of plain HTTP: a method begins with a capital letter, and no type of
/// a TLS record is the code of one. Where clear text is allowed, anything but a handshake is.
async fn peek_and_accept(tls: &ConnectionTls, tcp: TcpStream) -> io::Result<Accepted> {
    if is_clear_text(tls, &tcp).await? {
        return Ok(Accepted::Clear(tcp));
    }
    Ok(Accepted::Tls(Box::new(accept_tls(tls, tcp, &[]).await?)))
}

/// The same where filters are asked for the certificate; `None` when the client is late.
async fn ask_and_accept(
    worker: &Worker,
    tls: &ConnectionTls,
    tcp: TcpStream,
    client: &Client,
    listener: &Listener,
) -> Option<io::Result<Option<Accepted>>> {
    let limit_ms = worker.plan().node().limits.handshake_timeout_ms;
    let timer = Timer::new(&worker.wheel);
    let beginning = async {
        if is_clear_text(tls, &tcp).await? {
            return Ok((ByteStream::new(Io::Tcp(tcp), Buffer::default()), None));
        }
        let mut stream = ByteStream::new(Io::Tcp(tcp), Buffer::default());
        let hello = certificates::read_hello(&mut stream).await.map_err(io::Error::other)?;
        io::Result::Ok((stream, Some(hello)))
    };
    let (stream, hello) = match timer.limit(limit_ms, beginning).await? {
        Ok(begun) => begun,
        Err(error) => return Some(Err(error)),
    };
    let (io, prefix) = stream.into_parts();
    let Io::Tcp(tcp) = io else { return None };
    let answer = match hello {
        None => return Some(Ok(Some(Accepted::Clear(tcp)))),
        Some(Some(hello)) => certificates::ask(worker, tls, client, listener, &hello).await,
        // Nobody can be asked for it, be it too long or no handshake.
        Some(None) => Answer::Refused(TlsAlert::HandshakeFailure),
    };
    let finished = timer.limit(limit_ms, certificates::finish(answer, tls, tcp, prefix.filled())).await?;
    Some(finished.map(|accepted| accepted.map(|accepted| Accepted::Tls(Box::new(accepted)))))
}

/// Whether the first byte is not that of TLS.
async fn is_clear_text(tls: &ConnectionTls, tcp: &TcpStream) -> io::Result<bool> {
    const HANDSHAKE: u8 = 22;
    let mut first = [0];
    let came = tcp.peek(&mut first).await?;
    let [byte] = first;
    let is_clear = if tls.allows_clear_text() { byte != HANDSHAKE } else { byte.is_ascii_uppercase() };
    Ok(is_clear && came == 1)
}

/// Reads exactly the PROXY header, so that what follows it is still to be read.
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
        // What was peeked at stays readable, so the rest of a header in pieces is looked for after a moment.
        worker.sleep(Duration::from_millis(5)).await;
    }
}
