//! Character classes of RFC 9110 and comma-separated lists.

/// Whether all bytes are `tchar` and there is one (RFC 9110 section 5.6.2).
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && token_len(bytes) == bytes.len()
}

/// How many `tchar` there are at the start.
#[inline]
pub(crate) fn token_len(bytes: &[u8]) -> usize {
    span(bytes, is_tchar)
}

/// Whether all bytes are `tchar` and none is a capital, and there is one: a field name of HTTP/2.
pub(crate) fn is_lower_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && span(bytes, is_lower_tchar) == bytes.len()
}

/// How many bytes at the start are of a class. Unrolled by hand: the compiler does not unroll loops with an early exit.
#[inline]
pub(crate) fn span(bytes: &[u8], is_member: impl Fn(u8) -> bool) -> usize {
    let (fours, rest) = bytes.as_chunks::<4>();
    let mut len = 0;
    for [a, b, c, d] in fours {
        if !is_member(*a) {
            return len;
        }
        if !is_member(*b) {
            return len + 1;
        }
        if !is_member(*c) {
            return len + 2;
        }
        if !is_member(*d) {
            return len + 3;
        }
        len += 4;
    }
    len + rest.iter().position(|byte| !is_member(*byte)).unwrap_or(rest.len())
}

/// Whether all bytes may stand in a field value: no control characters but tab (RFC 9110 section 5.5).
#[inline]
pub fn is_value(bytes: &[u8]) -> bool {
    // The last eight, some of which may be among the others; of fewer, spaces are put before them.
    let last = match bytes.last_chunk::<8>() {
        Some(last) => u64::from_ne_bytes(*last),
        None => bytes.iter().fold(u64::from_ne_bytes([b' '; 8]), |last, byte| last << 8 | u64::from(*byte)),
    };
    let eights = bytes.as_chunks::<8>().0.iter();
    let controls = eights.fold(controls(last, b' '), |found, eight| found | controls(u64::from_ne_bytes(*eight), b' '));
    controls & UPPER == 0 || !bytes.iter().any(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7f)
}

/// Whether these bytes may be the path and query of a request line: they start with `/`, and there is no space and no
/// control character among them (RFC 9112 section 3). Bytes outside ASCII, which clients do send, are let through.
#[inline]
pub fn is_target(bytes: &[u8]) -> bool {
    let last = match bytes.last_chunk::<8>() {
        Some(last) => u64::from_ne_bytes(*last),
        None => bytes.iter().fold(u64::from_ne_bytes([b'/'; 8]), |last, byte| last << 8 | u64::from(*byte)),
    };
    let eights = bytes.as_chunks::<8>().0.iter();
    let found = eights.fold(controls(last, b'!'), |found, eight| found | controls(u64::from_ne_bytes(*eight), b'!'));
    bytes.first() == Some(&b'/') && (found & UPPER == 0 || !bytes.iter().any(|b| *b <= b' ' || *b == 0x7f))
}

/// Whether these are visible ASCII characters, and there is one: what they are put into keeps its parts.
#[inline]
pub fn is_visible(bytes: &[u8]) -> bool {
    let last = match bytes.last_chunk::<8>() {
        Some(last) => u64::from_ne_bytes(*last),
        None => bytes.iter().fold(u64::from_ne_bytes([b'/'; 8]), |last, byte| last << 8 | u64::from(*byte)),
    };
    let eights = bytes.as_chunks::<8>().0.iter().map(|eight| u64::from_ne_bytes(*eight));
    let found = eights.fold(controls(last, b'!') | last, |found, eight| found | controls(eight, b'!') | eight);
    !bytes.is_empty() && (found & UPPER == 0 || bytes.iter().all(u8::is_ascii_graphic))
}

const UPPER: u64 = u64::from_ne_bytes([0x80; 8]);

/// The [`UPPER`] bits are 0 if none of the eight bytes is below `least` or DEL. They do not identify the byte.
const fn controls(bytes: u64, least: u8) -> u64 {
    const DELETES: u64 = u64::from_ne_bytes([0x7f; 8]);
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let least = u64::from_ne_bytes([least; 8]);
    (bytes.wrapping_sub(least) | (bytes ^ DELETES).wrapping_sub(ONES)) & !bytes
}

#[allow(clippy::indexing_slicing, reason = "any byte is an index of the table")]
pub(crate) const fn is_tchar(byte: u8) -> bool {
    TCHAR[byte as usize]
}

#[allow(clippy::indexing_slicing, reason = "any byte is an index of the table")]
const fn is_lower_tchar(byte: u8) -> bool {
    LOWER_TCHAR[byte as usize]
}

