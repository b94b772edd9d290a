//! [`Throttle`]: limits the rate of a body.

use std::num::NonZeroU64;
use std::rc::Rc;
use std::task::{Context, Poll};

use cardinal_base::Tick;
use cardinal_net::{Timer, Wheel};

/// The maximum burst is the number of bytes per second divided by this. After a wait, half a burst may be sent; up to a
/// full burst if the timer is late, as the timers of a wheel are.
const BURSTS_PER_SECOND: u64 = 10;

const MICROS_PER_SECOND: u64 = 1_000_000;

/// The pacing of a body. Pure: the current time is an argument.
#[derive(Debug)]
struct Pace {
    bytes_per_second: u64,
    /// Maximum burst, bytes; credit beyond it is lost.
    burst: u64,
    /// Bytes that may be sent now, in millionths of bytes.
    credit: u64,
    looked: Tick,
}

impl Pace {
    fn new(bytes_per_second: NonZeroU64, now: Tick) -> Self {
        let bytes_per_second = bytes_per_second.get().min(u64::MAX / MICROS_PER_SECOND);
        let burst = (bytes_per_second / BURSTS_PER_SECOND).max(1);
        Self { bytes_per_second, burst, credit: burst * MICROS_PER_SECOND, looked: now }
    }

    /// Number of bytes that may be sent now.
    fn allowance(&self) -> u64 {
        self.credit / MICROS_PER_SECOND
    }

    /// Deducts sent bytes.
    fn took(&mut self, count: u64) {
        self.credit = self.credit.saturating_sub(count.saturating_mul(MICROS_PER_SECOND));
    }

    /// Milliseconds to wait; 0 means that bytes may be sent now. After the wait, the allowance is large enough to be
    /// worth a write.
    fn wait_ms(&mut self, now: Tick) -> u64 {
        let micros = now.0.saturating_sub(self.looked.0);
        self.looked = now;
        let full = self.burst * MICROS_PER_SECOND;
        self.credit = self.credit.saturating_add(micros.saturating_mul(self.bytes_per_second)).min(full);
        if self.allowance() > 0 {
            return 0;
        }
        let enough = (self.burst / 2).max(1) * MICROS_PER_SECOND;
        (enough - self.credit).div_ceil(self.bytes_per_second).div_ceil(1_000).max(1)
    }
}

/// Limits the rate of a body, using the clock of a worker.
pub(crate) struct Throttle {
    pace: Pace,
    timer: Timer,
    waiting: bool,
}

impl Throttle {
    pub(crate) fn new(bytes_per_second: NonZeroU64, wheel: &Rc<Wheel>) -> Self {
        Self { pace: Pace::new(bytes_per_second, wheel.now()), timer: Timer::new(wheel), waiting: false }
    }

    /// Waits until bytes may be sent.
    pub(crate) fn poll_ready(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.waiting && !self.timer.poll_expired(cx) {
            return Poll::Pending;
        }
        self.waiting = false;
        if self.pace.allowance() > 0 {
            return Poll::Ready(());
        }
        match self.pace.wait_ms(self.timer.wheel().now()) {
            0 => Poll::Ready(()),
            ms => {
                self.timer.arm(ms);
                self.timer.register(cx);
                self.waiting = true;
                Poll::Pending
            }
        }
    }

    /// Number of bytes that may be sent now.
    pub(crate) fn allowance(&self) -> usize {
        usize::try_from(self.pace.allowance()).unwrap_or(usize::MAX)
    }

    /// Deducts sent bytes.
    pub(crate) fn took(&mut self, count: usize) {
        self.pace.took(count as u64);
    }
}

impl std::fmt::Debug for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.pace.fmt(f)
    }
}

#[cfg(test)]
mod tests;
