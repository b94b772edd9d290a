//! HTTP/1.1 upstream: responds to each request with the same six fields and a body.

use std::os::fd::OwnedFd;

use super::Closed;
use crate::load::chunked::Chunked;
use crate::load::link::{Buffers, Link};
use crate::load::plan::BLOCK;
use crate::load::work::{Kind, Work};
use crate::load::{head, websocket};

/// Number of body bytes that are written together with the head.
const INLINE: u64 = 64 * 1024;
/// Maximum number of blocks written before other connections are served.
const BLOCKS_AT_ONCE: usize = 4;
/// Maximum length of a head.
const HEAD_MAX: usize = 16 * 1024;

/// The prepared responses.
#[derive(Debug)]
pub(super) struct Answers {
    usual: Answer,
    /// For requests with an unexpected body length, and for wrong handshakes.
    wrong: Answer,
    /// The expected body length of requests other than GET, if known.
    expected: Option<u64>,
    /// WebSockets are accepted.
    upgrades: bool,
    block: Vec<u8>,
}

/// A head with the part of its body that belongs to the first write, and the remaining number of bytes.
#[derive(Debug)]
struct Answer {
    text: Vec<u8>,
    rest: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Usual,
    Wrong,
}

/// A connection.
#[derive(Debug, Default)]
pub(super) struct H1 {
    /// An incomplete head.
    head: Vec<u8>,
    /// The incomplete request body.
    body: Option<Body>,
    /// The response being written, the number of bytes written of its text, and the remaining bytes.
    writing: Option<(Which, usize, u64)>,
    /// The client requested a WebSocket.
    upgraded: bool,
}

#[derive(Debug)]
struct Body {
    framing: Framing,
    arrived: u64,
}

#[derive(Debug)]
enum Framing {
    /// Total length.
    Length(u64),
    Chunked(Chunked),
}

impl Answers {
    pub(super) fn new(work: &Work) -> Self {
        // If the load consists of messages, requests are only health checks.
        let down = if work.kind.messages() { work.body as u64 } else { work.down() };
        Self {
            usual: Answer::new("200 OK", down),
            wrong: Answer::new("400 Bad Request", 0),
            expected: Some(work.up()).filter(|up| *up > 0),
            upgrades: work.kind == Kind::WebSocket,
            block: vec![b'x'; BLOCK],
        }
    }

    fn get(&self, which: Which) -> &Answer {
        match which {
            Which::Usual => &self.usual,
            Which::Wrong => &self.wrong,
        }
    }
}

impl Answer {
    fn new(status: &str, body: u64) -> Self {
        let mut text = format!(
            "HTTP/1.1 {status}\r\nServer: bench\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: application/json\r\n\
             Cache-Control: no-store\r\nX-Frame-Options: DENY\r\nContent-Length: {body}\r\n\r\n"
        )
        .into_bytes();
        let first = body.min(INLINE);
        text.resize(text.len() + first as usize, b'x');
        Self { text, rest: body - first }
    }
}

impl H1 {
    /// Reads and writes; returns the number of requests whose response was started.
    pub(super) fn ready(
        &mut self,
        link: &mut Link,
        answers: &Answers,
        buffers: &mut Buffers,
        epoll: &OwnedFd,
    ) -> Result<u64, Closed> {
        let mut answered = 0;
        if self.writing.is_none()
            && let Some(which) = self.read(link.read(buffers)?, answers)?
        {
            self.writing = Some((which, 0, answers.get(which).rest));
            answered = 1;
        }
        self.write(link, answers)?;
        let writes = self.writing.is_some();
        link.watch(epoll, !writes, writes).map_err(|_| Closed)?;
        Ok(answered)
    }

    /// Whether the client requested a WebSocket, which has to start.
    pub(super) fn upgraded(&self) -> bool {
        self.upgraded
    }

    /// Parses bytes of a request; when it is complete, returns its response. Requests are not pipelined.
    fn read(&mut self, bytes: &[u8], answers: &Answers) -> Result<Option<Which>, Closed> {
        if bytes.is_empty() {
            return Ok(None);
        }
        if self.body.is_some() {
            return self.read_body(bytes, answers);
        }
        if self.head.is_empty()
            && let Some(end) = head::end(bytes)
        {
            return self.read_head(bytes, end, answers);
        }
        self.head.extend_from_slice(bytes);
        let whole = std::mem::take(&mut self.head);
        match head::end(&whole) {
            Some(end) => self.read_head(&whole, end, answers),
            None if whole.len() > HEAD_MAX => Err(Closed),
            None => {
                self.head = whole;
                Ok(None)
            }
        }
    }

