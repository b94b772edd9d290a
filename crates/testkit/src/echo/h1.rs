//! The backend's HTTP/1.1 side.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use cardinal_http::h1::{BodyDecoder, keep_alive, request_framing, wants_continue, write_chunk_head};
use cardinal_http::{HeaderList, Name, RequestHead, default_reason};

use super::State;
use super::behaviour::{Behaviour, Body, Cut, Framing, TRAILER, pattern, pause};
use super::report::{BodyNote, Peer, Report};
use crate::h1::Wire;
use crate::message::Fields;
use crate::socket::Socket;
use crate::websocket::{WebSocket, accept_key};
use tokio::io::AsyncWriteExt as _;

pub(super) async fn serve(socket: Socket, peer: &Peer, state: &Arc<State>) -> Result<()> {
    let mut connection = Connection { wire: Wire::new(socket), trailers: HeaderList::new(), peer, state, request: 0 };
    loop {
        match connection.exchange().await? {
            Next::Request => {}
            Next::Close => return Ok(connection.wire.socket.shutdown().await?),
            Next::Reset => return Ok(connection.wire.socket.reset()?),
            Next::WebSocket => {
                return WebSocket::serve(connection.wire.socket, connection.wire.buf).echo().await;
            }
        }
    }
}

/// What comes after an exchange.
enum Next {
    Request,
    Close,
    Reset,
    WebSocket,
}

struct Connection<'s> {
    wire: Wire,
    trailers: HeaderList,
    peer: &'s Peer,
    state: &'s Arc<State>,
    request: u64,
}

impl Connection<'_> {
    async fn exchange(&mut self) -> Result<Next> {
        let Some(head) = self.wire.request_head().await? else { return Ok(Next::Close) };
        self.request += 1;
        self.state.requests.fetch_add(1, Ordering::SeqCst);
        let mut report = self.report(&head);
        if head.headers.known_list_contains(Name::Upgrade, b"websocket") {
            return self.open_websocket(&head, report).await;
        }
        let behaviour = match Behaviour::of(head.headers.get_str("x-echo"), report.query.as_deref()) {
            Ok(behaviour) => behaviour,
            Err(error) => {
                let text = format!("{error:#}");
                let length = text.len();
                let answer =
                    format!("HTTP/1.1 400 Bad Request\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}");
                self.wire.write(answer.as_bytes()).await?;
                return Ok(Next::Close);
            }
        };
        if wants_continue(&head)? && !behaviour.early {
            self.wire.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let mut body = self.wire.body(request_framing(&head)?);
        let mut note = BodyNote::new();
        self.trailers.clear();
        if !behaviour.early && behaviour.body != Body::Echo {
            while let Some(part) = self.wire.part(&mut body, &mut self.trailers).await? {
                note.add(&part);
            }
        }
        pause(behaviour.delay).await;
        let cut = self.answer(&head, &behaviour, &mut body, &mut note, &mut report).await?;
        if cut || behaviour.framing == Some(Framing::Close) || behaviour.close {
            return Ok(if cut && behaviour.reset { Next::Reset } else { Next::Close });
        }
        // What an early answer left unread.
        while let Some(part) = self.wire.part(&mut body, &mut self.trailers).await? {
            note.add(&part);
        }
        report.trailers = Fields::from(&self.trailers);
        note.finish(&mut report);
        self.state.keep(report);
        Ok(if keep_alive(head.version, &head.headers) { Next::Request } else { Next::Close })
    }

    fn report(&self, head: &RequestHead) -> Report {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Report {
            server: self.state.name.clone(),
            connection: self.peer.connection,
            request: self.request,
            sni: self.peer.sni.clone(),
            client_certificate: self.peer.client_certificate,
            version: head.version.number(),
            method: head.method.as_str().to_owned(),
            target: text(head.target()),
            authority: text(head.authority().unwrap_or_default()),
            path: text(head.path()),
            query: head.query().map(text),
            headers: Fields::from(&head.headers),
            ..Report::default()
        }
    }

    async fn open_websocket(&mut self, head: &RequestHead, report: Report) -> Result<Next> {
        let key = head.headers.get_str("sec-websocket-key").context("a handshake without a key")?;
        let mut answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n",
            accept_key(key)
        );
        if let Some(protocols) = head.headers.get_str("sec-websocket-protocol") {
            let first = protocols.split(',').next().unwrap_or_default().trim();
            answer.push_str(&format!("Sec-WebSocket-Protocol: {first}\r\n"));
        }
        answer.push_str("\r\n");
        self.wire.write(answer.as_bytes()).await?;
        self.state.keep(report);
        Ok(Next::WebSocket)
    }

    /// Sends the answer; `true` when it was cut off on purpose.
    async fn answer(
        &mut self,
        head: &RequestHead,
        behaviour: &Behaviour,
        body: &mut BodyDecoder,
        note: &mut BodyNote,
        report: &mut Report,
    ) -> Result<bool> {
        for status in &behaviour.interim {
            let text = format!("HTTP/1.1 {status} {}\r\nX-Interim: {status}\r\n\r\n", default_reason(*status));
            self.wire.write(text.as_bytes()).await?;
        }
        if behaviour.cut == Some(Cut::Start) {
            return Ok(true);
        }
        let content = match behaviour.body {
            Body::Report => {
                std::mem::replace(note, BodyNote::new()).finish(report);
                report.trailers = Fields::from(&self.trailers);
                Content::Whole(report.to_json().to_string().into_bytes())
            }
            Body::Empty => Content::Whole(Vec::new()),
            Body::Bytes(count) => Content::Made(count),
            Body::Echo => Content::Echo(body.remaining()),
        };
        let framing = chosen_framing(behaviour, &content);
        let text = head_text(behaviour, &content, framing);
        if behaviour.cut == Some(Cut::Head) {
            self.wire.write(&text.as_bytes()[..text.len() / 2]).await?;
            return Ok(true);
        }
        self.wire.write(text.as_bytes()).await?;
        if head.method.as_str() == "HEAD" {
            return Ok(false);
        }
        let chunked = framing == Framing::Chunked;
        if self.send_content(content, behaviour, chunked, body, note).await? {
            return Ok(true);
        }
        if chunked {
            let (name, value) = TRAILER;
            let trailer = if behaviour.trailers { format!("{name}: {value}\r\n") } else { String::new() };
            self.wire.write(format!("0\r\n{trailer}\r\n").as_bytes()).await?;
        }
        Ok(false)
    }

    async fn send_content(
        &mut self,
        content: Content,
        behaviour: &Behaviour,
        chunked: bool,
        body: &mut BodyDecoder,
        note: &mut BodyNote,
    ) -> Result<bool> {
        let cut = behaviour.cut == Some(Cut::Body);
        match content {
            Content::Whole(bytes) => {
                let end = if cut { bytes.len() / 2 } else { bytes.len() };
                for part in bytes[..end].chunks(behaviour.part_bytes) {
                    self.send_part(part, behaviour, chunked).await?;
                }
            }
            Content::Made(count) => {
                let full = pattern(behaviour.part_bytes);
                let mut left = if cut { count / 2 } else { count };
                while left > 0 {
                    let len = usize::try_from(left).unwrap_or(usize::MAX).min(full.len());
                    self.send_part(&full[..len], behaviour, chunked).await?;
                    left -= len as u64;
                }
            }
            Content::Echo(_) => {
                while let Some(part) = self.wire.part(body, &mut self.trailers).await? {
                    note.add(&part);
                    self.send_part(&part, behaviour, chunked).await?;
                    if cut {
                        break;
                    }
                }
            }
        }
        Ok(cut)
    }

    async fn send_part(&mut self, part: &[u8], behaviour: &Behaviour, chunked: bool) -> Result<()> {
        pause(behaviour.slow).await;
        if !chunked {
            return Ok(self.wire.write(part).await?);
        }
        let mut chunk = Vec::with_capacity(part.len() + 16);
        write_chunk_head(part.len(), &mut chunk);
        chunk.extend_from_slice(part);
        chunk.extend_from_slice(b"\r\n");
        Ok(self.wire.write(&chunk).await?)
    }
}

