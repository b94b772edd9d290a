//! Log records: Kong's serializer fields (`kong/pdk/log.lua`, `serialize`), from the properties of an exchange.
//!
//! There is one implementation, [`write()`], which writes JSON text without an intermediate tree: the documents of
//! route, service and consumer are embedded unchanged. [`record`] returns the same as a tree, for editing.

mod json;

use std::fmt::Write as _;

use cardinal_http::{FailureKind, HeaderList};
use cardinal_ir::Wire;
use serde_json::{Map, Value};

use crate::exchange::{Exchange, RouteInfo, Source, Try, TryState};
use crate::phase::LogCx;
use json::{Array, Object};

#[cfg(test)]
mod tests;

/// Id of the workspace `default`: that of Kong without a database.
pub const WORKSPACE_ID: &str = "0dc6f45b-8f8d-40d2-a504-473544ee190b";

/// Name of the workspace that requests belong to whose route has no tenant.
pub const WORKSPACE_NAME: &str = "default";

/// Maximum number of query arguments in a record, as in Kong.
const ARGUMENTS_MAX: usize = 100;

/// Durations, in whole milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// In the proxy, until the request was sent or replied to locally.
    pub kong: u64,
    /// Waiting for the upstream's response head; `None` if the request was not proxied.
    pub proxy: Option<u64>,
    /// In total, from the first byte read to the last byte sent. For a stream, the session.
    pub request: u64,
    /// Receiving the response after its head.
    pub receive: u64,
}

impl Latencies {
    /// The durations of a finished exchange.
    pub fn of(exchange: &Exchange) -> Self {
        let timing = &exchange.timing;
        Self {
            kong: timing.filtered.millis_since(timing.started),
            proxy: timing.upstream_sent.zip(timing.upstream_head).map(|(sent, head)| head.millis_since(sent)),
            request: timing.ended.millis_since(timing.started),
            receive: timing.upstream_head.map_or(0, |head| timing.ended.millis_since(head)),
        }
    }
}

/// Whether the exchange is a stream session rather than a request.
pub fn is_stream(exchange: &Exchange) -> bool {
    !matches!(exchange.client.wire, Wire::Http | Wire::Https)
}

/// The record as a tree.
pub fn record(cx: &LogCx<'_>) -> Value {
    let mut text = Vec::with_capacity(2_048);
    write(cx, &mut text);
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::error!(%error, "a log record is not JSON: a document of a route, service or consumer is broken");
        Value::Object(Map::new())
    })
}

/// Writes the record as one line of JSON, without a line end.
pub fn write(cx: &LogCx<'_>, out: &mut Vec<u8>) {
    let mut root = Object::open(out);
    if is_stream(cx.exchange) {
        stream_parts(cx, &mut root);
    } else {
        http_parts(cx, &mut root);
    }
    if cx.exchange.route.is_some() {
        write_tries(&cx.exchange.tries, root.array("tries"));
    }
    write_entities(cx.exchange, &mut root);
    root.text("client_ip", cx.exchange.client.ip.to_string().as_bytes());
    root.number("started_at", cx.exchange.timing.started_unix.0);
    if !is_stream(cx.exchange) {
        root.text("source", source_name(cx.exchange.source).as_bytes());
    }
    match cx.exchange.route.as_ref().and_then(RouteInfo::tenant) {
        Some(tenant) => root.text("workspace", tenant.to_string().as_bytes()),
        None => root.text("workspace", WORKSPACE_ID.as_bytes()),
    }
    root.text("workspace_name", workspace_name(cx).as_bytes());
    if let Some(trace) = &cx.exchange.trace {
        let mut ids = root.object("trace_id");
        ids.text("w3c", trace.trace_id.to_string().as_bytes());
        ids.close();
    }
    for (name, value) in &cx.exchange.log_fields {
        root.value(name, value);
    }
    root.close();
}

/// The name of the workspace of an exchange: that of the tenant of its route.
pub fn workspace_name<'x>(cx: &LogCx<'x>) -> &'x str {
    let tenant = cx.exchange.route.as_ref().and_then(RouteInfo::tenant);
    tenant.map_or(WORKSPACE_NAME, |tenant| cx.services.tenants.get(&tenant).map_or("", |name| name))
}

/// Sets or, with `None`, removes a field of a record by its dotted path; `\.` is a dot within a name. Missing objects
/// in the path are created. Kong: `kong.log.set_serialize_value`.
///
/// # Errors
/// If a value in the path is not an object.
pub fn set_field(record: &mut Value, path: &str, value: Option<Value>) -> Result<(), String> {
    let mut names = split_path(path);
    let last = names.pop().unwrap_or_default();
    let mut node = record;
    for name in names {
        let Value::Object(map) = node else { return Err(not_an_object(path)) };
        node = map.entry(name).or_insert_with(|| Value::Object(Map::new()));
    }
    let Value::Object(map) = node else { return Err(not_an_object(path)) };
    match value {
        Some(value) => map.insert(last, value),
        None => map.shift_remove(&last),
    };
    Ok(())
}

