//! Request info that is available before any filter runs, and the route lookup. `explain` calls the same functions.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;

use cardinal_http::{HeaderList, Method, Name, RequestHead, Version, is_called, split_list};
use cardinal_ir::{ErrorPages, NodeSettings, RealIp, RealIpSource, Require, Wire};
use cardinal_route::upstream_uri::Parts;
use cardinal_route::{Headers, Match, Request, Router, is_sound_path, normalize_path, split_host};
use cardinal_sdk::{Exchange, Reply};

use crate::arrival::ConnectionInfo;
use crate::exchange::{Scratch, is_trusted};

/// The fields of a head, as the interface that the matcher requires.
struct Fields<'x>(&'x HeaderList);

impl Headers for Fields<'_> {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) {
        for (field, value) in self.0.iter() {
            if is_called(field, name.as_bytes()) && visit(value).is_break() {
                return;
            }
        }
    }
}

/// Sets the request info that follows from the head and the connection: path, host, port, client address. Returns
/// `false` for requests that are not served: the host is invalid, the scheme is not that of the connection, the path is
/// malformed or leads above the root, or there is no path (`OPTIONS *` asks about a server, but does not name one of
/// the upstreams).
pub(crate) fn read_request_info(node: &NodeSettings, info: &ConnectionInfo, s: &mut Scratch) -> bool {
    let Scratch { request, exchange, path, host_port, .. } = s;
    exchange.original.method.clone_from(&request.method);
    if request.path() == b"*" || !is_sound_path(request.path()) || !request.has_readable_host() {
        return false;
    }
    exchange.original.target.extend_from_slice(request.path());
    if let Some(query) = request.query() {
        exchange.original.target.push(b'?');
        exchange.original.target.extend_from_slice(query);
    }
    match normalize_path(request.path()) {
        std::borrow::Cow::Borrowed(normal) => path.extend_from_slice(normal),
        std::borrow::Cow::Owned(normal) => *path = normal,
    }
    if path.contains(&0) {
        return false;
    }
    exchange.original.port = info.listener_port;
    match request.authority() {
        Some(authority) => {
            let Ok(authority) = std::str::from_utf8(authority) else { return false };
            let (host, port) = split_host(authority);
            exchange.original.host.push_str(&host);
            *host_port = port;
            exchange.original.port = port.unwrap_or(info.listener_port);
        }
        // HTTP/2 requires an authority as HTTP/1.1 does (RFC 9113 section 8.3.1); the HTTP/1 codec checks the latter.
        None if request.version == Version::H2 => return false,
        None => {}
    }
    let client = &mut exchange.client;
    client.wire = if info.tls { Wire::Https } else { Wire::Http };
    client.version = request.version;
    client.https = info.tls;
    client.trusted = is_trusted(&node.real_ip, client.peer.ip());
    if !client.trusted || node.real_ip.source != RealIpSource::ProxyProtocol {
        (client.ip, client.port) = (client.peer.ip(), client.peer.port());
    }
    client.ip = client.ip.to_canonical();
    // A request for an `https` URI must have arrived over TLS, here or at a trusted proxy (RFC 9110 section 7.4).
    if request.target_is_https() == Some(true) && !info.tls && !client.trusted {
        return false;
    }
    if client.trusted {
        if let Some((ip, port)) = real_ip(&node.real_ip, &request.headers) {
            (client.ip, client.port) = (ip.to_canonical(), port.unwrap_or(0));
        }
        if let Some(proto) = request.headers.known(Name::XForwardedProto) {
            client.https = proto.eq_ignore_ascii_case(b"https");
        }
    }
    true
}

/// The client address from a header set by a trusted peer (as in nginx's realip module).
fn real_ip(policy: &RealIp, headers: &HeaderList) -> Option<(IpAddr, Option<u16>)> {
    let RealIpSource::Header(name) = &policy.source else { return None };
    let mut found = None;
    let values: Vec<&[u8]> = headers.get_all(name.as_bytes()).flat_map(split_list).collect();
    for value in values.iter().rev() {
        let Some((ip, port)) = parse_address(std::str::from_utf8(value).ok()?) else { break };
        found = Some((ip, port));
        if !policy.recursive || !is_trusted(policy, ip) {
            break;
        }
    }
    found
}

/// `1.2.3.4`, `1.2.3.4:5`, `::1`, `[::1]:5`.
fn parse_address(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((address.ip(), Some(address.port())));
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().map(|ip| (ip, None))
}

/// Finds the route of a request whose request info has been read.
pub(crate) fn route_request<'r>(router: &'r Router, s: &Scratch) -> Option<Match<'r>> {
    with_view(s, |request| router.find(request))
}