/// A body to send.
enum Content {
    Whole(Vec<u8>),
    Made(u64),
    /// The request's own, whose length may be known.
    Echo(Option<u64>),
}

impl Content {
    fn length(&self) -> Option<u64> {
        match self {
            Self::Whole(bytes) => Some(bytes.len() as u64),
            Self::Made(count) => Some(*count),
            Self::Echo(length) => *length,
        }
    }
}

fn chosen_framing(behaviour: &Behaviour, content: &Content) -> Framing {
    let natural = if behaviour.trailers { Framing::Chunked } else { Framing::Length };
    match behaviour.framing.unwrap_or(natural) {
        Framing::Length if content.length().is_none() => Framing::Chunked,
        framing => framing,
    }
}

fn head_text(behaviour: &Behaviour, content: &Content, framing: Framing) -> String {
    let status = behaviour.status;
    let mut text = format!("HTTP/1.1 {status} {}\r\n", default_reason(status));
    if matches!(behaviour.body, Body::Report) {
        text.push_str("Content-Type: application/json\r\n");
    }
    for (name, value) in &behaviour.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    match (framing, content.length()) {
        (Framing::Chunked, _) => text.push_str("Transfer-Encoding: chunked\r\n"),
        (Framing::Length, Some(length)) if status != 204 && status != 304 => {
            text.push_str(&format!("Content-Length: {length}\r\n"));
        }
        _ => {}
    }
    if behaviour.close || framing == Framing::Close {
        text.push_str("Connection: close\r\n");
    }
    text.push_str("\r\n");
    text
}
