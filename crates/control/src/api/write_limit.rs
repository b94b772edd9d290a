//! [`WriteLimit`]: a stream whose peer must take what is written to it.

use std::future::Future as _;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use cardinal_base::{Clock, Sleep, Tick};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// For a client that takes nothing.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that a client takes in a second at least, on average over a response.
const BYTES_PER_SECOND_MIN: u64 = 16 << 10;

/// A stream that fails when its peer reads too slowly: a response has [`WRITE_TIMEOUT`], and a second for each 16 KiB of
/// it that the peer has taken.
pub(super) struct WriteLimit<S> {
    stream: S,
    clock: Arc<dyn Clock>,
    /// When what is being written must have been taken; `None` if nothing is.
    deadline: Option<Tick>,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> WriteLimit<S> {
    pub(super) fn new(stream: S, clock: Arc<dyn Clock>) -> Self {
        Self { stream, clock, deadline: None, waiting: None }
    }

    /// Follows a write: the time that is left, or an error if there is none.
    fn limit(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let deadline = *self.deadline.get_or_insert_with(|| self.clock.tick().plus(WRITE_TIMEOUT));
        if let Poll::Ready(result) = written {
            if let Ok(bytes) = result {
                let micros = (bytes as u64).saturating_mul(1_000_000) / BYTES_PER_SECOND_MIN;
                self.deadline = Some(deadline.plus(Duration::from_micros(micros)));
            }
            self.waiting = None;
            return Poll::Ready(result);
        }
        let clock = &self.clock;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(clock.sleep_until(deadline)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the client does not read its response")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteLimit<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteLimit<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.limit(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.limit(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called when everything was written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() {
            (self.deadline, self.waiting) = (None, None);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use cardinal_base::ManualClock;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_given_up() {
        let clock = Arc::new(ManualClock::default());
        let (near, _far) = tokio::io::duplex(64 << 10);
        let mut stream = WriteLimit::new(near, clock.clone() as Arc<dyn Clock>);
        let bytes = vec![0; 256 << 10];
        let mut writing = Box::pin(stream.write_all(&bytes));
        // 64 KiB fit, which give it four more seconds.
        assert!(polled_once(&mut writing).await.is_none());
        clock.advance(Duration::from_secs(33));
        assert!(polled_once(&mut writing).await.is_none());
        clock.advance(Duration::from_secs(1));
        let error = polled_once(&mut writing).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_slow_peer_is_given_time_for_what_it_takes() {
        let clock = Arc::new(ManualClock::default());
        let (near, mut far) = tokio::io::duplex(64 << 10);
        let mut stream = WriteLimit::new(near, clock.clone() as Arc<dyn Clock>);
        let bytes = vec![0; 4 << 20];
        let mut writing = Box::pin(async move {
            stream.write_all(&bytes).await?;
            stream.flush().await
        });
        let mut part = vec![0; 64 << 10];
        let mut ended = None;
        for _ in 0..64 {
            assert!(ended.is_none());
            ended = polled_once(&mut writing).await;
            // 64 KiB in 4 s are as slow as it may be.
            clock.advance(Duration::from_secs(4));
            far.read_exact(&mut part).await.unwrap();
        }
        ended.unwrap().unwrap();
        // A peer that takes a byte now and then is not.
        let (near, mut far) = tokio::io::duplex(16);
        let mut stream = WriteLimit::new(near, clock.clone() as Arc<dyn Clock>);
        let bytes = vec![0; 4 << 10];
        let mut writing = Box::pin(stream.write_all(&bytes));
        for _ in 0..15 {
            assert!(polled_once(&mut writing).await.is_none());
            clock.advance(Duration::from_secs(2));
            far.read_exact(&mut [0]).await.unwrap();
        }
        clock.advance(Duration::from_secs(2));
        assert_eq!(polled_once(&mut writing).await.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
    }

    /// Polls a future once.
    async fn polled_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        // Nothing else waits here, and the runtime lets a task do only so much at a time.
        tokio::task::yield_now().await;
        std::future::poll_fn(|cx| match Pin::new(&mut *future).poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }
}
