//! The syntax of a host with its port: `Host`, the authority of an absolute target, `:authority`.

use std::net::Ipv6Addr;

use crate::token::span;

/// Whether this is a host, perhaps followed by a colon and a port (RFC 9112 section 3.2, RFC 3986 section 3.2).
///
/// A port may be empty, as in nginx and RFC 3986; it is at most 65535. A name may end in a dot, have underscores and
/// percent-encoded bytes, and has no empty label. Stricter than RFC 3986 in one point: no comma, which is what is left
/// of two `Host` fields that were joined.
pub fn is_authority(text: &[u8]) -> bool {
    if let [b'[', rest @ ..] = text {
        return is_literal_with_port(rest);
    }
    let mut rest = text;
    loop {
        let Some((label, after)) = rest.split_at_checked(label_len(rest)) else { return false };
        if label.is_empty() {
            // The name may end in a dot; a name that is nothing, or a dot alone, is none.
            return rest.len() < text.len() && is_rest(rest);
        }
        match after {
            [b'.', after @ ..] => rest = after,
            _ => return is_rest(after),
        }
    }
}

/// The length of the label at the start, with its percent-encoded bytes.
#[inline]
fn label_len(text: &[u8]) -> usize {
    let len = span(text, |byte| class_of(byte) == 0);
    if text.get(len) == Some(&b'%') { label_len_with_escapes(text, len) } else { len }
}

#[cold]
fn label_len_with_escapes(text: &[u8], mut len: usize) -> usize {
    loop {
        match text.get(len..).unwrap_or_default() {
            [b'%', a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => len += 3,
            [byte, ..] if class_of(*byte) == 0 => len += 1,
            _ => return len,
        }
    }
}

#[cold]
fn is_literal_with_port(text: &[u8]) -> bool {
    let Some((literal, rest)) = split_at_byte(text, b']') else { return false };
    is_ip_literal(literal) && is_rest(rest.get(1..).unwrap_or_default())
}

/// Whether this may follow a host.
fn is_rest(rest: &[u8]) -> bool {
    match rest {
        [] => true,
        [b':', port @ ..] => is_port(port),
        _ => false,
    }
}

/// What is before the byte, and what begins with it.
fn split_at_byte(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    text.split_at_checked(memchr::memchr(byte, text)?)
}

fn is_port(digits: &[u8]) -> bool {
    let number = digits.iter().try_fold(0_u32, |number, digit| match digit {
        b'0'..=b'9' => Some(number.saturating_mul(10).saturating_add(u32::from(digit - b'0'))),
        _ => None,
    });
    number.is_some_and(|number| number <= u32::from(u16::MAX))
}

/// What a byte is in a name: 0 for a part of a label, or one of these.
const DOT: u8 = 1;
/// It is no part of a name, or not by itself: `%`.
const END: u8 = 2;

/// `unreserved` and `sub-delims` of RFC 3986, without the comma.
#[allow(clippy::indexing_slicing, reason = "evaluated at compile time: out of bounds does not compile")]
const CLASSES: [u8; 256] = {
    let mut table = [END; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        table[byte as usize] = match byte {
            b'.' => DOT,
            b'-' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' => 0,
            _ if byte.is_ascii_alphanumeric() => 0,
            _ => END,
        };
        byte += 1;
    }
    table
};

#[inline]
fn class_of(byte: u8) -> u8 {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(END)
}

/// An IPv6 address without a zone, or `IPvFuture` (RFC 3986 section 3.2.2).
fn is_ip_literal(literal: &[u8]) -> bool {
    if let [b'v' | b'V', rest @ ..] = literal {
        let Some((version, [_, address @ ..])) = split_at_byte(rest, b'.') else { return false };
        let legal = |byte: &u8| *byte == b':' || class_of(*byte) <= DOT;
        return !version.is_empty()
            && version.iter().all(u8::is_ascii_hexdigit)
            && !address.is_empty()
            && address.iter().all(legal);
    }
    std::str::from_utf8(literal).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::is_authority;

    const VALID: &str = "a A.b-c_d.example a. a.b. x: x:0 x:80 x:00080 x:65535 1.2.3.4:80 [::1] [::1]:80 [::1]: \
        [2001:DB8::192.0.2.1] [v1.x:y] [vF.a.b]:8 xn--e1afmkfd.test a%2db *.example.com a!$&'()*+;=~ - _";

    const INVALID: &str = ": :80 x:80:80 x::80 x:99999 x:65536 x:99999999999999999999 x:+80 x:-1 x:8a x:http . .. .a a.. \
        a..b [ [] [::1 ::1] [::1]x [::1]] [::1]:80:80 [[::1]] [::1%25eth0] [fe80::1%eth0] [1.2.3.4] [x] [v.x] [v1.] [v1x] \
        [vg.x] [v1.a/b] ::1 <x> x\"y x'\" x/y x\\y u@x u:p@x x,y x#y x?y x{y} x|y x^y x`y x% x%2 x%zz % é x] a[b a[::1]";

    #[test]
    fn hosts_with_a_port_are_told_from_other_texts() {
        for valid in VALID.split_whitespace() {
            assert!(is_authority(valid.as_bytes()), "{valid}");
        }
        let odd = ["", " ", "x y", " x", "x ", "x\t", "x: 80", "x\0", "x\r", "x\n", "x\u{7f}"];
        for invalid in INVALID.split_whitespace().chain(odd) {
            assert!(!is_authority(invalid.as_bytes()), "{invalid:?}");
        }
        assert!(!is_authority(b"x\xff") && !is_authority(b"[\xff]"));
    }
}
