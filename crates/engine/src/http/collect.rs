//! [`collect`]: reads a body to its end, within limits.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use cardinal_base::{Budget, Reservation};
use cardinal_net::{NetError, Peer};

use super::forward::Stall;
use super::halt::Halt;

/// Minimum rate of a body that is collected, bytes per second; applies after the timeout between two reads has passed
/// once.
pub(super) const BODY_RATE_MIN: u64 = 8 * 1024;

/// Why a body could not be collected.
pub(super) enum Collect {
    TooLarge,
    /// The memory budget of the node or of the connection is exhausted.
    NoRoom,
    TransferError(NetError),
    /// The read timed out, or the exchange ended meanwhile.
    Halted(Halt),
}

/// Limits of collecting a body.
pub(super) struct Terms<'x> {
    /// Maximum size, bytes.
    pub(super) max: u64,
    /// Declared length, or `max`.
    pub(super) expected: u64,
    /// Timeout between two reads, milliseconds; 0 is unlimited.
    pub(super) timeout_ms: u64,
    /// The kind of stall to report when the timeout expires.
    pub(super) late: Stall,
    /// Minimum average rate after the first `timeout_ms`, bytes per second.
    pub(super) slowest: u64,
    /// The memory budget, unless the connection has a budget of its own.
    pub(super) budget: &'x Arc<Budget>,
}

impl Terms<'_> {
    /// [`patience_ms`] after `received` bytes in `elapsed_ms`.
    fn patience_ms(&self, received: usize, elapsed_ms: u64) -> Option<u64> {
        patience_ms(self.timeout_ms, self.slowest, received as u64, elapsed_ms)
    }
}

/// Remaining time, in milliseconds, for the peer to send or take more of a body that is held in memory, after `moved`
/// bytes in `elapsed_ms`. 0 is unlimited; `None` means that the time has expired. `slowest` is the minimum average rate
/// in bytes per second after the first `timeout_ms`.
pub(super) fn patience_ms(timeout_ms: u64, slowest: u64, moved: u64, elapsed_ms: u64) -> Option<u64> {
    if timeout_ms == 0 {
        return Some(0);
    }
    let allowed_ms = timeout_ms.saturating_add(moved.saturating_mul(1_000) / slowest.max(1));
    let left_ms = allowed_ms.saturating_sub(elapsed_ms);
    (left_ms > 0).then(|| left_ms.min(timeout_ms))
}

/// Reads a body to its end. Memory reserved from the budget stays in `held`, unless reading fails. `meanwhile` is
/// called each time the function has to wait for more of the body, with the sending peer and the number of bytes
/// received: it advances the rest of the exchange, and stops the collecting by returning an error.
pub(super) async fn collect(
    peer: &mut Peer,
    terms: &Terms<'_>,
    timer: &cardinal_net::Timer,
    held: &mut Reservation,
    mut meanwhile: impl FnMut(&mut Context<'_>, &mut Peer, u64) -> Result<(), Halt>,
) -> Result<Bytes, Collect> {
    let mut whole = Vec::new();
    let started = timer.wheel().now();
    let late = || Poll::Ready(Err(Collect::Halted(terms.late.failure(terms.timeout_ms).into())));
    timer.arm(terms.timeout_ms);
    let outcome = poll_fn(|cx| {
        loop {
            match peer.poll_body(cx) {
                Poll::Ready(Ok(true)) => {
                    let data = peer.data();
                    if whole.len() as u64 + data.len() as u64 > terms.max {
                        return Poll::Ready(Err(Collect::TooLarge));
                    }
                    let expected = usize::try_from(terms.expected).unwrap_or(usize::MAX);
                    if held.make_room(terms.budget, &mut whole, data.len(), expected).is_err() {
                        return Poll::Ready(Err(Collect::NoRoom));
                    }
                    whole.extend_from_slice(data);
                    let count = data.len();
                    peer.consume(count);
                    match terms.patience_ms(whole.len(), timer.wheel().now().millis_since(started)) {
                        Some(ms) => timer.arm(ms),
                        None => return late(),
                    }
                }
                Poll::Ready(Ok(false)) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Collect::TransferError(error))),
                Poll::Pending if timer.poll_expired(cx) => return late(),
                Poll::Pending => {
                    meanwhile(cx, peer, whole.len() as u64).map_err(Collect::Halted)?;
                    return Poll::Pending;
                }
            }
        }
    })
    .await;
    timer.disarm();
    if outcome.is_err() {
        held.shrink(whole.capacity());
    }
    outcome.map(|()| Bytes::from(whole))
}

#[cfg(test)]
mod tests {
    use super::super::forward::REQUEST_BODY_STALL;
    use super::*;

    #[test]
    fn a_body_that_comes_too_slowly_is_late() {
        let budget = Arc::new(Budget::new(0));
        let late = REQUEST_BODY_STALL;
        let terms = Terms { max: 1, expected: 1, timeout_ms: 60_000, late, slowest: BODY_RATE_MIN, budget: &budget };
        assert_eq!(terms.patience_ms(1, 59_000), Some(1_000));
        assert_eq!(terms.patience_ms(1, 60_001), None);
        assert_eq!(terms.patience_ms(8 * 1024 * 100, 60_000), Some(60_000));
        assert_eq!(terms.patience_ms(8 * 1024 * 100, 159_999), Some(1));
        assert_eq!(terms.patience_ms(8 * 1024 * 100, 160_000), None);
        let patient = Terms { timeout_ms: 0, ..terms };
        assert_eq!(patient.patience_ms(1, 1_000_000), Some(0));
    }
}
