//! State of one address that is kept over changes of configuration and of DNS answers.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use cardinal_base::Tick;

use crate::health::Health;
use crate::outlier::Monitor;

/// Names an address within its group for as long as the group has it. A later address never has the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressKey(pub(crate) u64);

/// Shared state of an address: atomics only.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) key: AddressKey,
    pub(crate) health: Health,
    pub(crate) monitor: Monitor,
    /// Requests in progress, counted while the group balances by connections.
    pub(crate) connections: AtomicU32,
    pub(crate) latency: Latency,
}

impl Peer {
    pub(crate) fn new(key: AddressKey) -> Self {
        let (health, monitor, latency) = (Health::default(), Monitor::default(), Latency::default());
        Self { key, health, monitor, connections: AtomicU32::new(0), latency }
    }

    /// Whether the address may be picked: healthy and not ejected.
    pub(crate) fn available(&self) -> bool {
        self.health.available() && !self.monitor.is_ejected()
    }
}

/// Time in which an observation loses all but 1/e of its weight; Kong's value.
const DECAY_MS: f32 = 10_000.0;

/// Exponentially weighted moving average of response times: milliseconds as `f32` in the high half, the time of the
/// last observation in the low half. The time wraps after 49 days, which only makes an address idle for that long look
/// fresh.
#[derive(Debug, Default)]
pub(crate) struct Latency(AtomicU64);

impl Latency {
    /// The average, decayed towards zero since the last observation, in milliseconds.
    pub(crate) fn at(&self, now: Tick) -> f32 {
        let word = self.0.load(Ordering::Relaxed);
        value(word) * weight(word, now)
    }

    /// The average as of the last observation; `None` before the first one.
    pub(crate) fn last(&self) -> Option<f32> {
        let word = self.0.load(Ordering::Relaxed);
        (word != 0).then(|| value(word))
    }

    /// Takes an observation in.
    pub(crate) fn observe(&self, latency: Duration, now: Tick) {
        let seen = latency.as_secs_f32() * 1_000.0;
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let kept = weight(word, now);
            let next = pack(value(word) * kept + seen * (1.0 - kept), now);
            match self.0.compare_exchange_weak(word, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(newer) => word = newer,
            }
        }
    }

    /// Starts from an average of others, so that a newcomer is not flooded.
    pub(crate) fn start(&self, average_ms: f32, now: Tick) {
        self.0.store(pack(average_ms, now), Ordering::Relaxed);
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the halves of a word")]
const fn value(word: u64) -> f32 {
    f32::from_bits((word >> 32) as u32)
}

#[allow(clippy::cast_possible_truncation, reason = "the low half is a clock that wraps")]
fn weight(word: u64, now: Tick) -> f32 {
    let idle = (now.millis() as u32).wrapping_sub(word as u32);
    // A worker's clock may be a little behind the one that observed last.
    let idle = if idle > u32::MAX / 2 { 0 } else { idle };
    #[allow(clippy::cast_precision_loss, reason = "a decay needs no more than 24 bits")]
    let idle = idle as f32;
    (-idle / DECAY_MS).exp()
}

#[allow(clippy::cast_possible_truncation, reason = "the low half is a clock that wraps")]
fn pack(value: f32, now: Tick) -> u64 {
    (u64::from(value.to_bits()) << 32) | u64::from(now.millis() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_decay_over_ten_seconds() {
        let latency = Latency::default();
        assert_eq!(latency.last(), None);
        latency.start(100.0, Tick::from_millis(1_000));
        let later = Tick::from_millis(11_000);
        assert!((latency.at(later) - 100.0 / std::f32::consts::E).abs() < 0.01);
        latency.observe(Duration::from_millis(200), later);
        let expect = 100.0 / std::f32::consts::E + 200.0 * (1.0 - 1.0 / std::f32::consts::E);
        assert!((latency.at(later) - expect).abs() < 0.01);
    }

    #[test]
    fn a_clock_that_lags_behind_does_not_decay() {
        let latency = Latency::default();
        latency.start(100.0, Tick::from_millis(5_000));
        assert!((latency.at(Tick::from_millis(4_990)) - 100.0).abs() < f32::EPSILON);
    }
}
