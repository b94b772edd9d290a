//! Heads: request line or status line, and fields.

use memchr::memchr;

use crate::head::{Method, RequestHead, ResponseHead, Version};
use crate::headers::{HeaderList, Name};
use crate::token::{is_value, token_len, trim};

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
    /// A line of a request that ends without CR.
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
    let Some((end, start)) = find_line::<STRICT>(rest, limits)? else { return partial(rest, limits) };
    let line = rest.get(..end).unwrap_or_default();
    // The target has no space and the version no more than eight bytes, or neither of them is accepted below.
    let first = line.iter().position(|byte| *byte == b' ').ok_or(HeadError::StartLine)?;
    let last = line.iter().rposition(|byte| *byte == b' ').filter(|last| *last > first).ok_or(HeadError::StartLine)?;
    head.method = Method::parse(line.get(..first).unwrap_or_default()).ok_or(HeadError::Method)?;
    head.version = parse_version(line.get(last + 1..).unwrap_or_default())?;
    let fields = rest.get(start..).unwrap_or_default();
    let base = head.headers.push_raw(line);
    let target_len = last - first - 1;
    let Some(len) = parse_fields::<STRICT>(fields, start, limits, &mut head.headers)? else {
        return partial(rest, limits);
    };
    if !head.place_target(base + first + 1, target_len) {
        return Err(HeadError::Target);
    }
    check_host(head)?;
    Ok(Parsed::Complete(skipped + start + len))
}

/// Parses a response head at the start of `buf`. `head` must be clear. Lines may end in LF alone, as some old servers
/// and devices end them (RFC 9112 section 2.2; nginx); [`HeaderList::write_h1`] writes them with CRLF.
pub fn parse_response(buf: &[u8], limits: &HeadLimits, head: &mut ResponseHead) -> Result<Parsed, HeadError> {
    let Some((end, start)) = find_line::<LENIENT>(buf, limits)? else { return partial(buf, limits) };
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
    let fields = buf.get(start..).unwrap_or_default();
    let Some(len) = parse_fields::<LENIENT>(fields, start, limits, &mut head.headers)? else {
        return partial(buf, limits);
    };
    Ok(Parsed::Complete(start + len))
}

/// Lines end in CRLF: requests.
pub(super) const STRICT: bool = false;
/// Lines end in CRLF or in LF: responses.
pub(super) const LENIENT: bool = true;

/// Parses fields up to and including the empty line, into `headers`, in one pass over the bytes. `used` counts the
/// bytes of the head before `buf`. Returns the length, or `None` when more bytes are needed; then `headers` is as it
/// was.
pub(super) fn parse_fields<const LF: bool>(
    buf: &[u8],
    used: usize,
    limits: &HeadLimits,
    headers: &mut HeaderList,
) -> Result<Option<usize>, HeadError> {
    let (base, before) = (headers.raw_len(), headers.len());
    let mut at = 0;
    let outcome = loop {
        match buf.get(at) {
            Some(byte) if *byte > b' ' => {}
            Some(b'\r') => {
                break match buf.get(at + 1) {
                    Some(b'\n') => Ok(Some(at + 2)),
                    Some(_) => Err(HeadError::FieldName),
                    None => Ok(None),
                };
            }
            Some(b'\n') if LF => break Ok(Some(at + 1)),
            Some(b' ' | b'\t') => break Err(HeadError::Folding),
            Some(_) => {}
            None => break Ok(None),
        }
        if headers.len() - before >= limits.header_count_max {
            break Err(HeadError::TooMany);
        }
        match parse_field::<LF>(buf, at, base, headers) {
            Ok(Some(next)) => at = next,
            Ok(None) => break Ok(None),
            Err(error) => break Err(error),
        }
    };
    match outcome {
        Ok(Some(end)) if used + end > limits.head_bytes_max => Err(HeadError::TooLarge),
        Ok(Some(end)) => {
            // The empty line is not needed; the line before it is, to its end.
            headers.push_raw(buf.get(..end - 1).unwrap_or_default());
            Ok(Some(end))
        }
        other => {
            headers.truncate(before);
            other
        }
    }
}

