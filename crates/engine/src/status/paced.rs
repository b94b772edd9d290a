//! [`Paced`]: a byte stream with read and write timeouts, so that slow clients cannot hold connections.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use cardinal_base::{Clock, Sleep};
use cardinal_net::Io;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Timeout for a request head after its first byte, and for the client to read a response.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout between two requests.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Progress of the requests of a connection, reported by the service to the byte stream.
#[derive(Debug, Default)]
pub(super) struct Progress(AtomicU32);

impl Progress {
    /// A request has been received, or its response is ready.
    pub(super) fn step(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn steps(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A byte stream with client timeouts.
pub(super) struct Paced {
    io: Io,
    clock: Arc<dyn Clock>,
    progress: Arc<Progress>,
    /// Value of the progress when the read timeout was set.
    seen: u32,
    /// The read timeout, and whether the next request has begun.
    reading: Option<(Pin<Box<Sleep>>, bool)>,
    writing: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    pub(super) fn new(io: Io, clock: Arc<dyn Clock>, progress: Arc<Progress>) -> Self {
        Self { io, clock, progress, seen: 0, reading: None, writing: None }
    }

    pub(super) fn into_inner(self) -> Io {
        self.io
    }

    /// Whether a request is being processed: the client is not waited for then.
    fn is_answering(&mut self) -> bool {
        let steps = self.progress.steps();
        if steps != self.seen {
            (self.seen, self.reading) = (steps, None);
        }
        steps % 2 == 1
    }

    fn poll_late_to_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.is_answering() {
            return Poll::Pending;
        }
        let clock = &self.clock;
        let (limit, _) = self.reading.get_or_insert_with(|| (Box::pin(clock.sleep(IDLE_TIMEOUT)), false));
        ready!(limit.as_mut().poll(cx));
        Poll::Ready(late("no request within the time limit"))
    }

    /// Restarts the read timeout after bytes were received.
    fn has_read(&mut self) {
        if !self.is_answering() && !self.reading.as_ref().is_some_and(|(_, begun)| *begun) {
            self.reading = Some((Box::pin(self.clock.sleep(STEP_TIMEOUT)), true));
        }
    }

    fn poll_late_to_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let clock = &self.clock;
        ready!(self.writing.get_or_insert_with(|| Box::pin(clock.sleep(STEP_TIMEOUT))).as_mut().poll(cx));
        Poll::Ready(late("the client does not take the response"))
    }
}

fn late(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl AsyncRead for Paced {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Ready(result) => {
                self.has_read();
                Poll::Ready(result)
            }
            Poll::Pending => self.poll_late_to_read(cx).map(Err),
        }
    }
}

impl AsyncWrite for Paced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.io).poll_write(cx, buf) {
            Poll::Pending => self.poll_late_to_write(cx).map(Err),
            written @ Poll::Ready(_) => written,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.io).poll_write_vectored(cx, bufs) {
            Poll::Pending => self.poll_late_to_write(cx).map(Err),
            written @ Poll::Ready(_) => written,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.io).poll_flush(cx) {
            Poll::Pending => self.poll_late_to_write(cx).map(Err),
            // The response has been sent completely.
            flushed @ Poll::Ready(_) => {
                self.writing = None;
                flushed
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
