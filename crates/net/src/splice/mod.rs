//! [`Splice`]: bytes go from one TCP connection to another inside the kernel, by way of a pipe (`splice(2)`).
//!
//! It is for much that comes at once: who reads and writes copies each byte twice, and this not at all, but each step
//! costs more. Wherever it does not work there is reading and writing, so nothing here fails that would not fail there.

#[cfg(not(target_os = "linux"))]
#[path = "pipe_none.rs"]
mod pipe;
#[cfg(target_os = "linux")]
mod pipe;

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;

use std::io;
use std::task::{Context, Poll, ready};

use self::pipe::Pipe;
pub use self::pipe::release_idle;
use crate::{Io, NetError, Peer};
use tokio::io::Interest;

/// Bytes that are taken at once. A task goes through its budget of steps with them, so they bound how long it runs.
const TAKEN_MAX: usize = 512 * 1024;

/// One direction between two connections.
///
/// It holds a pipe only while bytes are in it, and takes more only when it is empty: whatever has to be waited for is
/// then known, and a receiver that is slow is owed no more than one pipe. One that is dropped with bytes in it drops
/// the pipe too.
#[derive(Debug, Default)]
pub struct Splice {
    pipe: Option<Pipe>,
    used: bool,
}

/// Which side of a [`Splice`] broke.
#[derive(Debug)]
pub enum SpliceError {
    /// The one that bytes come from.
    Source(NetError),
    /// The one that they go to.
    Sink(NetError),
}

impl Splice {
    /// Whether bytes were ever taken this way.
    pub fn is_used(&self) -> bool {
        self.used
    }

    /// Whether bytes were taken that the sink does not have yet.
    pub fn holds_bytes(&self) -> bool {
        self.pipe.is_some()
    }

    /// Moves some of a body. How many bytes the sink got; 0 when it is to be read and written instead, because it is
    /// not apt for this or because nothing has come. `Pending` while the sink is waited for. A body of which more than
    /// `max` bytes are left is not begun.
    pub fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Peer,
        sink: &mut Peer,
        max: u64,
    ) -> Poll<Result<u64, SpliceError>> {
        let (Peer::H1(source), Peer::H1(sink)) = (source, sink) else { return Poll::Ready(Ok(0)) };
        if self.pipe.is_none() {
            let left = source.spliceable();
            if left == 0 || left > max {
                return Poll::Ready(Ok(0));
            }
            let left = left.min(sink.splice_room());
            let count = self.take(cx, source.io(), sink.io(), left).map_err(SpliceError::Source)?;
            if count == 0 {
                return Poll::Ready(Ok(0));
            }
            source.spliced_from(count);
        }
        ready!(sink.poll_write_output(cx)).map_err(SpliceError::Sink)?;
        let count = ready!(self.poll_give(cx, sink.io())).map_err(SpliceError::Sink)?;
        sink.spliced_to(count);
        Poll::Ready(Ok(count as u64))
    }

    /// Takes up to `max` bytes that have come, to be given to a sink of this kind. 0 when they are to be read instead,
    /// when none have come, and at the end of the stream: reading tells which it is. Call it when all is given.
    pub fn take(&mut self, cx: &mut Context<'_>, source: &Io, sink: &Io, max: u64) -> Result<usize, NetError> {
        let (Io::Tcp(source), Io::Tcp(_)) = (source, sink) else { return Ok(0) };
        // Takes of the task's budget.
        let Poll::Ready(readable) = source.poll_read_ready(cx) else { return Ok(0) };
        readable.map_err(NetError::Io)?;
        let Some(mut pipe) = Pipe::lend() else { return Ok(0) };
        let max = usize::try_from(max).unwrap_or(usize::MAX).min(TAKEN_MAX);
        let count = pipe.take(source, max).map_err(NetError::Io)?;
        if count > 0 {
            self.used = true;
            self.pipe = Some(pipe);
        }
        Ok(count)
    }

    /// Gives what was taken. How much the sink got; all is given when nothing is held any more.
    pub fn poll_give(&mut self, cx: &mut Context<'_>, sink: &Io) -> Poll<Result<usize, NetError>> {
        let (Some(pipe), Io::Tcp(sink)) = (&mut self.pipe, sink) else { return Poll::Ready(Ok(0)) };
        let count = loop {
            ready!(sink.poll_write_ready(cx)).map_err(NetError::Io)?;
            match sink.try_io(Interest::WRITABLE, || pipe.give(sink)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => break outcome.map_err(NetError::Io)?,
            }
        };
        if pipe.is_empty() {
            self.pipe = None;
        }
        Poll::Ready(if count == 0 { Err(NetError::Closed) } else { Ok(count) })
    }
}
