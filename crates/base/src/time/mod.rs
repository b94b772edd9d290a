//! Time through a trait: reading the clock, and waiting for it. Nothing else in the workspace reads the system's clocks.

mod manual;
mod sleep;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use manual::ManualClock;
pub use sleep::{Elapsed, Sleep, Timeout, timeout};

/// Microseconds on a monotonic clock since the clock was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// A tick at this many milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms * 1_000)
    }

    /// Whole milliseconds.
    pub const fn millis(self) -> u64 {
        self.0 / 1_000
    }

    /// Time since `earlier`; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// Whole milliseconds since `earlier`.
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000
    }

    /// This tick and a duration more.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }

    /// This tick and a duration more.
    #[must_use]
    pub const fn plus_millis(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(1_000)))
    }
}

/// Milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// Whole seconds.
    pub const fn seconds(self) -> u64 {
        self.0 / 1_000
    }

    /// As the standard library's type.
    pub fn system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0)
    }
}

/// A source of time.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Monotonic time.
    fn tick(&self) -> Tick;
    /// Wall time.
    fn unix(&self) -> UnixMillis;
    /// A future that completes when [`tick`](Self::tick) has reached `deadline`. It must be made and awaited on a tokio
    /// runtime with a time driver.
    fn sleep_until(&self, deadline: Tick) -> Sleep;

    /// A future that completes after this duration. A task that repeats something does not drift if it uses
    /// [`sleep_until`](Self::sleep_until).
    fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.tick().plus(duration))
    }
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::cast_possible_truncation, reason = "2^64 microseconds are 584,000 years")]
    fn tick(&self) -> Tick {
        Tick(self.start.elapsed().as_micros() as u64)
    }

    #[allow(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    #[allow(clippy::cast_possible_truncation, reason = "2^64 milliseconds are 584 million years")]
    fn unix(&self) -> UnixMillis {
        UnixMillis(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64))
    }

    fn sleep_until(&self, deadline: Tick) -> Sleep {
        Sleep::system(self.start.checked_add(Duration::from_micros(deadline.0)).map(tokio::time::Instant::from_std))
    }
}

#[cfg(test)]
mod tests;
