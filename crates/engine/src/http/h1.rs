//! Serves a client's HTTP/1 connection: requests run one after the other.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use cardinal_http::h1::{
    Framing, FramingError, HeadError, HeadLimits, Parsed, keep_alive, parse_request, request_framing, wants_continue,
};
use cardinal_http::{Failure, FailureKind};
use cardinal_ir::Limits;
use cardinal_net::h1::H1;
use cardinal_net::{Io, NetError, Peer, Timer};
use cardinal_sdk::Client;

use super::h2;
use super::request::{refuse, run};
use super::session::{LINGER_MAX, RequestContext, Session};
use crate::arrival::ConnectionInfo;
use crate::exchange::Scratch;
use crate::plan::{GroupPlan, Plan};
use crate::worker::Worker;

/// The connection preface of an HTTP/2 client.
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The result of waiting for a request.
enum Next {
    /// A head is in the scratch; a body with this framing follows. The flag: the client waits for `100 Continue`.
    Request(Framing, bool),
    /// The client closed the connection, or has been idle for too long.
    Over,
    /// The client speaks HTTP/2.
    Http2,
    /// The input is not a request that can be served.
    Bad(Failure),
}

/// Serves a connection until it ends.
pub(crate) async fn serve(worker: Rc<Worker>, h1: Box<H1>, mut client: Client, info: ConnectionInfo) {
    let mut down = Peer::H1(h1);
    let idle = Timer::new(&worker.wheel);
    let mut sequence = 0;
    let mut end = End::Cut;
    loop {
        let limits = worker.plan().node().limits.clone();
        let leaves = || worker.closes_idle() || (info.may_be_closed() && !info.are_admitted(&worker.plan(), &client));
        if !wait_for_bytes(&mut down, &idle, &limits, sequence == 0, leaves).await {
            break;
        }
        let plan = worker.plan();
        if !info.are_admitted(&plan, &client) {
            // The request is not read: the client repeats it on a new connection.
            break;
        }
        sequence += 1;
        client.sequence = sequence;
        let mut scratch = worker.take_scratch();
        scratch.start(&client);
        let next = read_head(&worker, &plan, &mut down, &mut scratch, &idle).await;
        let go_on = match next {
            Next::Over => false,
            // Over TLS, HTTP/2 is negotiated by ALPN (RFC 9113 section 3.2), so the preface is not accepted there.
            Next::Http2 if sequence == 1 && client.tls.is_none() => {
                worker.give_scratch(scratch);
                if let Peer::H1(h1) = down {
                    let (io, buffer) = h1.into_parts();
                    Box::pin(h2::serve(worker, io, buffer, client, info)).await;
                }
                return;
            }
            Next::Http2 => {
                let detail = if sequence > 1 { "HTTP/2 after HTTP/1.1" } else { "HTTP/2 without ALPN" };
                let failure = Failure::new(FailureKind::VersionNotSupported, detail);
                refuse_head(&worker, (&plan, plan.group(info.group())), &mut down, &mut scratch, failure).await;
                false
            }
            Next::Bad(failure) => {
                end = End::Cut;
                refuse_head(&worker, (&plan, plan.group(info.group())), &mut down, &mut scratch, failure).await;
                false
            }
            Next::Request(framing, expects_continue) => {
                let last = sequence >= limits.requests_per_connection_max && limits.requests_per_connection_max != 0;
                let keep = keep_alive(scratch.request.version, &scratch.request.headers) && !last;
                let mut session = Session::new(framing, expects_continue, keep);
                let context = RequestContext {
                    worker: &worker,
                    plan: &plan,
                    group: plan.group(info.group()),
                    down: &mut down,
                    s: &mut scratch,
                    session: &mut session,
                };
                if let Some(switched) = run(context, &info).await {
                    drop(plan);
                    switched.run(&worker, &mut down, &mut scratch, &mut session).await;
                }
                end = match session.aborted {
                    true => End::Aborted,
                    false if down.body_done() => End::Over,
                    false => End::Cut,
                };
                session.keep_alive && end == End::Over
            }
        };
        worker.give_scratch(scratch);
        if !go_on {
            break;
        }
    }
    close(down, end, &idle).await;
}

/// Waits for the first byte of a request. Returns `false` if no request will follow.
async fn wait_for_bytes(
    down: &mut Peer,
    idle: &Timer,
    limits: &Limits,
    first: bool,
    leaves: impl Fn() -> bool,
) -> bool {
    let Peer::H1(h1) = down else { return false };
    if !h1.unread().is_empty() {
        return true;
    }
    idle.arm(if first { limits.head_timeout_ms } else { limits.keepalive_timeout_ms });
    let mut waiting = false;
    let came = poll_fn(|cx| {
        if let Poll::Ready(read) = h1.poll_read_more(cx, limits.head_bytes_max as usize) {
            return Poll::Ready(matches!(read, Ok(1..)));
        }
        if !std::mem::replace(&mut waiting, true) {
            h1.rest();
        }
        // On a connection that has not been used yet, a request may already be in flight.
        let leave = !first && leaves();
        if leave || idle.poll_expired(cx) { Poll::Ready(false) } else { Poll::Pending }
    })
    .await;
    idle.disarm();
    came
}

