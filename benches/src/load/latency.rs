//! A histogram of latencies with a fixed size and an accuracy of 1.6 %.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::counts::count;

/// Values with the same highest bits share a bucket: below `SUB`, each value has its own; above it, each power of two
/// has `SUB` buckets.
const SUB_BITS: u32 = 6;
const SUB: u64 = 1 << SUB_BITS;
/// Longer latencies (68 seconds) are counted as this many nanoseconds.
const MAX: u64 = (1 << 36) - 1;
const PLACES: usize = ((36 - SUB_BITS + 1) as usize) << SUB_BITS;

/// The buckets written by the load; read by another thread while it runs.
#[derive(Debug)]
pub(super) struct Recorder(Box<[AtomicU64]>);

impl Default for Recorder {
    fn default() -> Self {
        Self((0..PLACES).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Recorder {
    pub(super) fn record(&self, nanoseconds: u64) {
        if let Some(counter) = self.0.get(place(nanoseconds)) {
            count(counter, 1);
        }
    }

    pub(super) fn read(&self) -> Latencies {
        Latencies(self.0.iter().map(|counter| counter.load(Ordering::Relaxed)).collect())
    }
}

/// A snapshot of latencies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Latencies(Box<[u64]>);

impl Latencies {
    /// The latencies recorded after `earlier` was taken in the same run.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self(self.0.iter().zip(&earlier.0).map(|(now, then)| now.saturating_sub(*then)).collect())
    }

    /// Number of latencies.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The latency that the share `quantile` of requests (0.99: 99 of 100 requests) did not exceed; zero if there were
    /// none.
    pub(crate) fn quantile(&self, quantile: f64) -> Duration {
        let rank = ((self.count() as f64 * quantile).ceil() as u64).max(1);
        let mut sum = 0;
        let reached = self.0.iter().position(|places| {
            sum += places;
            sum >= rank
        });
        reached.map_or(Duration::ZERO, |place| Duration::from_nanos(highest(place)))
    }

    /// The maximum latency.
    #[cfg(test)]
    pub(crate) fn max(&self) -> Duration {
        let last = self.0.iter().rposition(|places| *places > 0);
        last.map_or(Duration::ZERO, |place| Duration::from_nanos(highest(place)))
    }
}

fn place(nanoseconds: u64) -> usize {
    let value = nanoseconds.min(MAX);
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(SUB_BITS + 1);
    (u64::from(shift) * SUB + (value >> shift)) as usize
}

/// The highest value of a bucket.
fn highest(place: usize) -> u64 {
    let place = place as u64;
    if place < 2 * SUB {
        return place;
    }
    let shift = place / SUB - 1;
    (((place % SUB + SUB) + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_holds_values_that_are_nearly_equal() {
        let mut last = 0;
        for value in (0..5000).chain((0..36).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1])) {
            let at = place(value);
            assert!(at < PLACES, "{value}");
            let high = highest(at);
            assert!(high >= value && high - value <= value / SUB, "{value} is counted as {high}");
            assert_eq!(place(high), at);
        }
        for value in 0..100_000 {
            let at = place(value);
            assert!(at == last || at == last + 1);
            last = at;
        }
        assert_eq!(place(u64::MAX), PLACES - 1);
    }

    #[test]
    fn quantiles_are_found() {
        let recorder = Recorder::default();
        let before = recorder.read();
        assert_eq!((before.count(), before.quantile(0.5), before.max()), (0, Duration::ZERO, Duration::ZERO));
        for value in 1..=1000 {
            recorder.record(value * 1000);
        }
        let all = recorder.read();
        assert_eq!(all.count(), 1000);
        let near = |found: Duration, micros: u64| {
            let found = found.as_nanos() as u64;
            assert!(found >= micros * 1000 && found < micros * 1000 * 102 / 100, "{found} for {micros}");
        };
        near(all.quantile(0.5), 500);
        near(all.quantile(0.99), 990);
        near(all.quantile(0.999), 999);
        near(all.max(), 1000);
        recorder.record(50);
        let later = recorder.read().since(&all);
        assert_eq!((later.count(), later.max()), (1, Duration::from_nanos(50)));
    }
}
