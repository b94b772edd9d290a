//! A request body as named values: URL-encoded, JSON, or multipart. Kong: `kong.request.get_body`.

use std::borrow::Cow;
use std::ops::Range;

use cardinal_http::{HeaderList, Name, trim};
use memchr::memmem;
use serde_json::{Map, Value};

use crate::query_values;

/// Parts of a multipart body that are looked at.
const PARTS_MAX: usize = 1_000;

/// What is found under a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'b> {
    /// Nothing.
    Nothing,
    /// Something that is not text.
    NotText,
    /// One text.
    One(Cow<'b, [u8]>),
    /// Several values, or a list.
    Many,
}

impl<'b> Found<'b> {
    /// From all values of a name; `None` is a name without value.
    pub(super) fn of(mut values: impl Iterator<Item = Option<Cow<'b, [u8]>>>) -> Self {
        match (values.next(), values.next()) {
            (None, _) => Self::Nothing,
            (Some(_), Some(_)) => Self::Many,
            (Some(Some(value)), None) => Self::One(value),
            (Some(None), None) => Self::NotText,
        }
    }
}

/// How a body spells its values.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Url,
    Json,
    Multipart { boundary: Box<[u8]> },
}

impl Encoding {
    /// The encoding in the request's `Content-Type`, if it is supported.
    pub(super) fn of(headers: &HeaderList) -> Option<Self> {
        let value = headers.known(Name::ContentType)?;
        let kind = trim(value.split(|b| *b == b';').next().unwrap_or_default());
        if kind.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
            return Some(Self::Url);
        }
        if kind.eq_ignore_ascii_case(b"application/json") {
            return Some(Self::Json);
        }
        if kind.eq_ignore_ascii_case(b"multipart/form-data") {
            let boundary = parameter(value, b"boundary").filter(|b| !b.is_empty() && b.len() <= 70)?;
            return Some(Self::Multipart { boundary: boundary.into() });
        }
        None
    }
}

/// A body that was read.
#[derive(Debug)]
pub(super) enum Form<'b> {
    Url(&'b [u8]),
    Json(Map<String, Value>),
    Multipart { body: &'b [u8], parts: Vec<Part<'b>> },
}

#[derive(Debug)]
pub(super) struct Part<'b> {
    /// From its delimiter to the next one.
    whole: Range<usize>,
    name: &'b [u8],
    value: &'b [u8],
}

impl<'b> Form<'b> {
    /// Parses a body; `None` when it does not have the declared encoding.
    pub(super) fn read(encoding: &Encoding, body: &'b [u8]) -> Option<Self> {
        match encoding {
            Encoding::Url => Some(Self::Url(body)),
            Encoding::Json => match serde_json::from_slice(body) {
                Ok(Value::Object(map)) => Some(Self::Json(map)),
                _ => None,
            },
            Encoding::Multipart { boundary } => Some(Self::Multipart { body, parts: parts(boundary, body)? }),
        }
    }

    /// What is under a name.
    pub(super) fn find(&self, name: &str) -> Found<'_> {
        match self {
            Self::Url(body) => Found::of(query_values::values(body, name.as_bytes())),
            Self::Json(map) => match map.get(name) {
                None => Found::Nothing,
                Some(Value::String(text)) => Found::One(Cow::Borrowed(text.as_bytes())),
                Some(Value::Array(_) | Value::Object(_)) => Found::Many,
                Some(Value::Null | Value::Bool(_) | Value::Number(_)) => Found::NotText,
            },
            Self::Multipart { parts, .. } => {
                let named = parts.iter().filter(|part| part.name == name.as_bytes());
                Found::of(named.map(|part| Some(Cow::Borrowed(part.value))))
            }
        }
    }

    /// The body without what is under a name.
    pub(super) fn without(self, name: &str) -> Vec<u8> {
        match self {
            Self::Url(body) => query_values::without(body, name.as_bytes()).unwrap_or_default(),
            Self::Json(mut map) => {
                map.shift_remove(name);
                Value::Object(map).to_string().into_bytes()
            }
            Self::Multipart { body, parts } => {
                let mut out = Vec::with_capacity(body.len());
                let mut from = 0;
                for part in parts.iter().filter(|part| part.name == name.as_bytes()) {
                    out.extend_from_slice(body.get(from..part.whole.start).unwrap_or_default());
                    from = part.whole.end;
                }
                out.extend_from_slice(body.get(from..).unwrap_or_default());
                out
            }
        }
    }
}

/// The parts of a multipart body (RFC 7578, RFC 2046 section 5.1.1); `None` when it does not come apart.
fn parts<'b>(boundary: &[u8], body: &'b [u8]) -> Option<Vec<Part<'b>>> {
    let delimiter = [b"\r\n--", boundary].concat();
    let finder = memmem::Finder::new(&delimiter);
    // The first delimiter may open the body, without the line break.
    let opening = delimiter.get(2..)?;
    let mut start = if body.starts_with(opening) { 0 } else { finder.find(body)? + 2 };
    let mut parts = Vec::new();
    for _ in 0..PARTS_MAX {
        let content = start + opening.len();
        let rest = body.get(content..)?;
        if rest.starts_with(b"--") {
            return Some(parts);
        }
        let end = finder.find(rest)?;
        let (name, value) = name_and_value(rest.get(..end)?)?;
        let next = content + end + 2;
        parts.push(Part { whole: start..next, name, value });
        start = next;
    }
    None
}

/// Takes what is between two delimiters apart. A part without a name has an empty one.
fn name_and_value(part: &[u8]) -> Option<(&[u8], &[u8])> {
    let head_end = memmem::find(part, b"\r\n\r\n")?;
    let (head, value) = (part.get(..head_end)?, part.get(head_end + 4..)?);
    let disposition = head.split(|b| *b == b'\n').find_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        let name = trim(line.get(..colon)?);
        name.eq_ignore_ascii_case(b"content-disposition").then(|| line.get(colon + 1..)).flatten()
    });
    Some((disposition.and_then(|d| parameter(d, b"name")).unwrap_or_default(), value))
}

/// A parameter of a header value, without its quotes.
fn parameter<'v>(value: &'v [u8], name: &[u8]) -> Option<&'v [u8]> {
    value.split(|b| *b == b';').skip(1).find_map(|parameter| {
        let equals = memchr::memchr(b'=', parameter)?;
        if !trim(parameter.get(..equals)?).eq_ignore_ascii_case(name) {
            return None;
        }
        let value = parameter.get(equals + 1..)?.trim_ascii();
        Some(value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value))
    })
}
