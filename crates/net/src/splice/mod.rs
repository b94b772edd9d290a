//! [`Splice`]: moves bytes from one TCP connection to another inside the kernel, through a pipe (`splice(2)`).
//!
//! Suitable for large amounts of data: reading and writing copies each byte twice, splicing does not copy, but each
//! step costs more. If splicing is not possible, the caller reads and writes, so splicing adds no failures.

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

/// Maximum number of bytes spliced at once. The task's budget counts these steps, so the size limits how long the task
/// runs.
const TAKEN_MAX: usize = 512 * 1024;

/// One direction between two connections.
///
/// It holds a pipe only while bytes are in it, and takes more only when it is empty: this makes clear which side is
/// waited for, and a slow receiver occupies at most one pipe. Dropping it with bytes in it drops the pipe too.
#[derive(Debug, Default)]
pub struct Splice {
    pipe: Option<Pipe>,
    used: bool,
}

/// The side of a [`Splice`] that failed.
#[derive(Debug)]
pub enum SpliceError {
    /// The source.
    Source(NetError),
    /// The sink.
    Sink(NetError),
}

impl Splice {
    /// Whether bytes were ever spliced.
    pub fn is_used(&self) -> bool {
        self.used
    }

    /// Whether the pipe contains bytes that the sink has not received yet.
    pub fn holds_bytes(&self) -> bool {
        self.pipe.is_some()
    }

    /// Splices part of a body. Returns the number of bytes sent to the sink; 0 if the body has to be read and written
    /// instead, because splicing is not possible or no bytes have arrived. `Pending` while waiting for the sink. A body
    /// with more than `max` remaining bytes is not started.
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

    /// Takes up to `max` available bytes, to be given to a sink of this kind. Returns 0 if they have to be read
    /// instead, if none have arrived, and at the end of the stream: a read distinguishes these cases. To be called when
    /// all taken bytes have been given.
    pub fn take(&mut self, cx: &mut Context<'_>, source: &Io, sink: &Io, max: u64) -> Result<usize, NetError> {
        let (Io::Tcp(source), Io::Tcp(_)) = (source, sink) else { return Ok(0) };
        // Consumes the task's budget.
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

    /// Gives the taken bytes to the sink. Returns the number of bytes sent; all are given when the pipe is empty.
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
