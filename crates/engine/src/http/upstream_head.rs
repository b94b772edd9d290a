//! Builds the request head for an upstream: the client's headers without hop-by-hop headers, plus forwarding headers.

use std::io::Write as _;
use std::net::IpAddr;

use cardinal_http::h1::Framing;
use cardinal_http::{
    Failure, FailureKind, Method, Name, RequestHead, ResponseHead, eq_field_name, is_authority, is_target, is_token,
    is_value, is_visible, split_list,
};
use cardinal_ir::{Backend, NodeSettings, Route};
use cardinal_net::h2::{FieldWriter, Target};
use cardinal_sdk::{Exchange, RequestId};

use crate::exchange::Scratch;

/// A checked request head for an upstream.
pub(crate) struct Outgoing<'x> {
    s: &'x Scratch,
    node: &'x NodeSettings,
    framing: Framing,
    /// The protocol to switch to, if the request asks for an upgrade.
    upgrade: Option<&'x [u8]>,
}

impl<'x> Outgoing<'x> {
    /// Checks the parts of the head that are not fields: method, target and host. Filters may have set them, so they
    /// must not contain bytes that end a line or can be parsed as another part. Fields need no check here:
    /// `HeaderList` only accepts valid ones. A Host is validated where it is set, unless it comes from the
    /// configuration.
    ///
    /// # Errors
    /// [`FailureKind::UnsendableHead`].
    pub(crate) fn new(
        s: &'x Scratch,
        node: &'x NodeSettings,
        framing: Framing,
        upgrade: Option<&'x [u8]>,
    ) -> Result<Self, Failure> {
        let unsendable = |what| Err(Failure::new(FailureKind::UnsendableHead, what));
        if !is_visible(s.host.as_bytes()) {
            return unsendable("the Host for the upstream is not a host with an optional port");
        }
        if !is_target(&s.exchange.upstream_uri) {
            return unsendable(
                "the path for the upstream has a space or a control character, or no slash at its start",
            );
        }
        if let Method::Other(method) = &s.request.method
            && !is_token(method.as_bytes())
        {
            return unsendable("the method for the upstream is not a token");
        }
        Ok(Self { s, node, framing, upgrade })
    }

    /// Whether a field of the client is forwarded. `Trailer` is dropped unless a setting forwards trailers.
    fn forwards(&self, id: Name, name: &[u8]) -> bool {
        let is_own_id = |own: &str| own.len() == name.len() && eq_field_name(own.as_bytes(), name);
        is_forwarded(id)
            && (id != Name::Trailer || !self.node.request_trailers.is_empty())
            && (self.s.attempt_headers.is_empty() || !self.s.attempt_headers.contains(name))
            && !self.node.headers.request_id_upstream.as_deref().is_some_and(is_own_id)
    }

    /// The pseudo-header fields of HTTP/2, in place of the request line and `Host`.
    pub(crate) fn target(&self, https: bool) -> Target<'x> {
        let s = self.s;
        Target { method: &s.request.method, https, authority: s.host.as_bytes(), path: &s.exchange.upstream_uri }
    }

    /// Writes the head for HTTP/1.
    pub(crate) fn write_h1(&self, out: &mut Vec<u8>) {
        let s = self.s;
        out.extend_from_slice(s.request.method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(&s.exchange.upstream_uri);
        out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
        out.extend_from_slice(s.host.as_bytes());
        out.extend_from_slice(b"\r\n");
        match self.upgrade {
            Some(protocol) => {
                line(out, "Connection", b"keep-alive, Upgrade");
                line(out, "Upgrade", protocol);
            }
            None => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        }
        match self.framing {
            Framing::Length(length) => {
                let mut digits = itoa::Buffer::new();
                line(out, "Content-Length", digits.format(length).as_bytes());
            }
            Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Framing::None if expects_length(&s.request) => out.extend_from_slice(b"Content-Length: 0\r\n"),
            Framing::None | Framing::UntilClose => {}
        }
        s.request.headers.write_h1_if(out, |id, name| self.forwards(id, name));
        s.attempt_headers.write_h1_if(out, |id, _| is_forwarded(id));
        extra(s, self.node, |name, value| line(out, name, value));
        out.extend_from_slice(b"\r\n");
    }

    /// Writes the fields for HTTP/2.
    pub(crate) fn write_h2(&self, fields: &mut FieldWriter<'_>) {
        let s = self.s;
        for (id, name, value) in s.request.headers.iter_known() {
            if self.forwards(id, name) {
                fields.append(id, name, value);
            }
        }
        for (id, name, value) in s.attempt_headers.iter_known() {
            if is_forwarded(id) {
                fields.append(id, name, value);
            }
        }
        if let Framing::Length(length) = self.framing {
            let mut digits = itoa::Buffer::new();
            fields.append(Name::ContentLength, b"content-length", digits.format(length).as_bytes());
        }
        extra(s, self.node, |name, value| fields.append(Name::of(name.as_bytes()), name.as_bytes(), value));
    }
}

