//! Heads: request line or status line, and fields.

use memchr::memchr;

use crate::head::{Method, RequestHead, ResponseHead, Version};
use crate::headers::{HeaderList, Name};
use crate::token::{is_token, is_value, trim};

/// Limits on a head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the whole head, the empty line included.
    pub head_bytes_max: usize,
    /// Bytes of the first line.
    pub line_bytes_max: usize,
    /// Fields.
    pub header_count_max: usize,
}

/// How far parsing came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed.
    Partial,
    /// The head is complete and this many bytes long.
    Complete(usize),
}

/// Why bytes are not a head that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The first line is not one.
    #[error("malformed first line")]
    StartLine,
    /// The version is not HTTP/1.0 or HTTP/1.1.
    #[error("unsupported HTTP version")]
    Version,
    /// A method that is not a token.
    #[error("malformed method")]
    Method,
    /// A target in none of the four forms.
    #[error("malformed request target")]
    Target,
    /// A status that is not three digits, 100 or more.
    #[error("malformed status")]
    Status,
    /// A field without a colon, or with a name that is not a token.
    #[error("malformed header name")]
    FieldName,
    /// Control characters in a value.
    #[error("control character in a header value")]
    FieldValue,
    /// A line that continues the one before.
    #[error("obsolete line folding")]
    Folding,
    /// A line end without CR.
    #[error("bare LF")]
    BareLf,
    /// `Host` missing, repeated or malformed.
    #[error("missing, repeated or malformed Host")]
    Host,
    /// The first line is over its limit.
    #[error("first line too long")]
    LineTooLong,
    /// The head is over its limit.
    #[error("head too large")]
    TooLarge,
    /// More fields than the limit.
    #[error("too many header fields")]
    TooMany,
}

/// Parses a request head at the start of `buf`. `head` must be clear. Empty lines before it are skipped
/// (RFC 9112 section 2.2).
pub fn parse_request(buf: &[u8], limits: &HeadLimits, head: &mut RequestHead) -> Result<Parsed, HeadError> {
    let mut skipped = 0;
    while let Some(b"\r\n") = buf.get(skipped..skipped + 2) {
        skipped += 2;
        if skipped > 64 {
            return Err(HeadError::StartLine);
        }
    }
    let rest = buf.get(skipped..).unwrap_or_default();
    let Some(end) = find_line(rest, limits)? else { return partial(rest, limits) };
    let line = rest.get(..end).unwrap_or_default();
    let first = memchr(b' ', line).ok_or(HeadError::StartLine)?;
    let last = memchr::memrchr(b' ', line).filter(|last| *last > first).ok_or(HeadError::StartLine)?;
    head.method = Method::parse(line.get(..first).unwrap_or_default()).ok_or(HeadError::Method)?;
    head.version = parse_version(line.get(last + 1..).unwrap_or_default())?;
    let start = rest.get(end + 2..).unwrap_or_default();
    let base = head.headers.push_raw(line);
    let target_len = last - first - 1;
    let Some(len) = parse_fields(start, end + 2, limits, &mut head.headers)? else { return partial(rest, limits) };
    if !head.place_target(base + first + 1, target_len) {
        return Err(HeadError::Target);
    }
    check_host(head)?;
    Ok(Parsed::Complete(skipped + end + 2 + len))
}

/// Parses a response head at the start of `buf`. `head` must be clear.
pub fn parse_response(buf: &[u8], limits: &HeadLimits, head: &mut ResponseHead) -> Result<Parsed, HeadError> {
    let Some(end) = find_line(buf, limits)? else { return partial(buf, limits) };
    let line = buf.get(..end).unwrap_or_default();
    head.version = parse_version(line.get(..8).unwrap_or_default())?;
    let (b" ", digits, rest) =
        (line.get(8..9).unwrap_or_default(), line.get(9..12).unwrap_or_default(), line.get(12..).unwrap_or_default())
    else {
        return Err(HeadError::StartLine);
    };
    if digits.len() != 3 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::Status);
    }
    head.status = digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
    if head.status < 100 {
        return Err(HeadError::Status);
    }
    if !matches!(rest, [] | [b' ', ..]) || !is_value(rest) {
        return Err(HeadError::StartLine);
    }
    let base = head.headers.push_raw(line);
    if line.len() > 13 {
        head.place_reason(base + 13..base + line.len());
    }
    let start = buf.get(end + 2..).unwrap_or_default();
    let Some(len) = parse_fields(start, end + 2, limits, &mut head.headers)? else { return partial(buf, limits) };
    Ok(Parsed::Complete(end + 2 + len))
}

