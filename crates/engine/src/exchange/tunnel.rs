//! Copies bytes between two connections, after an upgrade and for stream routes.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use cardinal_http::{Failure, FailureKind};
use cardinal_net::buffer::{Buffer, SIZE};
use cardinal_net::{ByteStream, Io, Splice, Timer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::worker::Worker;

/// Number of bytes received in large chunks after which splicing starts.
const FLOOD_MIN: u64 = 1024 * 1024;

/// The result of a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) to_client: u64,
    pub(crate) to_upstream: u64,
    /// Why the tunnel ended.
    pub(crate) end: End,
}

/// Limits of a tunnel, milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TunnelLimits {
    /// Idle timeout.
    pub(crate) idle_ms: u64,
    /// Maximum lifetime from the start of the tunnel; 0 is unlimited.
    pub(crate) lifetime_ms: u64,
    /// The configured limit of which `lifetime_ms` is the remainder.
    pub(crate) stream_ms: u64,
}

/// Why a tunnel ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides have ended.
    #[default]
    Done,
    /// The client's connection failed.
    Client,
    /// The upstream's connection failed.
    Upstream,
    /// The idle timeout expired.
    Idle,
    /// The tunnel has reached its maximum lifetime, milliseconds.
    Expired(u64),
    /// The node is stopping.
    Cut,
}

/// One direction of a tunnel.
struct Way {
    /// Data read but not yet written.
    rest: Buffer,
    /// Data in the kernel pipe, if bytes are spliced instead of copied through `rest`.
    splice: Splice,
    moved: u64,
    /// The data that the destination had buffered before the tunnel (such as the response to an upgrade) has been
    /// flushed.
    begun: bool,
    /// Written data may still be buffered in the layer below.
    unflushed: bool,
    /// Data arrives in large chunks, so a large read buffer pays off.
    bulk: bool,
    /// Number of bytes received in large chunks since the last small chunk.
    flood: u64,
    /// The source has ended; the end is still to be forwarded.
    ended: bool,
    done: bool,
}

impl Way {
    /// A direction that first sends the bytes in `rest`.
    fn new(rest: Buffer) -> Self {
        let splice = Splice::default();
        Self {
            rest,
            splice,
            moved: 0,
            begun: false,
            unflushed: false,
            bulk: false,
            flood: 0,
            ended: false,
            done: false,
        }
    }

    /// Forwards as much as possible. `Err` tells whether the source failed (or else the destination). `spare` is an
    /// empty buffer that both directions share.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        spare: &mut Buffer,
        from: &mut ByteStream,
        to: &mut ByteStream,
    ) -> Result<(), bool> {
        if self.done {
            return Ok(());
        }
        if !self.begun {
            match to.poll_flush(cx).map_err(|_| false)? {
                Poll::Pending => return Ok(()),
                Poll::Ready(()) => self.begun = true,
            }
        }
        if self.rest.is_empty() {
            std::mem::swap(&mut self.rest, spare);
        }
        let outcome = self.relay(cx, from.io(), to.io());
        if self.rest.is_empty() {
            std::mem::swap(&mut self.rest, spare);
        }
        outcome
    }

    fn relay(&mut self, cx: &mut Context<'_>, from: &mut Io, to: &mut Io) -> Result<(), bool> {
        loop {
            while !self.rest.is_empty() {
                let Poll::Ready(written) = Pin::new(&mut *to).poll_write(cx, self.rest.filled()) else { return Ok(()) };
                let count = written.ok().filter(|count| *count > 0).ok_or(false)?;
                self.rest.consume(count);
                self.moved += count as u64;
                self.unflushed = true;
            }
            if !self.splice(cx, from, to)? {
                return Ok(());
            }
            if self.ended {
                return self.pass_end(cx, to);
            }
            if self.bulk {
                self.rest.enlarge();
            }
            let Some(room) = self.rest.room(SIZE) else { return Ok(()) };
            let mut buf = ReadBuf::new(room);
            let Poll::Ready(read) = Pin::new(&mut *from).poll_read(cx, &mut buf) else {
                return self.flush(cx, to).map(drop);
            };
            let (count, full) = (buf.filled().len(), buf.remaining() == 0);
            read.map_err(|_| true)?;
            self.rest.advance(count);
            self.ended = count == 0;
            self.bulk |= full;
            self.note(count);
        }
    }

    /// Splices large amounts of data; `rest` must be empty. Returns whether everything taken from the source has been
    /// sent, so that the source is to be read next.
    fn splice(&mut self, cx: &mut Context<'_>, from: &Io, to: &Io) -> Result<bool, bool> {
        loop {
            while self.splice.holds_bytes() {
                let Poll::Ready(given) = self.splice.poll_give(cx, to) else { return Ok(false) };
                self.moved += given.map_err(|_| false)? as u64;
            }
            if self.flood < FLOOD_MIN || self.ended {
                return Ok(true);
            }
            let count = self.splice.take(cx, from, to, u64::MAX).map_err(|_| true)?;
            if count == 0 {
                return Ok(true);
            }
            self.note(count);
        }
    }

    /// Small chunks are cheaper to read than to splice.
    fn note(&mut self, count: usize) {
        self.flood = if count < SIZE { 0 } else { self.flood.saturating_add(count as u64) };
    }

    /// Whether everything has been flushed.
    fn flush(&mut self, cx: &mut Context<'_>, to: &mut Io) -> Result<bool, bool> {
        if self.unflushed {
            let Poll::Ready(flushed) = Pin::new(to).poll_flush(cx) else { return Ok(false) };
            flushed.map_err(|_| false)?;
            self.unflushed = false;
        }
        Ok(true)
    }

    fn pass_end(&mut self, cx: &mut Context<'_>, to: &mut Io) -> Result<(), bool> {
        if self.flush(cx, to)? {
            // If the write end of a destination cannot be shut down, the destination has ended too.
            self.done = Pin::new(to).poll_shutdown(cx).is_ready();
        }
        Ok(())
    }
}

