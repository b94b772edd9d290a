//! One HTTP/1 connection, either role: reads heads and bodies, writes heads and bodies. Poll-based, so that one task
//! can drive both directions of an exchange.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use cardinal_base::Permit;
use cardinal_http::HeaderList;
use cardinal_http::h1::{BodyDecoder, Framing, Step, write_chunk_head};
use tokio::io::AsyncWrite;

use crate::NetError;
use crate::buffer::{self, Buffer, SIZE};
use crate::byte_stream::ByteStream;
use crate::io::Io;

/// Head and body are copied into one buffer up to this size; larger data is written directly, without copying.
const GATHER_MAX: usize = SIZE;

/// Remaining body size from which splicing is worthwhile. Measured on loopback: with half of it, copying data that is
/// in the processor cache costs less.
const SPLICED_MIN: u64 = 1024 * 1024;

/// The rest of a body below this size is read, even if the body was spliced so far.
const SPLICED_LEFT_MIN: u64 = 4 * SIZE as u64;

/// The framing state of a body being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoder {
    /// Nothing more may be written.
    Done,
    /// Remaining number of bytes.
    Length(u64),
    /// Chunked; no chunk is in progress.
    Chunked,
    /// Chunked; remaining number of bytes of the current chunk.
    Chunk(u64),
    /// Ended by closing the connection.
    Close,
}

/// One HTTP/1 connection.
#[derive(Debug)]
pub struct H1 {
    stream: ByteStream,
    /// Number of body bytes at the front of the unread input.
    run: usize,
    decoder: BodyDecoder,
    /// Trailer fields of the message being read.
    trailers: HeaderList,
    encoder: Encoder,
    eof: bool,
    /// Data arrives in large chunks, so a large read buffer pays off.
    bulk: bool,
    /// Data arrives fast enough for splicing.
    flood: bool,
    /// Part of the message being read was spliced.
    spliced: bool,
    /// The connection permit, held as long as the connection exists.
    permit: Option<Permit>,
}

impl H1 {
    /// Creates a connection from which only `prefix` was read.
    pub fn new(io: Io, prefix: &[u8]) -> Self {
        Self::with_input(io, Buffer::with(prefix))
    }

    /// Creates a connection from which only `input` was read; takes over the buffer.
    pub fn with_input(io: Io, input: Buffer) -> Self {
        Self {
            stream: ByteStream::new(io, input),
            run: 0,
            decoder: BodyDecoder::new(Framing::None),
            trailers: HeaderList::new(),
            encoder: Encoder::Done,
            eof: false,
            bulk: false,
            flood: false,
            spliced: false,
            permit: None,
        }
    }

    /// Attaches the connection permit.
    pub fn hold(&mut self, permit: Option<Permit>) {
        self.permit = permit;
    }

    /// The connection permit.
    pub fn permit(&self) -> Option<&Permit> {
        self.permit.as_ref()
    }

    /// The stream.
    pub fn io(&mut self) -> &mut Io {
        &mut self.stream.io
    }

    /// Splits the connection into the stream and the unread input.
    pub fn into_parts(self) -> (Io, Buffer) {
        self.stream.into_parts()
    }

    /// The underlying byte stream, for use after an upgrade.
    pub fn stream(&mut self) -> &mut ByteStream {
        self.run = 0;
        &mut self.stream
    }

    /// The unread input.
    pub fn unread(&self) -> &[u8] {
        self.stream.input.filled()
    }

    /// Removes a parsed head from the unread input.
    pub fn consume_head(&mut self, count: usize) {
        self.stream.input.consume(count);
    }

    /// Starts reading a request body with this framing at the unread input.
    pub fn start_reading(&mut self, framing: Framing) {
        self.start_body(BodyDecoder::new(framing), framing);
    }

    /// Starts reading a response body with this framing at the unread input.
    pub fn start_reading_response(&mut self, framing: Framing) {
        self.start_body(BodyDecoder::of_response(framing), framing);
    }

    fn start_body(&mut self, decoder: BodyDecoder, framing: Framing) {
        self.decoder = decoder;
        self.run = 0;
        self.trailers.clear();
        if matches!(framing, Framing::None) || matches!(framing, Framing::Length(length) if length <= SIZE as u64) {
            self.bulk = false;
        }
        // Without a known length, splicing only starts once much data has arrived.
        self.flood = matches!(framing, Framing::Length(_));
        self.spliced = false;
    }

