//! Serves a client's HTTP/2 connection: requests run concurrently, one task per stream.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use cardinal_base::{Budget, Reservation, task};
use cardinal_http::h1::Framing;
use cardinal_http::{Failure, FailureKind, Name, RequestHead};
use cardinal_ir::Limits;
use cardinal_net::buffer::Buffer;
use cardinal_net::h2::{Code, Request, Server, Settings};
use cardinal_net::{Io, Peer, Timer};
use cardinal_sdk::Client;

use super::request::{refuse, run};
use super::session::{LINGER_MAX, RequestContext, Session};
use crate::arrival::ConnectionInfo;
use crate::worker::Worker;

/// Receive window of a stream, bytes: the most that one slow upstream can make the gateway buffer.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Receive window of a connection, bytes.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// How long the client may take, after a GOAWAY, to acknowledge it and to read the last data, milliseconds.
const LEAVE_MS: u64 = 2_000;

/// Serves a connection until it closes; `input` was already read from it.
pub(crate) async fn serve(worker: Rc<Worker>, io: Io, input: Buffer, client: Client, info: ConnectionInfo) {
    let limits = worker.plan().node().limits.clone();
    let settings = Settings {
        stream_window: STREAM_WINDOW,
        connection_window: CONNECTION_WINDOW,
        streams_max: limits.streams_max,
        header_list_max: limits.head_bytes_max,
    };
    let server = Server::new(io, input, settings);
    let idle = Timer::new(&worker.wheel);
    let introduced = poll_fn(|cx| server.poll_introduced(cx, worker.wheel.seen_ms()));
    match idle.limit(limits.handshake_timeout_ms, introduced).await {
        Some(Ok(())) => {
            let memory = Arc::new(worker.node.services.memory.child(memory_max(&limits)));
            accept(&worker, &server, &Asking { client: &client, info, memory }, &idle).await;
        }
        Some(Err(error)) => tracing::debug!(client = %client.peer, %error, "HTTP/2 preface"),
        None => return,
    }
    let mut left = LINGER_MAX;
    let ending = async {
        poll_fn(|cx| server.poll_close(cx)).await;
        poll_fn(|cx| server.poll_discard(cx, &mut left)).await;
    };
    idle.limit(LEAVE_MS, ending).await;
}

/// State shared by the streams of a connection.
struct Asking<'x> {
    client: &'x Client,
    info: ConnectionInfo,
    /// Memory budget for buffered bodies of the connection.
    memory: Arc<Budget>,
}

/// Memory for buffered bodies of one connection, bytes: an eighth of the node's budget, but enough for one body.
fn memory_max(limits: &Limits) -> usize {
    let max = (limits.buffered_bytes_total_max / 8).max(limits.buffered_body_bytes_max);
    usize::try_from(max).unwrap_or(usize::MAX)
}

/// Accepts streams until the client closes the connection, is idle for too long, or the node stops.
async fn accept(worker: &Rc<Worker>, server: &Server, asking: &Asking<'_>, idle: &Timer) {
    let Asking { client, info, memory } = asking;
    let mut sequence = 0;
    let mut leaving = false;
    loop {
        let mut armed = false;
        let next = poll_fn(|cx| {
            if let Poll::Ready(next) = server.poll_accept(cx, worker.wheel.seen_ms()) {
                return Poll::Ready(Some(next));
            }
            if !std::mem::replace(&mut armed, true) {
                idle.arm(patience_ms(worker, sequence, leaving));
            }
            let ends = !leaving && is_ending(worker, info, client);
            if ends || idle.poll_expired(cx) { Poll::Ready(None) } else { Poll::Pending }
        })
        .await;
        match next {
            Some(Some(Ok(mut request))) if !info.are_admitted(&worker.plan(), client) => {
                // The client may repeat the request on a new connection (RFC 9113 section 8.7).
                request.stream.reset(Code::REFUSED_STREAM);
                leaving = true;
                server.start_graceful_shutdown();
            }
            Some(Some(Ok(request))) => {
                sequence += 1;
                let client = Client { sequence, ..(*client).clone() };
                let (stream_worker, info, held) =
                    (Rc::clone(worker), info.clone(), Reservation::of(Arc::clone(memory)));
                drop(task::spawn_local("http/2 stream", async move {
                    stream(&stream_worker, request, &client, &info, held).await;
                }));
                let requests_max = worker.plan().node().limits.requests_per_connection_max;
                if requests_max != 0 && sequence >= requests_max && !leaving {
                    leaving = true;
                    server.start_graceful_shutdown();
                }
            }
            Some(Some(Err(error))) => {
                tracing::debug!(client = %client.peer, %error, "HTTP/2 connection ended");
                return;
            }
            Some(None) => return,
            // The connection does not wait for a client that ignores the GOAWAY.
            None if leaving && (server.streams() == 0 || worker.is_cutting()) => return,
            None if leaving || (server.streams() > 0 && !is_ending(worker, info, client)) => {}
            None => {
                leaving = true;
                server.start_graceful_shutdown();
            }
        }
    }
}

