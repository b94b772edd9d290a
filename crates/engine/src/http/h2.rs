//! A client's HTTP/2 connection: requests beside each other, each a task of its own.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use cardinal_base::task;
use cardinal_http::h1::Framing;
use cardinal_http::{Failure, FailureKind, Name};
use cardinal_net::h2::{H2, read_request};
use cardinal_net::{Gather, Peer, Timer};
use cardinal_sdk::Client;
use h2::RecvStream;
use h2::server::{Connection, SendResponse};

use super::exchange::{Session, Turn, refuse, run};
use super::facts::Facts;
use crate::worker::Worker;

/// Window of a stream, bytes: what one slow upstream can make us hold.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Window of a connection, bytes.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Response bytes held for a slow client, for each stream.
const SEND_BUFFER: usize = 256 * 1024;

/// How long a client has to acknowledge that the connection ends, milliseconds.
const LEAVE_MS: u64 = 2_000;

/// Serves a connection to its end.
pub(crate) async fn serve(worker: Rc<Worker>, gather: Gather, client: Client, facts: Facts) {
    let limits = worker.plan().node().limits.clone();
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(limits.head_bytes_max)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(64)
        .max_local_error_reset_streams(Some(256));
    let idle = Timer::new(&worker.wheel);
    let mut handshake = pin!(builder.handshake(gather.clone()));
    let shaken = poll_fn(|cx| gather.poll(cx, |cx| handshake.as_mut().poll(cx)));
    let connection = match idle.limit(limits.handshake_timeout_ms, shaken).await {
        Some(Ok(connection)) => connection,
        Some(Err(error)) => {
            tracing::debug!(client = %client.peer, %error, "HTTP/2 preface");
            return;
        }
        None => return,
    };
    accept(&worker, &gather, connection, client, facts, &idle).await;
}

/// Accepts streams until the client is done, idle too long, or the node stops.
async fn accept(
    worker: &Rc<Worker>,
    gather: &Gather,
    mut connection: Connection<Gather, Bytes>,
    client: Client,
    facts: Facts,
    idle: &Timer,
) {
    let open = Rc::new(Cell::new(0_usize));
    let mut sequence = 0;
    let mut leaving = false;
    loop {
        let mut armed = false;
        let next = poll_fn(|cx| {
            if let Poll::Ready(next) = gather.poll(cx, |cx| connection.poll_accept(cx)) {
                return Poll::Ready(Some(next));
            }
            if !std::mem::replace(&mut armed, true) {
                idle.arm(patience_ms(worker, sequence, leaving));
            }
            if (worker.is_draining() && !leaving) || idle.poll_expired(cx) { Poll::Ready(None) } else { Poll::Pending }
        })
        .await;
        match next {
            Some(Some(Ok((request, respond)))) => {
                sequence += 1;
                let client = Client { sequence, ..client.clone() };
                spawn_stream(worker, request, respond, client, facts, StreamCount::new(&open));
                let requests_max = worker.plan().node().limits.requests_per_connection_max;
                if requests_max != 0 && sequence >= requests_max && !leaving {
                    leaving = true;
                    connection.graceful_shutdown();
                }
            }
            Some(Some(Err(error))) => {
                tracing::debug!(client = %client.peer, %error, "HTTP/2 connection ended");
                return;
            }
            Some(None) => return,
            // A client that does not answer our goodbye is not waited for.
            None if leaving && (open.get() == 0 || worker.is_cutting()) => return,
            None if leaving || (open.get() > 0 && !worker.is_draining()) => {}
            None => {
                leaving = true;
                connection.graceful_shutdown();
            }
        }
    }
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

/// Counts a connection's open streams.
struct StreamCount(Rc<Cell<usize>>);

impl StreamCount {
    fn new(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Self(Rc::clone(open))
    }
}

impl Drop for StreamCount {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

fn spawn_stream(
    worker: &Rc<Worker>,
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
    client: Client,
    facts: Facts,
    count: StreamCount,
) {
    let worker = Rc::clone(worker);
    drop(task::spawn_local("http/2 stream", async move {
        let _count = count;
        stream(&worker, request, respond, &client, facts).await;
    }));
}

async fn stream(
    worker: &Rc<Worker>,
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
    client: &Client,
    facts: Facts,
) {
    let mut s = worker.take_scratch();
    s.start(client);
    s.exchange.timing.started = s.now(worker);
    s.exchange.timing.started_unix = worker.unix(s.exchange.timing.started);
    let plan = worker.plan();
    let (parts, receive) = request.into_parts();
    let ended = receive.is_end_stream();
    let mut down = Peer::H2(Box::new(H2::server(receive, respond)));
    let limits = &plan.node().limits;
    let readable = read_request(&mut s.request, &parts);
    let failure = if !readable {
        Some(Failure::new(FailureKind::BadRequest, "request head"))
    } else if s.request.headers.len() > limits.header_count_max as usize {
        Some(Failure::new(FailureKind::HeadTooLarge, "too many header fields"))
    } else if s.request.target().len() > limits.line_bytes_max as usize {
        Some(Failure::new(FailureKind::UriTooLong, "path"))
    } else {
        None
    };
    let length = s.request.headers.known(Name::ContentLength).and_then(|v| std::str::from_utf8(v).ok()?.parse().ok());
    let framing = match length {
        _ if ended => Framing::None,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    };
    let mut session = Session::new(framing, false, true);
    let turn = Turn { worker, plan: &plan, down: &mut down, s: &mut s, session: &mut session };
    match failure {
        None => run(turn, facts).await,
        Some(failure) => refuse(turn, failure).await,
    }
    // A request that was not read to its end is dropped here: the `h2` crate then resets the stream without error, after
    // the response (RFC 9113 section 8.1). To ask for the reset would throw away what is not written yet.
    drop(down);
    worker.give_scratch(s);
}
