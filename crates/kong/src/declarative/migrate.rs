//! Files of the formats 1.1 and 2.1: paths that look like regular expressions get the `~` that marks them since 3.0,
//! others their normal form. Kong: `kong/db/migrations/migrate_path_280_300.lua`.

use cardinal_schema::typedefs::normalize_path;
use serde_json::Value;

/// Brings the paths of a route to the form of 3.0.
pub(super) fn migrate_paths(paths: &mut Value) {
    let Some(list) = paths.as_array_mut() else { return };
    for path in list {
        if let Some(text) = path.as_str() {
            *path = migrate_path(text).into();
        }
    }
}

fn migrate_path(path: &str) -> String {
    let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_~/%".contains(&b));
    if !plain {
        return format!("~{}", decode_in_regex(path));
    }
    let normal = normalize_path(path);
    // What has no slash in front gets none: it is refused afterwards.
    if path.starts_with('/') { normal } else { normal.trim_start_matches('/').to_owned() }
}

/// Decodes percent-encoded characters of a regular expression: reserved ones stay, others that mean something in a
/// regular expression are escaped.
fn decode_in_regex(regex: &str) -> String {
    let mut out = Vec::with_capacity(regex.len());
    let mut rest = regex.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let byte = tail.get(..2).filter(|_| *first == b'%').and_then(|h| std::str::from_utf8(h).ok());
        let byte =
            byte.filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit())).and_then(|h| u8::from_str_radix(h, 16).ok());
        let Some(byte) = byte else {
            out.push(*first);
            rest = tail;
            continue;
        };
        match byte {
            b if b"!*'();:@&=+$,/?%#[]".contains(&b) => {
                out.push(b'%');
                out.extend(tail.iter().take(2).map(u8::to_ascii_uppercase));
            }
            b if b".^-{}\\|".contains(&b) => out.extend_from_slice(&[b'\\', b]),
            b => out.push(b),
        }
        rest = tail.get(2..).unwrap_or_default();
    }
    String::from_utf8(out).unwrap_or_else(|_| regex.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regexes_are_marked_and_plain_paths_normalized() {
        for (old, new) in [
            ("/a", "/a"),
            ("/a/../b", "/b"),
            ("/a%20b", "/a b"),
            ("a", "a"),
            ("", ""),
            (r"/a/\d+", r"~/a/\d+"),
            ("/a$%2e%2F", r"~/a$\.%2F"),
            ("/status/(re)%20%x", "~/status/(re) %x"),
        ] {
            assert_eq!(migrate_path(old), new, "{old}");
        }
    }
}