/// Parses fields up to and including the empty line, into `headers`. `used` counts the bytes of the head before
/// `buf`. Returns the length, or `None` when more bytes are needed.
pub(super) fn parse_fields(
    buf: &[u8],
    used: usize,
    limits: &HeadLimits,
    headers: &mut HeaderList,
) -> Result<Option<usize>, HeadError> {
    let end = match memchr::memmem::find(buf, b"\r\n\r\n") {
        _ if buf.starts_with(b"\r\n") => return Ok(Some(2)),
        Some(end) => end + 4,
        None => {
            // What cannot become a head is refused without waiting for its end.
            return match memchr(b'\n', buf) {
                Some(at) if at == 0 || buf.get(at - 1) != Some(&b'\r') => Err(HeadError::BareLf),
                _ => Ok(None),
            };
        }
    };
    if used + end > limits.head_bytes_max {
        return Err(HeadError::TooLarge);
    }
    let block = buf.get(..end - 2).unwrap_or_default();
    let base = headers.push_raw(block);
    let mut at = 0;
    let mut count = 0;
    while at < block.len() {
        let line = block.get(at..).unwrap_or_default();
        let line_end = memchr(b'\n', line).ok_or(HeadError::BareLf)?;
        let line = line.get(..line_end).unwrap_or_default().strip_suffix(b"\r").ok_or(HeadError::BareLf)?;
        count += 1;
        if count > limits.header_count_max {
            return Err(HeadError::TooMany);
        }
        parse_field(line, base + at, headers)?;
        at += line_end + 1;
    }
    Ok(Some(end))
}

/// Parses one line, whose bytes are in the arena at `place`.
fn parse_field(line: &[u8], place: usize, headers: &mut HeaderList) -> Result<(), HeadError> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(HeadError::Folding);
    }
    let colon = memchr(b':', line).ok_or(HeadError::FieldName)?;
    let name = line.get(..colon).unwrap_or_default();
    if !is_token(name) {
        return Err(HeadError::FieldName);
    }
    let raw = line.get(colon + 1..).unwrap_or_default();
    if !is_value(raw) {
        return Err(HeadError::FieldValue);
    }
    let value = trim(raw);
    let offset = raw.len() - raw.trim_ascii_start_tabs().len();
    // A line written as everybody writes it is forwarded as it is; odd spacing is not.
    let canonical = if raw.len() == value.len() + 1 && raw.first() == Some(&b' ') { place + line.len() + 2 } else { 0 };
    headers.push_field(Name::of(name), place, colon, place + colon + 1 + offset, value.len(), canonical);
    Ok(())
}

trait TrimStart {
    fn trim_ascii_start_tabs(&self) -> &[u8];
}

impl TrimStart for [u8] {
    fn trim_ascii_start_tabs(&self) -> &[u8] {
        let start = self.iter().position(|b| !matches!(b, b' ' | b'\t')).unwrap_or(self.len());
        self.get(start..).unwrap_or_default()
    }
}

/// The length of the first line, without its CRLF.
fn find_line(buf: &[u8], limits: &HeadLimits) -> Result<Option<usize>, HeadError> {
    let Some(at) = memchr(b'\n', buf) else {
        return if buf.len() > limits.line_bytes_max { Err(HeadError::LineTooLong) } else { Ok(None) };
    };
    let end = at.checked_sub(1).filter(|end| buf.get(*end) == Some(&b'\r')).ok_or(HeadError::BareLf)?;
    if end > limits.line_bytes_max {
        return Err(HeadError::LineTooLong);
    }
    Ok(Some(end))
}

fn partial(buf: &[u8], limits: &HeadLimits) -> Result<Parsed, HeadError> {
    if buf.len() >= limits.head_bytes_max { Err(HeadError::TooLarge) } else { Ok(Parsed::Partial) }
}

fn parse_version(text: &[u8]) -> Result<Version, HeadError> {
    match text {
        b"HTTP/1.1" => Ok(Version::H11),
        b"HTTP/1.0" => Ok(Version::H10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(HeadError::Version)
        }
        _ => Err(HeadError::StartLine),
    }
}

/// Exactly one Host in HTTP/1.1, at most one in HTTP/1.0 (RFC 9112 section 3.2), without characters that no authority
/// has.
fn check_host(head: &RequestHead) -> Result<(), HeadError> {
    let mut hosts = head.headers.known_all(Name::Host);
    let first = hosts.next();
    if hosts.next().is_some() || (first.is_none() && head.version == Version::H11) {
        return Err(HeadError::Host);
    }
    let bad = |b: &u8| matches!(b, b' ' | b'\t' | b'/' | b'?' | b'#' | b'@' | b',' | b'\\');
    match first {
        Some(host) if host.iter().any(bad) => Err(HeadError::Host),
        _ => Ok(()),
    }
}
