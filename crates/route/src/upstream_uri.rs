//! The path that goes upstream: the backend's path joined with the request's, and the prefix that was taken away.

use cardinal_ir::PathHandling;

/// What the upstream path is made of.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The backend's path; empty counts as `/`.
    pub base: &'a str,
    /// The request's normalized path.
    pub path: &'a [u8],
    /// Length of the part of the path that matched; see [`Match::path_len`](crate::Match::path_len).
    pub matched: Option<usize>,
    /// Take the matched part away.
    pub strip: bool,
    /// How the two are joined.
    pub handling: PathHandling,
}

impl<'a> Parts<'a> {
    /// The part of the path that was taken away; `None` where that is nothing or `/`, which is not worth telling.
    pub fn prefix(&self) -> Option<&'a [u8]> {
        let prefix = if self.strip { self.path.get(..self.matched?) } else { None };
        prefix.filter(|prefix| !matches!(*prefix, b"" | b"/"))
    }

    /// Appends the value of `X-Forwarded-Prefix`, encoded like the path so that it is a valid header value; returns
    /// whether there is one.
    pub fn write_prefix(&self, out: &mut Vec<u8>) -> bool {
        let Some(prefix) = self.prefix() else { return false };
        escape(prefix, out);
        true
    }

    /// Appends the upstream path to `out`, percent-encoded where HTTP demands it. The query is the caller's to append.
    ///
    /// Encoding is that of Kong (`escape` in `kong.tools.uri`): bytes other than unreserved and reserved characters
    /// and `%` become triplets in upper-case hex.
    pub fn write(&self, out: &mut Vec<u8>) {
        let base = if self.base.is_empty() { b"/" } else { self.base.as_bytes() };
        let (base, joint, tail) = match self.handling {
            PathHandling::V0 => self.join_v0(base),
            PathHandling::V1 => self.join_v1(base),
        };
        out.reserve(base.len() + joint.len() + tail.len());
        escape(base, out);
        out.extend_from_slice(joint);
        escape(tail, out);
    }

    /// Slashes at the joint are made one.
    fn join_v0(&self, base: &'a [u8]) -> (&'a [u8], &'static [u8], &'a [u8]) {
        let base_without_slash = base.strip_suffix(b"/");
        let request_ends_with_slash = self.path.ends_with(b"/");
        if !self.strip {
            return match (base_without_slash, self.path) {
                (Some(_), path) => (base, b"", path.get(1..).unwrap_or_default()),
                (None, b"/") => (base, b"", b""),
                (None, path) => (base, b"", path),
            };
        }
        match (base_without_slash, self.tail()) {
            (Some(b""), b"") => (base, b"", b""),
            (Some(_), b"") if request_ends_with_slash => (base, b"", b""),
            (Some(short), b"") => (short, b"", b""),
            (Some(short), tail @ [b'/', ..]) => (short, b"", tail),
            (Some(_), tail) => (base, b"", tail),
            (None, b"") if request_ends_with_slash && self.path.len() > 1 => (base, b"/", b""),
            (None, tail @ ([] | [b'/', ..])) => (base, b"", tail),
            (None, tail) => (base, b"/", tail),
        }
    }

    /// Plain concatenation, without the request's first slash.
    fn join_v1(&self, base: &'a [u8]) -> (&'a [u8], &'static [u8], &'a [u8]) {
        if !self.strip {
            return (base, b"", self.path.get(1..).unwrap_or_default());
        }
        match (base.strip_suffix(b"/"), self.tail()) {
            (Some(short), tail @ [b'/', ..]) => (short, b"", tail),
            (_, tail) => (base, b"", tail),
        }
    }

    /// What is left of the path; a dot segment that stripping brought to its front is dropped.
    fn tail(&self) -> &'a [u8] {
        let tail = self.path.get(self.matched.unwrap_or(1)..).unwrap_or_default();
        match tail {
            b"." | b".." => b"",
            [b'.', b'/', rest @ ..] | [b'.', b'.', b'/', rest @ ..] => rest,
            _ => tail,
        }
    }
}

/// Appends `path` with the part that matched replaced, encoded like [`Parts::write`]; see
/// [`PathRewrite::Prefix`](cardinal_ir::PathRewrite::Prefix).
pub fn write_replaced(path: &[u8], matched: Option<usize>, replacement: &str, out: &mut Vec<u8>) {
    let rest = path.get(matched.unwrap_or(0)..).unwrap_or_default();
    let start = out.len();
    write_path(replacement.strip_suffix('/').unwrap_or(replacement), out);
    if !rest.starts_with(b"/") && (!rest.is_empty() || out.len() == start) {
        out.push(b'/');
    }
    escape(rest, out);
}

/// Appends a path of the configuration, or a part of one, encoded like [`Parts::write`].
pub fn write_path(path: &str, out: &mut Vec<u8>) {
    if !path.is_empty() && !path.starts_with('/') {
        out.push(b'/');
    }
    escape(path.as_bytes(), out);
}

/// Appends text with what is not safe as triplets. Mostly there is nothing such, and the text is copied at once.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
    let mut rest = text;
    loop {
        let (safe, unsafe_on) = rest.split_at(safe_len(rest));
        out.extend_from_slice(safe);
        let Some((&byte, after)) = unsafe_on.split_first() else { return };
        out.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
        rest = after;
    }
}

/// How many bytes need no escape before the first that does.
fn safe_len(text: &[u8]) -> usize {
    let (blocks, _) = text.as_chunks::<8>();
    let safe_blocks = blocks.iter().take_while(|block| block.iter().fold(true, |all, byte| all & is_safe(*byte)));
    let start = safe_blocks.count() * 8;
    let tail = text.get(start..).unwrap_or_default();
    start + tail.iter().take_while(|byte| is_safe(**byte)).count()
}

