//! Writes responses to clients: upstream responses and local replies.

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use cardinal_http::h1::{Framing, content_length};
use cardinal_http::{Failure, FailureKind, HeaderList, Method, Name, Version, accept};
use cardinal_ir::{DebugHeaders, ErrorPages, NodeSettings};
use cardinal_net::{NetError, Peer};
use cardinal_sdk::{BodyMode, Reply, ReplyBody, Source};

use super::collect::patience_ms;
use super::filters::{run_body, run_response};
use super::forward::{CLIENT_STALL, TransferError, client_gone, unless_gone};
use super::session::{RequestContext, Session};
use super::upstream_head::id_digits;
use crate::exchange::{Scratch, Throttle, choose_all};
use crate::plan::{Chain, Phase, Plan};
use crate::worker::Worker;

/// The message of failures without a message of their own.
pub(crate) const MESSAGE_UNEXPECTED: &str = "An unexpected error occurred";

/// Media types of error bodies, in order of preference.
const ERROR_TYPES: [&str; 4] = ["application/json", "text/html", "text/plain", "application/xml"];

/// The message that a client receives for a failure.
pub(crate) fn message(pages: &ErrorPages, kind: FailureKind) -> String {
    if let Some(text) = pages.messages.get(kind.label()) {
        return text.clone().into();
    }
    let text = match kind {
        FailureKind::NoRoute => "no route matches",
        FailureKind::NoBackend | FailureKind::NoHealthyEndpoint => "no upstream available",
        FailureKind::NameResolution => "name resolution failed",
        FailureKind::UpstreamConnect
        | FailureKind::UpstreamTls
        | FailureKind::UpstreamReset
        | FailureKind::UpstreamProtocol => "An invalid response was received from the upstream server",
        FailureKind::UpstreamConnectTimeout | FailureKind::UpstreamTimeout | FailureKind::UpstreamWriteTimeout => {
            "The upstream server is timing out"
        }
        FailureKind::Resolver | FailureKind::Filter | FailureKind::UnsendableHead => MESSAGE_UNEXPECTED,
        _ => cardinal_http::default_reason(kind.status()),
    };
    text.to_owned()
}

/// The reply to a failure. For the failure of a filter, the body is a bare message. Replies to gRPC calls have the
/// message in `grpc-message`; for failures before the request is proxied it is the name of the status.
pub(super) fn error_reply(plan: &Plan, s: &Scratch, kind: FailureKind) -> Reply {
    let text = message(&plan.node().errors, kind);
    let before_proxying = matches!(
        kind,
        FailureKind::NoRoute
            | FailureKind::NoBackend
            | FailureKind::NoHealthyEndpoint
            | FailureKind::NameResolution
            | FailureKind::Resolver
    );
    if kind == FailureKind::Filter || (is_grpc(s) && !before_proxying) {
        return Reply::message(kind.status(), text);
    }
    Reply::error(kind.status(), text)
}

