//! Finding the token in a request.

use std::borrow::Cow;

use cardinal_http::{Name, RequestHead, trim};

use crate::query_values;

/// Where to look.
pub(super) struct Places {
    pub(super) arguments: Vec<Box<str>>,
    pub(super) cookies: Vec<Box<str>>,
    pub(super) headers: Vec<Box<str>>,
}

/// What was found. The same token in several places is one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Retrieved<'r> {
    Nothing,
    One(Cow<'r, [u8]>),
    /// An argument without a value.
    Valueless,
    /// Different ones.
    Several,
}

impl<'r> Retrieved<'r> {
    fn and(self, more: Option<Cow<'r, [u8]>>) -> Self {
        match (self, more) {
            (known, Some(more)) if more.is_empty() => known,
            (Self::Nothing, Some(token)) => Self::One(token),
            (Self::Nothing | Self::Valueless, None) => Self::Valueless,
            (Self::One(known), Some(more)) if known == more => Self::One(known),
            _ => Self::Several,
        }
    }
}

impl Places {
    /// Looks in query, cookies and headers.
    pub(super) fn search<'r>(&self, request: &'r RequestHead) -> Retrieved<'r> {
        let mut found = Retrieved::Nothing;
        for name in request.query().map(|_| &self.arguments).into_iter().flatten() {
            for value in query_values::values(request.query().unwrap_or_default(), name.as_bytes()) {
                found = found.and(value);
            }
        }
        for name in &self.cookies {
            if let Some(value) = cookie(request, name) {
                found = found.and(Some(Cow::Borrowed(value)));
            }
        }
        for name in &self.headers {
            if let Some(token) = request.headers.get(name.as_bytes()).and_then(bearer) {
                found = found.and(Some(Cow::Borrowed(token)));
            }
        }
        found
    }
}

/// The first cookie of this name, in any case, as nginx finds it.
fn cookie<'r>(request: &'r RequestHead, name: &str) -> Option<&'r [u8]> {
    request.headers.known_all(Name::Cookie).flat_map(|value| value.split(|b| *b == b';')).find_map(|pair| {
        let (key, value) = pair.split_at_checked(memchr::memchr(b'=', pair)?)?;
        trim(key).eq_ignore_ascii_case(name.as_bytes()).then(|| trim(value.get(1..).unwrap_or_default()))
    })
}

/// The token of `Bearer <token>`; the scheme may be in any case.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = trim(value).split_at_checked(b"bearer".len())?;
    let spaced = rest.first().is_some_and(u8::is_ascii_whitespace);
    (spaced && scheme.eq_ignore_ascii_case(b"bearer")).then(|| trim(rest))
}