/// By byte.
static SAFE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        if let Some(place) = table.split_at_mut(byte as usize).1.first_mut() {
            *place = byte.is_ascii_alphanumeric();
        }
        byte += 1;
    }
    let mut others: &[u8] = b"!#$&'()*+,/:;=?@[]-_.~%";
    while let Some((byte, rest)) = others.split_first() {
        if let Some(place) = table.split_at_mut(*byte as usize).1.first_mut() {
            *place = true;
        }
        others = rest;
    }
    table
};

fn is_safe(byte: u8) -> bool {
    SAFE.get(usize::from(byte)).copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(base: &str, path: &str, matched: Option<usize>, expect: [&str; 4]) {
        let ways =
            [(PathHandling::V0, true), (PathHandling::V0, false), (PathHandling::V1, true), (PathHandling::V1, false)];
        for ((handling, strip), expect) in ways.into_iter().zip(expect) {
            let parts = Parts { base, path: path.as_bytes(), matched, strip, handling };
            let mut out = Vec::new();
            parts.write(&mut out);
            let out = String::from_utf8(out).unwrap();
            assert_eq!(out, expect, "{base} {path} {matched:?} {handling:?} strip: {strip}");
        }
    }

    #[test]
    fn joins() {
        check("/", "/fv0/req", Some(4), ["/req", "/fv0/req", "/req", "/fv0/req"]);
        check("/srv", "/rou", Some(4), ["/srv", "/srv/rou", "/srv", "/srvrou"]);
        check("/srv", "/rou/req", Some(4), ["/srv/req", "/srv/rou/req", "/srv/req", "/srvrou/req"]);
        check("/srv", "/roureq", Some(4), ["/srv/req", "/srv/roureq", "/srvreq", "/srvroureq"]);
        check("/srv/", "/rou/req", Some(5), ["/srv/req", "/srv/rou/req", "/srv/req", "/srv/rou/req"]);
        check("/srv/", "/rou", Some(4), ["/srv", "/srv/rou", "/srv/", "/srv/rou"]);
        check("/srv", "/", Some(1), ["/srv", "/srv", "/srv", "/srv"]);
        check("/srv", "/x", None, ["/srv/x", "/srv/x", "/srvx", "/srvx"]);
        check("", "/x", None, ["/x", "/x", "/x", "/x"]);
    }

    #[test]
    fn dots_brought_to_the_front_are_dropped() {
        check("/s", "/route../req", Some(6), ["/s/req", "/s/route../req", "/sreq", "/sroute../req"]);
        check("/s", "/route..", Some(6), ["/s", "/s/route..", "/s", "/sroute.."]);
    }

    #[test]
    fn unsafe_bytes_become_triplets() {
        check("/", "/a b\u{e9}\"%2F\\", None, ["/a%20b%C3%A9%22%2F%5C"; 4]);
    }

    #[test]
    fn the_part_that_matched_is_replaced() {
        let check = |path: &str, matched: usize, replacement: &str, expect: &str| {
            let mut out = Vec::new();
            write_replaced(path.as_bytes(), Some(matched), replacement, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expect, "{path} {matched} {replacement}");
        };
        // The table of the Gateway API; segment prefixes match without the slash at their end.
        check("/foo/bar", 4, "/xyz", "/xyz/bar");
        check("/foo/bar", 4, "/xyz/", "/xyz/bar");
        check("/foo", 4, "/xyz", "/xyz");
        check("/foo/", 4, "/xyz", "/xyz/");
        check("/foo/bar", 4, "", "/bar");
        check("/foo/", 4, "", "/");
        check("/foo", 4, "", "/");
        check("/foo/", 4, "/", "/");
        check("/foo", 4, "/", "/");
        // `/` matches nothing of the path, as no condition does.
        check("/foo", 0, "/xyz", "/xyz/foo");
        check("/", 0, "/xyz", "/xyz/");
        // A text prefix may end anywhere, and a configuration may lack the slash.
        check("/foobar", 4, "/xyz", "/xyz/bar");
        check("/foo/bar", 5, "x y", "/x%20y/bar");
        check("/foo/b r\u{e9}", 4, "/xyz", "/xyz/b%20r%C3%A9");
    }

    #[test]
    fn each_byte_is_safe_or_escaped_wherever_it_is() {
        for byte in 0..=u8::MAX {
            let is_safe = byte.is_ascii_alphanumeric() || b"!#$&'()*+,/:;=?@[]-_.~%".contains(&byte);
            for (before, after) in (0..20).flat_map(|before| [(before, 0), (before, 9)]) {
                let (before, after) = ("a".repeat(before), "b".repeat(after));
                let text = [before.as_bytes(), &[byte], after.as_bytes()].concat();
                let mut out = b"x".to_vec();
                escape(&text, &mut out);
                let middle = if is_safe { vec![byte] } else { format!("%{byte:02X}").into_bytes() };
                assert_eq!(out, [b"x", before.as_bytes(), &middle, after.as_bytes()].concat());
            }
        }
    }

    #[test]
    fn the_prefix_is_what_was_stripped() {
        let parts = Parts { base: "/", path: b"/a/b", matched: Some(2), strip: true, handling: PathHandling::V0 };
        assert_eq!(parts.prefix(), Some(&b"/a"[..]));
        assert_eq!(Parts { strip: false, ..parts }.prefix(), None);
        assert_eq!(Parts { matched: None, ..parts }.prefix(), None);
        assert_eq!(Parts { matched: Some(1), ..parts }.prefix(), None);
        let mut out = Vec::new();
        assert!(Parts { path: b"/a\nb", matched: Some(4), ..parts }.write_prefix(&mut out));
        assert_eq!(out, b"/a%0Ab");
    }
}
