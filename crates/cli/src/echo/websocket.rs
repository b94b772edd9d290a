//! WebSocket (RFC 6455): the handshake, and frames that go back.

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cardinal_http::HeaderList;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{BODY_MAX, IDLE};

const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The answer to a handshake.
pub(super) fn answer(request: &HeaderList) -> Result<String> {
    let key = request.get_str("sec-websocket-key").context("a handshake without a key")?;
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()));
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    ))
}

/// Sends each frame back until the client closes.
pub(super) async fn serve(mut tcp: TcpStream, mut buf: Vec<u8>) -> Result<()> {
    loop {
        while let Some((frame, used)) = Frame::decode(&buf)? {
            buf.drain(..used);
            tcp.write_all(&frame.answer()).await?;
            if frame.opcode == CLOSE {
                return Ok(tcp.shutdown().await?);
            }
        }
        let read = tokio::time::timeout(IDLE, tcp.read_buf(&mut buf));
        if read.await.context("the client says nothing")?? == 0 {
            return Ok(());
        }
    }
}

struct Frame {
    last: bool,
    opcode: u8,
    payload: Vec<u8>,
}

impl Frame {
    /// The frame at the start of `buf`, unmasked, and its length; `None` when incomplete.
    fn decode(buf: &[u8]) -> Result<Option<(Self, usize)>> {
        let [first, second, rest @ ..] = buf else { return Ok(None) };
        ensure!(second & 0x80 != 0, "a client's frame must be masked");
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
        let length =
            usize::try_from(length).ok().filter(|length| *length <= BODY_MAX).context("a frame is too long")?;
        let Some((mask, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        let frame = Self { last: first & 0x80 != 0, opcode: first & 0x0f, payload };
        Ok(Some((frame, buf.len() - rest.len() + length)))
    }

    /// The same frame back; a ping as a pong.
    fn answer(&self) -> Vec<u8> {
        let opcode = if self.opcode == PING { PONG } else { self.opcode };
        let mut out = vec![u8::from(self.last) << 7 | opcode];
        let length = self.payload.len();
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ ..126), _) => out.push(short),
            (_, Ok(medium)) => {
                out.push(126);
                out.extend_from_slice(&medium.to_be_bytes());
            }
            _ => {
                out.push(127);
                out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(&self.payload);
        out
    }
}
