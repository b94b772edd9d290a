//! [`Peer`]: one side of an exchange, over either version of HTTP.

use std::task::{Context, Poll};

use cardinal_http::HeaderList;

use crate::NetError;
use crate::h1::H1;
use crate::h2::H2;

/// One side of an exchange.
#[derive(Debug)]
pub enum Peer {
    /// HTTP/1 on an exclusive connection.
    H1(Box<H1>),
    /// A stream of an HTTP/2 connection.
    H2(Box<H2>),
}

impl Peer {
    /// Waits for body bytes: `true` if [`Peer::data`] has some, `false` at the end of the body.
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, NetError>> {
        match self {
            Self::H1(peer) => peer.poll_body(cx),
            Self::H2(peer) => peer.poll_body(cx),
        }
    }

    /// The available body bytes.
    pub fn data(&self) -> &[u8] {
        match self {
            Self::H1(peer) => peer.data(),
            Self::H2(peer) => peer.data(),
        }
    }

    /// Marks body bytes as consumed.
    pub fn consume(&mut self, count: usize) {
        match self {
            Self::H1(peer) => peer.consume(count),
            Self::H2(peer) => peer.consume(count),
        }
    }

    /// Whether the body was read completely.
    pub fn body_done(&self) -> bool {
        match self {
            Self::H1(peer) => peer.body_done(),
            Self::H2(peer) => peer.body_done(),
        }
    }

    /// Trailer fields of the body.
    pub fn trailers(&self) -> &HeaderList {
        match self {
            Self::H1(peer) => peer.trailers(),
            Self::H2(peer) => peer.trailers(),
        }
    }

    /// Sends body bytes; `Ready` returns how many bytes of `data` were taken.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, NetError>> {
        match self {
            Self::H1(peer) => peer.poll_send(cx, data),
            Self::H2(peer) => peer.poll_send(cx, data),
        }
    }

    /// Ends the body being sent.
    pub fn finish(&mut self, trailers: Option<&HeaderList>) -> Result<(), NetError> {
        match self {
            Self::H1(peer) => peer.finish(trailers),
            Self::H2(peer) => peer.finish(trailers),
        }
    }

    /// Flushes the output.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NetError>> {
        match self {
            Self::H1(peer) => peer.poll_flush(cx),
            // The output is sent when the connection is next polled; windows limit it.
            Self::H2(_) => Poll::Ready(Ok(())),
        }
    }

    /// Whether the peer has disconnected while it waits for a response. For HTTP/1, the end of the stream counts, as in
    /// nginx.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::H1(peer) => {
                if peer.is_eof() {
                    return Poll::Ready(());
                }
                // Input received meanwhile is the next request; up to a buffer's size of it is read.
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
