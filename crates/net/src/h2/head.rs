//! Heads of HTTP/2 messages, from and to the form of the `h2` crate.

use cardinal_http::{HeaderList, Method, RequestHead, ResponseHead, Version};
use http::uri::{Parts, PathAndQuery, Scheme};
use http::{HeaderMap, StatusCode, Uri};

use super::fields::{Fields, authority_of};
use crate::NetError;

/// Takes over the head of a request that a client opened a stream with. `false` when it has no place in HTTP/1 terms:
/// no path, or fields that are illegal.
pub fn read_request(head: &mut RequestHead, parts: &http::request::Parts) -> bool {
    let Some(method) = Method::parse(parts.method.as_str().as_bytes()) else { return false };
    head.method = method;
    head.version = Version::H2;
    let placed = match (&head.method, parts.uri.path_and_query(), parts.uri.authority()) {
        (Method::Connect, _, Some(authority)) => head.set_target(authority.as_str().as_bytes()),
        (_, Some(target), _) => head.set_target(target.as_str().as_bytes()),
        _ => false,
    };
    if !placed {
        return false;
    }
    match parts.uri.authority() {
        Some(authority) => {
            // As in nginx, filters and logs find the name where HTTP/1 has it.
            if !head.headers.append(b"host", authority.as_str().as_bytes()) {
                return false;
            }
            head.set_authority(authority.as_str().as_bytes());
        }
        None if parts.headers.get_all(http::header::HOST).iter().count() > 1 => return false,
        None => {}
    }
    let mut cookies: Vec<u8> = Vec::new();
    for (name, value) in &parts.headers {
        // With `:authority`, `Host` is not needed, and must not disagree with it (RFC 9113 section 8.3.1).
        if name == http::header::HOST && parts.uri.authority().is_some() {
            if parts.uri.authority().is_some_and(|a| !a.as_str().as_bytes().eq_ignore_ascii_case(value.as_bytes())) {
                return false;
            }
            continue;
        }
        if name == http::header::COOKIE {
            if !cookies.is_empty() {
                cookies.extend_from_slice(b"; ");
            }
            cookies.extend_from_slice(value.as_bytes());
            continue;
        }
        if !head.headers.append(name.as_str().as_bytes(), value.as_bytes()) {
            return false;
        }
    }
    // One field, because HTTP/1 allows only one (RFC 9113 section 8.2.3).
    cookies.is_empty() || head.headers.append(b"cookie", &cookies)
}

/// What a request to an upstream is for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'x> {
    /// The method.
    pub method: &'x Method,
    /// The connection is secured.
    pub https: bool,
    /// Host, with the port where it is not the default one.
    pub authority: &'x [u8],
    /// Path and query.
    pub path: &'x [u8],
}

/// Makes the head of a request to an upstream.
pub fn write_request(target: &Target<'_>, fields: Fields) -> Result<http::Request<()>, NetError> {
    let unsendable = NetError::Unsendable;
    let method = match target.method {
        Method::Get => http::Method::GET,
        Method::Post => http::Method::POST,
        other => http::Method::from_bytes(other.as_str().as_bytes()).map_err(|_| unsendable("method"))?,
    };
    let path = if *target.method == Method::Connect { b"/" } else { target.path };
    let mut parts = Parts::default();
    parts.scheme = Some(if target.https { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(authority_of(target.authority).ok_or(unsendable("authority"))?);
    parts.path_and_query = Some(PathAndQuery::try_from(path).map_err(|_| unsendable("request head"))?);
    let mut request = http::Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| unsendable("request head"))?;
    *request.version_mut() = http::Version::HTTP_2;
    *request.headers_mut() = fields.into_map();
    Ok(request)
}

pub(super) fn read_response(head: &mut ResponseHead, status: StatusCode, headers: &HeaderMap) {
    head.clear();
    head.status = status.as_u16();
    head.version = Version::H2;
    read_headers(&mut head.headers, headers);
}

pub(super) fn read_headers(list: &mut HeaderList, map: &HeaderMap) {
    for (name, value) in map {
        list.append(name.as_str().as_bytes(), value.as_bytes());
    }
}
