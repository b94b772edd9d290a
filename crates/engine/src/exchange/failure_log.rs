//! The log line of a failure: the message has the kind and the cause, the fields have the request, route and upstream.
//!
//! Text is formatted only for lines that are written. Fields have limited length and leave out the query (which may
//! contain secrets); control characters are escaped.

use std::fmt;
use std::net::SocketAddr;

use cardinal_http::{Failure, FailureKind, Side};

use super::scratch::Scratch;

/// The kind of log line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// An error of the node itself.
    Error,
    /// A problem of an upstream or of the configuration.
    Warning,
    /// A client error.
    Notice,
    /// The request is retried.
    Retry,
}

impl Line {
    /// The kind of line for a failure that ends a request.
    pub(crate) fn of(kind: FailureKind) -> Self {
        match kind.side() {
            _ if kind == FailureKind::Filter => Self::Error,
            _ if kind == FailureKind::NoRoute => Self::Notice,
            Side::Upstream | Side::Local => Self::Warning,
            Side::Downstream => Self::Notice,
        }
    }
}

/// Writes the line.
pub(crate) fn write(line: Line, s: &Scratch, failure: &Failure) {
    macro_rules! emit {
        ($level:ident, $message:literal) => {{
            let about = About::of(s, failure);
            tracing::event!(
                tracing::Level::$level,
                failure = failure.kind().label(),
                request_id = %s.exchange.id,
                client = %s.exchange.client.ip,
                method = about.method.map(tracing::field::display),
                host = about.host.map(tracing::field::display),
                path = about.path.map(tracing::field::display),
                route = about.route.as_ref().map(tracing::field::display),
                service = about.service.as_ref().map(tracing::field::display),
                upstream = about.upstream.map(tracing::field::display),
                target = about.target.as_ref().map(tracing::field::display),
                tries = about.tries,
                $message
            );
        }};
    }
    match line {
        Line::Error if tracing::enabled!(tracing::Level::ERROR) => emit!(ERROR, "{failure}"),
        Line::Warning if tracing::enabled!(tracing::Level::WARN) => emit!(WARN, "{failure}"),
        Line::Notice if tracing::enabled!(tracing::Level::INFO) => emit!(INFO, "{failure}"),
        Line::Retry if tracing::enabled!(tracing::Level::INFO) => emit!(INFO, "trying another target: {failure}"),
        Line::Error | Line::Warning | Line::Notice | Line::Retry => {}
    }
}

/// Writes the line about a response that is dropped for a retry.
pub(crate) fn write_retry(s: &Scratch, reason: &str, target: &str) {
    let (request_id, client) = (s.exchange.id, s.exchange.client.ip);
    let status = s.response.status;
    tracing::info!(%request_id, %client, reason, status, target, "trying another target: the response asks for a retry");
}

/// The known properties of a request or session when it fails; `None` if not known yet.
struct About<'x> {
    method: Option<Shown<'x>>,
    host: Option<Shown<'x>>,
    path: Option<Shown<'x>>,
    /// The route's name, or else its id.
    route: Option<String>,
    service: Option<String>,
    /// The name of the upstream, or the host of a service without an upstream.
    upstream: Option<Shown<'x>>,
    target: Option<String>,
    tries: Option<u64>,
}

impl<'x> About<'x> {
    fn of(s: &'x Scratch, failure: &'x Failure) -> Self {
        let (request, exchange) = (&s.request, &s.exchange);
        let is_request = !request.target().is_empty();
        let host = match exchange.original.host.as_str() {
            "" => request.authority().filter(|_| is_request),
            known => Some(known.as_bytes()),
        };
        let tried = exchange.tries.last();
        let named = |name: Option<&str>, id: cardinal_ir::Id| {
            name.map_or_else(|| id.to_string(), |name| Shown(name.as_bytes()).to_string())
        };
        Self {
            method: is_request.then(|| Shown(request.method.as_str().as_bytes())),
            host: host.map(Shown),
            path: is_request.then(|| Shown(request.path())),
            route: exchange.route.as_ref().map(|route| named(route.name(), route.id())),
            service: exchange.backend.as_ref().map(|backend| named(backend.name(), backend.id())),
            upstream: exchange.backend.as_ref().map(|backend| Shown(backend.host().as_bytes())),
            target: failure.target().map(str::to_owned).or_else(|| tried.map(|attempt| attempt.address.to_string())),
            tries: tried.map(|_| exchange.tries.len() as u64),
        }
    }
}

/// The text of an endpoint in logs: its address, and its name if it has one.
pub(crate) fn target_text(host: &str, address: SocketAddr) -> String {
    if host.trim_matches(['[', ']']).parse() == Ok(address.ip()) {
        return address.to_string();
    }
    format!("{}:{} ({address})", Shown(host.as_bytes()), address.port())
}

/// Maximum length of a field, bytes.
const SHOWN_MAX: usize = 256;

/// Text received from a peer: a prefix of limited length, with everything except printable ASCII escaped.
#[derive(Clone, Copy)]
struct Shown<'x>(&'x [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.get(..SHOWN_MAX).unwrap_or(self.0);
        for byte in text {
            match byte {
                b'!'..=b'~' => write!(f, "{}", char::from(*byte))?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        if text.len() < self.0.len() { f.write_str("...") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_peers_is_short_and_printable() {
        assert_eq!(Shown(b"/a b\x1b[0m\n\xff~").to_string(), "/a\\x20b\\x1b[0m\\x0a\\xff~");
        assert_eq!(Shown(&[b'a'; 300]).to_string(), format!("{}...", "a".repeat(256)));
    }
}
