//! [`Request`]: what the matcher reads of a request or a connection.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;

use cardinal_ir::Wire;

/// A view of a request (or of a connection, whose HTTP parts are then empty). Nothing is copied.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Protocol of the connection.
    pub wire: Wire,
    /// Method as sent, case included.
    pub method: &'a str,
    /// Name in the Host header, lower-case, without port; see [`split_host`]. `None` where there is no such header.
    pub host: Option<&'a str>,
    /// Port in the Host header.
    pub host_port: Option<u16>,
    /// Path without query, normalized by [`normalize_path`](crate::normalize_path).
    pub path: &'a [u8],
    /// What follows the `?`, as sent; empty where there is none.
    pub query: &'a [u8],
    /// Header fields.
    pub headers: &'a dyn Headers,
    /// Server name of the TLS handshake, lower-case.
    pub sni: Option<&'a str>,
    /// The peer.
    pub source: SocketAddr,
    /// The local address. For HTTP, the port is that of the Host header, or else that of the listener (mapped).
    pub destination: SocketAddr,
}

impl Request<'_> {
    /// The peer's address; IPv4 mapped into IPv6 as IPv4.
    pub(crate) fn source_ip(&self) -> IpAddr {
        self.source.ip().to_canonical()
    }

    /// The local address; IPv4 mapped into IPv6 as IPv4.
    pub(crate) fn destination_ip(&self) -> IpAddr {
        self.destination.ip().to_canonical()
    }

    /// The port of the scheme.
    pub(crate) fn scheme_port(&self) -> u16 {
        if self.considers_sni() { 443 } else { 80 }
    }

    /// Whether conditions on the TLS server name are considered.
    pub(crate) fn considers_sni(&self) -> bool {
        matches!(self.wire, Wire::Https | Wire::Tls | Wire::TlsPassthrough)
    }
}

/// Header fields of a request.
pub trait Headers {
    /// Shows `visit` each value of a header until it breaks off. `name` is lower-case with dashes, never underscores;
    /// it also matches fields with underscores in these places.
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>);
}

/// No header fields, as for connections.
pub struct NoHeaders;

impl Headers for NoHeaders {
    fn each(&self, _: &str, _: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) {}
}

/// Splits the value of a Host header into its name, lower-cased, and its port. Copies only where there is a capital.
///
/// An IPv6 literal keeps its brackets, and one written without gets them. A port that is no number up to 65535 is not
/// split off, which leaves a name that no route has; an empty port counts as none.
pub fn split_host(header: &str) -> (Cow<'_, str>, Option<u16>) {
    let colon = memchr::memrchr(b':', header.as_bytes()).and_then(|at| header.split_at_checked(at));
    let (name, port) = match colon.map(|(name, port)| (name, port.get(1..).unwrap_or_default())) {
        Some((name, _)) if name.contains(':') && !name.ends_with(']') => {
            if !header.starts_with('[') {
                return (Cow::Owned(format!("[{}]", header.to_ascii_lowercase())), None);
            }
            (header, None)
        }
        Some((name, "")) => (name, None),
        Some((name, digits)) if digits.bytes().all(|b| b.is_ascii_digit()) => match digits.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (header, None),
        },
        _ => (header, None),
    };
    let has_capital = name.bytes().fold(false, |found, b| found | b.is_ascii_uppercase());
    (if has_capital { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) }, port)
}

#[cfg(test)]
mod tests {
    use super::split_host;

    #[test]
    fn hosts_are_split_and_lowered() {
        let cases = [
            ("example.com", "example.com", None),
            ("Example.COM:8080", "example.com", Some(8080)),
            ("example.com:", "example.com", None),
            ("example.com:http", "example.com:http", None),
            ("example.com:99999", "example.com:99999", None),
            ("[::1]", "[::1]", None),
            ("[::1]:80", "[::1]", Some(80)),
            ("[::A]:80", "[::a]", Some(80)),
            ("::21", "[::21]", None),
            ("*.example.com:321", "*.example.com", Some(321)),
            ("", "", None),
        ];
        for (header, name, port) in cases {
            assert_eq!(split_host(header), (name.into(), port), "{header}");
        }
    }
}
