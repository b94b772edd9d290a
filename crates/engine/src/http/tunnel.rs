//! Two connections, byte by byte: after an upgrade, and for streams.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use cardinal_http::h1::Framing;
use cardinal_http::{Failure, FailureKind};
use cardinal_net::Timer;
use cardinal_net::h1::H1;
use tokio::io::AsyncWrite;

use crate::worker::Worker;

/// Bytes that went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) to_client: u64,
    pub(crate) to_upstream: u64,
    /// Why it ended.
    pub(crate) end: End,
}

/// Why a tunnel ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides have ended.
    #[default]
    Done,
    /// The client's side broke.
    Client,
    /// The upstream's side broke.
    Upstream,
    /// Nothing moved for too long.
    Idle,
    /// The node stops.
    Cut,
}

/// One direction.
#[derive(Default)]
struct Way {
    moved: u64,
    /// The source has ended; its end is to be passed on.
    ended: bool,
    done: bool,
}

impl Way {
    /// `Err` says whether it was the source that broke.
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut H1, to: &mut H1) -> Result<(), bool> {
        while !self.done {
            if self.ended {
                match to.poll_flush(cx).map_err(|_| false)? {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(()) => {}
                }
                match Pin::new(to.io()).poll_shutdown(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(_) => self.done = true,
                }
                continue;
            }
            match from.poll_body(cx).map_err(|_| true)? {
                Poll::Ready(true) => match to.poll_send(cx, from.data()).map_err(|_| false)? {
                    Poll::Ready(count) => {
                        self.moved += count as u64;
                        from.consume(count);
                    }
                    Poll::Pending => return Ok(()),
                },
                Poll::Ready(false) => self.ended = true,
                Poll::Pending => {
                    let _flushed = to.poll_flush(cx).map_err(|_| false)?;
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Connects two sides until both have ended, one breaks, or nothing moves for `idle_ms`. What was read of either and
/// not used goes first; what was written and not sent, too.
pub(crate) async fn tunnel(worker: &Worker, client: &mut H1, upstream: &mut H1, idle_ms: u64) -> Moved {
    for side in [&mut *client, &mut *upstream] {
        side.start_reading(Framing::UntilClose);
        side.start_writing(Framing::UntilClose, |_| {});
    }
    let timer = Timer::new(&worker.wheel);
    let (mut up, mut down, mut seen) = (Way::default(), Way::default(), None);
    let end = poll_fn(|cx| {
        let source_is_client = |is_source: bool| if is_source { End::Client } else { End::Upstream };
        if let Err(is_source) = up.poll(cx, client, upstream) {
            return Poll::Ready(source_is_client(is_source));
        }
        if let Err(is_source) = down.poll(cx, upstream, client) {
            return Poll::Ready(source_is_client(!is_source));
        }
        if up.done && down.done {
            return Poll::Ready(End::Done);
        }
        if worker.is_cutting() {
            return Poll::Ready(End::Cut);
        }
        if seen != Some(up.moved + down.moved) {
            seen = Some(up.moved + down.moved);
            timer.arm(idle_ms);
        }
        if timer.poll_expired(cx) { Poll::Ready(End::Idle) } else { Poll::Pending }
    })
    .await;
    Moved { to_client: down.moved, to_upstream: up.moved, end }
}

impl End {
    /// The failure that it is; `None` for an end in order.
    pub(crate) fn failure(self) -> Option<Failure> {
        let (kind, detail) = match self {
            // As in nginx, silence ends a tunnel without being anybody's fault.
            Self::Done | Self::Idle => return None,
            Self::Client => (FailureKind::ClientClosed, "tunnel: the client's side broke"),
            Self::Upstream => (FailureKind::UpstreamReset, "tunnel: the upstream's side broke"),
            Self::Cut => (FailureKind::Draining, "tunnel: the node stops"),
        };
        Some(Failure::new(kind, detail))
    }
}
