//! [`Peer`]: one side of an exchange, whatever it speaks.

use std::task::{Context, Poll};

use cardinal_http::HeaderList;

use crate::NetError;
use crate::h1::H1;
use crate::h2::H2;

/// One side of an exchange.
#[derive(Debug)]
pub enum Peer {
    /// HTTP/1 on its own connection.
    H1(Box<H1>),
    /// A stream of an HTTP/2 connection.
    H2(Box<H2>),
}

impl Peer {
    /// Waits for body bytes: `true` when [`Peer::data`] has some, `false` at the end of the body.
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, NetError>> {
        match self {
            Self::H1(peer) => peer.poll_body(cx),
            Self::H2(peer) => peer.poll_body(cx),
        }
    }

    /// Body bytes that are here.
    pub fn data(&self) -> &[u8] {
        match self {
            Self::H1(peer) => peer.data(),
            Self::H2(peer) => peer.data(),
        }
    }

    /// Body bytes were used.
    pub fn consume(&mut self, count: usize) {
        match self {
            Self::H1(peer) => peer.consume(count),
            Self::H2(peer) => peer.consume(count),
        }
    }

    /// Whether the body was read to its end.
    pub fn body_done(&self) -> bool {
        match self {
            Self::H1(peer) => peer.body_done(),
            Self::H2(peer) => peer.body_done(),
        }
    }

    /// Trailer fields of the body that was read.
    pub fn trailers(&self) -> &HeaderList {
        match self {
            Self::H1(peer) => peer.trailers(),
            Self::H2(peer) => peer.trailers(),
        }
    }

    /// Takes body bytes: some of `data` when `Ready`.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, NetError>> {
        match self {
            Self::H1(peer) => peer.poll_send(cx, data),
            Self::H2(peer) => peer.poll_send(cx, data),
        }
    }

    /// Ends the body that is sent.
    pub fn finish(&mut self, trailers: Option<&HeaderList>) -> Result<(), NetError> {
        match self {
            Self::H1(peer) => peer.finish(trailers),
            Self::H2(peer) => peer.finish(trailers),
        }
    }

    /// Sends what was gathered.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NetError>> {
        match self {
            Self::H1(peer) => peer.poll_flush(cx),
            // What was sent leaves with the connection's next turn; windows bound it.
            Self::H2(_) => Poll::Ready(Ok(())),
        }
    }

    /// Whether the peer has gone while it should be waiting. For HTTP/1 an end of the stream counts, as in nginx.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::H1(peer) => {
                if peer.is_eof() {
                    return Poll::Ready(());
                }
                // What comes meanwhile is the next request, of which a buffer's worth is taken.
                loop {
                    match peer.poll_read_more(cx, crate::buffer::SIZE) {
                        Poll::Ready(Ok(1..)) => {}
                        Poll::Ready(Err(NetError::BufferFull)) | Poll::Pending => return Poll::Pending,
                        Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    }
                }
            }
            Self::H2(peer) => peer.poll_reset(cx),
        }
    }
}