/// Calls `look` with the request in the form that the matcher requires.
pub(crate) fn with_view<R>(s: &Scratch, look: impl FnOnce(&Request<'_>) -> R) -> R {
    let exchange = &s.exchange;
    let host = &exchange.original.host;
    look(&Request {
        wire: exchange.client.wire,
        method: s.request.method.as_str(),
        host: (!host.is_empty()).then_some(host),
        host_port: s.host_port,
        path: &s.path,
        query: s.request.query().unwrap_or_default(),
        headers: &Fields(&s.request.headers),
        sni: exchange.client.tls.as_ref().and_then(|tls| tls.sni.as_deref()),
        source: SocketAddr::new(exchange.client.ip, exchange.client.port),
        destination: SocketAddr::new(exchange.client.local.ip(), exchange.original.port),
    })
}

/// Stores the results of a match: captures and the upstream path.
pub(crate) fn apply_match(found: &Match<'_>, base: Option<&str>, s: &mut Scratch) {
    s.matched = found.path_len;
    if found.has_captures()
        && let Some(captures) = found.captures(&s.path)
    {
        let text = |range: std::ops::Range<usize>| {
            s.path.get(range).map(|bytes| String::from_utf8_lossy(bytes).into_owned().into_boxed_str())
        };
        s.exchange.captures.numbered = captures.iter().map(|group| group.and_then(text)).collect();
        s.exchange.captures.named =
            captures.named().filter_map(|(name, range)| Some((name.into(), text(range)?))).collect();
    }
    let rewrite = &found.route.rewrite;
    let parts = Parts {
        base: base.unwrap_or_default(),
        path: &s.path,
        matched: found.path_len,
        strip: rewrite.strip_path,
        handling: rewrite.path_handling,
    };
    parts.write(&mut s.upstream.path);
    parts.write_prefix(&mut s.prefix);
}

/// The reply to methods that are not served, as in nginx: the gateway does not open tunnels (`CONNECT`) and does not
/// show a client the headers that it adds to requests (`TRACE`).
pub(crate) fn refused_method(pages: &ErrorPages, request: &RequestHead) -> Option<Reply> {
    let is_refused = matches!(request.method, Method::Connect | Method::Trace);
    is_refused.then(|| Reply::error(405, requirement(pages, "method_refused", "method not allowed")))
}

/// The front end's text for a request that does not meet a requirement.
fn requirement(pages: &ErrorPages, label: &str, built_in: &'static str) -> Cow<'static, str> {
    pages.messages.get(label).map_or(Cow::Borrowed(built_in), |text| Cow::Owned(text.to_string()))
}

/// The reply to a request that does not meet a requirement of its route.
pub(crate) fn refusal(
    pages: &ErrorPages,
    require: &Require,
    request: &RequestHead,
    exchange: &Exchange,
) -> Option<Reply> {
    let https = exchange.client.https;
    if let Some(required) = require.tls.filter(|_| !https && !require.grpc) {
        return Some(tls_required(pages, required.status(), request, exchange));
    }
    if require.grpc {
        if exchange.client.version != Version::H2 {
            let reply = Reply::error(426, requirement(pages, "http2_required", "HTTP/2 is required"));
            return Some(reply.with_header("Connection", "Upgrade").with_header("Upgrade", "HTTP/2"));
        }
        let content_type = request.headers.known(Name::ContentType).unwrap_or_default();
        if !content_type.get(..16).is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc")) {
            return Some(Reply::error(415, requirement(pages, "grpc_required", "gRPC is required")));
        }
        if require.tls.is_some() && !https {
            let message = requirement(pages, "grpc_tls_required", "gRPC over TLS is required");
            return Some(
                Reply::new(200)
                    .with_header("Content-Type", "application/grpc")
                    .with_header("grpc-status", "1")
                    .with_header("grpc-message", &message),
            );
        }
    }
    None
}

fn tls_required(pages: &ErrorPages, status: u16, request: &RequestHead, exchange: &Exchange) -> Reply {
    if status == 426 {
        let reply = Reply::error(426, requirement(pages, "tls_required", "TLS is required"));
        return reply.with_header("Connection", "Upgrade").with_header("Upgrade", "TLS/1.2, HTTP/1.1");
    }
    let forwarded = request.headers.known(Name::XForwardedHost).filter(|_| exchange.client.trusted);
    let host =
        forwarded.map_or_else(|| exchange.original.host.clone(), |host| String::from_utf8_lossy(host).into_owned());
    let target = String::from_utf8_lossy(&exchange.original.target);
    Reply::new(status).with_header("Location", &format!("https://{host}{target}"))
}

/// The protocols of the `Upgrade` field that are allowed, as a list in the client's order; `None` if there are none.
/// `websocket` is always allowed, others if the backend allows them. `h2c` is never allowed: HTTP/2 requires prior
/// knowledge, and requests inside an `h2c` tunnel would bypass the filters.
pub(crate) fn upgrade(request: &RequestHead, allowed: &[Box<str>]) -> Option<Vec<u8>> {
    request.headers.known(Name::Upgrade)?;
    if request.version != Version::H11
        || request.method == Method::Connect
        || !request.headers.known_list_contains(Name::Connection, b"upgrade")
    {
        return None;
    }
    let is_allowed = |protocol: &[u8]| {
        let name = protocol_name(protocol);
        // `websocket` has no version in this field.
        protocol.eq_ignore_ascii_case(b"websocket")
            || (allowed.iter().any(|a| name.eq_ignore_ascii_case(a.as_bytes())) && !name.eq_ignore_ascii_case(b"h2c"))
    };
    let asked = request.headers.known_all(Name::Upgrade).flat_map(split_list);
    let list = asked.filter(|protocol| is_allowed(protocol)).collect::<Vec<_>>().join(b", ".as_slice());
    (!list.is_empty()).then_some(list)
}

/// Whether a response with status 101 switches to requested protocols, and names them (RFC 9110 section 7.8).
pub(crate) fn switches_as_asked(asked: &[u8], response: &HeaderList) -> bool {
    let asked_for =
        |protocol: &[u8]| split_list(asked).any(|a| protocol_name(a).eq_ignore_ascii_case(protocol_name(protocol)));
    let mut chosen = response.known_all(Name::Upgrade).flat_map(split_list).peekable();
    chosen.peek().is_some() && chosen.all(asked_for)
}

/// A protocol name without its version: `SPDY` of `SPDY/3.1`.
fn protocol_name(protocol: &[u8]) -> &[u8] {
    protocol.split(|byte| *byte == b'/').next().unwrap_or_default()
}
