//! The codec of `cardinal-http` over a socket.

use std::io;

use anyhow::{Result, bail, ensure};
use cardinal_http::h1::{BodyDecoder, Framing, HeadLimits, Parsed, Step, parse_request, parse_response};
use cardinal_http::{HeaderList, RequestHead, ResponseHead};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::socket::Socket;

const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 256 * 1024, line_bytes_max: 64 * 1024, header_count_max: 1_000 };

/// A socket and what was read ahead of use.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) socket: Socket,
    pub(crate) buf: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(socket: Socket) -> Self {
        Self { socket, buf: Vec::new() }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes).await?;
        self.socket.flush().await
    }

    /// Reads more; `false` at the end of the connection.
    pub(crate) async fn fill(&mut self) -> io::Result<bool> {
        self.buf.reserve(16 * 1024);
        Ok(self.socket.read_buf(&mut self.buf).await? > 0)
    }

    /// What is there, or what comes next; empty at the end of the connection.
    pub(crate) async fn some(&mut self) -> io::Result<Vec<u8>> {
        if self.buf.is_empty() {
            self.fill().await?;
        }
        Ok(std::mem::take(&mut self.buf))
    }

    /// The next request head; `None` when the connection ends before one starts.
    pub(crate) async fn request_head(&mut self) -> Result<Option<RequestHead>> {
        loop {
            let mut head = RequestHead::default();
            if let Parsed::Complete(len) = parse_request(&self.buf, &LIMITS, &mut head)? {
                self.buf.drain(..len);
                return Ok(Some(head));
            }
            if !self.fill().await? {
                return self.ended();
            }
        }
    }

    /// The next response head; `None` when the connection ends before one starts.
    pub(crate) async fn response_head(&mut self) -> Result<Option<ResponseHead>> {
        loop {
            let mut head = ResponseHead::default();
            if let Parsed::Complete(len) = parse_response(&self.buf, &LIMITS, &mut head)? {
                // The parser takes what upstreams may send; what this program sends ends its lines in CRLF.
                let lines = self.buf[..len].split_inclusive(|byte| *byte == b'\n');
                ensure!(lines.into_iter().all(|line| line.ends_with(b"\r\n")), "bare LF");
                self.buf.drain(..len);
                return Ok(Some(head));
            }
            if !self.fill().await? {
                return self.ended();
            }
        }
    }

    fn ended<T>(&self) -> Result<Option<T>> {
        if self.buf.is_empty() {
            return Ok(None);
        }
        bail!("the connection ended inside a head, after {:?}", String::from_utf8_lossy(&self.buf))
    }

    /// A body of this framing comes next.
    pub(crate) fn body(&self, framing: Framing) -> BodyDecoder {
        BodyDecoder::new(framing)
    }

    /// The next part of the body; `None` when it is complete.
    pub(crate) async fn part(&mut self, body: &mut BodyDecoder, trailers: &mut HeaderList) -> Result<Option<Vec<u8>>> {
        loop {
            match body.step(&self.buf, trailers)? {
                Step::End { skip } => {
                    self.buf.drain(..skip);
                    return Ok(None);
                }
                Step::Data { skip, len } => {
                    self.buf.drain(..skip);
                    let rest = self.buf.split_off(len);
                    body.consumed(len);
                    return Ok(Some(std::mem::replace(&mut self.buf, rest)));
                }
                Step::More { skip } => {
                    self.buf.drain(..skip);
                    if !self.fill().await? {
                        body.closed()?;
                        return Ok(None);
                    }
                }
            }
        }
    }
}
