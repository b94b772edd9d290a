//! Counters in this node's memory, shared by all workers and generations.

use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cardinal_ir::policy::TokenBucket;
use foldhash::HashMap;
use foldhash::quality::RandomState;

use super::quota::{Limits, Usage, is_used_up, limited};
use super::window::{PERIODS, Period};

const SHARDS: usize = 64;

/// Maximum number of identifiers per shard; 131,072 in total.
const SHARD_MAX: usize = 2_048;

/// Number of entries examined to find one that was not used for long.
const SAMPLE: usize = 8;

/// Counters by key: scope and identifier. Bounded: when full, counters not used for long are evicted.
pub struct Counters {
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Default)]
struct Shard {
    entries: HashMap<Box<[u8]>, Entry>,
    swept: u64,
}

#[derive(Default)]
struct Entry {
    windows: [Window; PERIODS],
    used: u64,
    expires: u64,
}

#[derive(Clone, Copy, Default)]
struct Window {
    /// Start of the window; for a bucket, the number of the interval.
    start: u64,
    count: u64,
    /// The count of the previous window; for a bucket, the length of its intervals.
    previous: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self { hasher: RandomState::default(), shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl Counters {
    /// The previous count of the key in each limited period. Counts the key once more if no limit is used up.
    pub fn count(&self, key: &[u8], limits: &Limits, now: u64, sliding: bool) -> Usage {
        let mut usage = [0; PERIODS];
        let Some(mut shard) = self.shard(key) else { return usage };
        let Some(entry) = shard.entry(key, now) else { return usage };
        for (at, period, _) in limited(limits) {
            let (Some(window), Some(used)) = (entry.windows.get_mut(at), usage.get_mut(at)) else { continue };
            window.roll(period, now);
            *used = window.count + if sliding { period.share(window.previous, now) } else { 0 };
            entry.expires = entry.expires.max(period.next(window.start) + if sliding { period.nominal() } else { 0 });
        }
        if !is_used_up(limits, &usage) {
            for (at, ..) in limited(limits) {
                if let Some(window) = entry.windows.get_mut(at) {
                    window.count += 1;
                }
            }
        }
        usage
    }

    /// Takes one of the `bucket.tokens` tokens of the key in the current interval; `false` if none is left. Keys must
    /// differ from those of windows. `now_ms` comes from a monotonic clock.
    pub fn take(&self, key: &[u8], bucket: TokenBucket, now_ms: u64) -> bool {
        let interval_ms = if bucket.interval_ms == 0 { 1_000 } else { bucket.interval_ms };
        let (interval, now) = (now_ms / interval_ms, now_ms / 1_000);
        let Some(mut shard) = self.shard(key) else { return false };
        let Some(entry) = shard.entry(key, now) else { return false };
        entry.expires = ((interval + 1).saturating_mul(interval_ms)).div_ceil(1_000);
        let [window, ..] = &mut entry.windows;
        // Interval numbers of a different length are not comparable: the policy has changed.
        let is_other = window.previous != interval_ms;
        // Another worker may have read the clock slightly later.
        if is_other || interval > window.start {
            *window = Window { start: interval, count: 0, previous: interval_ms };
        }
        let is_left = window.count < u64::from(bucket.tokens);
        window.count += u64::from(is_left);
        is_left
    }

    fn shard(&self, key: &[u8]) -> Option<MutexGuard<'_, Shard>> {
        #[allow(clippy::cast_possible_truncation, reason = "only low bits matter")]
        let at = self.hasher.hash_one(key) as usize % SHARDS;
        self.shards.get(at).map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().entries.len()).sum()
    }
}

impl Shard {
    fn entry(&mut self, key: &[u8], now: u64) -> Option<&mut Entry> {
        if !self.entries.contains_key(key) {
            if self.entries.len() >= SHARD_MAX {
                self.make_room(now);
            }
            self.entries.insert(key.into(), Entry::default());
        }
        let entry = self.entries.get_mut(key)?;
        entry.used = now;
        Some(entry)
    }

    fn make_room(&mut self, now: u64) {
        if self.swept != now {
            self.swept = now;
            self.entries.retain(|_, entry| entry.expires > now);
        }
        if self.entries.len() >= SHARD_MAX {
            let oldest = self.entries.iter().take(SAMPLE).min_by_key(|(_, entry)| entry.used);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.entries.remove(&key);
            }
        }
    }
}

impl Window {
    fn roll(&mut self, period: Period, now: u64) {
        let start = period.start(now);
        if self.start == start {
            return;
        }
        let follows = self.start != 0 && period.next(self.start) == start;
        *self = Self { start, count: 0, previous: if follows { self.count } else { 0 } };
    }
}

#[cfg(test)]
mod tests {
    use super::{Counters, SHARD_MAX, SHARDS};

    const NOW: u64 = 1_700_000_000;

    #[test]
    fn memory_is_bounded() {
        let counters = Counters::default();
        let limits = [None, Some(5.0), None, None, None, None];
        for n in 0..200_000_u32 {
            counters.count(&n.to_be_bytes(), &limits, NOW, false);
        }
        assert!(counters.len() <= SHARDS * SHARD_MAX, "{}", counters.len());
        assert_eq!(counters.count(&199_999_u32.to_be_bytes(), &limits, NOW, false)[1], 1, "the newest is there");
    }

    #[test]
    fn expired_counters_go_first() {
        let counters = Counters::default();
        let second = [Some(5.0), None, None, None, None, None];
        let year = [None, None, None, None, None, Some(5.0)];
        counters.count(b"year", &year, NOW, false);
        for n in 0..200_000_u32 {
            counters.count(&n.to_be_bytes(), &second, NOW + u64::from(n) / 1_000, false);
        }
        assert_eq!(counters.count(b"year", &year, NOW + 300, false)[5], 1);
    }
}
