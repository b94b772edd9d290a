//! [`Retries`]: how many requests and retries to a group are in progress on the whole node, for retry budgets.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

/// Shards: workers beyond that many share one.
const SHARDS: usize = 16;

/// Requests and retries to a group that are in progress and subject to a budget. Each worker writes to its own shard; a
/// retry, which is rare, adds them up. The memory is allocated with the first request that has a budget.
#[derive(Default)]
pub struct Retries(OnceLock<Box<[Shard; SHARDS]>>);

/// Alone on its cache lines.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    requests: AtomicI64,
    retries: AtomicI64,
}

impl Retries {
    /// A request has begun.
    pub fn request_started(&self, worker: usize) {
        self.shard(worker).requests.fetch_add(1, Ordering::Relaxed);
    }

    /// It has ended.
    pub fn request_ended(&self, worker: usize) {
        self.shard(worker).requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether one more retry may be in progress: at most `percent` of the requests in progress, or `min_concurrency` if that
    /// is more. If so, it is counted until [`retry_ended`](Self::retry_ended). Of several workers that ask at once, none
    /// exceeds the limit; some may be refused although one more would fit.
    pub fn start_retry(&self, worker: usize, percent: u32, min_concurrency: u32) -> bool {
        // Of two workers that have both written before they read, one sees the other's write (sequential consistency).
        self.shard(worker).retries.fetch_add(1, Ordering::SeqCst);
        let share = self.sum(|shard| &shard.requests).saturating_mul(i64::from(percent)) / 100;
        let fits = self.sum(|shard| &shard.retries) <= share.max(i64::from(min_concurrency));
        if !fits {
            self.retry_ended(worker);
        }
        fits
    }

    /// A retry has ended.
    pub fn retry_ended(&self, worker: usize) {
        self.shard(worker).retries.fetch_sub(1, Ordering::SeqCst);
    }

    /// Requests and retries in progress.
    pub fn counts(&self) -> (i64, i64) {
        (self.sum(|shard| &shard.requests), self.sum(|shard| &shard.retries))
    }

    fn sum(&self, of: impl Fn(&Shard) -> &AtomicI64) -> i64 {
        self.shards().iter().map(|shard| of(shard).load(Ordering::SeqCst)).sum()
    }

    fn shards(&self) -> &[Shard; SHARDS] {
        self.0.get_or_init(Box::default)
    }

    #[allow(clippy::indexing_slicing, reason = "the index is taken modulo the length")]
    fn shard(&self, worker: usize) -> &Shard {
        &self.shards()[worker % SHARDS]
    }
}

impl fmt::Debug for Retries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.0.get().map(|_| self.counts());
        f.debug_tuple("Retries").field(&counts).finish()
    }
}