/// Sets the Host to send: a filter's, the client's when preserved, the group's or the endpoint's.
pub(crate) fn set_host(route: &Route, backend: &Backend, s: &mut Scratch, endpoint: &str, port: u16) {
    let Scratch { host, upstream, request, .. } = s;
    host.clear();
    if let Some(own) = upstream.host() {
        host.push_str(own);
        return;
    }
    if route.rewrite.preserve_host
        && let Some(authority) = request.authority().and_then(|a| std::str::from_utf8(a).ok())
    {
        // An invalid authority set by a filter is left out: the head then fails the check.
        if is_authority(authority.as_bytes()) {
            host.push_str(authority);
        }
        return;
    }
    let bare_v6 = endpoint.contains(':') && !endpoint.starts_with('[');
    if bare_v6 {
        host.push('[');
    }
    host.push_str(endpoint);
    if bare_v6 {
        host.push(']');
    }
    let default_port = if backend.tls.is_some() { 443 } else { 80 };
    if port != default_port {
        host.push(':');
        host.push_str(itoa::Buffer::new().format(port));
    }
}

#[inline]
fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    debug_assert!(is_token(name.as_bytes()) && is_value(value), "a field of the proxy's own is malformed");
    // The names are constants: with a name known at compile time, the copy is one or two stores.
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Whether requests with this method usually have a body, so that an absent body is declared explicitly (RFC 9110
/// section 8.6).
fn expects_length(request: &RequestHead) -> bool {
    matches!(request.method.as_str(), "POST" | "PUT" | "PATCH")
}

/// Removes the fields that the client's `Connection` names (RFC 9110 section 7.6.1). This runs before any filter, so
/// that a client cannot remove fields that filters add.
pub(crate) fn strip_listed(request: &mut RequestHead) {
    let plain = |token: &[u8]| {
        [b"keep-alive".as_slice(), b"close", b"upgrade", b"te", b"host", b"content-length", b"transfer-encoding"]
            .iter()
            .any(|known| token.eq_ignore_ascii_case(known))
    };
    let mut listed: Vec<Box<[u8]>> = Vec::new();
    for value in request.headers.known_all(Name::Connection) {
        listed.extend(split_list(value).filter(|token| !plain(token)).map(Box::from));
    }
    for name in listed {
        request.headers.remove(&name);
    }
}

/// Whether a field of the client is forwarded unchanged.
fn is_forwarded(id: Name) -> bool {
    !matches!(
        id,
        Name::Connection
            | Name::ContentLength
            | Name::Expect
            | Name::Host
            | Name::KeepAlive
            | Name::Proxy
            | Name::ProxyConnection
            | Name::Te
            | Name::TransferEncoding
            | Name::Upgrade
            | Name::Via
            | Name::XForwardedFor
            | Name::XForwardedHost
            | Name::XForwardedPath
            | Name::XForwardedPort
            | Name::XForwardedPrefix
            | Name::XForwardedProto
            | Name::XRealIp
            | Name::Respelled
    )
}

/// The fields that the gateway adds.
#[inline]
fn extra(s: &Scratch, node: &NodeSettings, mut add: impl FnMut(&str, &[u8])) {
    let (request, exchange) = (&s.request, &s.exchange);
    if request.headers.known_list_contains(Name::Te, b"trailers") {
        add("TE", b"trailers");
    }
    let mut text = std::mem::take(&mut *s.text.borrow_mut());
    text.clear();
    via(&mut text, request, node);
    if !text.is_empty() {
        add("Via", text.as_bytes());
    }
    if node.forwarded.x_forwarded {
        forwarded(request, exchange, &mut text, &mut add);
    }
    if node.forwarded.path_and_prefix {
        path_and_prefix(s, &mut add);
    }
    if let Some(name) = &node.headers.request_id_upstream {
        add(name, &id_digits(exchange.id));
    }
    *s.text.borrow_mut() = text;
}

/// A request id as 32 hex digits, eight at a time: without the formatting machinery, and without a table.
pub(crate) fn id_digits(id: RequestId) -> [u8; 32] {
    let mut digits = [b'0'; 32];
    let (places, bytes) = (digits.as_chunks_mut::<8>().0, id.0.to_be_bytes());
    for (place, bytes) in places.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *place = hex_digits(u32::from_be_bytes(*bytes)).to_be_bytes();
    }
    digits
}

