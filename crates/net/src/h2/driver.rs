//! The I/O of a connection's state: shared by its streams and the task that drives it.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::error::H2Error;
use super::frame::{HEAD, PAYLOAD_MAX};
use super::sending::OUT_MAX;
use super::state::State;
use crate::buffer::{self, Buffer, SIZE};
use crate::io::Io;

/// Limit on unsent output above which no more input is read: responses to the peer's control frames count, too.
pub(super) const READ_MAX: usize = 2 * OUT_MAX;

/// Output capacity that a connection keeps between polls.
const OUT_KEPT: usize = 2 * SIZE;

/// Maximum number of bytes read per poll, so that other tasks can run.
const READ_PER_POLL_MAX: usize = 256 * 1024;

/// Maximum size of a frame that has to be buffered completely.
const FRAME_MAX: usize = HEAD + PAYLOAD_MAX;

/// The result of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    /// All available input was read; the task is woken when more arrives.
    All,
    /// More input may be available, but has to wait.
    Halted,
}

/// A connection.
pub(super) struct Link {
    io: Io,
    input: Buffer,
    /// Data arrives in large chunks, so a large read buffer pays off.
    bulk: bool,
    ended: bool,
    /// Written data may still be buffered in the layer below.
    unflushed: bool,
    /// Total number of bytes received.
    pub(super) received: u64,
    pub(super) state: State,
}

/// A connection that its streams and its driver share.
pub(super) type Shared = Rc<RefCell<Link>>;

impl Link {
    /// `input` was already read from `io`.
    pub(super) fn shared(io: Io, input: Buffer, state: State) -> Shared {
        Rc::new(RefCell::new(Self { io, input, bulk: false, ended: false, unflushed: false, received: 0, state }))
    }

    /// Processes the available input and sends the output, without waiting. `now_ms` may have any origin.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>, now_ms: u64) {
        self.state.driver = None;
        if self.state.out.capacity() == 0 {
            self.state.out = buffer::take_output();
        }
        let mut halted = false;
        if self.state.dead.is_none() {
            halted = self.read(cx, now_ms) == Read::Halted;
            self.state.go_on();
        }
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            self.state.fail(H2Error::Lost(error.kind()));
            self.ended = true;
        }
        if halted && self.state.unsent() < READ_MAX {
            // No other event signals that more input is available.
            cx.waker().wake_by_ref();
        }
        self.state.go_on();
        self.state.driver = Some(cx.waker().clone());
    }

    /// Reads and processes the available input.
    fn read(&mut self, cx: &mut Context<'_>, now_ms: u64) -> Read {
        let mut budget = READ_PER_POLL_MAX;
        loop {
            match self.state.receive(self.input.filled(), now_ms) {
                Ok(used) => self.input.consume(used),
                Err(_) => return Read::All,
            }
            // A peer that does not read is not served further.
            if budget == 0 || self.state.unsent() >= READ_MAX {
                return Read::Halted;
            }
            if self.bulk {
                self.input.enlarge();
            }
            let Some(room) = self.input.room(FRAME_MAX.next_power_of_two()) else { return Read::All };
            let mut buf = ReadBuf::new(room);
            let read = Pin::new(&mut self.io).poll_read(cx, &mut buf);
            let (count, full) = (buf.filled().len(), buf.remaining() == 0);
            match read {
                Poll::Pending => {
                    self.bulk = false;
                    self.input.release();
                    return Read::All;
                }
                Poll::Ready(Ok(())) if count > 0 => {
                    self.input.advance(count);
                    self.received += count as u64;
                    self.bulk |= full && count >= SIZE;
                    budget = budget.saturating_sub(count);
                }
                Poll::Ready(outcome) => {
                    let kind = outcome.map_or_else(|error| error.kind(), |()| io::ErrorKind::UnexpectedEof);
                    if self.io.tls_has_failed() {
                        // No data may follow the alert.
                        self.state.written = 0;
                        self.state.out.clear();
                    }
                    self.state.fail(H2Error::Lost(kind));
                    return Read::All;
                }
            }
        }
    }

    /// Sends the output.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        let Self { io, state, unflushed, .. } = self;
        while let Some(rest) = state.out.get(state.written..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut *io).poll_write(cx, rest)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(count) => {
                    state.written += count;
                    *unflushed = true;
                }
                Poll::Pending => {
                    // The sent part must not stay in memory as long as the rest is unsent.
                    if state.written >= OUT_MAX {
                        state.base += state.written as u64;
                        state.out.drain(..std::mem::take(&mut state.written));
                    }
                    return Poll::Pending;
                }
            }
        }
        state.base += std::mem::take(&mut state.written) as u64;
        state.out.clear();
        // An idle connection holds no memory, nor does one whose output was once large.
        if state.streams.used_count() == 0 || state.out.capacity() > OUT_KEPT {
            buffer::give_output(std::mem::take(&mut state.out));
        }
        // TLS may have buffered data that the socket has not taken.
        if *unflushed {
            ready!(Pin::new(io).poll_flush(cx))?;
            *unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and drops further input: closing a socket with unread input sends a reset, which may overtake the last
    /// output. Ready at the end of the stream, or when `left` is used up.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>, left: &mut usize) -> Poll<()> {
        while *left > 0 {
            match ready!(self.io.poll_discard(cx)) {
                Ok(count @ 1..) => *left = left.saturating_sub(count),
                Ok(0) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }

    /// Flushes the output and shuts down the byte stream.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.ended && ready!(self.poll_write(cx)).is_ok() {
            // The peer may have closed the connection; the error has no other recipient.
            ready!(Pin::new(&mut self.io).poll_shutdown(cx)).ok();
        }
        self.ended = true;
        Poll::Ready(())
    }
}
