//! [`Gather`]: what an HTTP/2 connection writes, held until it has no more to say.
//!
//! The `h2` crate flushes after each frame with a larger payload: responses of several streams that are ready at the
//! same time would each cost a system call and a TLS record. Held here they leave together.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::buffer::{self, SIZE};
use crate::io::Io;

/// Bytes held before they are written without being asked: two full TLS records.
const HELD_MAX: usize = 2 * SIZE;

/// A stream that holds what is written until [`Gather::poll`] sends it. Clones are the same stream.
#[derive(Clone, Debug)]
pub struct Gather(Rc<RefCell<Inner>>);

#[derive(Debug)]
struct Inner {
    io: Io,
    /// Read already, before `io` has more.
    prefix: Bytes,
    out: Vec<u8>,
    written: usize,
    /// Sending failed, and whoever writes has to learn of it.
    broken: Option<io::ErrorKind>,
}

impl Gather {
    /// `prefix` comes before what `io` still has.
    pub fn new(prefix: Bytes, io: Io) -> Self {
        Self(Rc::new(RefCell::new(Inner { io, prefix, out: Vec::new(), written: 0, broken: None })))
    }

    /// Polls what reads and writes this stream, and sends what was written when that has to wait.
    pub fn poll<T>(&self, cx: &mut Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        let polled = poll(cx);
        if polled.is_pending() {
            self.send(cx);
        }
        polled
    }

    /// Sends as much as the peer takes; the task is woken when it takes more.
    fn send(&self, cx: &mut Context<'_>) {
        let mut inner = self.0.borrow_mut();
        if let Poll::Ready(Err(error)) = inner.poll_send(cx)
            && inner.broken.replace(error.kind()).is_none()
        {
            // The next read or write tells of it.
            cx.waker().wake_by_ref();
        }
    }
}

impl Inner {
    fn check(&self) -> io::Result<()> {
        self.broken.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut self.io).poll_write(cx, rest)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(count) => self.written += count,
                Poll::Pending => return Poll::Pending,
            }
        }
        self.written = 0;
        buffer::give_output(std::mem::take(&mut self.out));
        Pin::new(&mut self.io).poll_flush(cx)
    }
}

impl AsyncRead for Gather {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        inner.check()?;
        if inner.prefix.is_empty() {
            return Pin::new(&mut inner.io).poll_read(cx, buf);
        }
        let count = inner.prefix.len().min(buf.remaining());
        buf.put_slice(inner.prefix.get(..count).unwrap_or_default());
        inner.prefix.advance(count);
        if inner.prefix.is_empty() {
            inner.prefix = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gather {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        inner.check()?;
        if inner.out.len() >= HELD_MAX {
            std::task::ready!(inner.poll_send(cx))?;
        }
        if inner.out.capacity() == 0 {
            inner.out = buffer::take_output();
        }
        let room = HELD_MAX.saturating_sub(inner.out.len());
        let part = buf.get(..room).unwrap_or(buf);
        inner.out.extend_from_slice(part);
        Poll::Ready(Ok(part.len()))
    }

    /// Nothing: [`Gather::poll`] sends.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.borrow().check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        std::task::ready!(inner.poll_send(cx))?;
        Pin::new(&mut inner.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[tokio::test]
    async fn writes_leave_together_when_there_is_no_more() {
        let (near, mut far) = duplex(1 << 20);
        let mut gather = Gather::new(Bytes::from_static(b"pre"), Io::Memory(near));
        for part in [b"one ".as_slice(), b"two"] {
            gather.write_all(part).await.unwrap();
            gather.flush().await.unwrap();
        }
        let mut read = [0; 16];
        let mut buf = ReadBuf::new(&mut read);
        assert!(Pin::new(&mut far).poll_read(&mut cx(), &mut buf).is_pending());
        assert!(gather.clone().poll(&mut cx(), |_| Poll::Ready(())).is_ready());
        assert!(Pin::new(&mut far).poll_read(&mut cx(), &mut buf).is_pending());
        assert!(gather.poll(&mut cx(), |_| Poll::<()>::Pending).is_pending());
        assert_eq!(far.read(&mut read).await.unwrap(), 7);
        assert_eq!(&read[..7], b"one two");
        far.write_all(b"fix").await.unwrap();
        let mut read = [0; 6];
        gather.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"prefix");
    }

    #[tokio::test]
    async fn what_is_held_is_bounded() {
        let (near, _far) = duplex(1000);
        let mut gather = Gather::new(Bytes::new(), Io::Memory(near));
        let mut taken = 0;
        while let Poll::Ready(count) = Pin::new(&mut gather).poll_write(&mut cx(), &[7; 5000]) {
            taken += count.unwrap();
        }
        assert_eq!(taken, HELD_MAX);
    }

    #[tokio::test]
    async fn a_failure_to_send_is_told_to_who_writes() {
        let (near, far) = duplex(1000);
        let mut gather = Gather::new(Bytes::new(), Io::Memory(near));
        gather.write_all(b"x").await.unwrap();
        drop(far);
        assert!(gather.poll(&mut cx(), |_| Poll::<()>::Pending).is_pending());
        assert!(gather.write_all(b"y").await.is_err());
        assert!(gather.read_u8().await.is_err());
    }
}