/// The eight hex digits of a number, the first one in the highest byte.
fn hex_digits(number: u32) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    // Each half byte moves into a byte of its own.
    let spread = u64::from(number);
    let spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    let spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // Adding 6 carries into the upper half of a byte from 10 on: these are letters.
    let letters = ((spread + ONES * 6) >> 4) & ONES;
    spread + ONES * u64::from(b'0') + letters * u64::from(b'a' - b'0' - 10)
}

fn via(text: &mut String, request: &RequestHead, node: &NodeSettings) {
    for value in request.headers.known_all(Name::Via) {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&String::from_utf8_lossy(value));
    }
    if let Some(token) = &node.headers.via_upstream {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(request.version.number());
        text.push(' ');
        text.push_str(token);
    }
}

/// `X-Real-IP` and `X-Forwarded-*`. The client's values are kept only if the peer is trusted.
#[inline]
fn forwarded(request: &RequestHead, exchange: &Exchange, text: &mut String, add: &mut impl FnMut(&str, &[u8])) {
    let client = &exchange.client;
    let kept = |name: Name| request.headers.known(name).filter(|_| client.trusted);
    let ip = IpText::new(client.ip);
    add("X-Real-IP", ip.as_bytes());
    if request.headers.known(Name::XForwardedFor).is_some() {
        text.clear();
        for value in request.headers.known_all(Name::XForwardedFor) {
            text.push_str(&String::from_utf8_lossy(value));
            text.push_str(", ");
        }
        text.push_str(&String::from_utf8_lossy(IpText::new(client.peer.ip().to_canonical()).as_bytes()));
        add("X-Forwarded-For", text.as_bytes());
    } else {
        // A new list begins with the client address, as far as it is known (as in Kong).
        add("X-Forwarded-For", ip.as_bytes());
    }
    let tls = client.wire == cardinal_ir::Wire::Https;
    add("X-Forwarded-Proto", kept(Name::XForwardedProto).unwrap_or(if tls { b"https" } else { b"http" }));
    add("X-Forwarded-Host", kept(Name::XForwardedHost).unwrap_or(exchange.original.host.as_bytes()));
    let mut digits = itoa::Buffer::new();
    let port = digits.format(exchange.original.port).as_bytes();
    add("X-Forwarded-Port", kept(Name::XForwardedPort).unwrap_or(port));
}

#[inline]
fn path_and_prefix(s: &Scratch, add: &mut impl FnMut(&str, &[u8])) {
    let trusted = s.exchange.client.trusted;
    let kept = |name: Name| s.request.headers.known(name).filter(|_| trusted);
    let target = &s.exchange.original.target;
    let path = target.split(|b| *b == b'?').next().unwrap_or_default();
    add("X-Forwarded-Path", kept(Name::XForwardedPath).unwrap_or(path));
    match kept(Name::XForwardedPrefix) {
        Some(prefix) => add("X-Forwarded-Prefix", prefix),
        None if !s.prefix.is_empty() => add("X-Forwarded-Prefix", &s.prefix),
        None => {}
    }
}

/// The text of an address. Every request has one: that of IPv4 takes a few instructions instead of the formatting machinery.
struct IpText {
    text: [u8; 40],
    len: usize,
}

