//! Protection against cross-site request forgery and DNS rebinding.
//!
//! A page of another origin can send requests to `127.0.0.1` from the browser of an operator. With DNS rebinding, the
//! page's own host name resolves to the loopback address, so that the browser sees the same origin. Programs send no
//! `Origin` header.

use std::net::IpAddr;

use super::message::Request;
use crate::dao::Fault;

/// Why a request is refused as one that a foreign web page has sent: the header that shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A page of another origin.
    Origin,
    /// A foreign name that resolves to the loopback address.
    Host,
}

impl Refusal {
    pub(super) const ALL: [Self; 2] = [Self::Origin, Self::Host];

    /// For metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Host => "host",
        }
    }

    pub(super) fn fault(self) -> Fault {
        let message = match self {
            Self::Origin => "requests from web pages of this origin are not allowed",
            Self::Host => {
                "requests over the loopback interface must name localhost, an address or the host of admin_gui_url in the \
                 Host header"
            }
        };
        Fault::message(403, message)
    }
}

/// Whether a request is refused as one that a foreign web page has sent.
pub(super) fn refusal(request: &Request, origins: &[String]) -> Option<Refusal> {
    if let Some(origin) = &request.origin
        && !origins.contains(origin)
        && !is_local_origin(origin)
        && !is_same_origin(origin, request.host.as_deref())
    {
        return Some(Refusal::Origin);
    }
    // DNS rebinding: a foreign name that resolves to the loopback address.
    let host = request.host.as_deref().map(host_of);
    let is_configured =
        |host: &str| origins.iter().filter_map(|origin| authority_of(origin)).any(|a| host_of(a) == host);
    if request.is_local && host.is_some_and(|host| !is_local_name(host) && !is_configured(host)) {
        return Some(Refusal::Host);
    }
    None
}

/// The host of an authority, without its port.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

/// `localhost`, a name below it, or an address.
fn is_local_name(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || host.to_ascii_lowercase().ends_with(".localhost")
}

/// The authority of an origin: `http://localhost:8002`.
fn authority_of(origin: &str) -> Option<&str> {
    origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"))
}

fn is_local_origin(origin: &str) -> bool {
    let Some(host) = authority_of(origin).map(host_of) else { return false };
    host.parse::<IpAddr>().map_or_else(|_| is_local_name(host), |address| address.is_loopback())
}

/// The page was loaded from the API itself. A name is not trusted here: see the check of `Host`.
fn is_same_origin(origin: &str, host: Option<&str>) -> bool {
    authority_of(origin).is_some_and(|authority| host.is_some_and(|host| authority.eq_ignore_ascii_case(host)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn check(origin: Option<&str>, host: &str, is_local: bool, refused: bool) {
        let request = Request {
            method: "POST".to_owned(),
            path: "/services".to_owned(),
            query: String::new(),
            content_type: None,
            origin: origin.map(str::to_owned),
            host: Some(host.to_owned()),
            is_local,
            preflight_headers: None,
            credentials: Default::default(),
            from: "127.0.0.1".to_owned(),
            body: Bytes::new(),
        };
        let found = refusal(&request, &["https://manager.test".to_owned()]);
        assert_eq!(found.is_some(), refused, "{origin:?} {host} {is_local}");
    }

    #[test]
    fn foreign_pages_are_refused() {
        check(None, "127.0.0.1:8001", true, false);
        check(None, "localhost:8001", true, false);
        check(None, "[::1]:8001", true, false);
        check(Some("http://localhost:8002"), "localhost:8001", true, false);
        check(Some("http://127.0.0.1:8002"), "127.0.0.1:8001", true, false);
        check(Some("https://manager.test"), "127.0.0.1:8001", true, false);
        check(Some("https://evil.test"), "127.0.0.1:8001", true, true);
        check(Some("null"), "127.0.0.1:8001", true, true);
        check(Some("http://localhost.evil.test"), "127.0.0.1:8001", true, true);
        // DNS rebinding.
        check(None, "evil.test:8001", true, true);
        check(Some("http://evil.test:8001"), "evil.test:8001", true, true);
        // Behind a reverse proxy on this machine.
        check(Some("https://manager.test"), "manager.test", true, false);
        // From other machines, names are usual.
        check(None, "admin.test:8001", false, false);
        check(Some("http://admin.test:8001"), "admin.test:8001", false, false);
        check(Some("http://evil.test"), "admin.test:8001", false, true);
    }
}
