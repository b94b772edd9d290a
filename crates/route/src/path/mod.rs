//! The path normalizer: what routes match and upstreams are sent.

use std::borrow::Cow;

#[cfg(test)]
mod tests;

/// Normalizes a path without its query, as Kong does (`normalize` in `kong.tools.uri`, with slashes merged):
///
/// - `%XX` is decoded, except where it encodes a reserved character, which keeps its triplet in upper-case hex
///   (`%` itself is reserved, so nothing is decoded twice);
/// - then dot segments are resolved, the first of several slashes stays.
///
/// The result may hold any byte. A path that is already normal is returned unchanged.
pub fn normalize_path(path: &[u8]) -> Cow<'_, [u8]> {
    if is_normal(path) {
        return Cow::Borrowed(path);
    }
    let decoded = decode(path);
    Cow::Owned(resolve(&decoded))
}

/// Whether nginx takes the path at all: each `%` has two hexadecimal digits behind it, and no `..`, encoded or not,
/// leads above the root (`ngx_http_parse_complex_uri`, with slashes merged).
pub fn is_sound_path(path: &[u8]) -> bool {
    if is_plain(path) {
        return true;
    }
    let mut depth = 0_usize;
    // Length of the segment, and whether it has dots only.
    let (mut length, mut dots) = (0_usize, true);
    let mut rest = path;
    loop {
        let byte = match rest {
            [] => None,
            [b'%', after @ ..] => {
                let Some(([high, low], after)) = after.split_first_chunk::<2>() else { return false };
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (Some(high), Some(low)) = (digit(*high), digit(*low)) else { return false };
                rest = after;
                u8::try_from(high * 16 + low).ok()
            }
            [byte, after @ ..] => {
                rest = after;
                Some(*byte)
            }
        };
        match byte {
            None | Some(b'/') => {
                match (length, dots) {
                    (0 | 1, true) => {}
                    (2, true) if depth == 0 => return false,
                    (2, true) => depth -= 1,
                    _ => depth += 1,
                }
                (length, dots) = (0, true);
            }
            Some(byte) => (length, dots) = (length + 1, dots && byte == b'.'),
        }
        if byte.is_none() {
            return true;
        }
    }
}

/// Whether a character keeps its meaning only in the form it was sent in.
fn is_reserved(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'*'
            | b'\''
            | b'('
            | b')'
            | b';'
            | b':'
            | b'@'
            | b'&'
            | b'='
            | b'+'
            | b'$'
            | b','
            | b'/'
            | b'?'
            | b'%'
            | b'#'
            | b'['
            | b']'
    )
}

/// Whether nothing in the path needs a closer look: no `%`, no slash or dot after a slash. Without an early exit the
/// loop is vectorised.
fn is_plain(path: &[u8]) -> bool {
    let Some((b'/', rest)) = path.split_first() else { return false };
    let odd = path.iter().zip(rest).fold(false, |odd, (before, byte)| {
        odd | (*byte == b'%') | ((*before == b'/') & ((*byte == b'/') | (*byte == b'.')))
    });
    !odd
}

fn is_normal(path: &[u8]) -> bool {
    if is_plain(path) {
        return true;
    }
    let mut rest = path;
    let mut at_segment = true;
    while let Some((&byte, tail)) = rest.split_first() {
        if at_segment && byte == b'.' && is_dot_segment(rest) {
            return false;
        }
        match (byte, tail) {
            (b'/', [b'/', ..]) => return false,
            (b'%', [high, low, ..]) => {
                if let Some(value) = triplet(*high, *low)
                    && (!is_reserved(value) || high.is_ascii_lowercase() || low.is_ascii_lowercase())
                {
                    return false;
                }
            }
            _ => {}
        }
        at_segment = byte == b'/';
        rest = tail;
    }
    true
}

/// Whether the text starts with a segment of one or two dots.
fn is_dot_segment(text: &[u8]) -> bool {
    matches!(text, [b'.'] | [b'.', b'.'] | [b'.', b'/', ..] | [b'.', b'.', b'/', ..])
}

fn triplet(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

fn decode(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        if let (b'%', [high, low, after @ ..]) = (byte, tail)
            && let Some(value) = triplet(*high, *low)
        {
            if is_reserved(value) {
                out.extend([b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]);
            } else {
                out.push(value);
            }
            rest = after;
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    out
}

/// Resolves dot segments and merges slashes, in the manner of RFC 3986, section 5.2.4. Segments carry their slash.
fn resolve(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while !rest.is_empty() {
        rest = match rest {
            b"/." => &b"/"[..],
            b"/.." => {
                pop_segment(&mut out);
                b"/"
            }
            b"." | b".." => b"",
            [b'.', b'.', b'/', tail @ ..] | [b'.', b'/', tail @ ..] => tail,
            [b'/', b'.', tail @ ..] if tail.starts_with(b"/") => tail,
            [b'/', b'.', b'.', tail @ ..] if tail.starts_with(b"/") => {
                pop_segment(&mut out);
                tail
            }
            [b'/', tail @ ..] if tail.starts_with(b"/") => tail,
            [first, tail @ ..] => {
                let end = memchr::memchr(b'/', tail).unwrap_or(tail.len());
                let (segment, after) = tail.split_at(end);
                out.push(*first);
                out.extend_from_slice(segment);
                after
            }
            [] => b"",
        };
    }
    out
}

fn pop_segment(out: &mut Vec<u8>) {
    out.truncate(memchr::memrchr(b'/', out).unwrap_or(0));
}
