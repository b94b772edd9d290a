//! [`Backoff`]: when something that failed is tried again.

use cardinal_base::Tick;

/// First and longest pause, in milliseconds.
const DELAY_MS_MIN: u64 = 200;
const DELAY_MS_MAX: u64 = 5_000;

/// When something that failed is tried again: after 0.2 s, then after twice the time, up to 5 s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    at: Option<Tick>,
    delay_ms: u64,
}

impl Backoff {
    /// Notes a failed attempt.
    pub fn failed(&mut self, now: Tick) {
        self.delay_ms = (self.delay_ms * 2).clamp(DELAY_MS_MIN, DELAY_MS_MAX);
        self.at = Some(now.plus_millis(self.delay_ms));
    }

    /// Nothing is to be tried again.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Milliseconds until the next attempt; `None` if there is none.
    pub fn wait_ms(&self, now: Tick) -> Option<u64> {
        // Rounded up, or the wait would end just before its time.
        self.at.map(|at| at.0.saturating_sub(now.0).div_ceil(1_000))
    }

    /// Whether it is time for the next attempt.
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
