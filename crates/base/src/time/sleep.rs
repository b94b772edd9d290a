//! [`Sleep`]: waiting for a [`Clock`](super::Clock), whichever it is.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::Clock;
use super::manual::Waiter;

pin_project! {
    /// Completes at a moment of a clock; see [`Clock::sleep_until`]. Needs no allocation.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct Sleep {
        #[pin]
        kind: Kind,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = KindProjection]
    enum Kind {
        System { #[pin] sleep: tokio::time::Sleep },
        Manual { waiter: Waiter },
        Never,
    }
}

impl Sleep {
    /// Until a moment of the system's clock; `None` is later than the clock can tell.
    #[allow(clippy::disallowed_methods, reason = "the one place that waits for the system's clock")]
    pub(super) fn system(deadline: Option<Instant>) -> Self {
        let kind = match deadline {
            Some(deadline) => Kind::System { sleep: tokio::time::sleep_until(deadline) },
            None => Kind::Never,
        };
        Self { kind }
    }

    pub(super) fn manual(waiter: Waiter) -> Self {
        Self { kind: Kind::Manual { waiter } }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.project().kind.project() {
            KindProjection::System { sleep } => sleep.poll(cx),
            KindProjection::Manual { waiter } => waiter.poll(cx),
            KindProjection::Never => Poll::Pending,
        }
    }
}

/// A time limit has passed; see [`timeout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("timeout")]
pub struct Elapsed;

pin_project! {
    /// A future with a time limit; see [`timeout`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        #[pin]
        sleep: Sleep,
    }
}

/// Limits the time of a future. The future is polled first, so a limit of zero polls it once.
pub fn timeout<C: Clock + ?Sized, F: Future>(clock: &C, limit: Duration, future: F) -> Timeout<F> {
    Timeout { future, sleep: clock.sleep(limit) }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        this.sleep.poll(cx).map(|()| Err(Elapsed))
    }
}
