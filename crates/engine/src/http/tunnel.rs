//! Two connections, byte by byte: after an upgrade, and for streams.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use cardinal_http::h1::Framing;
use cardinal_net::h1::H1;
use cardinal_net::{NetError, Timer};
use tokio::io::AsyncWrite;

use crate::worker::Worker;

/// Bytes that went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) to_client: u64,
    pub(crate) to_upstream: u64,
    /// The tunnel ended because nothing moved for too long.
    pub(crate) idle: bool,
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
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut H1, to: &mut H1) -> Result<(), NetError> {
        while !self.done {
            if self.ended {
                match to.poll_flush(cx)? {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(()) => {}
                }
                match Pin::new(to.io()).poll_shutdown(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(_) => self.done = true,
                }
                continue;
            }
            match from.poll_body(cx)? {
                Poll::Ready(true) => match to.poll_send(cx, from.data())? {
                    Poll::Ready(count) => {
                        self.moved += count as u64;
                        from.consume(count);
                    }
                    Poll::Pending => return Ok(()),
                },
                Poll::Ready(false) => self.ended = true,
                Poll::Pending => {
                    let _flushed = to.poll_flush(cx)?;
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
    let mut idle = false;
    poll_fn(|cx| {
        let broken = up.poll(cx, client, upstream).is_err() || down.poll(cx, upstream, client).is_err();
        if broken || (up.done && down.done) {
            return Poll::Ready(());
        }
        if seen != Some(up.moved + down.moved) {
            seen = Some(up.moved + down.moved);
            timer.arm(idle_ms);
        }
        idle = timer.poll_expired(cx);
        if idle { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    Moved { to_client: down.moved, to_upstream: up.moved, idle }
}