#[allow(clippy::indexing_slicing, reason = "evaluated at compile time: out of bounds does not compile")]
const LOWER_TCHAR: [bool; 256] = {
    let mut table = TCHAR;
    let mut capital = b'A';
    while capital <= b'Z' {
        table[capital as usize] = false;
        capital += 1;
    }
    table
};

#[allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "evaluated at compile time: out of bounds does not compile, and all numbers are small"
)]
const TCHAR: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0_usize;
    while b < 128 {
        let byte = b as u8;
        table[b] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            );
        b += 1;
    }
    table
};

/// Without the spaces and tabs at both ends.
#[inline]
pub fn trim(bytes: &[u8]) -> &[u8] {
    match bytes {
        [first, .., last] if *first > b' ' && *last > b' ' => bytes,
        _ => trim_ends(bytes),
    }
}

fn trim_ends(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// ASCII equality without regard to case.
pub fn eq_ignore_case(a: &[u8], b: &[u8]) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// Whether two field names are the same to receivers that treat `_` as `-`, such as CGI and its successors.
pub fn eq_field_name(a: &[u8], b: &[u8]) -> bool {
    let fold = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    a.len() == b.len() && a.iter().map(fold).eq(b.iter().map(fold))
}

/// The non-empty, trimmed elements of a comma-separated list.
pub fn split_list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(trim).filter(|item| !item.is_empty())
}

/// Whether a comma-separated list has this element, without regard to case.
pub fn list_contains(value: &[u8], element: &[u8]) -> bool {
    split_list(value).any(|item| item.eq_ignore_ascii_case(element))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_found_at_any_place() {
        for (len, byte) in (1..20).flat_map(|len| (0..=255_u8).map(move |byte| (len, byte))) {
            let legal = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
            for at in 0..len {
                for others in [b' ', b'~', 0xff, 0x80] {
                    let mut value = vec![others; len];
                    value[at] = byte;
                    assert_eq!(is_value(&value), legal, "{}", value.escape_ascii());
                    value[0] = b'\t';
                    assert_eq!(is_value(&value), legal || at == 0, "{}", value.escape_ascii());
                }
            }
        }
        assert!(is_value(b""));
    }

    #[test]
    fn tokens_are_told_from_other_texts_at_any_place() {
        let is_mark = |byte: u8| b"!#$%&'*+-.^_`|~".contains(&byte);
        for (len, byte) in (1..12).flat_map(|len| (0..=255_u8).map(move |byte| (len, byte))) {
            let legal = byte.is_ascii_alphanumeric() || is_mark(byte);
            for at in 0..len {
                let mut text = vec![b'z'; len];
                text[at] = byte;
                assert_eq!(is_token(&text), legal, "{}", text.escape_ascii());
                assert_eq!(is_lower_token(&text), legal && !byte.is_ascii_uppercase(), "{}", text.escape_ascii());
                assert_eq!(token_len(&text), if legal { len } else { at }, "{}", text.escape_ascii());
            }
        }
        assert!(!is_token(b"") && !is_lower_token(b""));
    }

    #[test]
    fn spaces_and_tabs_are_trimmed_at_both_ends_only() {
        for (text, trimmed) in [
            ("", ""),
            (" ", ""),
            ("\t \t", ""),
            ("a", "a"),
            (" a", "a"),
            ("a\t", "a"),
            ("ab", "ab"),
            (" a b\t", "a b"),
            ("a \t", "a"),
            ("\u{b}a\r", "\u{b}a\r"),
        ] {
            assert_eq!(trim(text.as_bytes()), trimmed.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn visible_characters_are_told_from_others_at_any_place() {
        for (len, byte) in (1..20).flat_map(|len| (0..=255_u8).map(move |byte| (len, byte))) {
            for at in 0..len {
                for others in [b'!', b'~'] {
                    let mut text = vec![others; len];
                    text[at] = byte;
                    assert_eq!(is_visible(&text), byte.is_ascii_graphic(), "{}", text.escape_ascii());
                }
            }
        }
        assert!(!is_visible(b""));
    }

    #[test]
    fn targets_have_neither_spaces_nor_control_characters() {
        for (len, byte) in (2..20).flat_map(|len| (0..=255_u8).map(move |byte| (len, byte))) {
            let legal = byte > b' ' && byte != 0x7f;
            for at in 1..len {
                for others in [b'!', b'~', 0xff, 0x80] {
                    let mut target = vec![others; len];
                    target[0] = b'/';
                    target[at] = byte;
                    assert_eq!(is_target(&target), legal, "{}", target.escape_ascii());
                }
            }
        }
        assert!(is_target(b"/") && !is_target(b"") && !is_target(b"a") && !is_target(b" /"));
    }
}