impl IpText {
    fn new(ip: IpAddr) -> Self {
        let mut text = [0; 40];
        let IpAddr::V4(v4) = ip else {
            let mut rest = text.as_mut_slice();
            // The longest one has 39 bytes.
            write!(rest, "{ip}").ok();
            let left = rest.len();
            return Self { text, len: text.len() - left };
        };
        let mut len = 0;
        for octet in v4.octets() {
            if let (Some(place), Some(digits)) = (text.get_mut(len..len + 4), OCTETS.get(usize::from(octet))) {
                place.copy_from_slice(digits);
            }
            len += 2 + usize::from(octet >= 10) + usize::from(octet >= 100);
        }
        // Without the dot after the last one.
        Self { text, len: len - 1 }
    }

    fn as_bytes(&self) -> &[u8] {
        self.text.get(..self.len).unwrap_or_default()
    }
}

/// The digits of each byte, a dot after them, and nothing that counts after that.
static OCTETS: [[u8; 4]; 256] = {
    let mut texts = [[b'.'; 4]; 256];
    let mut rest: &mut [[u8; 4]] = &mut texts;
    let mut number = 0_u8;
    while let [text, more @ ..] = rest {
        let digits = [b'0' + number / 100, b'0' + number / 10 % 10, b'0' + number % 10];
        *text = match (digits, number) {
            ([_, _, ones], 0..10) => [ones, b'.', b'.', b'.'],
            ([_, tens, ones], 10..100) => [tens, ones, b'.', b'.'],
            ([hundreds, tens, ones], 100..) => [hundreds, tens, ones, b'.'],
        };
        number = number.wrapping_add(1);
        rest = more;
    }
    texts
};

/// Removes the hop-by-hop fields from a response. A response with status 426 keeps its `Upgrade` field (RFC 9110
/// section 15.5.22), which is meant for the client.
pub(crate) fn strip_response(response: &mut ResponseHead) {
    const OWN: [Name; 5] =
        [Name::Connection, Name::KeepAlive, Name::ProxyConnection, Name::TransferEncoding, Name::Upgrade];
    let (status, headers) = (response.status, &mut response.headers);
    // Without a `Connection` field, no other field is listed in it.
    if !headers.may_have_known(&OWN) {
        return;
    }
    let mut listed: Vec<Box<[u8]>> = Vec::new();
    for value in headers.known_all(Name::Connection) {
        for token in split_list(value) {
            if !token.eq_ignore_ascii_case(b"keep-alive") && !token.eq_ignore_ascii_case(b"close") {
                listed.push(token.into());
            }
        }
    }
    let asks_for_upgrade = status == 426 && headers.known(Name::Upgrade).is_some();
    if asks_for_upgrade {
        listed.retain(|token| !token.eq_ignore_ascii_case(b"upgrade"));
    }
    let is_own = |id: Name| OWN.contains(&id) && !(asks_for_upgrade && id == Name::Upgrade);
    headers.remove_if(|id, name, _| is_own(id) || listed.iter().any(|token| name.eq_ignore_ascii_case(token)));
    if asks_for_upgrade {
        headers.set_known(Name::Connection, b"Connection", b"upgrade");
    }
}

/// Builds the upstream request target: path and query.
pub(crate) fn make_uri(s: &mut Scratch) {
    let uri = &mut s.exchange.upstream_uri;
    uri.clear();
    uri.extend_from_slice(&s.upstream.path);
    if let Some(query) = s.request.query() {
        uri.push(b'?');
        uri.extend_from_slice(query);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_are_written_as_the_formatting_machinery_does(id: u128) {
            let digits = id_digits(RequestId(id));
            prop_assert_eq!(String::from_utf8_lossy(&digits), format!("{id:032x}"));
        }

        #[test]
        fn addresses_are_written_as_the_formatting_machinery_does(ip: IpAddr) {
            let text = IpText::new(ip);
            prop_assert_eq!(String::from_utf8_lossy(text.as_bytes()), ip.to_string());
        }
    }

    #[test]
    fn addresses_are_written_with_all_numbers_of_digits() {
        let v6 =
            ["ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", "::", "::ffff:1.2.3.4"].map(|ip| ip.parse().unwrap());
        let octets = (0..=255).map(|octet| IpAddr::from([octet, 255 - octet, 0, octet]));
        for ip in octets.chain(v6) {
            assert_eq!(String::from_utf8_lossy(IpText::new(ip).as_bytes()), ip.to_string());
        }
    }
}
