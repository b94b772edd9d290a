//! [`ByteStream`]: a connection with its unread input and unsent output.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::NetError;
use crate::buffer::{self, Buffer};
use crate::io::Io;

/// A byte connection: used for forwarding raw TCP, and below an HTTP/1 connection.
#[derive(Debug)]
pub struct ByteStream {
    pub(crate) io: Io,
    /// Bytes read but not consumed.
    pub(crate) input: Buffer,
    /// Bytes to be sent.
    pub(crate) output: Vec<u8>,
    /// Number of bytes of `output` that have been sent.
    pub(crate) written: usize,
    /// Bytes have been sent since the flag was reset.
    pub(crate) has_sent: bool,
}

impl ByteStream {
    /// Creates a connection from which only `input` was read.
    pub fn new(io: Io, input: Buffer) -> Self {
        Self { io, input, output: Vec::new(), written: 0, has_sent: false }
    }

    /// The stream.
    pub fn io(&mut self) -> &mut Io {
        &mut self.io
    }

    /// Splits the connection into the stream and the unread input. Unsent output is dropped.
    pub fn into_parts(mut self) -> (Io, Buffer) {
        buffer::give_output(std::mem::take(&mut self.output));
        (self.io, self.input)
    }

    /// The unread input.
    pub fn unread(&self) -> &[u8] {
        self.input.filled()
    }

    /// Takes the unread input.
    pub fn take_unread(&mut self) -> Buffer {
        std::mem::take(&mut self.input)
    }

    /// Reads more; 0 at the end of the stream. `max` limits the unread input.
    ///
    /// # Errors
    /// If the connection fails, or the unread input has reached its limit.
    pub fn poll_read_more(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<usize, NetError>> {
        self.poll_read(cx, max).map_ok(|(count, _)| count)
    }

    /// Like [`Self::poll_read_more`]; also returns whether the buffer is full.
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

    /// Flushes the output.
    ///
    /// # Errors
    /// If the connection fails.
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
        // A connection that waits for a response holds no buffer.
        buffer::give_output(std::mem::take(&mut self.output));
        Poll::Ready(Ok(()))
    }
}