/// Connects two sides until both have ended, one fails, or a limit is reached. Data read from either side but not used
/// is sent first, as is data written but not flushed.
pub(crate) async fn tunnel(
    worker: &Worker,
    client: &mut ByteStream,
    upstream: &mut ByteStream,
    limits: TunnelLimits,
) -> Moved {
    let timer = Timer::new(&worker.wheel);
    timer.arm(limits.idle_ms);
    let lifetime = (limits.lifetime_ms > 0).then(|| Timer::new(&worker.wheel));
    if let Some(lifetime) = &lifetime {
        lifetime.arm(limits.lifetime_ms);
    }
    let (mut up, mut down) = (Way::new(client.take_unread()), Way::new(upstream.take_unread()));
    // Number of bytes forwarded, and the time of the last progress.
    let mut seen = (0, worker.wheel.seen_ms());
    let end = poll_fn(|cx| {
        let source_is_client = |is_source: bool| if is_source { End::Client } else { End::Upstream };
        let mut spare = Buffer::default();
        if let Err(is_source) = up.poll(cx, &mut spare, client, upstream) {
            return Poll::Ready(source_is_client(is_source));
        }
        if let Err(is_source) = down.poll(cx, &mut spare, upstream, client) {
            return Poll::Ready(source_is_client(!is_source));
        }
        if up.done && down.done {
            return Poll::Ready(End::Done);
        }
        if worker.is_cutting() {
            return Poll::Ready(End::Cut);
        }
        let now = (up.moved + down.moved, worker.wheel.seen_ms());
        if now.0 != seen.0 && now.1 != seen.1 {
            timer.arm(limits.idle_ms);
        }
        if now.0 != seen.0 {
            seen = now;
        }
        if lifetime.as_ref().is_some_and(|lifetime| lifetime.poll_expired(cx)) {
            return Poll::Ready(End::Expired(limits.stream_ms));
        }
        if timer.poll_expired(cx) { Poll::Ready(End::Idle) } else { Poll::Pending }
    })
    .await;
    Moved { to_client: down.moved, to_upstream: up.moved, end }
}

impl End {
    /// The failure for this end; `None` for a regular end.
    pub(crate) fn failure(self) -> Option<Failure> {
        let (kind, detail) = match self {
            Self::Expired(limit_ms) => {
                let failure = Failure::new(FailureKind::UpstreamTimeout, "tunnel: it was not over");
                return Some(failure.within("stream_timeout", limit_ms));
            }
            // As in nginx, the idle timeout of a tunnel is not an error.
            Self::Done | Self::Idle => return None,
            Self::Client => (FailureKind::ClientClosed, "tunnel: the client's side broke"),
            Self::Upstream => (FailureKind::UpstreamReset, "tunnel: the upstream's side broke"),
            Self::Cut => (FailureKind::Draining, "tunnel: the node stops"),
        };
        Some(Failure::new(kind, detail))
    }
}
