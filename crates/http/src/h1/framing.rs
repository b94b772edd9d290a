//! How long a body is (RFC 9112 section 6).

use crate::head::{Method, RequestHead, ResponseHead, Version};
use crate::headers::{HeaderList, Name};
use crate::token::{split_list, trim};

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// This many bytes.
    Length(u64),
    /// Chunks, then trailers.
    Chunked,
    /// Up to the end of the connection; responses only.
    UntilClose,
}

/// Why the end of a body is invalid or ambiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// Not a number, or several different ones.
    #[error("malformed or conflicting Content-Length")]
    ContentLength,
    /// Anything but a single `chunked`.
    #[error("unsupported Transfer-Encoding")]
    TransferEncoding,
    /// An expectation other than `100-continue`.
    #[error("unknown expectation")]
    Expectation,
    /// Both at once.
    #[error("Content-Length and Transfer-Encoding together")]
    Both,
}

/// How the body of a request ends.
pub fn request_framing(head: &RequestHead) -> Result<Framing, FramingError> {
    match (chunked(&head.headers, head.version)?, content_length(&head.headers)?) {
        (true, Some(_)) => Err(FramingError::Both),
        (true, None) => Ok(Framing::Chunked),
        (false, Some(0) | None) => Ok(Framing::None),
        (false, Some(length)) => Ok(Framing::Length(length)),
    }
}

/// How the body of a response to `method` ends.
pub fn response_framing(method: &Method, head: &ResponseHead) -> Result<Framing, FramingError> {
    let bodyless = *method == Method::Head
        || head.status < 200
        || matches!(head.status, 204 | 304)
        || (*method == Method::Connect && (200..300).contains(&head.status));
    match (chunked(&head.headers, head.version)?, content_length(&head.headers)?) {
        (true, Some(_)) => Err(FramingError::Both),
        _ if bodyless => Ok(Framing::None),
        (true, None) => Ok(Framing::Chunked),
        (false, Some(length)) => Ok(Framing::Length(length)),
        (false, None) => Ok(Framing::UntilClose),
    }
}

/// Whether the fields say that there is a body, be it one that the status forbids.
pub fn announces_body(headers: &HeaderList) -> bool {
    headers.known(Name::TransferEncoding).is_some() || headers.known_all(Name::ContentLength).any(|value| value != b"0")
}

/// Whether the connection may serve another message after this one (RFC 9112 section 9.3).
pub fn keep_alive(version: Version, headers: &HeaderList) -> bool {
    match version {
        Version::H10 => {
            headers.known_list_contains(Name::Connection, b"keep-alive")
                && !headers.known_list_contains(Name::Connection, b"close")
        }
        Version::H11 | Version::H2 => !headers.known_list_contains(Name::Connection, b"close"),
    }
}

/// Whether the client waits for `100 Continue`; `Err` for any other expectation (RFC 9110 section 10.1.1).
pub fn wants_continue(head: &RequestHead) -> Result<bool, FramingError> {
    match head.headers.known(Name::Expect) {
        None => Ok(false),
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(head.version >= Version::H11),
        Some(_) => Err(FramingError::Expectation),
    }
}

/// The one length that all `Content-Length` fields agree on.
pub fn content_length(headers: &HeaderList) -> Result<Option<u64>, FramingError> {
    let mut values = headers.known_all(Name::ContentLength);
    let Some(first) = values.next() else { return Ok(None) };
    if let Some(number) = parse_length(first)
        && values.next().is_none()
    {
        return Ok(Some(number));
    }
    let mut length = None;
    for value in headers.known_all(Name::ContentLength) {
        if value.is_empty() {
            return Err(FramingError::ContentLength);
        }
        for part in value.split(|b| *b == b',').map(trim) {
            let number = parse_length(part).ok_or(FramingError::ContentLength)?;
            if length.is_some_and(|known| known != number) {
                return Err(FramingError::ContentLength);
            }
            length = Some(number);
        }
    }
    Ok(length)
}

/// Digits only: no sign, no space.
fn parse_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |n, d| {
        let digit = d.is_ascii_digit().then(|| u64::from(d - b'0'))?;
        n.checked_mul(10)?.checked_add(digit)
    })
}

/// Whether the one transfer coding is `chunked`.
fn chunked(headers: &HeaderList, version: Version) -> Result<bool, FramingError> {
    let mut codings = 0;
    for value in headers.known_all(Name::TransferEncoding) {
        if value.is_empty() {
            return Err(FramingError::TransferEncoding);
        }
        for coding in split_list(value) {
            codings += 1;
            if !coding.eq_ignore_ascii_case(b"chunked") || codings > 1 {
                return Err(FramingError::TransferEncoding);
            }
        }
        if codings == 0 {
            return Err(FramingError::TransferEncoding);
        }
    }
    // HTTP/1.0 has no transfer codings: implementations disagree about a message with one (RFC 9112 section 6.1).
    if codings > 0 && version == Version::H10 { Err(FramingError::TransferEncoding) } else { Ok(codings > 0) }
}
