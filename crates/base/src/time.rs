//! Time through a trait. Nothing else in the workspace reads the system's clocks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
}

/// A clock that is advanced manually, for simulation.
#[derive(Debug, Default)]
pub struct ManualClock {
    micros: AtomicU64,
    unix_start_ms: u64,
}

impl ManualClock {
    /// A clock at tick 0 and this wall time.
    pub fn at(unix: UnixMillis) -> Self {
        Self { micros: AtomicU64::new(0), unix_start_ms: unix.0 }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        self.micros.fetch_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn tick(&self) -> Tick {
        Tick(self.micros.load(Ordering::SeqCst))
    }

    fn unix(&self) -> UnixMillis {
        UnixMillis(self.unix_start_ms + self.tick().millis())
    }
}