/// Parses the line at `at`, whose bytes will be in the arena from `base` on; gives the place of the next line, or
/// `None` when more bytes are needed.
fn parse_field<const LF: bool>(
    buf: &[u8],
    at: usize,
    base: usize,
    headers: &mut HeaderList,
) -> Result<Option<usize>, HeadError> {
    let line = buf.get(at..).unwrap_or_default();
    let colon = token_len(line);
    match line.get(colon) {
        Some(b':') if colon > 0 => {}
        Some(b'\n') => return Err(HeadError::BareLf),
        Some(b'\r') if line.len() == colon + 1 => return Ok(None),
        Some(_) => return Err(HeadError::FieldName),
        None => return Ok(None),
    }
    let name = line.get(..colon).unwrap_or_default();
    let Some(end) = find_value_end::<LF>(line, colon + 1)? else { return Ok(None) };
    let bare = LF && line.get(end) == Some(&b'\n');
    let raw = line.get(colon + 1..end).unwrap_or_default();
    // A line in the usual form is forwarded unchanged; unusual spacing and a bare LF are normalized. Below the space
    // there is only the tab in a value.
    let (offset, len, canonical) = match raw {
        [b' ', first, .., last] if *first > b' ' && *last > b' ' => (1, raw.len() - 1, true),
        _ => place_value(raw),
    };
    let place = base + at;
    let line_end = if canonical && !bare { place + end + 2 } else { 0 };
    headers.push_field(Name::of(name), place, colon, place + colon + 1 + offset, len, line_end);
    Ok(Some(at + end + if bare { 1 } else { 2 }))
}

/// Where a value is within what follows the colon, its length, and whether it is after exactly one space and before
/// none.
#[cold]
fn place_value(raw: &[u8]) -> (usize, usize, bool) {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    match raw {
        [b' ', only] if !is_space(only) => (1, 1, true),
        [b' '] => (1, 0, true),
        _ => (raw.iter().position(|b| !is_space(b)).unwrap_or(raw.len()), trim(raw).len(), false),
    }
}

/// Where the end of the line after a value is, from `at` on; `None` when more bytes are needed.
#[inline]
fn find_value_end<const LF: bool>(line: &[u8], at: usize) -> Result<Option<usize>, HeadError> {
    let at = at + find_control(line.get(at..).unwrap_or_default());
    match line.get(at..) {
        Some([b'\r', b'\n', ..]) => Ok(Some(at)),
        _ => find_value_end_from::<LF>(line, at),
    }
}

/// The same from the first control character on, whichever it is.
#[cold]
fn find_value_end_from<const LF: bool>(line: &[u8], mut at: usize) -> Result<Option<usize>, HeadError> {
    loop {
        match (line.get(at), line.get(at + 1)) {
            (Some(b'\r'), Some(b'\n')) => return Ok(Some(at)),
            (Some(b'\n'), _) if LF => return Ok(Some(at)),
            (Some(b'\t'), _) => at += 1,
            (None, _) | (Some(b'\r'), None) => return Ok(None),
            (Some(b'\n'), _) => return Err(HeadError::BareLf),
            _ => return Err(HeadError::FieldValue),
        }
        at += find_control(line.get(at..).unwrap_or_default());
    }
}

/// The place of the first control character, or the length; eight bytes at a time. Not inlined, so that its constants
/// stay in registers.
#[inline(never)]
fn find_control(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let (words, rest) = bytes.as_chunks::<8>();
    for (number, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let (below_space, above_delete) = (word.wrapping_sub(ONES * 0x20), word.wrapping_add(ONES));
        // Neither control characters nor bytes outside ASCII: so are most words.
        if (below_space | above_delete | word) & HIGH == 0 {
            continue;
        }
        // The lowest bit that is set is exact, and only it is used: a borrow goes upwards only.
        let delete = (word ^ (ONES * 0x7f)).wrapping_sub(ONES) & !(word ^ (ONES * 0x7f));
        let found = (below_space & !word | delete) & HIGH;
        if found != 0 {
            return number * 8 + (found.trailing_zeros() / 8) as usize;
        }
    }
    let rest_at = words.len() * 8;
    rest.iter().position(|byte| *byte < 0x20 || *byte == 0x7f).map_or(bytes.len(), |at| rest_at + at)
}

/// The length of the first line without its end, and with it.
fn find_line<const LF: bool>(buf: &[u8], limits: &HeadLimits) -> Result<Option<(usize, usize)>, HeadError> {
    let Some(at) = memchr(b'\n', buf) else {
        return if buf.len() > limits.line_bytes_max { Err(HeadError::LineTooLong) } else { Ok(None) };
    };
    let end = match at.checked_sub(1).filter(|end| buf.get(*end) == Some(&b'\r')) {
        Some(end) => end,
        None if LF => at,
        None => return Err(HeadError::BareLf),
    };
    if end > limits.line_bytes_max {
        return Err(HeadError::LineTooLong);
    }
    Ok(Some((end, at + 1)))
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

/// Exactly one Host in HTTP/1.1, at most one in HTTP/1.0 (RFC 9112 section 3.2). Whether it can be read, see
/// [`RequestHead::has_readable_host`].
fn check_host(head: &RequestHead) -> Result<(), HeadError> {
    let mut hosts = head.headers.known_all(Name::Host);
    let first = hosts.next();
    if hosts.next().is_some() || (first.is_none() && head.version == Version::H11) {
        return Err(HeadError::Host);
    }
    Ok(())
}
