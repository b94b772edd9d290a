//! Request and response heads.

use std::ops::Range;

use crate::authority::is_authority;
use crate::headers::{HeaderList, Name};
use crate::token::is_token;

/// Protocol version of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0
    H10,
    /// HTTP/1.1
    #[default]
    H11,
    /// HTTP/2
    H2,
}

impl Version {
    /// As in `Via`: `1.0`, `1.1`, `2`.
    pub const fn number(self) -> &'static str {
        match self {
            Self::H10 => "1.0",
            Self::H11 => "1.1",
            Self::H2 => "2",
        }
    }
}

/// Request methods. Case matters (RFC 9110 section 9.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Method {
    /// GET
    #[default]
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// CONNECT
    Connect,
    /// OPTIONS
    Options,
    /// TRACE
    Trace,
    /// PATCH
    Patch,
    /// Any other token.
    Other(Box<str>),
}

impl Method {
    /// The method of this text; `None` when it is not a token.
    pub fn parse(text: &[u8]) -> Option<Self> {
        Some(match text {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"CONNECT" => Self::Connect,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            other if is_token(other) => Self::Other(std::str::from_utf8(other).ok()?.into()),
            _ => return None,
        })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
            Self::Other(text) => text,
        }
    }

    /// Repeating the request has the effect of making it once (RFC 9110 section 9.2.2).
    pub const fn is_idempotent(&self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace)
    }
}

/// The head of a request: from the client as parsed, and, edited, to the upstream.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// Method.
    pub method: Method,
    /// Version it came in.
    pub version: Version,
    /// Fields. For HTTP/2 `host` is that of `:authority`.
    pub headers: HeaderList,
    target: Range<usize>,
    path: Range<usize>,
    query: Option<Range<usize>>,
    authority: Option<Range<usize>>,
    scheme_https: Option<bool>,
}

impl RequestHead {
    /// Makes it an empty `GET` without a target, keeping the memory.
    pub fn clear(&mut self) {
        self.method = Method::Get;
        self.version = Version::H11;
        self.headers.clear();
        self.target = 0..0;
        self.path = 0..0;
        self.query = None;
        self.authority = None;
        self.scheme_https = None;
    }

    /// Sets the target, as it stands in a request line (RFC 9112 section 3.2): origin, absolute, authority or
    /// asterisk form. `false` when it is none of them.
    pub fn set_target(&mut self, target: &[u8]) -> bool {
        let start = self.headers.push_raw(target);
        self.place_target(start, target.len())
    }

    /// [`RequestHead::set_target`] for bytes that are in the arena.
    pub(crate) fn place_target(&mut self, start: usize, len: usize) -> bool {
        let target = self.headers.raw(start..start + len);
        if target.is_empty() || has_illegal(target) {
            return false;
        }
        let (authority, path) = match split_target(&self.method, target) {
            Some((authority, path)) => (authority, path),
            None => return false,
        };
        let query_at = memchr::memchr(b'?', target.get(path.clone()).unwrap_or_default());
        self.scheme_https = authority.as_ref().filter(|a| a.start > 0).map(|a| a.start == b"https://".len());
        self.authority = authority.map(|a| start + a.start..start + a.end);
        self.target = start..start + len;
        let (path_start, path_end) = (start + path.start, start + path.end);
        (self.path, self.query) = match query_at {
            Some(at) => (path_start..path_start + at, Some(path_start + at + 1..path_end)),
            None => (path_start..path_end, None),
        };
        true
    }

    /// Sets the authority of HTTP/2's `:authority`.
    pub fn set_authority(&mut self, authority: &[u8]) {
        let start = self.headers.push_raw(authority);
        self.authority = Some(start..start + authority.len());
    }

    /// The whole request target as it came.
    pub fn target(&self) -> &[u8] {
        self.headers.raw(self.target.clone())
    }

    /// The path, percent-encoded as it came; `/` for an absolute target without one, `*` for the asterisk form, empty
    /// for CONNECT.
    pub fn path(&self) -> &[u8] {
        let path = self.headers.raw(self.path.clone());
        if path.is_empty() && self.method != Method::Connect { b"/" } else { path }
    }