/// Sends `100 Continue` if the client expects it, before its body is read.
pub(super) async fn send_continue(
    plan: &Plan,
    down: &mut Peer,
    session: &mut Session,
    s: &Scratch,
) -> Result<(), Failure> {
    if !std::mem::take(&mut session.expects_continue) {
        return Ok(());
    }
    let Peer::H1(h1) = down else { return Ok(()) };
    // If the body has already begun to arrive, `100 Continue` is unnecessary.
    if !h1.unread().is_empty() {
        return Ok(());
    }
    h1.start_writing(Framing::None, |out| out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"));
    flush(plan, down, s).await
}

/// Forwards an informational response.
pub(super) async fn send_informational(plan: &Plan, down: &mut Peer, s: &mut Scratch) -> Result<(), Failure> {
    super::upstream_head::strip_response(&mut s.response);
    s.response.headers.remove_known(Name::ContentLength);
    match down {
        Peer::H1(h1) => {
            let response = &s.response;
            h1.start_writing(Framing::None, |out| write_head(out, response, |out| out.extend_from_slice(b"\r\n")));
        }
        Peer::H2(h2) => h2.send_response(&s.response, false).map_err(|error| TransferError::Client(error).failure())?,
    }
    flush(plan, down, s).await
}

async fn flush(plan: &Plan, down: &mut Peer, s: &Scratch) -> Result<(), Failure> {
    let limit_ms = plan.node().limits.send_timeout_ms;
    let flushed = s.down_timer.limit(limit_ms, poll_fn(|cx| down.poll_flush(cx))).await;
    flushed.ok_or_else(|| CLIENT_STALL.failure(limit_ms))?.map_err(|error| TransferError::Client(error).failure())
}

/// Sends a local reply through the response phases. Reads the rest of the request body if the connection stays usable
/// that way.
pub(super) async fn send_reply(context: &mut RequestContext<'_>, chain: &Chain, reply: Reply) -> Result<(), Failure> {
    let (plan, s) = (context.plan, &mut *context.s);
    if !(200..=999).contains(&reply.status) {
        return Err(Failure::new(FailureKind::UnsendableHead, "a filter's reply has a status that ends no request"));
    }
    if s.choices.len() != chain.len() {
        choose_all(chain, s);
    }
    s.free_request_body();
    let omitted = matches!(reply.body, ReplyBody::Omitted) && is_to_head(s);
    let body = make_response(plan, s, reply);
    s.exchange.source = Source::Local;
    let limit = ("client_send_timeout", plan.node().limits.send_timeout_ms);
    match response_phase(context, chain, limit).await? {
        Some(other) => send_local(context, chain, other).await,
        None if omitted => send(context, Framing::None, Bytes::new()).await,
        None => send_local(context, chain, body).await,
    }
}

/// Runs the response head phase. Returns the body of the response if a filter replaced the response. Waits are limited
/// by `limit`, by the presence of the client, and by the limits on the request.
pub(super) async fn response_phase(
    context: &mut RequestContext<'_>,
    chain: &Chain,
    limit: (&'static str, u64),
) -> Result<Option<Bytes>, Failure> {
    if chain.list(Phase::Response).is_empty() {
        return Ok(None);
    }
    let RequestContext { plan, down, s, .. } = context;
    let mut call = std::mem::take(&mut s.call);
    let outcome = unless_gone(down, call.watch(), pin!(run_response(plan, chain, s, limit, make_response))).await;
    s.call = call;
    outcome
}

/// Sends a local response whose head has passed the response phase.
pub(super) async fn send_local(context: &mut RequestContext<'_>, chain: &Chain, body: Bytes) -> Result<(), Failure> {
    let (plan, s) = (context.plan, &mut *context.s);
    let body = if s.exchange.body_mode == BodyMode::Pass { body } else { run_body(plan, chain, s, body, true) };
    // A shared body, such as a cached one, is kept in memory by its other owners anyway.
    if body.len() > UNCOUNTED_MAX && body.is_unique() {
        s.recount(&plan.services.memory, 0, body.len())?;
    }
    send_whole(context, body).await
}

/// A local reply of at most this size is sent even if the memory budget for bodies is exhausted: error messages are
/// small.
const UNCOUNTED_MAX: usize = 16 * 1024;

/// Minimum average rate at which a client has to read a larger buffered body, bytes per second, once
/// `client_send_timeout` has passed.
const SEND_RATE_MIN: u64 = 1024;

/// Sends a response whose body is buffered.
pub(super) async fn send_whole(context: &mut RequestContext<'_>, body: Bytes) -> Result<(), Failure> {
    send(context, Framing::Length(body.len() as u64), body).await
}

/// Like [`send_whole`], with an explicit framing: the response may have no body but announce the framing of another
/// one.
pub(super) async fn send(context: &mut RequestContext<'_>, framing: Framing, body: Bytes) -> Result<(), Failure> {
    let (down, session) = (&mut *context.down, &mut *context.session);
    let unread = session.framing != Framing::None && !down.body_done();
    if unread && !worth_reading(down, session) {
        session.keep_alive = false;
    }
    let broken = |error: NetError| TransferError::Client(error).failure();
    start_response(context, framing).map_err(broken)?;
    let RequestContext { worker, plan, down, s, session, .. } = context;
    let bodyless = is_bodyless(s);
    let limit_ms = plan.node().limits.send_timeout_ms;
    let timer = Rc::clone(&s.down_timer);
    let mut rest = if bodyless { Bytes::new() } else { body };
    s.exchange.bytes.body_sent += rest.len() as u64;
    s.exchange.bytes.sent += rest.len() as u64;
    let stalled = || CLIENT_STALL.failure(limit_ms);
    // The timeout applies between two writes, as for streamed bodies, so a slow client is tolerated. The minimum rate
    // keeps a client that reads a byte now and then from holding memory forever.
    if let Some(rate) = s.exchange.response_rate_max {
        let throttle = Throttle::new(rate, &worker.wheel);
        Box::pin(send_slowly(down, &mut rest, throttle, (&timer, limit_ms))).await?;
    }
    let started = (rest.len() > UNCOUNTED_MAX).then(|| (timer.wheel().now(), rest.len()));
    while !rest.is_empty() {
        let wait_ms = started.map_or(Some(limit_ms), |(started, len)| {
            let elapsed_ms = timer.wheel().now().millis_since(started);
            patience_ms(limit_ms, SEND_RATE_MIN, (len - rest.len()) as u64, elapsed_ms)
        });
        let sent = timer.limit(wait_ms.ok_or_else(stalled)?, poll_fn(|cx| down.poll_send(cx, &rest)));
        let count = sent.await.ok_or_else(stalled)?.map_err(broken)?;
        bytes::Buf::advance(&mut rest, count);
    }
    down.finish(None).map_err(broken)?;
    timer.limit(limit_ms, poll_fn(|cx| down.poll_flush(cx))).await.ok_or_else(stalled)?.map_err(broken)?;
    if unread {
        discard(down, session, &timer).await;
    }
    Ok(())
}

/// Sends a body at a limited rate, as long as the client stays connected.
async fn send_slowly(
    down: &mut Peer,
    rest: &mut Bytes,
    mut throttle: Throttle,
    (timer, limit_ms): (&cardinal_net::Timer, u64),
) -> Result<(), Failure> {
    let broken = |error: NetError| TransferError::Client(error).failure();
    while !rest.is_empty() {
        poll_fn(|cx| {
            if throttle.poll_ready(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            // Data written so far is flushed at once instead of with the next chunk.
            match down.poll_flush(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(broken(error))),
                _ if down.poll_gone(cx).is_ready() => Poll::Ready(Err(client_gone("while sending the response"))),
                _ => Poll::Pending,
            }
        })
        .await?;
        let part = rest.get(..throttle.allowance()).unwrap_or(rest);
        let sent = timer.limit(limit_ms, poll_fn(|cx| down.poll_send(cx, part))).await;
        let count = sent.ok_or_else(|| CLIENT_STALL.failure(limit_ms))?.map_err(broken)?;
        throttle.took(count);
        bytes::Buf::advance(rest, count);
    }
    Ok(())
}

/// Maximum number of unread request body bytes that are drained to keep the connection alive.
const DISCARD_MAX: u64 = 64 * 1024;
/// Time limit of this draining and of a lingering close, milliseconds.
const DISCARD_MS: u64 = 2_000;

fn worth_reading(down: &Peer, session: &Session) -> bool {
    match down {
        Peer::H1(h1) => !session.expects_continue && h1.body_remaining().is_some_and(|left| left <= DISCARD_MAX),
        Peer::H2(_) => false,
    }
}

/// Reads and drops the rest of a request body: all of it if the connection is kept alive; otherwise enough to keep a
/// reset from discarding the response (nginx's lingering close).
async fn discard(down: &mut Peer, session: &mut Session, timer: &cardinal_net::Timer) {
    if session.expects_continue && !session.keep_alive {
        return;
    }
    if matches!(down, Peer::H2(_)) {
        // RFC 9113 section 8.1: the response may be complete before the request. The end of the stream handles the
        // rest.
        return;
    }
    let mut budget = DISCARD_MAX * 16;
    let outcome = timer.limit(
        DISCARD_MS,
        poll_fn(|cx| {
            loop {
                match std::task::ready!(down.poll_body(cx)) {
                    Ok(true) => {
                        let count = down.data().len();
                        down.consume(count);
                        budget = budget.saturating_sub(count as u64);
                        if budget == 0 {
                            return std::task::Poll::Ready(false);
                        }
                    }
                    Ok(false) => return std::task::Poll::Ready(true),
                    Err(_) => return std::task::Poll::Ready(false),
                }
            }
        }),
    );
    if outcome.await != Some(true) {
        session.keep_alive = false;
    }
}

/// Builds `s.response` from a reply; returns the body.
fn make_response(plan: &Plan, s: &mut Scratch, reply: Reply) -> Bytes {
    let Reply { status, headers, body } = reply;
    s.response.clear();
    s.response.status = status;
    s.response.headers = headers;
    if is_grpc(s) {
        match &body {
            // A body with a media type of its own is passed on unchanged.
            ReplyBody::Omitted => {}
            ReplyBody::Bytes(_) if s.response.headers.known(Name::ContentType).is_some() => {}
            ReplyBody::Bytes(text) => return grpc_reply(s, status, Some(text)),
            ReplyBody::Message(text) => return grpc_reply(s, status, Some(text.as_bytes())),
            ReplyBody::Empty | ReplyBody::Error(_) => return grpc_reply(s, status, None),
        }
    }
    match body {
        ReplyBody::Empty | ReplyBody::Omitted => Bytes::new(),
        ReplyBody::Bytes(bytes) => bytes,
        ReplyBody::Message(text) => {
            s.response.headers.set(b"Content-Type", b"application/json; charset=utf-8");
            Bytes::from(serde_json::json!({ "message": text }).to_string())
        }
        ReplyBody::Error(text) => {
            let by_filter = s.exchange.failure.is_none();
            let kind = error_type(&plan.node().errors, s, by_filter);
            let content_type = format!("{kind}; charset=utf-8");
            s.response.headers.set(b"Content-Type", content_type.as_bytes());
            Bytes::from(error_body(&plan.node().errors, kind, &text, s))
        }
    }
}

/// Whether the request is a gRPC call; never with HTTP/1.1.
fn is_grpc(s: &Scratch) -> bool {
    if s.request.version != Version::H2 {
        return false;
    }
    let content_type = s.request.headers.known(Name::ContentType).unwrap_or_default();
    content_type.get(..16).is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc"))
}

/// Builds a gRPC reply: the status is in `grpc-status`, the text in `grpc-message`, and there is no body. Without a
/// text, the message is the name of the status.
fn grpc_reply(s: &mut Scratch, status: u16, text: Option<&[u8]>) -> Bytes {
    let (code, name) = grpc_status(status);
    let text = text.unwrap_or(name.as_bytes());
    let headers = &mut s.response.headers;
    if !headers.contains(b"grpc-status") {
        headers.set(b"Content-Type", b"application/grpc");
        headers.set(b"grpc-status", code.as_bytes());
        headers.set(b"grpc-message", &grpc_message(text));
    }
    Bytes::new()
}

/// Encodes a text for `grpc-message`: `%` and everything except printable ASCII is percent-encoded (the protocol's
/// `Percent-Encoded`).
fn grpc_message(text: &[u8]) -> Cow<'_, [u8]> {
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'%';
    // Field values cannot begin or end with spaces.
    if text.iter().all(plain) && text == cardinal_http::trim(text) {
        return Cow::Borrowed(text);
    }
    let mut encoded = Vec::with_capacity(text.len() + 16);
    for (at, byte) in text.iter().enumerate() {
        let at_end = at == 0 || at + 1 == text.len();
        if plain(byte) && !(at_end && *byte == b' ') {
            encoded.push(*byte);
        } else {
            encoded.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    Cow::Owned(encoded)
}

fn grpc_status(status: u16) -> (&'static str, &'static str) {
    match status {
        200 => ("0", "OK"),
        401 => ("16", "Unauthenticated"),
        403 => ("7", "PermissionDenied"),
        404 => ("5", "NotFound"),
        409 => ("6", "AlreadyExists"),
        429 => ("8", "ResourceExhausted"),
        499 => ("1", "Canceled"),
        501 => ("12", "Unimplemented"),
        503 => ("14", "Unavailable"),
        504 => ("4", "DeadlineExceeded"),
        400..=498 => ("3", "InvalidArgument"),
        _ => ("13", "Internal"),
    }
}

/// The media type of an error body: by `Accept`; for errors of the proxy itself then by the request's own media type,
/// then by the node's default.
fn error_type(pages: &ErrorPages, s: &Scratch, by_filter: bool) -> &'static str {
    let headers = &s.request.headers;
    let accepted = headers.known_all(Name::Accept);
    if headers.known(Name::Accept).is_some() {
        return accept::negotiate(accepted, &ERROR_TYPES).unwrap_or("application/json");
    }
    if by_filter || s.exchange.failure == Some(FailureKind::NoRoute) {
        return "application/json";
    }
    if headers.known(Name::ContentType).is_some() {
        let own = accept::negotiate(headers.known_all(Name::ContentType), &ERROR_TYPES);
        return own.unwrap_or("application/json");
    }
    let default = pages.default_type.as_deref().unwrap_or("text/plain");
    ERROR_TYPES.into_iter().find(|kind| *kind == default).unwrap_or("text/plain")
}

fn error_body(pages: &ErrorPages, kind: &str, text: &str, s: &Scratch) -> String {
    let (template, default): (&Option<Box<str>>, &str) = match kind {
        "text/html" => (&pages.html, DEFAULT_HTML),
        "text/plain" => (&pages.plain, DEFAULT_PLAIN),
        "application/xml" => (&pages.xml, DEFAULT_XML),
        _ => (&pages.json, DEFAULT_JSON),
    };
    let id = s.exchange.id.to_string();
    let message = match kind {
        "application/json" => {
            let quoted = serde_json::Value::from(text).to_string();
            // Only the enclosing quotes are removed: the text itself may end with a quote.
            quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default().to_owned()
        }
        "text/plain" => text.to_owned(),
        _ => text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
    };
    template.as_deref().unwrap_or(default).replace("{{message}}", &message).replace("{{request_id}}", &id)
}

const DEFAULT_JSON: &str = "{\"message\":\"{{message}}\",\"request_id\":\"{{request_id}}\"}";

const DEFAULT_HTML: &str = "<!doctype html>\n<title>Error</title>\n<p>{{message}}</p>\n<p>Request {{request_id}}</p>\n";

const DEFAULT_XML: &str = "<error><message>{{message}}</message><request_id>{{request_id}}</request_id></error>\n";

const DEFAULT_PLAIN: &str = "{{message}}\nrequest {{request_id}}\n";

/// Whether the client sent a HEAD request. A filter may have changed the method for the upstream.
pub(super) fn is_to_head(s: &Scratch) -> bool {
    s.exchange.original.method == Method::Head
}

/// Whether the response has no body, regardless of its fields.
pub(super) fn is_bodyless(s: &Scratch) -> bool {
    is_to_head(s) || matches!(s.response.status, 204 | 304)
}

/// Sets the framing fields to match what is sent, regardless of the fields that the upstream and filters have set: with
/// a wrong length, the client would take a part of this response for the next one.
fn settle_framing(s: &mut Scratch, framing: Framing) {
    let bodyless = is_bodyless(s);
    let (status, headers) = (s.response.status, &mut s.response.headers);
    for name in [Name::TransferEncoding, Name::KeepAlive, Name::ProxyConnection] {
        headers.remove_known(name);
    }
    // A response with status 426 has to name the required protocol (RFC 9110 section 15.5.22).
    if status != 426 {
        headers.remove_known(Name::Connection);
        headers.remove_known(Name::Upgrade);
    }
    match framing {
        // RFC 9110 section 8.6: not allowed with these statuses.
        _ if status == 204 => {
            headers.remove_known(Name::ContentLength);
        }
        // The same length as in the response to a GET.
        Framing::Length(length) if status != 304 => {
            let mut digits = itoa::Buffer::new();
            headers.set_known(Name::ContentLength, b"Content-Length", digits.format(length).as_bytes());
        }
        Framing::UntilClose | Framing::Chunked | Framing::None if !bodyless => {
            headers.remove_known(Name::ContentLength);
        }
        // The length that the response to a GET would have.
        _ => keep_one_length(headers),
    }
}

/// Leaves one valid `Content-Length`, if there is one.
fn keep_one_length(headers: &mut HeaderList) {
    if headers.known(Name::ContentLength).is_none() {
        return;
    }
    let mut digits = itoa::Buffer::new();
    match content_length(headers) {
        Ok(Some(length)) => {
            headers.set_known(Name::ContentLength, b"Content-Length", digits.format(length).as_bytes());
        }
        Ok(None) | Err(_) => drop(headers.remove_known(Name::ContentLength)),
    }
}

/// Sends the head in `s.response`, with the gateway's own fields. A body of `framing` follows. [`Framing::UntilClose`]
/// stands for an unknown length; the actual framing depends on the client's version.
pub(super) fn start_response(context: &mut RequestContext<'_>, framing: Framing) -> Result<(), NetError> {
    let RequestContext { worker, plan, down, s, session, .. } = context;
    settle_framing(s, framing);
    add_own_fields(worker, plan.node(), s);
    session.answered = true;
    let framing = if is_bodyless(s) { Framing::None } else { framing };
    match down {
        Peer::H2(h2) => {
            let end = matches!(framing, Framing::None | Framing::Length(0));
            s.exchange.bytes.sent += s.response.headers.line_bytes() as u64;
            h2.send_response(&s.response, end)
        }
        Peer::H1(h1) => {
            let framing = match (framing, s.request.version) {
                (Framing::UntilClose | Framing::Chunked, Version::H10) => {
                    session.keep_alive = false;
                    Framing::UntilClose
                }
                (Framing::UntilClose, _) => Framing::Chunked,
                (other, _) => other,
            };
            if worker.is_draining() {
                session.keep_alive = false;
            }
            let (response, keep_alive) = (&s.response, session.keep_alive);
            let before = s.exchange.bytes.sent;
            let mut sent = 0;
            h1.start_writing(framing, |out| {
                let start = out.len();
                write_head(out, response, |out| {
                    if framing == Framing::Chunked {
                        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
                    }
                    out.extend_from_slice(if keep_alive {
                        b"Connection: keep-alive\r\n\r\n".as_slice()
                    } else {
                        b"Connection: close\r\n\r\n"
                    });
                });
                sent = out.len() - start;
            });
            s.exchange.bytes.sent = before + sent as u64;
            Ok(())
        }
    }
}

/// Sends the head of `101 Switching Protocols`.
pub(super) fn start_switch(context: &mut RequestContext<'_>) {
    let RequestContext { worker, plan, down, s, session, .. } = context;
    for name in [Name::KeepAlive, Name::ProxyConnection, Name::TransferEncoding, Name::ContentLength] {
        s.response.headers.remove_known(name);
    }
    // Required with `Upgrade` (RFC 9110 section 7.8), but some servers omit it.
    s.response.headers.set_known(Name::Connection, b"Connection", b"upgrade");
    add_own_fields(worker, plan.node(), s);
    session.answered = true;
    if let Peer::H1(h1) = down {
        let response = &s.response;
        h1.start_writing(Framing::None, |out| write_head(out, response, |out| out.extend_from_slice(b"\r\n")));
    }
}

/// Writes the status line and the fields; `rest` writes the end of the head.
fn write_head(out: &mut Vec<u8>, response: &cardinal_http::ResponseHead, rest: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"HTTP/1.1 ");
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(response.status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(response.reason());
    out.extend_from_slice(b"\r\n");
    response.headers.write_h1(out);
    rest(out);
}

/// Adds the fields about the proxy itself.
fn add_own_fields(worker: &Worker, node: &NodeSettings, s: &mut Scratch) {
    let now = s.now(worker);
    let Scratch { response, exchange, request, .. } = s;
    let (policy, headers) = (&node.headers, &mut response.headers);
    let timing = &exchange.timing;
    let local = exchange.source == Source::Local;
    if local {
        if let Some(server) = &policy.server {
            headers.set(b"Server", server.as_bytes());
        }
        if !headers.contains(b"Date") {
            let date = httpdate::fmt_http_date(worker.node.services.clock.unix().system_time());
            headers.append(b"Date", date.as_bytes());
        }
    } else if let Some(token) = &policy.via {
        headers.append_own(Name::Via, b"Via", &[response.version.number().as_bytes(), b" ", token.as_bytes()]);
    }
    let mut digits = itoa::Buffer::new();
    let mut latency = |name: &Option<Box<str>>, ms: u64| {
        if let Some(name) = name {
            headers.set_own(name.as_bytes(), digits.format(ms).as_bytes());
        }
    };
    let total = now.millis_since(timing.started);
    if local {
        latency(&policy.response_latency, total);
    } else {
        let upstream = timing.upstream_sent.zip(timing.upstream_head).map_or(0, |(from, to)| to.millis_since(from));
        latency(&policy.upstream_latency, upstream);
        latency(&policy.proxy_latency, total.saturating_sub(upstream));
        if let Some(status) = exchange.tries.last().and_then(|attempt| attempt.status) {
            latency(&policy.upstream_status, u64::from(status));
        }
    }
    if let Some(name) = &policy.request_id {
        headers.set_own(name.as_bytes(), &id_digits(exchange.id));
    }
    for cookie in &exchange.response_cookies {
        headers.append(b"Set-Cookie", cookie.as_bytes());
    }
    if let Some(debug) = &policy.debug
        && request.headers.get(debug.request.as_bytes()) == Some(b"1")
    {
        add_debug_fields(debug, exchange, headers);
    }
}

/// Adds the debug fields that name the route and backend that served the request.
fn add_debug_fields(names: &DebugHeaders, exchange: &cardinal_sdk::Exchange, headers: &mut cardinal_http::HeaderList) {
    let mut add = |name: &str, value: &str| headers.set(name.as_bytes(), value.as_bytes());
    if let Some(route) = &exchange.route {
        add(&names.route_id, &route.id().to_string());
        add(&names.route_name, route.name().unwrap_or_default());
    }
    if let Some(backend) = &exchange.backend {
        add(&names.backend_id, &backend.id().to_string());
        add(&names.backend_name, backend.name().unwrap_or_default());
    }
}
