//! [`Backoff`]: the delay before a failed operation is retried.

use cardinal_base::Tick;

/// Minimum and maximum delay, milliseconds.
const DELAY_MS_MIN: u64 = 200;
const DELAY_MS_MAX: u64 = 5_000;

/// The delay before a failed operation is retried: 0.2 s at first, doubled with each failure, up to 5 s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    at: Option<Tick>,
    delay_ms: u64,
}

impl Backoff {
    /// Records a failed attempt.
    pub fn failed(&mut self, now: Tick) {
        self.delay_ms = (self.delay_ms * 2).clamp(DELAY_MS_MIN, DELAY_MS_MAX);
        self.at = Some(now.plus_millis(self.delay_ms));
    }

    /// Cancels further attempts.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Milliseconds until the next attempt; `None` if none is due.
    pub fn wait_ms(&self, now: Tick) -> Option<u64> {
        // Rounded up; otherwise the wait would end slightly too early.
        self.at.map(|at| at.0.saturating_sub(now.0).div_ceil(1_000))
    }

    /// Whether the next attempt is due.
    pub fn is_due(&self, now: Tick) -> bool {
        self.wait_ms(now) == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let (mut backoff, now) = (Backoff::default(), Tick::from_millis(1_000));
        assert_eq!(backoff.wait_ms(now), None);
        let mut waits = Vec::new();
        for _ in 0..8 {
            backoff.failed(now);
            waits.push(backoff.wait_ms(now).unwrap());
        }
        assert_eq!(waits, [200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]);
        assert!(!backoff.is_due(Tick::from_millis(5_999)) && backoff.is_due(Tick::from_millis(6_000)));
        backoff.reset();
        assert!(backoff.wait_ms(now).is_none() && !backoff.is_due(now));
    }
}
