//! [`Io`]: a byte stream, whatever carries it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

/// A byte stream. The type of what carries it ends here.
#[derive(Debug)]
pub enum Io {
    /// TCP.
    Tcp(TcpStream),
    /// TLS with a client.
    ServerTls(Box<server::TlsStream<TcpStream>>),
    /// TLS with an upstream.
    ClientTls(Box<client::TlsStream<TcpStream>>),
    /// TLS with an upstream, through a tunnel that has TLS itself.
    TunnelTls(Box<client::TlsStream<Io>>),
    /// Memory.
    Memory(DuplexStream),
}

impl Io {
    /// Whether a connection that should be silent still is, and is open. Costs no system call while nothing came.
    pub fn is_silent(&mut self) -> bool {
        let mut byte = [0; 1];
        let mut buf = ReadBuf::new(&mut byte);
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(self).poll_read(&mut cx, &mut buf).is_pending()
    }

    /// The TCP stream under it.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(tcp) => Some(tcp),
            Self::ServerTls(tls) => Some(tls.get_ref().0),
            Self::ClientTls(tls) => Some(tls.get_ref().0),
            Self::TunnelTls(tls) => tls.get_ref().0.tcp(),
            Self::Memory(_) => None,
        }
    }

    /// Tells the peer that nothing follows, if that takes no waiting: TLS says so in a record of its own. The connection
    /// is to be dropped after it.
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
                    // It is in memory, and leaves with the tunnel's own record.
                    io::Write::write_all(&mut tunnel.get_mut().1.writer(), &record).ok();
                }
                return below.close_idle();
            }
            Self::Tcp(_) | Self::Memory(_) => return,
        };
        if session.is_ok() {
            // Best effort: a peer that takes nothing more sees the end of TCP.
            tcp.try_write(&record).ok();
        }
    }

    /// Whether TLS has failed for something that the peer sent. An alert has then been sent, and nothing more may be
    /// (RFC 8446 section 6.2).
    pub fn tls_has_failed(&mut self) -> bool {
        // An error is given again each time; without one, everything that was read has been processed before.
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

    /// Reads and drops what the peer still sends, below TLS; how much it was, 0 at the end.
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

    /// Makes closing it send a reset: for a response that must not look complete.
    pub fn reset_on_close(&self) {
        if let Some(tcp) = self.tcp() {
            // Best effort: without it the peer sees an early end instead.
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