    /// Reads more; 0 at the end of the stream. `max` limits the unread input.
    pub fn poll_read_more(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<usize, NetError>> {
        if self.bulk {
            self.stream.input.enlarge();
        }
        let (count, is_full) = ready!(self.stream.poll_read(cx, max))?;
        self.eof |= count == 0;
        self.bulk |= is_full;
        self.flood |= count >= SIZE;
        Poll::Ready(Ok(count))
    }

    /// Waits for body bytes: `true` if [`H1::data`] has some, `false` at the end of the body.
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, NetError>> {
        loop {
            if self.run > 0 {
                return Poll::Ready(Ok(true));
            }
            let step = self.decoder.step(self.stream.input.filled(), &mut self.trailers).map_err(NetError::Body)?;
            match step {
                Step::Data { skip, len } => {
                    self.stream.input.consume(skip);
                    self.run = len;
                }
                Step::End { skip } => {
                    self.stream.input.consume(skip);
                    return Poll::Ready(Ok(false));
                }
                Step::More { skip } => {
                    self.stream.input.consume(skip);
                    self.bulk |= self.decoder.remaining().is_some_and(|left| left > SIZE as u64);
                    if ready!(self.poll_read_more(cx, 2 * SIZE))? == 0 {
                        self.decoder.closed().map_err(NetError::Body)?;
                    }
                }
            }
        }
    }

    /// Number of body bytes that can be spliced from the stream: 0 if few remain, or if unread input exists.
    pub(crate) fn spliceable(&self) -> u64 {
        let left = if self.decoder.ends_at_close() { u64::MAX } else { self.decoder.remaining().unwrap_or(0) };
        let least = if self.spliced { SPLICED_LEFT_MIN } else { SPLICED_MIN };
        if left >= least && self.flood && self.stream.input.is_empty() { left } else { 0 }
    }

    /// Records body bytes that were spliced from the stream.
    pub(crate) fn spliced_from(&mut self, count: usize) {
        self.decoder.consumed(count);
        self.flood = count >= SIZE;
        self.spliced = true;
    }

    /// Number of body bytes that may be spliced into the stream after flushing the output.
    pub(crate) fn splice_room(&self) -> u64 {
        match self.encoder {
            Encoder::Length(left) => left,
            Encoder::Close => u64::MAX,
            Encoder::Done | Encoder::Chunked | Encoder::Chunk(_) => 0,
        }
    }

    /// Records body bytes that were spliced into the stream.
    pub(crate) fn spliced_to(&mut self, count: usize) {
        self.stream.has_sent = true;
        if let Encoder::Length(left) = self.encoder {
            let left = left.saturating_sub(count as u64);
            self.encoder = if left == 0 { Encoder::Done } else { Encoder::Length(left) };
        }
    }

    /// The available body bytes.
    pub fn data(&self) -> &[u8] {
        self.stream.input.filled().get(..self.run).unwrap_or_default()
    }

    /// Marks body bytes as consumed.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.run);
        self.stream.input.consume(count);
        self.run -= count;
        self.decoder.consumed(count);
    }

    /// Whether the body was read completely.
    pub fn body_done(&self) -> bool {
        self.run == 0 && self.decoder.is_done()
    }

    /// Remaining bytes of the body, if known.
    pub fn body_remaining(&self) -> Option<u64> {
        self.decoder.remaining()
    }

    /// Trailer fields of the body.
    pub fn trailers(&self) -> &HeaderList {
        &self.trailers
    }

    /// Whether the stream has ended.
    pub fn is_eof(&self) -> bool {
        self.eof
    }

    /// Starts a message: `write` appends the head; a body with this framing follows.
    pub fn start_writing(&mut self, framing: Framing, write: impl FnOnce(&mut Vec<u8>)) {
        self.take_output();
        self.stream.has_sent = false;
        write(&mut self.stream.output);
        self.encoder = match framing {
            Framing::None | Framing::Length(0) => Encoder::Done,
            Framing::Length(length) => Encoder::Length(length),
            Framing::Chunked => Encoder::Chunked,
            Framing::UntilClose => Encoder::Close,
        };
    }

