//! Checks consecutive responses as their bytes arrive.

use super::head;

/// Maximum length of a head.
const HEAD_MAX: usize = 16 * 1024;

/// A response that is being received.
#[derive(Debug, Default)]
pub(super) struct Response {
    /// An incomplete head.
    head: Vec<u8>,
    /// Remaining body bytes, once the head was read.
    left: Option<u64>,
    /// Number of received body bytes not yet returned by [`Response::take_arrived`].
    arrived: u64,
    /// The server announced that it closes the connection.
    close: bool,
}

/// The state after some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    More,
    Done { close: bool },
}

impl Response {
    /// Parses bytes. The response must have status 200 and a body of `body` bytes by its length.
    pub(super) fn push(&mut self, bytes: &[u8], body: u64) -> Result<Progress, &'static str> {
        if let Some(left) = self.left {
            return self.push_body(left, bytes.len() as u64);
        }
        if self.head.is_empty()
            && let Some(end) = head::end(bytes)
        {
            return self.push_head(end, bytes, body);
        }
        self.head.extend_from_slice(bytes);
        let whole = std::mem::take(&mut self.head);
        match head::end(&whole) {
            Some(end) => self.push_head(end, &whole, body),
            None if whole.len() > HEAD_MAX => Err("the head does not end"),
            None => {
                self.head = whole;
                Ok(Progress::More)
            }
        }
    }

    /// Number of body bytes received since the last call.
    pub(super) fn take_arrived(&mut self) -> u64 {
        std::mem::take(&mut self.arrived)
    }

    fn push_head(&mut self, end: usize, bytes: &[u8], body: u64) -> Result<Progress, &'static str> {
        let (head, rest) = bytes.split_at(end);
        if !head.starts_with(b"HTTP/1.1 200") {
            return Err("the status is not 200");
        }
        if head::content_length(head) != Some(body) {
            return Err("the length is wrong");
        }
        self.close = head::field(head, b"connection:").is_some_and(|v| v.eq_ignore_ascii_case(b"close"));
        self.push_body(body, rest.len() as u64)
    }

    fn push_body(&mut self, left: u64, arrived: u64) -> Result<Progress, &'static str> {
        self.arrived += arrived;
        match left.checked_sub(arrived) {
            None => Err("more bytes than the length says"),
            Some(0) => {
                self.left = None;
                Ok(Progress::Done { close: self.close })
            }
            Some(left) => {
                self.left = Some(left);
                Ok(Progress::More)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses `text` in parts of every size.
    fn check(text: &str, body: u64, expect: Result<Progress, &'static str>) {
        for size in 1..=text.len() {
            let mut response = Response::default();
            let mut last = Ok(Progress::More);
            for piece in text.as_bytes().chunks(size) {
                last = response.push(piece, body);
                if last.is_err() {
                    break;
                }
            }
            assert_eq!(last, expect, "in pieces of {size}");
        }
    }

    #[test]
    fn responses_are_checked() {
        let done = Ok(Progress::Done { close: false });
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 3, done);
        check("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 0, done);
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", 3, Ok(Progress::More));
        check("HTTP/1.1 502 Bad\r\nContent-Length: 3\r\n\r\nabc", 3, Err("the status is not 200"));
        check("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd", 3, Err("the length is wrong"));
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 3, Err("the length is wrong"));
        let closing = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
        check(closing, 3, Ok(Progress::Done { close: true }));
    }

    #[test]
    fn what_follows_a_response_is_an_error() {
        let mut response = Response::default();
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab";
        assert_eq!(response.push(text, 1), Err("more bytes than the length says"));
        assert_eq!((response.take_arrived(), response.take_arrived()), (2, 0));
    }
}
