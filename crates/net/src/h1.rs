//! One HTTP/1 connection, either role: reads heads and bodies, writes heads and bodies. Poll-based, so that one task
//! can drive both directions of an exchange.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use cardinal_http::HeaderList;
use cardinal_http::h1::{BodyDecoder, Framing, Step, write_chunk_head};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::NetError;
use crate::buffer::{self, Buffer, SIZE};
use crate::io::Io;

/// A head and its first body bytes go out in one write up to this size.
const GATHER_MAX: usize = SIZE;

/// How a body that is written ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoder {
    /// Nothing more may be written.
    Done,
    /// So many bytes are to come.
    Length(u64),
    /// Chunks.
    Chunked,
    /// The end of the connection.
    Close,
}

/// One HTTP/1 connection.
#[derive(Debug)]
pub struct H1 {
    io: Io,
    input: Buffer,
    /// Body bytes at the front of `input`.
    run: usize,
    decoder: BodyDecoder,
    /// Trailer fields of the message being read.
    trailers: HeaderList,
    output: Vec<u8>,
    written: usize,
    encoder: Encoder,
    /// Bytes of the message being written have left.
    begun: bool,
    eof: bool,
}

impl H1 {
    /// A connection on which nothing was read yet but `prefix`.
    pub fn new(io: Io, prefix: &[u8]) -> Self {
        Self {
            io,
            input: Buffer::with(prefix),
            run: 0,
            decoder: BodyDecoder::new(Framing::None),
            trailers: HeaderList::new(),
            output: Vec::new(),
            written: 0,
            encoder: Encoder::Done,
            begun: false,
            eof: false,
        }
    }

    /// The stream.
    pub fn io(&mut self) -> &mut Io {
        &mut self.io
    }

    /// Takes the connection apart: the stream, and what was read and not used.
    pub fn into_parts(mut self) -> (Io, Buffer) {
        buffer::give_output(std::mem::take(&mut self.output));
        (self.io, self.input)
    }

    /// What was read and not used.
    pub fn unread(&self) -> &[u8] {
        self.input.filled()
    }

    /// Drops unused bytes: a head that was parsed.
    pub fn consume_head(&mut self, count: usize) {
        self.input.consume(count);
    }

    /// The message being read has a body of this framing, which starts at the unused bytes.
    pub fn start_reading(&mut self, framing: Framing) {
        self.decoder = BodyDecoder::new(framing);
        self.run = 0;
        self.trailers.clear();
    }

    /// Reads more; 0 at the end of the stream. `max` limits what may lie unused.
    pub fn poll_read_more(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<usize, NetError>> {
        let Some(room) = self.input.room(max) else { return Poll::Ready(Err(NetError::BufferFull)) };
        let mut buf = ReadBuf::new(room);
        let poll = Pin::new(&mut self.io).poll_read(cx, &mut buf);
        let count = buf.filled().len();
        match poll {
            Poll::Pending => {
                // An idle connection holds no buffer.
                self.input.release();
                Poll::Pending
            }
            Poll::Ready(Ok(())) => {
                self.input.advance(count);
                self.eof |= count == 0;
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(NetError::Io(error))),
        }
    }

    /// Waits for body bytes: `true` when [`H1::data`] has some, `false` at the end of the body.
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, NetError>> {
        loop {
            if self.run > 0 {
                return Poll::Ready(Ok(true));
            }
            let step = self.decoder.step(self.input.filled(), &mut self.trailers).map_err(NetError::Body)?;
            match step {
                Step::Data { skip, len } => {
                    self.input.consume(skip);
                    self.run = len;
                }
                Step::End { skip } => {
                    self.input.consume(skip);
                    return Poll::Ready(Ok(false));
                }
                Step::More { skip } => {
                    self.input.consume(skip);
                    if ready!(self.poll_read_more(cx, 2 * SIZE))? == 0 {
                        self.decoder.closed().map_err(NetError::Body)?;
                    }
                }
            }
        }
    }

    /// Body bytes that are here.
    pub fn data(&self) -> &[u8] {
        self.input.filled().get(..self.run).unwrap_or_default()
    }

    /// Body bytes were used.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.run);
        self.input.consume(count);
        self.run -= count;
        self.decoder.consumed(count);
    }

    /// Whether the body was read to its end.
    pub fn body_done(&self) -> bool {
        self.run == 0 && self.decoder.is_done()
    }

    /// Bytes of the body still to come, where known.
    pub fn body_remaining(&self) -> Option<u64> {
        self.decoder.remaining()
    }

    /// Trailer fields of the body that was read.
    pub fn trailers(&self) -> &HeaderList {
        &self.trailers
    }