    /// Makes sure that an output buffer is allocated.
    fn take_output(&mut self) {
        if self.stream.output.capacity() == 0 {
            self.stream.output = buffer::take_output();
        }
    }

    /// Sends body bytes; `Ready` returns how many bytes of `data` were taken. Small data is collected with the head up
    /// to a buffer's size, so a call may return before anything is sent: [`H1::poll_flush`] sends it.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, NetError>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        match self.encoder {
            Encoder::Done => Poll::Ready(Err(NetError::Unsendable("more body than announced"))),
            Encoder::Chunked => {
                self.take_output();
                write_chunk_head(data.len(), &mut self.stream.output);
                self.encoder = Encoder::Chunk(data.len() as u64);
                self.poll_send_chunk(cx, data, data.len() as u64)
            }
            Encoder::Chunk(left) => self.poll_send_chunk(cx, data, left),
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

    /// Sends bytes of a chunk with `left` bytes remaining.
    fn poll_send_chunk(&mut self, cx: &mut Context<'_>, data: &[u8], left: u64) -> Poll<Result<usize, NetError>> {
        let data = data.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(data);
        let last = data.len() as u64 == left;
        let count = ready!(self.poll_send_parts(cx, data, if last { b"\r\n" } else { b"" }))?;
        let left = left - count as u64;
        self.encoder = if left == 0 { Encoder::Chunked } else { Encoder::Chunk(left) };
        Poll::Ready(Ok(count))
    }

    /// Sends bytes without chunk framing.
    fn poll_send_plain(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, NetError>> {
        self.poll_send_parts(cx, data, b"")
    }

    /// Sends the pending output, part of `data` and, after all of it, `tail`: joined into one buffer if small,
    /// otherwise with a vectored write. Returns how many bytes of `data` were taken; when it returns the last of them,
    /// `tail` was taken completely.
    fn poll_send_parts(&mut self, cx: &mut Context<'_>, data: &[u8], tail: &[u8]) -> Poll<Result<usize, NetError>> {
        loop {
            let waiting = self.stream.output.get(self.stream.written..).unwrap_or_default();
            if !waiting.is_empty() && waiting.len() + data.len() <= GATHER_MAX {
                self.stream.output.extend_from_slice(data);
                self.stream.output.extend_from_slice(tail);
                return Poll::Ready(Ok(data.len()));
            }
            let io = Pin::new(&mut self.stream.io);
            let written = if waiting.is_empty() && tail.is_empty() {
                io.poll_write(cx, data)
            } else {
                io.poll_write_vectored(cx, &[IoSlice::new(waiting), IoSlice::new(data), IoSlice::new(tail)])
            };
            let count = ready!(written).map_err(NetError::Io)?;
            if count == 0 {
                return Poll::Ready(Err(NetError::Closed));
            }
            self.stream.has_sent = true;
            let waited = count.min(waiting.len());
            let (taken, over) = (data.len().min(count - waited), (count - waited).saturating_sub(data.len()));
            self.stream.written += waited;
            if self.stream.written == self.stream.output.len() {
                self.stream.output.clear();
                self.stream.written = 0;
            }
            if taken == data.len() {
                self.stream.output.extend_from_slice(tail.get(over..).unwrap_or_default());
            }
            if taken > 0 {
                return Poll::Ready(Ok(taken));
            }
        }
    }

    /// Discards the message being written if nothing of it has been sent: another message may then be written instead.
    pub fn retract(&mut self) -> bool {
        if self.stream.has_sent {
            return false;
        }
        self.stream.output.clear();
        self.stream.written = 0;
        self.encoder = Encoder::Done;
        true
    }

    /// Writes the end of the body: the last chunk and trailers. To be called once.
    pub fn finish(&mut self, trailers: Option<&HeaderList>) -> Result<(), NetError> {
        match std::mem::replace(&mut self.encoder, Encoder::Done) {
            Encoder::Chunked => {
                self.take_output();
                self.stream.output.extend_from_slice(b"0\r\n");
                if let Some(trailers) = trailers {
                    trailers.write_h1(&mut self.stream.output);
                }
                self.stream.output.extend_from_slice(b"\r\n");
                Ok(())
            }
            Encoder::Length(_) | Encoder::Chunk(_) => Err(NetError::Unsendable("less body than announced")),
            Encoder::Done | Encoder::Close => Ok(()),
        }
    }

    /// Whether the message was written completely.
    pub fn send_done(&self) -> bool {
        self.encoder == Encoder::Done && self.stream.written == self.stream.output.len()
    }

    /// Flushes the output.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NetError>> {
        self.stream.poll_flush(cx)
    }