fn not_an_object(path: &str) -> String {
    format!("'{path}' leads through something that is not an object")
}

fn split_path(path: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut escaped = false;
    for character in path.chars() {
        match (character, escaped) {
            ('\\', false) => {
                escaped = true;
                continue;
            }
            ('.', false) => names.push(String::new()),
            (other, was_escaped) => {
                if let Some(name) = names.last_mut() {
                    if was_escaped && other != '.' {
                        name.push('\\');
                    }
                    name.push(other);
                }
            }
        }
        escaped = false;
    }
    if let (true, Some(name)) = (escaped, names.last_mut()) {
        name.push('\\');
    }
    names
}

fn source_name(source: Source) -> &'static str {
    match source {
        Source::Upstream => "upstream",
        Source::Local => "kong",
    }
}

fn http_parts(cx: &LogCx<'_>, root: &mut Object<'_>) {
    let exchange = cx.exchange;
    write_request(cx, root.object("request"));
    root.text("upstream_uri", &exchange.upstream_uri);
    root.text("upstream_status", upstream_status(&exchange.tries).as_bytes());
    let mut response = root.object("response");
    response.number("status", u64::from(status(cx)));
    match cx.response {
        Some(head) => write_headers(&head.headers, &[], response.object("headers")),
        None => response.object("headers").close(),
    }
    response.number("size", exchange.bytes.sent);
    response.close();
    let latencies = Latencies::of(exchange);
    let mut out = root.object("latencies");
    out.number("kong", latencies.kong);
    match latencies.proxy {
        Some(proxy) => out.number("proxy", proxy),
        None => out.raw("proxy", b"-1"),
    }
    out.number("request", latencies.request);
    out.number("receive", latencies.receive);
    out.close();
}

fn write_request(cx: &LogCx<'_>, mut out: Object<'_>) {
    let exchange = cx.exchange;
    let uri = origin_form(&exchange.original.target);
    out.text("id", exchange.id.to_string().as_bytes());
    out.text("uri", uri);
    out.text("url", &url(exchange, uri));
    write_query(cx.request.query().unwrap_or_default(), out.object("querystring"));
    out.text("method", cx.request.method.as_str().as_bytes());
    write_headers(&cx.request.headers, &cx.services.redacted_headers, out.object("headers"));
    out.number("size", exchange.bytes.received);
    write_tls(exchange, &mut out);
    out.close();
}

/// The target from its path on, even if it was received in absolute form.
fn origin_form(target: &[u8]) -> &[u8] {
    let Some(scheme) = target.windows(3).position(|w| w == b"://").filter(|_| target.first() != Some(&b'/')) else {
        return target;
    };
    let authority = target.get(scheme + 3..).unwrap_or_default();
    match authority.iter().position(|b| *b == b'/') {
        Some(at) => authority.get(at..).unwrap_or_default(),
        None => b"/",
    }
}

fn url(exchange: &Exchange, uri: &[u8]) -> Vec<u8> {
    let scheme = if exchange.client.tls.is_some() { "https" } else { "http" };
    let mut url = format!("{scheme}://{}:{}", exchange.original.host, exchange.client.local.port()).into_bytes();
    url.extend_from_slice(uri);
    url
}

/// Like nginx's `$upstream_status`: one status for each attempt.
fn upstream_status(tries: &[Try]) -> String {
    let mut text = String::new();
    for status in tries.iter().filter_map(|attempt| attempt.status) {
        let separator = if text.is_empty() { "" } else { ", " };
        // Writing to a string does not fail.
        write!(text, "{separator}{status}").unwrap_or_default();
    }
    text
}

fn write_query(query: &[u8], mut out: Object<'_>) {
    let arguments: Vec<_> = cardinal_http::query::arguments(query, ARGUMENTS_MAX).collect();
    for (at, (name, value)) in arguments.iter().enumerate() {
        if arguments.iter().take(at).any(|(earlier, _)| earlier == name) {
            continue;
        }
        let name_text = String::from_utf8_lossy(name);
        let mut others = arguments.iter().skip(at + 1).filter(|(later, _)| later == name).peekable();
        if others.peek().is_none() {
            match value {
                Some(value) => out.text(&name_text, value),
                None => out.raw(&name_text, b"true"),
            }
            continue;
        }
        let mut list = out.array(&name_text);
        for value in std::iter::once(value).chain(others.map(|(_, value)| value)) {
            match value {
                Some(value) => list.text(value),
                None => list.raw(b"true"),
            }
        }
        list.close();
    }
    out.close();
}

