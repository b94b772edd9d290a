//! A client's HTTP/2 connection: requests beside each other, each a task of its own.

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

/// Window of a stream, bytes: what one slow upstream can make us hold.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Window of a connection, bytes.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// How long a client has to acknowledge that the connection ends, and to take what is sent last, milliseconds.
const LEAVE_MS: u64 = 2_000;

/// Serves a connection, of which `input` was read already, to its end.
pub(crate) async fn serve(worker: Rc<Worker>, io: Io, input: Buffer, client: Client, facts: ConnectionInfo) {
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
            accept(&worker, &server, &Asking { client: &client, facts, memory }, &idle).await;
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

/// What the streams of a connection have in common.
struct Asking<'x> {
    client: &'x Client,
    facts: ConnectionInfo,
    /// Memory for their bodies that are held.
    memory: Arc<Budget>,
}

/// Memory for held bodies of one connection, bytes: an eighth of the node's, but enough for one body.
fn memory_max(limits: &Limits) -> usize {
    let max = (limits.buffered_bytes_total_max / 8).max(limits.buffered_body_bytes_max);
    usize::try_from(max).unwrap_or(usize::MAX)
}

/// Accepts streams until the client is done, idle too long, or the node stops.
async fn accept(worker: &Rc<Worker>, server: &Server, asking: &Asking<'_>, idle: &Timer) {
    let Asking { client, facts, memory } = asking;
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
            let ends = !leaving && is_ending(worker, facts, client);
            if ends || idle.poll_expired(cx) { Poll::Ready(None) } else { Poll::Pending }
        })
        .await;
        match next {
            Some(Some(Ok(mut request))) if !facts.are_admitted(&worker.plan(), client) => {
                // The client may repeat the request on a new connection (RFC 9113 section 8.7).
                request.stream.reset(Code::REFUSED_STREAM);
                leaving = true;
                server.start_graceful_shutdown();
            }
            Some(Some(Ok(request))) => {
                sequence += 1;
                let client = Client { sequence, ..(*client).clone() };
                let (stream_worker, facts, held) =
                    (Rc::clone(worker), facts.clone(), Reservation::of(Arc::clone(memory)));
                drop(task::spawn_local("http/2 stream", async move {
                    stream(&stream_worker, request, &client, &facts, held).await;
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
            // A client that does not answer our goodbye is not waited for.
            None if leaving && (server.streams() == 0 || worker.is_cutting()) => return,
            None if leaving || (server.streams() > 0 && !is_ending(worker, facts, client)) => {}
            None => {
                leaving = true;
                server.start_graceful_shutdown();
            }
        }
    }
}

/// Whether the connection is to end although the client may have more requests: the node stops, or the listener is gone or
/// would not accept the client now.
fn is_ending(worker: &Worker, facts: &ConnectionInfo, client: &Client) -> bool {
    worker.is_draining() || (facts.may_be_closed() && !facts.are_admitted(&worker.plan(), client))
}

/// How long to wait for a stream, milliseconds.
fn patience_ms(worker: &Worker, sequence: u64, leaving: bool) -> u64 {
    let plan = worker.plan();
    let limits = &plan.node().limits;
    match (leaving, sequence) {
        (true, _) => LEAVE_MS,
        (false, 0) => limits.head_timeout_ms,
        (false, _) => limits.keepalive_timeout_ms,
    }
}

async fn stream(worker: &Rc<Worker>, mut request: Request, client: &Client, facts: &ConnectionInfo, held: Reservation) {
    let mut s = worker.take_scratch();
    s.start(client);
    s.exchange.held = held;
    s.exchange.timing.started = s.now(worker);
    s.exchange.timing.started_unix = worker.unix(s.exchange.timing.started);
    let plan = worker.plan();
    std::mem::swap(&mut s.request, &mut request.head);
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
    let group = plan.group(facts.group());
    let turn = RequestContext { worker, plan: &plan, group, down: &mut down, s: &mut s, session: &mut session };
    match failure {
        None => drop(run(turn, facts).await),
        Some(failure) => refuse(turn, failure).await,
    }
    // A request that was not read to its end is dropped here: its stream is then reset without error, after the response
    // (RFC 9113 section 8.1).
    drop(down);
    worker.give_scratch(s);
}

/// Why a request is not served.
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
