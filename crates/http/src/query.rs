//! Query strings and forms (`application/x-www-form-urlencoded`).

use std::borrow::Cow;

/// The arguments in order, percent-decoded, `+` as space. An argument without `=` has no value (Kong: `true`).
/// At most `max` are read, so that a long query costs a bounded amount.
pub fn arguments(query: &[u8], max: usize) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> {
    query.split(|b| *b == b'&').filter(|part| !part.is_empty()).take(max).map(|part| match memchr::memchr(b'=', part) {
        Some(at) => (decode(part.get(..at).unwrap_or_default()), Some(decode(part.get(at + 1..).unwrap_or_default()))),
        None => (decode(part), None),
    })
}

/// Percent-decodes, `+` as space. A `%` that is not followed by two hex digits stays.
pub fn decode(text: &[u8]) -> Vec<u8> {
    decoded(text).into_owned()
}

/// Like [`decode`], without a copy where there is nothing to decode.
pub fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'+' => out.push(b' '),
            b'%' => match (text.get(at + 1).and_then(|b| hex(*b)), text.get(at + 2).and_then(|b| hex(*b))) {
                (Some(high), Some(low)) => {
                    out.push(high << 4 | low);
                    at += 2;
                }
                _ => out.push(b'%'),
            },
            other => out.push(*other),
        }
        at += 1;
    }
    Cow::Owned(out)
}

/// Percent-encodes all but unreserved characters (RFC 3986 section 2.3).
pub fn encode(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(*byte);
        } else {
            let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

/// Writes arguments as a query string.
pub fn write<'a>(arguments: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in arguments {
        if !out.is_empty() {
            out.push(b'&');
        }
        encode(name, &mut out);
        if let Some(value) = value {
            out.push(b'=');
            encode(value, &mut out);
        }
    }
    out
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}
