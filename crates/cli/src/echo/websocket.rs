//! WebSocket (RFC 6455): the handshake, and frames that go back.

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cardinal_base::task;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{BODY_MAX, IDLE, http::whole};

const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The answer to a handshake; frames are served once it is sent.
pub(super) fn upgrade(request: Request<Incoming>) -> Result<Response<UnsyncBoxBody<Bytes, hyper::Error>>> {
    let key = request.headers().get(SEC_WEBSOCKET_KEY).context("a handshake without a key")?;
    let text = [key.as_bytes(), b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    let accept = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text));
    let upgraded = hyper::upgrade::on(request);
    drop(task::spawn("echo websocket", async {
        let result = async { serve(TokioIo::new(upgraded.await?)).await };
        if let Err(error) = result.await {
            tracing::debug!(error = %format!("{error:#}"), "an echo WebSocket ended");
        }
    }));
    Ok(Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(UPGRADE, "websocket")
        .header(CONNECTION, "Upgrade")
        .header(SEC_WEBSOCKET_ACCEPT, accept)
        .body(whole(String::new()))?)
}

/// Sends each frame back until the client closes.
async fn serve(mut io: impl AsyncRead + AsyncWrite + Unpin) -> Result<()> {
    let mut buf = Vec::new();
    loop {
        while let Some((frame, used)) = Frame::decode(&buf)? {
            buf.drain(..used);
            io.write_all(&frame.answer()).await?;
            if frame.opcode == CLOSE {
                return Ok(io.shutdown().await?);
            }
        }
        let read = tokio::time::timeout(IDLE, io.read_buf(&mut buf));
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