    /// The stream ended.
    pub fn is_eof(&self) -> bool {
        self.eof
    }

    /// Starts a message: the head is what `write` appends; a body of this framing follows.
    pub fn start_writing(&mut self, framing: Framing, write: impl FnOnce(&mut Vec<u8>)) {
        if self.output.capacity() == 0 {
            self.output = buffer::take_output();
        }
        self.begun = false;
        write(&mut self.output);
        self.encoder = match framing {
            Framing::None | Framing::Length(0) => Encoder::Done,
            Framing::Length(length) => Encoder::Length(length),
            Framing::Chunked => Encoder::Chunked,
            Framing::UntilClose => Encoder::Close,
        };
    }

    /// Takes body bytes: some of `data` when `Ready`. Bytes are gathered with the head and with each other up to a
    /// buffer's size, so a call may return before anything is sent: [`H1::poll_flush`] sends.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, NetError>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        match self.encoder {
            Encoder::Done => Poll::Ready(Err(NetError::Unsendable("more body than announced"))),
            Encoder::Chunked => {
                if self.output.len() - self.written >= GATHER_MAX {
                    ready!(self.poll_write_output(cx))?;
                }
                let data = data.get(..SIZE).unwrap_or(data);
                write_chunk_head(data.len(), &mut self.output);
                self.output.extend_from_slice(data);
                self.output.extend_from_slice(b"\r\n");
                Poll::Ready(Ok(data.len()))
            }
            Encoder::Length(left) => {
                let data = data.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(data);
                let count = ready!(self.poll_send_plain(cx, data))?;
                let left = left - count as u64;
                self.encoder = if left == 0 { Encoder::Done } else { Encoder::Length(left) };
                Poll::Ready(Ok(count))
            }
            Encoder::Close => self.poll_send_plain(cx, data),
        }
    }

    /// Sends bytes as they are, from where they lie unless a head waits to go with them.
    fn poll_send_plain(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, NetError>> {
        let waiting = self.output.len() - self.written;
        if waiting > 0 {
            let room = GATHER_MAX.saturating_sub(waiting);
            if room > 0 {
                let part = data.get(..room).unwrap_or(data);
                self.output.extend_from_slice(part);
                return Poll::Ready(Ok(part.len()));
            }
            ready!(self.poll_write_output(cx))?;
        }
        match ready!(Pin::new(&mut self.io).poll_write(cx, data)) {
            Ok(0) => Poll::Ready(Err(NetError::Closed)),
            Ok(count) => {
                self.begun = true;
                Poll::Ready(Ok(count))
            }
            Err(error) => Poll::Ready(Err(NetError::Io(error))),
        }
    }

    /// Takes the message being written back, if nothing of it has left: another one may be written in its place.
    pub fn retract(&mut self) -> bool {
        if self.begun {
            return false;
        }
        self.output.clear();
        self.written = 0;
        self.encoder = Encoder::Done;
        true
    }

    /// Writes the end of the body: the last chunk and trailers. Call once.
    pub fn finish(&mut self, trailers: Option<&HeaderList>) -> Result<(), NetError> {
        match std::mem::replace(&mut self.encoder, Encoder::Done) {
            Encoder::Chunked => {
                self.output.extend_from_slice(b"0\r\n");
                if let Some(trailers) = trailers {
                    trailers.write_h1(&mut self.output);
                }
                self.output.extend_from_slice(b"\r\n");
                Ok(())
            }
            Encoder::Length(_) => Err(NetError::Unsendable("less body than announced")),
            Encoder::Done | Encoder::Close => Ok(()),
        }
    }

    /// Whether the message was written to its end.
    pub fn send_done(&self) -> bool {
        self.encoder == Encoder::Done && self.written == self.output.len()
    }

    /// Sends what was gathered.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NetError>> {
        ready!(self.poll_write_output(cx))?;
        Pin::new(&mut self.io).poll_flush(cx).map_err(NetError::Io)
    }

    fn poll_write_output(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NetError>> {
        while self.written < self.output.len() {
            let rest = self.output.get(self.written..).unwrap_or_default();
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest)) {
                Ok(0) => return Poll::Ready(Err(NetError::Closed)),
                Ok(count) => {
                    self.written += count;
                    self.begun = true;
                }
                Err(error) => return Poll::Ready(Err(NetError::Io(error))),
            }
        }
        self.output.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Gives memory back between messages.
    pub fn rest(&mut self) {
        self.input.release();
        if self.output.is_empty() {
            buffer::give_output(std::mem::take(&mut self.output));
        }
        self.trailers = HeaderList::new();
    }
}
