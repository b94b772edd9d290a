//! Parses a URL into the server to call and the request target.

use std::net::Ipv6Addr;

use http::uri::PathAndQuery;

use crate::http_client;

/// The parts of an `http://` or `https://` URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Url<'u> {
    /// `https`.
    pub(super) tls: bool,
    /// Host as written, IPv6 in brackets, with the port if there is one: the value of `Host`.
    pub(super) authority: &'u str,
    /// Name or address, without brackets.
    pub(super) host: &'u str,
    /// The port, or the default port of the scheme.
    pub(super) port: u16,
    /// Path and query; may be empty or start with `?`.
    path: &'u str,
}

impl<'u> Url<'u> {
    /// Parses a URL. A fragment is dropped, because it is never sent.
    ///
    /// # Errors
    /// The reason why the URL cannot be called.
    pub(super) fn parse(url: &'u str) -> Result<Self, &'static str> {
        if !url.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("it has characters that must be percent-encoded");
        }
        let (scheme, rest) = url.split_once("://").ok_or("it has no scheme")?;
        let tls = match () {
            () if scheme.eq_ignore_ascii_case("http") => false,
            () if scheme.eq_ignore_ascii_case("https") => true,
            () => return Err("only http and https can be called"),
        };
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("user information in a URL is not sent; use a header");
        }
        let (host, port) = split_authority(authority)?;
        let authority = authority.strip_suffix(':').unwrap_or(authority);
        Ok(Self { tls, authority, host, port: port.unwrap_or(if tls { 443 } else { 80 }), path })
    }

    /// The target of the request line.
    pub(super) fn target(&self) -> Result<PathAndQuery, &'static str> {
        http_client::target(self.path)
    }
}

fn split_authority(authority: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("its IPv6 address has no end")?;
        host.parse::<Ipv6Addr>().map_err(|_| "its IPv6 address is none")?;
        match (after.is_empty(), after.strip_prefix(':')) {
            (true, _) => (host, ""),
            (false, Some(port)) => (host, port),
            (false, None) => return Err("its IPv6 address is followed by more"),
        }
    } else {
        let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
        if !host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')) {
            return Err("its host is not a host name");
        }
        (host, port)
    };
    if host.is_empty() {
        return Err("it has no host");
    }
    if port.is_empty() {
        return Ok((host, None));
    }
    let number = Some(port).filter(|p| p.bytes().all(|b| b.is_ascii_digit())).and_then(|p| p.parse().ok());
    number.filter(|n| *n != 0).map(|n| (host, Some(n))).ok_or("its port is not one")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, tls: bool, authority: &str, host: &str, port: u16, target: &str) {
        let parsed = Url::parse(url).unwrap_or_else(|reason| panic!("{url}: {reason}"));
        let written = parsed.target().unwrap();
        let found = (parsed.tls, parsed.authority, parsed.host, parsed.port, written.as_str());
        assert_eq!(found, (tls, authority, host, port, target), "{url}");
    }

    #[test]
    fn urls_are_taken_apart() {
        check("http://a.example", false, "a.example", "a.example", 80, "/");
        check("HTTPS://A.example/", true, "A.example", "A.example", 443, "/");
        check("http://a:8080/x/y?z=1#part", false, "a:8080", "a", 8080, "/x/y?z=1");
        check("https://a?z=1", true, "a", "a", 443, "/?z=1");
        check("http://a:/x", false, "a", "a", 80, "/x");
        check("http://10.0.0.1:1/", false, "10.0.0.1:1", "10.0.0.1", 1, "/");
        check("https://[::1]/x", true, "[::1]", "::1", 443, "/x");
        check("http://[2001:db8::1]:81", false, "[2001:db8::1]:81", "2001:db8::1", 81, "/");
        check("http://a/x@y:z", false, "a", "a", 80, "/x@y:z");
        check("http://a_b.svc#", false, "a_b.svc", "a_b.svc", 80, "/");
        check("http://a/<x>?{\"y\"}", false, "a", "a", 80, "/%3Cx%3E?{%22y%22}");
        let long = format!("http://a/{}", "x".repeat(70_000));
        assert!(Url::parse(&long).unwrap().target().is_err());
    }

    #[test]
    fn what_cannot_be_called_is_said() {
        for (url, reason) in [
            ("", "scheme"),
            ("a.example/x", "scheme"),
            ("ftp://a/", "http and https"),
            ("http://", "no host"),
            ("http:///x", "no host"),
            ("http://:80/", "no host"),
            ("http://user:secret@a/", "user information"),
            ("http://a b/", "percent-encoded"),
            ("http://a/\r\nX: y", "percent-encoded"),
            ("http://ä/", "percent-encoded"),
            ("http://a:0/", "port"),
            ("http://a:65536/", "port"),
            ("http://a:+1/", "port"),
            ("http://a:1:2/", "port"),
            ("http://a\\b/", "host name"),
            ("http://[::1/", "no end"),
            ("http://[a]/", "is none"),
            ("http://[::1]x/", "more"),
        ] {
            let error = Url::parse(url).expect_err(url);
            assert!(error.contains(reason), "{url}: {error}");
        }
    }
}
