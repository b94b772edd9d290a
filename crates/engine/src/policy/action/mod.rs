//! Route actions with a local reply: redirects and fixed responses. They run after the filters.

use bytes::Bytes;
use cardinal_http::{Name, is_authority};
use cardinal_ir::{Action, DirectResponse, PathRewrite, Redirect, Route, Scheme};
use cardinal_route::split_host;
use cardinal_route::upstream_uri::{write_path, write_replaced};
use cardinal_sdk::{Reply, ReplyBody};

use crate::exchange::Scratch;
use crate::policy::headers;

#[cfg(test)]
mod tests;

/// The local reply of a route, if its action is one.
pub(crate) fn reply(route: &Route, s: &Scratch) -> Option<Reply> {
    let mut reply = match &route.action {
        Action::Redirect(redirect) => {
            let mut reply = Reply::new(redirect.status);
            reply.headers.append(b"Location", &location(redirect, s));
            reply
        }
        Action::Respond(response) => direct(response),
        Action::None | Action::Forward(_) | Action::Split(_) => return None,
    };
    if let Some(edits) = route.policies.as_ref().and_then(|policies| policies.response_headers.as_ref()) {
        headers::edit(edits, &mut reply.headers);
    }
    Some(reply)
}

fn direct(response: &DirectResponse) -> Reply {
    let reply = response.headers.iter().fold(Reply::new(response.status), |reply, (name, value)| {
        // Invalid fields are left out.
        reply.with_header(name, value)
    });
    match response.body.is_empty() {
        true => reply,
        false => Reply { body: ReplyBody::Bytes(Bytes::copy_from_slice(response.body.as_bytes())), ..reply },
    }
}

/// The `Location` of a redirect.
fn location(redirect: &Redirect, s: &Scratch) -> Vec<u8> {
    let exchange = &s.exchange;
    let scheme = redirect.scheme.unwrap_or(if exchange.client.https { Scheme::Https } else { Scheme::Http });
    let (seen_host, seen_port) = seen_authority(s);
    let host = redirect.host.as_deref().unwrap_or(&seen_host);
    let port = match (redirect.port, redirect.scheme) {
        (Some(port), _) => Some(port),
        (None, Some(_)) => None,
        (None, None) => seen_port,
    };
    let mut out = Vec::new();
    // Without a host, the location is only a path.
    if !host.is_empty() {
        out.extend_from_slice(scheme.as_str().as_bytes());
        out.extend_from_slice(b"://");
        out.extend_from_slice(host.as_bytes());
        if let Some(port) = port.filter(|port| *port != scheme.default_port()) {
            out.push(b':');
            out.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
        }
    }
    let keeps_query = match &redirect.path {
        None => {
            out.extend_from_slice(&exchange.original.target);
            false
        }
        Some(PathRewrite::Full(path)) => {
            write_path(if path.is_empty() { "/" } else { path }, &mut out);
            !path.contains('?')
        }
        Some(PathRewrite::Prefix(replacement)) => {
            write_replaced(&s.path, s.matched, replacement, &mut out);
            true
        }
    };
    if host.is_empty() {
        // A path with two leading slashes would be read as a host.
        let slashes = out.iter().take_while(|byte| **byte == b'/').count();
        out.drain(..slashes.saturating_sub(1));
    }
    let query = exchange.original.target.splitn(2, |byte| *byte == b'?').nth(1);
    if let Some(query) = query.filter(|_| keeps_query) {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out
}

/// Host and port as the client sees them; no port means the default port of the scheme. Values from trusted proxies are
/// used, others are not.
fn seen_authority(s: &Scratch) -> (String, Option<u16>) {
    let exchange = &s.exchange;
    let told = |name: Name| s.request.headers.known(name).filter(|_| exchange.client.trusted);
    let text = |name: Name| {
        let first = told(name)?.split(|byte| *byte == b',').next()?;
        std::str::from_utf8(first).ok().map(str::trim)
    };
    let told_port = text(Name::XForwardedPort).and_then(|port| port.parse().ok());
    if let Some(host) = text(Name::XForwardedHost).filter(|host| is_authority(host.as_bytes())) {
        let (host, port) = split_host(host);
        return (host.into_owned(), told_port.or(port));
    }
    let port = match (told_port.or(s.host_port), told(Name::XForwardedProto)) {
        (Some(port), _) => Some(port),
        // The client connected to the proxy, so the port of the local listener does not apply.
        (None, Some(_)) => None,
        (None, None) => Some(exchange.original.port),
    };
    (exchange.original.host.clone(), port)
}
