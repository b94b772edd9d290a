//! Paths and URLs.

use regex::Regex;

/// The normal form of a path that routes are matched with: percent-encoded characters decoded unless they are
/// reserved, hexadecimal digits in capitals, dot segments resolved, slashes merged. Kong: `normalize` of
/// `kong/tools/uri.lua`. Bytes that are not UTF-8 are encoded again.
pub fn normalize_path(path: &str) -> String {
    let decoded = decode(path.as_bytes());
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut rest: &[u8] = &decoded;
    let mut trailing = false;
    if rest.is_empty() {
        return String::new();
    }
    if let Some(tail) = rest.strip_prefix(b"/") {
        rest = tail;
    }
    for segment in rest.split(|b| *b == b'/') {
        trailing = false;
        match segment {
            b"" | b"." => trailing = true,
            b".." => {
                segments.pop();
                trailing = true;
            }
            other => segments.push(other),
        }
    }
    let mut out = Vec::with_capacity(decoded.len());
    for segment in &segments {
        out.push(b'/');
        out.extend_from_slice(segment);
    }
    if trailing || out.is_empty() {
        out.push(b'/');
    }
    match String::from_utf8(out) {
        Ok(text) => text,
        Err(e) => e.into_bytes().iter().map(encode_beyond_ascii).collect(),
    }
}

fn encode_beyond_ascii(byte: &u8) -> String {
    if byte.is_ascii() { char::from(*byte).to_string() } else { format!("%{byte:02X}") }
}

fn decode(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, tail)) = rest.split_first() {
        match tail {
            [h, l, after @ ..] if *first == b'%' && h.is_ascii_hexdigit() && l.is_ascii_hexdigit() => {
                let byte = hex(*h) * 16 + hex(*l);
                if b"!*'();:@&=+$,/?%#[]".contains(&byte) {
                    out.extend_from_slice(&[b'%', h.to_ascii_uppercase(), l.to_ascii_uppercase()]);
                } else {
                    out.push(byte);
                }
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

pub(super) fn check_path(text: &str) -> Result<(), String> {
    check_characters(text).and_then(|()| check_percent(text))
}

fn check_characters(text: &str) -> Result<(), String> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b".-_~/%:@!$&'()*+,;=".contains(&b);
    if text.starts_with('/') && text.bytes().all(ok) {
        return Ok(());
    }
    Err(format!("invalid path: '{text}' (characters outside of the reserved list of RFC 3986 found)"))
}

fn check_percent(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    for (i, _) in text.match_indices('%') {
        let digits = bytes.get(i + 1..i + 3);
        if !digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit)) {
            let bad: String = text[i..].chars().take(3).collect();
            return Err(format!("invalid url-encoded value: '{bad}'"));
        }
    }
    Ok(())
}

/// A path of a route, with a check of the regular expression that it may be.
pub fn check_router_path_by(text: &str, check_regex: impl Fn(&str) -> Result<(), String>) -> Result<(), String> {
    // Kong looks at percent encoding only where the characters are those of RFC 3986.
    if check_characters(text).is_ok() {
        check_percent(text)?;
    }
    if let Some(pattern) = text.strip_prefix('~') {
        return check_regex(pattern);
    }
    let normal = normalize_path(text);
    if normal == text { Ok(()) } else { Err(format!("non-normalized path, consider use '{normal}' instead")) }
}

pub(super) fn check_router_path(text: &str) -> Result<(), String> {
    check_router_path_by(text, |pattern| match Regex::new(pattern) {
        Ok(_) => Ok(()),
        Err(e) if needs_backtracking(&e) => Ok(()),
        Err(e) => Err(format!("invalid regex: '{pattern}' ({})", one_line(&e))),
    })
}

/// PCRE has look-around and back-references. Whether the router supports them is checked when the route is compiled.
fn needs_backtracking(error: &regex::Error) -> bool {
    let text = error.to_string();
    text.contains("look-around") || text.contains("backreferences are not supported")
}

fn one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned()
}

pub(super) fn check_url(text: &str) -> Result<(), String> {
    // luasocket's parser: scheme before `:`, authority after `//`.
    let (scheme, rest) = match text.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
        _ => (None, text),
    };
    let host = rest.strip_prefix("//").map(|r| {
        let authority = r.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit_once('@').map_or(authority, |(_, h)| h);
        if host.starts_with('[') { host } else { host.split(':').next().unwrap_or_default() }
    });
    if host.is_none_or(str::is_empty) {
        return Err("missing host in url".to_owned());
    }
    if scheme.is_none() {
        return Err("missing scheme in url".to_owned());
    }
    Ok(())
}

fn is_scheme(text: &str) -> bool {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    text.bytes().all(ok) && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}