    /// What follows `?`, without it.
    pub fn query(&self) -> Option<&[u8]> {
        self.query.clone().map(|range| self.headers.raw(range))
    }

    /// Sets or removes the query. The bytes must be legal in a target; those that are not are percent-encoded.
    pub fn set_query(&mut self, query: Option<&[u8]>) {
        self.query = query.map(|query| {
            let mut legal = Vec::with_capacity(query.len());
            for byte in query {
                if *byte <= b' ' || *byte >= 0x7f || *byte == b'#' {
                    legal.extend_from_slice(format!("%{byte:02X}").as_bytes());
                } else {
                    legal.push(*byte);
                }
            }
            let start = self.headers.push_raw(&legal);
            start..start + legal.len()
        });
    }

    /// Host of the request, with its port if it has one: the target's authority, else `Host`.
    pub fn authority(&self) -> Option<&[u8]> {
        match &self.authority {
            Some(range) => Some(self.headers.raw(range.clone())),
            None => self.headers.known(Name::Host),
        }
    }

    /// Whether the host that the request is for, and a `Host` beside an absolute target, can be read (see
    /// [`is_authority`]). A missing host counts as readable.
    pub fn has_readable_host(&self) -> bool {
        let field = || self.headers.known(Name::Host).is_none_or(is_authority);
        match &self.authority {
            // In HTTP/2 the field is a copy of it.
            Some(range) => is_authority(self.headers.raw(range.clone())) && (self.version == Version::H2 || field()),
            None => field(),
        }
    }

    /// Whether the target's scheme is `https`: that of an absolute target, or of HTTP/2's `:scheme`. `None` for other
    /// forms.
    pub fn target_is_https(&self) -> Option<bool> {
        self.scheme_https
    }

    /// Sets the scheme of HTTP/2's `:scheme`.
    pub fn set_scheme(&mut self, https: bool) {
        self.scheme_https = Some(https);
    }
}

/// Whether a target has a byte that none has: controls, space, `#`. Without an early exit the loop is vectorised.
fn has_illegal(target: &[u8]) -> bool {
    target.iter().fold(false, |bad, b| bad | (*b <= b' ') | (*b == 0x7f) | (*b == b'#'))
}

/// Authority and path within a target.
fn split_target(method: &Method, target: &[u8]) -> Option<(Option<Range<usize>>, Range<usize>)> {
    let end = target.len();
    if *method == Method::Connect {
        return Some((Some(0..end), end..end));
    }
    if target.first() == Some(&b'/') {
        return Some((None, 0..end));
    }
    if target == b"*" {
        return (*method == Method::Options).then_some((None, 0..1));
    }
    let scheme = [b"http://".as_slice(), b"https://".as_slice()]
        .into_iter()
        .find(|s| target.get(..s.len()).is_some_and(|t| t.eq_ignore_ascii_case(s)))?;
    let start = scheme.len();
    let rest = target.get(start..)?;
    let path = start + rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
    (path > start).then_some((Some(start..path), path..end))
}

/// The head of a response: from the upstream as parsed, and, edited, to the client.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// Status, 100 to 599 (999 is let through).
    pub status: u16,
    /// Version it came in.
    pub version: Version,
    /// Fields.
    pub headers: HeaderList,
    reason: Range<usize>,
}

impl ResponseHead {
    /// A head of this status without fields.
    pub fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// Makes it empty, keeping the memory.
    pub fn clear(&mut self) {
        self.status = 0;
        self.version = Version::H11;
        self.headers.clear();
        self.reason = 0..0;
    }

    /// The reason phrase: the upstream's, else the standard one of the status.
    pub fn reason(&self) -> &[u8] {
        let reason = self.headers.raw(self.reason.clone());
        if reason.is_empty() { default_reason(self.status).as_bytes() } else { reason }
    }

    /// Changes the status; the reason becomes the standard one.
    pub fn set_status(&mut self, status: u16) {
        self.status = status;
        self.reason = 0..0;
    }

    pub(crate) fn place_reason(&mut self, range: Range<usize>) {
        self.reason = range;
    }
}

/// The standard reason phrase; empty for a status without one.
pub fn default_reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("")
}
