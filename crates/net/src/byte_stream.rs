//! [`ByteStream`]: a connection with what was read and not used, and what was written and not sent.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::NetError;
use crate::buffer::{self, Buffer};
use crate::io::Io;

/// A connection of bytes: what raw TCP is forwarded over, and what an HTTP/1 connection reads from and writes to.
#[derive(Debug)]
pub struct ByteStream {
    pub(crate) io: Io,
    /// What was read and not used.
    pub(crate) input: Buffer,
    /// What was gathered to be sent.
    pub(crate) output: Vec<u8>,
    /// Bytes of `output` that were sent.
    pub(crate) written: usize,
    /// Bytes have been sent since this was last reset.
    pub(crate) has_sent: bool,
}

impl ByteStream {
    /// A connection of which only `input` was read.
    pub fn new(io: Io, input: Buffer) -> Self {
        Self { io, input, output: Vec::new(), written: 0, has_sent: false }
    }

    /// The stream.
    pub fn io(&mut self) -> &mut Io {
        &mut self.io
    }

    /// Takes the connection apart: the stream, and what was read and not used. What was not sent is lost.
    pub fn into_parts(mut self) -> (Io, Buffer) {
        buffer::give_output(std::mem::take(&mut self.output));
        (self.io, self.input)
    }

    /// What was read and not used.
    pub fn unread(&self) -> &[u8] {
        self.input.filled()
    }

    /// Takes what was read and not used.
    pub fn take_unread(&mut self) -> Buffer {
        std::mem::take(&mut self.input)
    }

    /// Reads more; 0 at the end of the stream. `max` limits what may lie unused.
    ///
    /// # Errors
    /// The connection breaks, or so much lies unused.
    pub fn poll_read_more(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<usize, NetError>> {
        self.poll_read(cx, max).map_ok(|(count, _)| count)
    }

    /// [`Self::poll_read_more`], which also tells whether there was room for no more.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<(usize, bool), NetError>> {
        let Some(room) = self.input.room(max) else { return Poll::Ready(Err(NetError::BufferFull)) };
        let mut buf = ReadBuf::new(room);
        let poll = Pin::new(&mut self.io).poll_read(cx, &mut buf);
        let (count, is_full) = (buf.filled().len(), buf.remaining() == 0);
        match poll {
            Poll::Pending => {
                // An idle connection holds no buffer.
                self.input.release();
                Poll::Pending
            }
            Poll::Ready(Ok(())) => {
                self.input.advance(count);
                Poll::Ready(Ok((count, is_full)))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(NetError::Io(error))),
        }
    }

    /// Sends what was gathered.
    ///
    /// # Errors
    /// The connection breaks.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NetError>> {
        ready!(self.poll_write_output(cx))?;
        Pin::new(&mut self.io).poll_flush(cx).map_err(NetError::Io)
    }

    pub(crate) fn poll_write_output(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NetError>> {
        while self.written < self.output.len() {
            let rest = self.output.get(self.written..).unwrap_or_default();
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest)) {
                Ok(0) => return Poll::Ready(Err(NetError::Closed)),
                Ok(count) => {
                    self.written += count;
                    self.has_sent = true;
                }
                Err(error) => return Poll::Ready(Err(NetError::Io(error))),
            }
        }
        self.written = 0;
        // A connection that waits for an answer holds no buffer.
        buffer::give_output(std::mem::take(&mut self.output));
        Poll::Ready(Ok(()))
    }
}