/// Reads a head after its first bytes have arrived.
async fn read_head(worker: &Worker, plan: &Plan, down: &mut Peer, s: &mut Scratch, timer: &Timer) -> Next {
    let Peer::H1(h1) = down else { return Next::Over };
    let limits = &plan.node().limits;
    let head_limits = HeadLimits {
        head_bytes_max: limits.head_bytes_max as usize,
        line_bytes_max: limits.line_bytes_max as usize,
        header_count_max: limits.header_count_max as usize,
    };
    s.exchange.timing.started = s.now(worker);
    s.exchange.timing.started_unix = worker.unix(s.exchange.timing.started);
    let mut armed = false;
    let outcome = poll_fn(|cx| {
        loop {
            let bytes = h1.unread();
            let preface = bytes.len().min(H2_PREFACE.len());
            if preface > 3 && bytes.get(..preface) == H2_PREFACE.get(..preface) {
                if preface == H2_PREFACE.len() {
                    return Poll::Ready(Ok(None));
                }
            } else {
                s.request.clear();
                match parse_request(bytes, &head_limits, &mut s.request) {
                    Ok(Parsed::Complete(length)) => return Poll::Ready(Ok(Some(length))),
                    Ok(Parsed::Partial) => {}
                    Err(error) => return Poll::Ready(Err(head_failure(error))),
                }
            }
            if !std::mem::replace(&mut armed, true) {
                timer.arm(limits.head_timeout_ms);
            }
            match h1.poll_read_more(cx, head_limits.head_bytes_max) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(Failure::new(FailureKind::ClientClosed, "inside a request head")));
                }
                Poll::Ready(Err(NetError::BufferFull)) => return Poll::Ready(Err(head_failure(HeadError::TooLarge))),
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(Failure::new(FailureKind::ClientClosed, "reading").with_source(error)));
                }
                Poll::Pending if timer.poll_expired(cx) => {
                    let failure = Failure::new(FailureKind::HeadTimeout, "no whole request head");
                    return Poll::Ready(Err(failure.within("client_head_timeout", limits.head_timeout_ms)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
    timer.disarm();
    match outcome {
        Ok(None) => Next::Http2,
        Err(failure) => Next::Bad(failure),
        Ok(Some(length)) => {
            s.exchange.bytes.received = length as u64;
            h1.consume_head(length);
            begin_body(h1, s)
        }
    }
}

/// Determines how the body ends.
fn begin_body(h1: &mut H1, s: &Scratch) -> Next {
    let bad = |error: FramingError| {
        let kind =
            if error == FramingError::Expectation { FailureKind::ExpectationFailed } else { FailureKind::BadRequest };
        Next::Bad(Failure::new(kind, "framing").with_source(error))
    };
    let framing = match request_framing(&s.request) {
        Ok(framing) => framing,
        Err(error) => return bad(error),
    };
    h1.start_reading(framing);
    match wants_continue(&s.request) {
        Ok(wants) => Next::Request(framing, wants && framing != Framing::None),
        Err(error) => bad(error),
    }
}

fn head_failure(error: HeadError) -> Failure {
    let kind = match error {
        HeadError::LineTooLong => FailureKind::UriTooLong,
        HeadError::TooLarge | HeadError::TooMany => FailureKind::HeadTooLarge,
        HeadError::Version => FailureKind::VersionNotSupported,
        _ => FailureKind::BadRequest,
    };
    Failure::new(kind, "request head").with_source(error)
}

/// Responds to a request that cannot be served.
async fn refuse_head(
    worker: &Rc<Worker>,
    (plan, group): (&Plan, &GroupPlan),
    down: &mut Peer,
    s: &mut Scratch,
    failure: Failure,
) {
    let session = &mut Session::new(Framing::None, false, false);
    Box::pin(refuse(RequestContext { worker, plan, group, down, s, session }, failure)).await;
}

/// How the last exchange of a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The request was read and answered completely.
    Over,
    /// The request was not read completely, or there was no request.
    Cut,
    /// The response is incomplete and must not look complete.
    Aborted,
}

/// Maximum duration of a lingering close, milliseconds.
pub(crate) const LINGER_MS: u64 = 2_000;

/// Closes a connection so that the last response arrives: [`Io::shutdown_and_discard`].
async fn close(down: Peer, end: End, timer: &Timer) {
    let Peer::H1(mut h1) = down else { return };
    if end == End::Aborted && !h1.io().tls_has_failed() {
        return;
    }
    let more = !h1.unread().is_empty() || (!h1.is_eof() && !h1.io().is_silent());
    if end == End::Over && !more && matches!(h1.io(), Io::Tcp(_)) {
        // For a plain TCP socket, closing it is enough: a shutdown would add nothing.
        return;
    }
    let linger = h1.io().shutdown_and_discard(if more { LINGER_MAX } else { 0 });
    timer.limit(LINGER_MS, linger).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The memory of an idle connection is mostly this future.
    #[test]
    fn a_connection_is_small() {
        fn size_of_output<A, B, C, D, F>(_: impl Fn(A, B, C, D) -> F) -> usize {
            size_of::<F>()
        }
        let size = size_of_output(serve);
        assert!(size <= 2048, "the future of a connection takes {size} bytes");
    }
}
