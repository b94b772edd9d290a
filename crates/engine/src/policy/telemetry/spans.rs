//! The spans of a finished request, with the attributes of OpenTelemetry's semantic conventions for HTTP.

use cardinal_base::{Tick, UnixMillis};
use cardinal_http::{FailureKind, Method};
use cardinal_ir::{TagValue, TraceFormat};
use cardinal_sdk::trace::{SpanContext, SpanId};
use cardinal_sdk::{Timing, Try};

use super::span::{Kind, STATE_MAX, Span, shown};
use super::trace::{Attempt, RequestTrace};
use crate::exchange::Scratch;

/// The spans of a request: its own span, and one for each attempt to reach an upstream.
pub(super) fn spans(trace: &RequestTrace, s: &Scratch, answered: bool, random: impl Fn() -> u64) -> Vec<Span> {
    let tries = &s.exchange.tries;
    let mut spans = Vec::with_capacity(1 + tries.len());
    spans.push(server_span(trace, s, answered));
    for (number, attempt) in tries.iter().enumerate() {
        let known = trace.attempts.get(number).copied().unwrap_or_default();
        let id = known.span_id.unwrap_or_else(|| SpanId::random(&random));
        let next = tries.get(number + 1).map(|next| next.tick);
        let ended = known.ended.or(next).unwrap_or(s.exchange.timing.ended);
        let context = SpanContext { span_id: id, ..trace.context };
        let mut span = client_span(&context, (number, attempt), known, ended, s);
        (span.parent, span.trace_state) = (Some(trace.context.span_id), state(trace, s));
        add_tags(trace, s, &mut span);
        spans.push(span);
    }
    spans
}

fn server_span(trace: &RequestTrace, s: &Scratch, answered: bool) -> Span {
    let (exchange, request) = (&s.exchange, &s.request);
    let timing = &exchange.timing;
    let mut span = empty(&trace.context, Kind::Server, s);
    (span.parent, span.parent_is_remote) = (trace.parent, trace.parent.is_some());
    span.trace_state = state(trace, s);
    (span.start_ns, span.end_ns) = (at(timing, timing.started), at(timing, timing.ended));
    let target = &exchange.original.target;
    span.bytes_of("url.path", target.split(|byte| *byte == b'?').next().unwrap_or_default());
    span.text("url.scheme", if exchange.client.https { "https" } else { "http" });
    if !exchange.original.host.is_empty() {
        span.bytes_of("server.address", exchange.original.host.as_bytes());
        span.number("server.port", exchange.original.port);
    }
    span.text("client.address", exchange.client.ip.to_string());
    span.text("network.peer.address", exchange.client.peer.ip().to_canonical().to_string());
    span.number("network.peer.port", exchange.client.peer.port());
    span.text("network.protocol.version", exchange.client.version.number());
    if let Some(agent) = request.headers.get(b"user-agent") {
        span.bytes_of("user_agent.original", agent);
    }
    if let Some(route) = route_label(s) {
        span.text("http.route", route);
    }
    let status = answered.then_some(s.response.status);
    if let Some(status) = status {
        span.number("http.response.status_code", status);
    }
    // A local reply that reports a failure is a complete response; an aborted or missing response is not.
    let failure = exchange.failure.filter(|kind| status != Some(kind.status()) || kind.status() >= 500);
    set_error(&mut span, failure, status.filter(|status| *status >= 500));
    add_tags(trace, s, &mut span);
    span
}

fn client_span(
    context: &SpanContext,
    (number, attempt): (usize, &Try),
    known: Attempt,
    ended: Tick,
    s: &Scratch,
) -> Span {
    let exchange = &s.exchange;
    let mut span = empty(context, Kind::Client, s);
    (span.start_ns, span.end_ns) = (at(&exchange.timing, attempt.tick), at(&exchange.timing, ended));
    let path = exchange.upstream_uri.split(|byte| *byte == b'?').next().unwrap_or_default();
    span.bytes_of("url.path", path);
    if let Some(backend) = &exchange.backend {
        span.bytes_of("server.address", backend.host().as_bytes());
    }
    span.number("server.port", attempt.address.port());
    span.text("network.peer.address", attempt.address.ip().to_string());
    span.number("network.peer.port", attempt.address.port());
    if let Some(count) = i64::try_from(number).ok().filter(|count| *count > 0) {
        span.number("http.request.resend_count", count);
    }
    let failure = known.failure.or(exchange.failure.filter(|_| number + 1 == exchange.tries.len()));
    // An attempt without a response has the status of its failure.
    let status = attempt.status.filter(|_| known.failure.is_none());
    if let Some(status) = status {
        span.number("http.response.status_code", status);
    }
    set_error(&mut span, failure, status.filter(|status| *status >= 400));
    span
}

fn empty(context: &SpanContext, kind: Kind, s: &Scratch) -> Span {
    let method = &s.exchange.original.method;
    let known = match method {
        Method::Other(_) => "_OTHER",
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
    };
    let shown = if known == "_OTHER" { "HTTP" } else { known };
    let name = route_label(s).map_or_else(|| shown.to_owned(), |route| format!("{shown} {route}"));
    let mut span = Span {
        trace_id: context.trace_id,
        id: context.span_id,
        parent: None,
        parent_is_remote: false,
        trace_state: String::new(),
        kind,
        name,
        start_ns: 0,
        end_ns: 0,
        attributes: Vec::with_capacity(16),
        is_error: false,
    };
    span.text("http.request.method", known);
    if let Method::Other(text) = method {
        span.bytes_of("http.request.method_original", text.as_bytes());
    }
    span
}

/// The route's name, or else its id. The number of routes is small enough for an attribute.
fn route_label(s: &Scratch) -> Option<String> {
    let route = s.exchange.route.as_ref()?;
    Some(route.name().map_or_else(|| route.id().to_string(), |name| shown(name.as_bytes())))
}

/// Marks a span as failed, by failure kind or by status.
fn set_error(span: &mut Span, failure: Option<FailureKind>, status: Option<u16>) {
    match (failure, status) {
        (Some(kind), _) => span.text("error.type", kind.label()),
        (None, Some(status)) => span.text("error.type", status.to_string()),
        (None, None) => return,
    }
    span.is_error = true;
}

/// The client's `tracestate`, if it is forwarded to the upstream.
fn state(trace: &RequestTrace, s: &Scratch) -> String {
    let state = s.request.headers.get(b"tracestate").filter(|_| trace.received == Some(TraceFormat::W3c));
    let state = state.filter(|state| state.len() <= STATE_MAX).and_then(|state| std::str::from_utf8(state).ok());
    state.unwrap_or_default().to_owned()
}

fn add_tags(trace: &RequestTrace, s: &Scratch, span: &mut Span) {
    for tag in &trace.plan.record.tags {
        let value = match &tag.value {
            TagValue::Literal(text) => Some(text.to_string()),
            TagValue::Header { name, default } => match s.request.headers.get(name.as_bytes()) {
                Some(value) => Some(shown(value)),
                None => default.as_deref().map(str::to_owned),
            },
        };
        if let Some(value) = value {
            span.text(tag.name.to_string(), value);
        }
    }
}

/// The wall clock time of a moment of a request, in nanoseconds. Within a request, the clock is monotonic.
fn at(timing: &Timing, tick: Tick) -> u64 {
    let UnixMillis(started_ms) = timing.started_unix;
    let since_us = tick.0.saturating_sub(timing.started.0);
    started_ms.saturating_mul(1_000_000).saturating_add(since_us.saturating_mul(1_000))
}
