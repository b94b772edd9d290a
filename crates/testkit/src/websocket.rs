//! WebSocket frames (RFC 6455), for either side.

use anyhow::{Context as _, Result, bail, ensure};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::h1::H1Client;
use crate::socket::Socket;
use crate::within;

/// What a client without imagination sends as its key.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Longest payload that is taken.
const PAYLOAD_MAX: u64 = 16 << 20;

/// Kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// Goes on with a message.
    Continuation,
    /// Text.
    Text,
    /// Bytes.
    Binary,
    /// The end.
    Close,
    /// Are you there?
    Ping,
    /// Yes.
    Pong,
}

impl Opcode {
    const ALL: [(Self, u8); 6] = [
        (Self::Continuation, 0),
        (Self::Text, 1),
        (Self::Binary, 2),
        (Self::Close, 8),
        (Self::Ping, 9),
        (Self::Pong, 10),
    ];

    fn of(number: u8) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|(_, n)| *n == number);
        Ok(found.with_context(|| format!("unknown opcode {number}"))?.0)
    }

    fn number(self) -> u8 {
        Self::ALL.into_iter().find(|(opcode, _)| *opcode == self).map_or(0, |(_, n)| n)
    }
}

/// A frame, unmasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The last one of its message.
    pub last: bool,
    /// Kind.
    pub opcode: Opcode,
    /// Payload.
    pub payload: Vec<u8>,
}

/// An open WebSocket. Its deadline for reading is that of [`within`] on the client's side; a server waits for ever.
#[derive(Debug)]
pub struct WebSocket {
    socket: Socket,
    buf: Vec<u8>,
    client: bool,
}

impl WebSocket {
    /// Opens one over a fresh connection; gives the error response as an error.
    ///
    /// # Errors
    /// When the answer is not a proper `101`.
    pub async fn open(mut client: H1Client, target: &str, host: &str, fields: &[(&str, &str)]) -> Result<Self> {
        let mut all = vec![
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", KEY),
        ];
        all.extend_from_slice(fields);
        let response = client.get(target, host, &all).await?;
        ensure!(response.status == 101, "status {} with {}", response.status, response.text());
        let accept = response.header("sec-websocket-accept").context("no Sec-WebSocket-Accept")?;
        ensure!(accept == accept_key(KEY), "Sec-WebSocket-Accept is {accept}");
        let (socket, buf) = client.into_socket();
        Ok(Self { socket, buf, client: true })
    }

    /// A WebSocket on the server's side of a connection whose handshake is done.
    pub(crate) fn serve(socket: Socket, buf: Vec<u8>) -> Self {
        Self { socket, buf, client: false }
    }

    /// Sends a frame; a client masks it.
    ///
    /// # Errors
    /// When the peer has gone.
    pub async fn send(&mut self, frame: &Frame) -> Result<()> {
        self.socket.write_all(&encode(frame, self.client)).await?;
        Ok(self.socket.flush().await?)
    }

    /// Sends a text message.
    ///
    /// # Errors
    /// When the peer has gone.
    pub async fn send_text(&mut self, text: &str) -> Result<()> {
        self.send(&Frame { last: true, opcode: Opcode::Text, payload: text.into() }).await
    }

    /// The next frame; `None` when the connection ends between frames.
    ///
    /// # Errors
    /// When the connection ends inside a frame, or the frame breaks the rules.
    pub async fn next(&mut self) -> Result<Option<Frame>> {
        if self.client { within("a frame", self.read()).await? } else { self.read().await }
    }

    async fn read(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some((frame, used)) = decode(&self.buf, !self.client)? {
                self.buf.drain(..used);
                return Ok(Some(frame));
            }
            self.buf.reserve(16 * 1024);
            if self.socket.read_buf(&mut self.buf).await? == 0 {
                ensure!(self.buf.is_empty(), "the connection ended inside a frame");
                return Ok(None);
            }
        }
    }

    /// Sends every frame back until the peer closes: pings as pongs, a close as a close.
    pub(crate) async fn echo(mut self) -> Result<()> {
        while let Some(mut frame) = self.next().await? {
            let closing = frame.opcode == Opcode::Close;
            if frame.opcode == Opcode::Ping {
                frame.opcode = Opcode::Pong;
            }
            self.send(&frame).await?;
            if closing {
                return Ok(self.socket.shutdown().await?);
            }
        }
        Ok(())
    }
}

/// What a server answers to a key (RFC 6455 section 4.2.2).
pub(crate) fn accept_key(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

fn encode(frame: &Frame, masked: bool) -> Vec<u8> {
    let mask_bit = if masked { 0x80 } else { 0 };
    let length = frame.payload.len();
    let mut out = vec![u8::from(frame.last) << 7 | frame.opcode.number()];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..126), _) => out.push(mask_bit | short),
        (_, Ok(medium)) => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    if masked {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        out.extend_from_slice(&mask);
        out.extend(frame.payload.iter().zip(mask.iter().cycle()).map(|(byte, m)| byte ^ m));
    } else {
        out.extend_from_slice(&frame.payload);
    }
    out
}

/// The frame at the start of `buf` and its length; `None` when incomplete. A client's frames must be masked, a
/// server's must not.
fn decode(buf: &[u8], from_client: bool) -> Result<Option<(Frame, usize)>> {
    let [first, second, rest @ ..] = buf else { return Ok(None) };
    ensure!(first & 0x70 == 0, "reserved bits are set");
    let masked = second & 0x80 != 0;
    ensure!(
        masked == from_client,
        "a frame of the {} is {}",
        side(from_client),
        if masked { "masked" } else { "plain" }
    );
    let (length, rest) = match second & 0x7f {
        126 => match rest.split_first_chunk::<2>() {
            Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk::<8>() {
            Some((length, rest)) => (u64::from_be_bytes(*length), rest),
            None => return Ok(None),
        },
        short => (u64::from(short), rest),
    };
    if length > PAYLOAD_MAX {
        bail!("a frame of {length} bytes");
    }
    let (mask, rest) = match (masked, rest.split_first_chunk::<4>()) {
        (false, _) => ([0; 4], rest),
        (true, Some((mask, rest))) => (*mask, rest),
        (true, None) => return Ok(None),
    };
    let Some(payload) = usize::try_from(length).ok().and_then(|length| rest.get(..length)) else { return Ok(None) };
    let frame = Frame {
        last: first & 0x80 != 0,
        opcode: Opcode::of(first & 0x0f)?,
        payload: payload.iter().zip(mask.iter().cycle()).map(|(byte, m)| byte ^ m).collect(),
    };
    Ok(Some((frame, buf.len() - rest.len() + payload.len())))
}

fn side(client: bool) -> &'static str {
    if client { "client" } else { "server" }
}
