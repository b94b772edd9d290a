//! Parses message heads as far as needed: their end, and single fields.

use memchr::{memchr_iter, memmem};

/// The length of the head at the start of `bytes`, including its empty line; `None` if it is incomplete.
pub(super) fn end(bytes: &[u8]) -> Option<usize> {
    memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// The value of the first field with this name, which is given in lower case and with its colon.
pub(super) fn field<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    memchr_iter(b'\n', head).find_map(|at| {
        let line = head.get(at + 1..)?;
        let (start, rest) = line.split_at_checked(name.len())?;
        start.eq_ignore_ascii_case(name).then(|| {
            let end = memchr::memchr(b'\r', rest).unwrap_or(rest.len());
            rest.get(..end).unwrap_or_default().trim_ascii()
        })
    })
}

/// The content length, if present and valid.
pub(super) fn content_length(head: &[u8]) -> Option<u64> {
    str::from_utf8(field(head, b"content-length:")?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_whatever_their_case() {
        let head = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length:  12\r\nconnection: close\r\n\r\nrest";
        assert_eq!(end(head), Some(head.len() - 4));
        assert_eq!(content_length(head), Some(12));
        assert_eq!(field(head, b"connection:"), Some(&b"close"[..]));
        assert_eq!(field(head, b"server:"), None);
        assert_eq!(end(b"HTTP/1.1 200 OK\r\n"), None);
    }
}
