//! [`Io`]: a byte stream over TCP, TLS or memory.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

/// A byte stream. Code above this type does not depend on the transport.
#[derive(Debug)]
pub enum Io {
    /// TCP.
    Tcp(TcpStream),
    /// TLS with a client.
    ServerTls(Box<server::TlsStream<TcpStream>>),
    /// TLS with an upstream.
    ClientTls(Box<client::TlsStream<TcpStream>>),
    /// TLS with an upstream, through a tunnel that uses TLS itself.
    TunnelTls(Box<client::TlsStream<Io>>),
    /// In-memory pipe.
    Memory(DuplexStream),
}

impl Io {
    /// Whether an idle connection is still open and no bytes have arrived. Needs no system call if no event has
    /// occurred.
    pub fn is_silent(&mut self) -> bool {
        let mut byte = [0; 1];
        let mut buf = ReadBuf::new(&mut byte);
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(self).poll_read(&mut cx, &mut buf).is_pending()
    }

    /// The underlying TCP stream.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(tcp) => Some(tcp),
            Self::ServerTls(tls) => Some(tls.get_ref().0),
            Self::ClientTls(tls) => Some(tls.get_ref().0),
            Self::TunnelTls(tls) => tls.get_ref().0.tcp(),
            Self::Memory(_) => None,
        }
    }

    /// Announces the end of the data if that needs no waiting: TLS sends `close_notify`. The connection has to be
    /// dropped afterwards.
    pub fn close_idle(&mut self) {
        let mut record = Vec::new();
        let (tcp, session) = match self {
            Self::ClientTls(tls) => {
                let (tcp, session) = tls.get_mut();
                session.send_close_notify();
                (tcp, session.write_tls(&mut record))
            }
            Self::ServerTls(tls) => {
                let (tcp, session) = tls.get_mut();
                session.send_close_notify();
                (tcp, session.write_tls(&mut record))
            }
            Self::TunnelTls(tls) => {
                let (below, session) = tls.get_mut();
                session.send_close_notify();
                if session.write_tls(&mut record).is_ok()
                    && let Self::ClientTls(tunnel) = below
                {
                    // The record is in memory, and is sent with the tunnel's own record.
                    io::Write::write_all(&mut tunnel.get_mut().1.writer(), &record).ok();
                }
                return below.close_idle();
            }
            Self::Tcp(_) | Self::Memory(_) => return,
        };
        if session.is_ok() {
            // Best effort: a peer that does not read sees the end of TCP.
            tcp.try_write(&record).ok();
        }
    }

    /// Whether TLS has failed because of the peer's data. An alert has then been sent, and no more data may follow (RFC
    /// 8446 section 6.2).
    pub fn tls_has_failed(&mut self) -> bool {
        // rustls returns an error again on each call; without an error, all input has already been processed.
        match self {
            Self::ServerTls(tls) => tls.get_mut().1.process_new_packets().is_err(),
            Self::ClientTls(tls) => tls.get_mut().1.process_new_packets().is_err(),
            Self::TunnelTls(tls) => {
                let (below, session) = tls.get_mut();
                session.process_new_packets().is_err() || below.tls_has_failed()
            }
            Self::Tcp(_) | Self::Memory(_) => false,
        }
    }

    /// Reads and drops further input, below TLS; returns the number of bytes, 0 at the end.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [0; 4096];
        let mut buf = ReadBuf::new(&mut bytes);
        let read = match self {
            Self::TunnelTls(io) => return io.get_mut().0.poll_discard(cx),
            Self::Tcp(io) => Pin::new(io).poll_read(cx, &mut buf),
            Self::ServerTls(io) => Pin::new(io.get_mut().0).poll_read(cx, &mut buf),
            Self::ClientTls(io) => Pin::new(io.get_mut().0).poll_read(cx, &mut buf),
            Self::Memory(io) => Pin::new(io).poll_read(cx, &mut buf),
        };
        read.map_ok(|()| buf.filled().len())
    }

    /// Shuts down the write side, then reads and drops at most `max` bytes or up to the end: closing a socket with
    /// unread input sends a reset, which may overtake the last output (RFC 9112 section 9.6; nginx's lingering close).
    /// The caller enforces the timeout.
    pub async fn shutdown_and_discard(&mut self, max: usize) {
        // The peer may have closed the connection; the error has no other recipient.
        self.shutdown().await.ok();
        let mut left = max;
        while left > 0 {
            match poll_fn(|cx| self.poll_discard(cx)).await {
                Ok(count @ 1..) => left = left.saturating_sub(count),
                Ok(0) | Err(_) => return,
            }
        }
    }

    /// Makes closing it send a reset: for a response that must not look complete.
    pub fn reset_on_close(&self) {
        if let Some(tcp) = self.tcp() {
            // Best effort: without the option, the peer sees an early end instead.
            socket2::SockRef::from(tcp).set_linger(Some(std::time::Duration::ZERO)).ok();
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_read(cx, buf),
            Self::ServerTls(io) => Pin::new(io.as_mut()).poll_read(cx, buf),
            Self::ClientTls(io) => Pin::new(io.as_mut()).poll_read(cx, buf),
            Self::TunnelTls(io) => Pin::new(io.as_mut()).poll_read(cx, buf),
            Self::Memory(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_write(cx, buf),
            Self::ServerTls(io) => Pin::new(io.as_mut()).poll_write(cx, buf),
            Self::ClientTls(io) => Pin::new(io.as_mut()).poll_write(cx, buf),
            Self::TunnelTls(io) => Pin::new(io.as_mut()).poll_write(cx, buf),
            Self::Memory(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::ServerTls(io) => Pin::new(io.as_mut()).poll_write_vectored(cx, bufs),
            Self::ClientTls(io) => Pin::new(io.as_mut()).poll_write_vectored(cx, bufs),
            Self::TunnelTls(io) => Pin::new(io.as_mut()).poll_write_vectored(cx, bufs),
            Self::Memory(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(_) => Poll::Ready(Ok(())),
            Self::ServerTls(io) => Pin::new(io.as_mut()).poll_flush(cx),
            Self::ClientTls(io) => Pin::new(io.as_mut()).poll_flush(cx),
            Self::TunnelTls(io) => Pin::new(io.as_mut()).poll_flush(cx),
            Self::Memory(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_shutdown(cx),
            Self::ServerTls(io) => Pin::new(io.as_mut()).poll_shutdown(cx),
            Self::ClientTls(io) => Pin::new(io.as_mut()).poll_shutdown(cx),
            Self::TunnelTls(io) => Pin::new(io.as_mut()).poll_shutdown(cx),
            Self::Memory(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