    fn read_head(&mut self, bytes: &[u8], end: usize, answers: &Answers) -> Result<Option<Which>, Closed> {
        let (head, rest) = bytes.split_at(end);
        if head.starts_with(b"GET") {
            if answers.upgrades && head::field(head, b"upgrade:").is_some() {
                self.upgraded = head::field(head, b"sec-websocket-key:") == Some(websocket::KEY.as_bytes());
                return Ok((!self.upgraded).then_some(Which::Wrong));
            }
            return if rest.is_empty() { Ok(Some(Which::Usual)) } else { Err(Closed) };
        }
        let framing = match head::field(head, b"transfer-encoding:") {
            Some(coding) if coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked(Chunked::default()),
            Some(_) => return Err(Closed),
            None => Framing::Length(head::content_length(head).unwrap_or(0)),
        };
        self.body = Some(Body { framing, arrived: 0 });
        self.read_body(rest, answers)
    }

    fn read_body(&mut self, bytes: &[u8], answers: &Answers) -> Result<Option<Which>, Closed> {
        let Some(body) = &mut self.body else { return Ok(None) };
        let complete = match &mut body.framing {
            Framing::Length(length) => {
                body.arrived += bytes.len() as u64;
                if body.arrived > *length {
                    return Err(Closed);
                }
                body.arrived == *length
            }
            Framing::Chunked(chunked) => {
                let (more, complete) = chunked.push(bytes)?;
                body.arrived += more;
                complete
            }
        };
        if !complete {
            return Ok(None);
        }
        let which = match answers.expected {
            Some(expected) if expected != body.arrived => Which::Wrong,
            _ => Which::Usual,
        };
        self.body = None;
        Ok(Some(which))
    }

    fn write(&mut self, link: &mut Link, answers: &Answers) -> Result<(), Closed> {
        let Some((which, at, rest)) = &mut self.writing else { return Ok(()) };
        let text = answers.get(*which).text.get(*at..).unwrap_or_default();
        if !text.is_empty() {
            let n = link.put(text)?;
            *at += n;
            if n < text.len() {
                return Ok(());
            }
        }
        for _block in 0..BLOCKS_AT_ONCE {
            let size = (*rest).min(BLOCK as u64) as usize;
            if size == 0 {
                self.writing = None;
                break;
            }
            let n = link.put(answers.block.get(..size).unwrap_or_default())?;
            *rest -= n as u64;
            if n < size {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::work::Direction;
    use super::*;

    /// Parses a request in parts of every size.
    fn check(text: &str, up: usize, expect: Option<Which>) {
        let answers = Answers::new(&Work { direction: Direction::Up, ..Work::plain(up) });
        for size in 1..=text.len() {
            let mut connection = H1::default();
            let mut last = Ok(None);
            for piece in text.as_bytes().chunks(size) {
                assert!(matches!(last, Ok(None)), "{text} was complete too early, in pieces of {size}");
                last = connection.read(piece, &answers);
            }
            assert_eq!(last.ok().flatten(), expect, "{text} in pieces of {size}");
        }
    }

    #[test]
    fn requests_are_answered_when_they_are_complete() {
        check("GET /a HTTP/1.1\r\nHost: a\r\n\r\n", 3, Some(Which::Usual));
        check("POST /a HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc", 3, Some(Which::Usual));
        check("POST /a HTTP/1.1\r\ncontent-length: 3\r\n\r\nab", 3, None);
        check("POST /a HTTP/1.1\r\ncontent-length: 2\r\n\r\nab", 3, Some(Which::Wrong));
        check("POST /a HTTP/1.1\r\ncontent-length: 2\r\n\r\nab", 0, Some(Which::Usual));
        let chunked =
            "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n01\r\nc\r\n0\r\nA: b\r\n\r\n";
        check(chunked, 3, Some(Which::Usual));
        check(chunked, 4, Some(Which::Wrong));
    }
}