/// Whether the connection should be shut down: the node stops, or the listener was removed or would no longer accept
/// the client.
fn is_ending(worker: &Worker, info: &ConnectionInfo, client: &Client) -> bool {
    worker.is_draining() || (info.may_be_closed() && !info.are_admitted(&worker.plan(), client))
}

/// How long to wait for a new stream, milliseconds.
fn patience_ms(worker: &Worker, sequence: u64, leaving: bool) -> u64 {
    let plan = worker.plan();
    let limits = &plan.node().limits;
    match (leaving, sequence) {
        (true, _) => LEAVE_MS,
        (false, 0) => limits.head_timeout_ms,
        (false, _) => limits.keepalive_timeout_ms,
    }
}

async fn stream(worker: &Rc<Worker>, mut request: Request, client: &Client, info: &ConnectionInfo, held: Reservation) {
    let mut s = worker.take_scratch();
    s.start(client);
    s.exchange.held = held;
    s.exchange.timing.started = s.now(worker);
    s.exchange.timing.started_unix = worker.unix(s.exchange.timing.started);
    let plan = worker.plan();
    std::mem::swap(&mut s.request, &mut request.head);
    s.exchange.bytes.received = head_bytes(&s.request);
    let failure = refusal(&plan.node().limits, &request, &s.request);
    let Request { stream, head, ended, .. } = request;
    stream.give_head(head);
    let mut down = Peer::H2(Box::new(stream));
    let length = s.request.headers.known(Name::ContentLength).and_then(|v| std::str::from_utf8(v).ok()?.parse().ok());
    let framing = match length {
        _ if ended => Framing::None,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    };
    let mut session = Session::new(framing, false, true);
    let group = plan.group(info.group());
    let context = RequestContext { worker, plan: &plan, group, down: &mut down, s: &mut s, session: &mut session };
    match failure {
        None => drop(run(context, info).await),
        Some(failure) => refuse(context, failure).await,
    }
    // A request that was not read to its end is dropped here, after the response: the stream is then reset with
    // NO_ERROR (RFC 9113 section 8.1).
    drop(down);
    worker.give_scratch(s);
}

/// The size of a head for logs: the size of its decoded fields, as compression depends on the state of the connection.
fn head_bytes(head: &RequestHead) -> u64 {
    let line = head.method.as_str().len() + head.target().len();
    (line + head.headers.line_bytes()) as u64
}

/// Why a request is not served, if so.
fn refusal(limits: &Limits, request: &Request, head: &RequestHead) -> Option<Failure> {
    if request.oversized {
        Some(Failure::new(FailureKind::HeadTooLarge, "request head"))
    } else if request.unreadable {
        Some(Failure::new(FailureKind::BadRequest, "request head"))
    } else if head.headers.len() > limits.header_count_max as usize {
        Some(Failure::new(FailureKind::HeadTooLarge, "too many header fields"))
    } else if head.target().len() > limits.line_bytes_max as usize {
        Some(Failure::new(FailureKind::UriTooLong, "path"))
    } else {
        None
    }
}
