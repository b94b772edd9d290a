//! [`Reconnect`]: which control plane to connect to next, and when.

use cardinal_base::{Rng, Tick};

/// First and longest pause, in milliseconds.
const DELAY_MS_MIN: u64 = 200;
const DELAY_MS_MAX: u64 = 30_000;
/// A connection that lasted so long was good: the next failure is a first one.
const STABLE_MS: u64 = 60_000;

/// Which of several control planes to connect to next, and when: the next one after each failure. The pause doubles once all of
/// them have failed, and is random between half of it and all of it, so that data planes which lose their control plane at one
/// moment do not come back at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Reconnect {
    addresses: usize,
    next: usize,
    /// Failures since the last good connection.
    failures: u32,
    at: Tick,
}

impl Reconnect {
    /// Among so many addresses, beginning with a random one.
    pub fn new(addresses: usize, rng: &mut dyn Rng) -> Self {
        let next = usize::try_from(rng.below(addresses as u64)).unwrap_or(0);
        Self { addresses, next, failures: 0, at: Tick::default() }
    }

    /// The index of the address to connect to.
    pub fn address(&self) -> usize {
        self.next
    }

    /// When to connect.
    pub fn at(&self) -> Tick {
        self.at
    }

    /// Connecting failed, or the connection that began at `since` has ended.
    pub fn failed(&mut self, since: Option<Tick>, now: Tick, rng: &mut dyn Rng) {
        if since.is_some_and(|since| now.millis_since(since) >= STABLE_MS) {
            self.failures = 0;
        }
        self.next = if self.next + 1 < self.addresses { self.next + 1 } else { 0 };
        // Each address is tried once before the pause grows.
        let rounds = usize::try_from(self.failures).unwrap_or(usize::MAX) / self.addresses.max(1);
        self.failures = self.failures.saturating_add(1);
        let limit = DELAY_MS_MIN.saturating_mul(1 << rounds.min(20)).min(DELAY_MS_MAX);
        self.at = now.plus_millis(limit / 2 + rng.below(limit / 2 + 1));
    }
}

#[cfg(test)]
mod tests {
    use cardinal_base::SeededRng;

    use super::*;

    #[test]
    fn each_address_is_tried_before_pauses_grow() {
        let mut rng = SeededRng::new(1);
        let mut reconnect = Reconnect::new(2, &mut rng);
        let first = reconnect.address();
        assert_eq!(reconnect.at(), Tick::default());
        let mut limits = Vec::new();
        for attempt in 1..=20 {
            reconnect.failed(None, Tick::default(), &mut rng);
            assert_eq!(reconnect.address(), (first + attempt) % 2);
            limits.push(reconnect.at().millis());
        }
        let limit = |attempt: usize| (200_u64 << (attempt / 2).min(10)).min(30_000);
        let within = |(attempt, wait): (usize, &u64)| *wait >= limit(attempt) / 2 && *wait <= limit(attempt);
        assert!(limits.iter().enumerate().all(within), "{limits:?}");
        reconnect.failed(Some(Tick::default()), Tick::from_millis(60_000), &mut rng);
        assert!(reconnect.at() <= Tick::from_millis(60_200));
    }
}
