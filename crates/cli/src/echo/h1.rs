//! HTTP/1.1.

use anyhow::{Context as _, Result, bail};
use cardinal_http::h1::{
    BodyDecoder, HeadLimits, Parsed, Step, keep_alive, parse_request, request_framing, wants_continue,
};
use cardinal_http::{HeaderList, Name, RequestHead, default_reason};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{BODY_MAX, Directions, IDLE, Seen, header_object, websocket};

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 64 * 1024, line_bytes_max: 16 * 1024, header_count_max: 200 };

pub(super) async fn serve(tcp: TcpStream) -> Result<()> {
    let mut wire = Wire { tcp, buf: Vec::new() };
    while let Some(head) = wire.head().await? {
        if head.headers.known_list_contains(Name::Upgrade, b"websocket") {
            wire.write(websocket::answer(&head.headers)?.as_bytes()).await?;
            return websocket::serve(wire.tcp, wire.buf).await;
        }
        let keep = wire.exchange(&head).await? && keep_alive(head.version, &head.headers);
        if !keep {
            break;
        }
    }
    Ok(wire.tcp.shutdown().await?)
}

struct Wire {
    tcp: TcpStream,
    buf: Vec<u8>,
}

impl Wire {
    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.tcp.write_all(bytes).await?)
    }

    async fn fill(&mut self) -> Result<bool> {
        let read = tokio::time::timeout(IDLE, self.tcp.read_buf(&mut self.buf));
        Ok(read.await.context("the client says nothing")?? > 0)
    }

    /// The next head; `None` at the end of the connection. A malformed one is answered.
    async fn head(&mut self) -> Result<Option<RequestHead>> {
        loop {
            let mut head = RequestHead::default();
            match parse_request(&self.buf, &LIMITS, &mut head) {
                Ok(Parsed::Complete(len)) => {
                    self.buf.drain(..len);
                    return Ok(Some(head));
                }
                Ok(Parsed::Partial) if self.fill().await? => {}
                Ok(Parsed::Partial) if self.buf.is_empty() => return Ok(None),
                Ok(Parsed::Partial) => bail!("the connection ended inside a head"),
                Err(error) => {
                    self.respond(400, "text/plain", &format!("{error}\n"), false, false).await?;
                    return Err(error.into());
                }
            }
        }
    }

    /// Answers a request; whether the connection can serve another one.
    async fn exchange(&mut self, head: &RequestHead) -> Result<bool> {
        let framing = match request_framing(head) {
            Ok(framing) => framing,
            Err(error) => {
                self.respond(400, "text/plain", &format!("{error}\n"), false, false).await?;
                return Ok(false);
            }
        };
        if wants_continue(head)? {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let Some(body) = self.body(BodyDecoder::new(framing)).await? else {
            self.respond(413, "text/plain", "the echo backend takes 1 MiB\n", false, false).await?;
            return Ok(false);
        };
        let path = String::from_utf8_lossy(head.path());
        let query = head.query().map(String::from_utf8_lossy);
        let directions = Directions::of(&path);
        let seen = Seen {
            version: &format!("HTTP/{}", head.version.number()),
            method: head.method.as_str(),
            host: &String::from_utf8_lossy(head.authority().unwrap_or_default()),
            path: &path,
            query: query.as_deref(),
            headers: header_object(&head.headers),
            body: &body,
        };
        directions.wait().await;
        let bodyless = head.method.as_str() == "HEAD";
        self.respond(directions.status.unwrap_or(200), "application/json", &seen.to_json(), bodyless, true).await?;
        Ok(true)
    }

    /// The whole body; `None` when it is too long.
    async fn body(&mut self, mut decoder: BodyDecoder) -> Result<Option<Vec<u8>>> {
        let (mut body, mut trailers) = (Vec::new(), HeaderList::new());
        loop {
            match decoder.step(&self.buf, &mut trailers)? {
                Step::End { skip } => {
                    self.buf.drain(..skip);
                    return Ok(Some(body));
                }
                Step::Data { skip, len } => {
                    self.buf.drain(..skip);
                    body.extend(self.buf.drain(..len));
                    decoder.consumed(len);
                    if body.len() > BODY_MAX {
                        return Ok(None);
                    }
                }
                Step::More { skip } => {
                    self.buf.drain(..skip);
                    if !self.fill().await? {
                        decoder.closed()?;
                    }
                }
            }
        }
    }

    async fn respond(&mut self, status: u16, kind: &str, text: &str, bodyless: bool, keep: bool) -> Result<()> {
        let reason = default_reason(status);
        let close = if keep { "" } else { "Connection: close\r\n" };
        let length = text.len();
        let mut answer = match status {
            204 | 304 => format!("HTTP/1.1 {status} {reason}\r\n{close}\r\n"),
            _ => {
                format!("HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{close}\r\n")
            }
        };
        if !bodyless && !matches!(status, 204 | 304) {
            answer.push_str(text);
        }
        self.write(answer.as_bytes()).await
    }
}
