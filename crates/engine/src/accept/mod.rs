//! Accepts connections and determines the protocol of each.

use std::fs::File;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use cardinal_base::{Tick, descriptors, task};
use cardinal_ir::{Capture, ListenerKind};
use cardinal_sdk::Client;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

mod addresses;
mod http;

use crate::arrival::Arrived;
use crate::detect;
use crate::listening::Listening;
use crate::stream;
use crate::worker::{ConnectionGuard, Worker};

/// The pause after accepting failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts on one socket until its task is cancelled.
pub(crate) async fn accept(worker: Rc<Worker>, socket: TcpListener, at: Listening, stop: Rc<Notify>) {
    let at = Rc::new(at);
    let listener = &at.listener;
    // Connections inherit the option from their listener: without it, small responses may wait for an acknowledgement.
    // A failure only costs speed.
    cardinal_net::send_at_once(&socket).ok();
    // If the listener is bound to one address, the local address need not be queried for each connection.
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
                // The peer may have left the queue, or a descriptor may become available shortly.
                worker.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Connections that the kernel has already accepted would be reset together with the socket.
    let Ok(socket) = socket.into_std() else { return };
    for _ in 0..listener.backlog {
        let Ok((tcp, peer)) = socket.accept() else { return };
        match tcp.set_nonblocking(true).and_then(|()| TcpStream::from_std(tcp)) {
            Ok(tcp) => take(&worker, tcp, peer, fixed, &at),
            Err(error) => tracing::warn!(listener = %listener.name, %error, "cannot set up an accepted connection"),
        }
    }
}

/// A descriptor held in reserve: it is released when no other descriptor is free, so that a client is refused at once
/// instead of waiting in the kernel's queue.
fn spare_descriptor() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Accepts a connection by means of the spare descriptor, and closes it. Returns `false` if that is impossible.
async fn refuse(worker: &Worker, socket: &TcpListener, spare: &mut Option<File>) -> bool {
    if spare.take().is_none() {
        *spare = spare_descriptor();
        return false;
    }
    // The connection that is in the queue now, if there is one.
    let accepted = poll_fn(|cx| Poll::Ready(socket.poll_accept(cx))).await;
    let refused = matches!(accepted, Poll::Ready(Ok(_)));
    drop(accepted);
    *spare = spare_descriptor();
    if refused {
        worker.counters().refused();
    }
    refused
}

/// Serves a connection, unless the node's connection limit is reached.
fn take(worker: &Rc<Worker>, tcp: TcpStream, peer: SocketAddr, fixed: Option<SocketAddr>, at: &Rc<Listening>) {
    let name = &at.listener.name;
    // Idle upstream connections are closed to free descriptors.
    if descriptors::check(&tcp).is_err() && !worker.pool.borrow_mut().close_idle() {
        worker.counters().refused();
        tracing::warn!(listener = %name, "connection refused: no file descriptors left");
        return;
    }
    let max = worker.node.connections_max(worker.plan().node().limits.connections_max);
    let accepted = worker.now();
    let Some(guard) = ConnectionGuard::new(worker, max) else {
        tracing::warn!(listener = %name, limit = max, "connection refused: too many are open");
        return;
    };
    let (worker, at) = (Rc::clone(worker), Rc::clone(at));
    drop(task::spawn_local("connection", async move {
        let _guard = guard;
        let local = fixed.or_else(|| tcp.local_addr().ok()).unwrap_or(at.listener.address);
        connection(worker, tcp, Client::at(peer, local), (at, accepted)).await;
    }));
}

/// Rare or long-lasting branches are boxed: a future is as large as its largest branch, and this one exists as long as
/// the connection.
async fn connection(worker: Rc<Worker>, mut tcp: TcpStream, mut client: Client, (at, accepted): (Rc<Listening>, Tick)) {
    client.connection = worker.node.next_connection.fetch_add(1, Ordering::Relaxed);
    // A connection may live long, so it must not hold a plan.
    let Some((record, listener)) = at.current(&worker.plan()) else { return };
    let arrived = Arrived { record, listener, accepted, verification: None };
    if arrived.listener.proxy_protocol
        && Box::pin(addresses::proxied(&worker, &mut tcp, &mut client, &arrived)).await.is_none()
    {
        return;
    }
    if arrived.listener.capture != Capture::Direct {
        match addresses::original_destination(&tcp, &client, &arrived.listener) {
            Some(original) => client.local = original,
            None => return,
        }
    }
    match arrived.listener.kind {
        ListenerKind::Stream => Box::pin(stream::serve_tcp(worker, tcp, client, arrived)).await,
        ListenerKind::Detect => Box::pin(detect::serve(worker, tcp, client, arrived)).await,
        ListenerKind::Http | ListenerKind::Status | ListenerKind::Udp => {
            http::serve(worker, tcp, client, arrived).await;
        }
    }
}