/// Names in lower case; repeated names have a list of values.
fn write_headers(headers: &HeaderList, redacted: &[Box<str>], mut out: Object<'_>) {
    for (at, (name, value)) in headers.iter().enumerate() {
        if headers.iter().take(at).any(|(earlier, _)| earlier.eq_ignore_ascii_case(name)) {
            continue;
        }
        let lower = String::from_utf8_lossy(name).to_ascii_lowercase();
        if redacted.iter().any(|secret| **secret == *lower) {
            out.text(&lower, b"REDACTED");
            continue;
        }
        let mut values = headers.get_all(name).skip(1).peekable();
        if values.peek().is_none() {
            out.text(&lower, value);
            continue;
        }
        let mut list = out.array(&lower);
        list.text(value);
        values.for_each(|value| list.text(value));
        list.close();
    }
    out.close();
}

fn write_tls(exchange: &Exchange, out: &mut Object<'_>) {
    let Some(tls) = &exchange.client.tls else { return };
    let verify = if tls.client_verify.is_empty() { "NONE" } else { &tls.client_verify };
    let mut out = out.object("tls");
    out.text("version", tls.version.as_bytes());
    out.text("cipher", tls.cipher.as_bytes());
    out.text("client_verify", verify.as_bytes());
    out.close();
}

fn write_tries(tries: &[Try], mut out: Array<'_>) {
    for attempt in tries {
        let mut item = out.object();
        item.text("ip", attempt.address.ip().to_string().as_bytes());
        item.number("port", u64::from(attempt.address.port()));
        item.number("balancer_start", attempt.started.0);
        item.number("balancer_start_ns", attempt.started.0.saturating_mul(1_000_000));
        item.number("balancer_latency", attempt.balancer_us / 1_000);
        item.number("balancer_latency_ns", attempt.balancer_us.saturating_mul(1_000));
        if let Some(state) = attempt.state {
            item.text("state", if state == TryState::Next { "next" } else { "failed" }.as_bytes());
            if let Some(status) = attempt.status {
                item.number("code", u64::from(status));
            }
        }
        item.close();
    }
    out.close();
}

fn write_entities(exchange: &Exchange, root: &mut Object<'_>) {
    if let Some(credential) = &exchange.identity.credential {
        let mut out = root.object("authenticated_entity");
        out.text("id", credential.id().as_bytes());
        if let Some(principal) = credential.principal() {
            out.text("consumer_id", principal.to_string().as_bytes());
        }
        out.close();
    }
    if let Some(route) = &exchange.route {
        root.raw("route", route.document().as_bytes());
    }
    if let Some(backend) = &exchange.backend {
        root.raw("service", backend.document().as_bytes());
    }
    if let Some(principal) = &exchange.identity.principal {
        root.raw("consumer", principal.record.document().as_bytes());
    }
}

fn stream_parts(cx: &LogCx<'_>, root: &mut Object<'_>) {
    let exchange = cx.exchange;
    let mut session = root.object("session");
    write_tls(exchange, &mut session);
    session.number("received", exchange.bytes.received);
    session.number("sent", exchange.bytes.sent);
    session.number("status", u64::from(status(cx)));
    session.number("server_port", u64::from(exchange.client.local.port()));
    session.close();
    let mut upstream = root.object("upstream");
    upstream.number("received", exchange.bytes.upstream_received);
    upstream.number("sent", exchange.bytes.upstream_sent);
    upstream.close();
    let latencies = Latencies::of(exchange);
    let mut out = root.object("latencies");
    out.number("kong", latencies.kong);
    out.number("session", latencies.request);
    out.close();
}

/// The status to log: of the response, or else of the failure. As in nginx, a client that disconnected before a
/// response has 499, and a successful stream session has 200.
pub fn status(cx: &LogCx<'_>) -> u16 {
    let without_response = if is_stream(cx.exchange) { 200 } else { 499 };
    match cx.response {
        Some(head) => head.status,
        // Kong's stream subsystem logs 500 if no route matches, and 403 if a plugin rejects the connection.
        None => match cx.exchange.failure {
            Some(FailureKind::NoRoute) if is_stream(cx.exchange) => 500,
            Some(failure) => failure.status(),
            None if is_stream(cx.exchange) && cx.exchange.route.is_some() && cx.exchange.tries.is_empty() => 403,
            None => without_response,
        },
    }
}