    pub(crate) fn poll_write_output(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NetError>> {
        self.stream.poll_write_output(cx)
    }

    /// Releases memory between messages.
    pub fn rest(&mut self) {
        self.stream.input.release();
        self.trailers = HeaderList::new();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::duplex;

    use super::*;

    /// Sends `body` in chunks through a pipe with this capacity, and returns the output of its other end.
    fn through(pipe: usize, framing: Framing, parts: &[usize]) -> Vec<u8> {
        let (near, far) = duplex(pipe);
        let (mut sender, mut receiver) = (H1::new(Io::Memory(near), b""), H1::new(Io::Memory(far), b""));
        let body = pattern(parts.iter().sum());
        let sending = async {
            sender.start_writing(framing, |out| out.extend_from_slice(b"HEAD"));
            let mut rest = body.as_slice();
            for part in parts {
                let (mut part, after) = rest.split_at(*part);
                rest = after;
                while !part.is_empty() {
                    let count = poll_fn(|cx| sender.poll_send(cx, part)).await.unwrap();
                    part = &part[count..];
                }
            }
            sender.finish(None).unwrap();
            poll_fn(|cx| sender.poll_flush(cx)).await.unwrap();
            assert!(sender.send_done());
        };
        let receiving = async {
            let mut seen = Vec::new();
            while receiver.unread().len() < 4 {
                poll_fn(|cx| receiver.poll_read_more(cx, 2 * SIZE)).await.unwrap();
            }
            assert_eq!(&receiver.unread()[..4], b"HEAD");
            receiver.consume_head(4);
            receiver.start_reading(framing);
            while poll_fn(|cx| receiver.poll_body(cx)).await.unwrap() {
                // Consumes only part of the available data; the rest stays for the next iteration.
                let count = receiver.data().len().div_ceil(2);
                seen.extend_from_slice(&receiver.data()[..count]);
                receiver.consume(count);
            }
            assert!(receiver.body_done() && receiver.unread().is_empty());
            seen
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (seen, ()) = runtime.block_on(async { tokio::join!(receiving, sending) });
        assert!(seen == body, "{framing:?} through {pipe} in {parts:?}");
        seen
    }

    #[allow(clippy::cast_possible_truncation, reason = "a pattern")]
    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
    }

    #[test]
    fn bodies_of_any_parts_come_out_as_they_went_in() {
        let parts: [&[usize]; 6] =
            [&[1], &[SIZE - 4], &[SIZE + 1, 1], &[100, 3 * SIZE, 100], &[buffer::LARGE + 7], &[SIZE; 9]];
        for pipe in [1, 7, 1_000, SIZE, 1_000_000] {
            for parts in parts.iter().filter(|p| pipe > 7 || p.iter().sum::<usize>() <= SIZE) {
                through(pipe, Framing::Chunked, parts);
                through(pipe, Framing::Length(parts.iter().sum::<usize>() as u64), parts);
            }
        }
    }

    /// Data that is written directly is sent; buffered data can still be retracted.
    #[test]
    fn a_message_can_be_taken_back_while_it_is_gathered() {
        for (body, gathered) in [(SIZE - 4, true), (SIZE, false)] {
            let (near, _far) = duplex(1_000_000);
            let mut h1 = H1::new(Io::Memory(near), b"");
            h1.start_writing(Framing::Chunked, |out| out.extend_from_slice(b"HEAD"));
            // The chunk header counts too.
            let body = pattern(body - 6);
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(matches!(h1.poll_send(&mut cx, &body), Poll::Ready(Ok(count)) if count == body.len()));
            assert_eq!(h1.retract(), gathered);
        }
    }
}
