//! [`Series`]: the numbers of one set of labels, in cells that each worker has for itself.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::families::Kind;

/// Threads that count without sharing cells; more share them in turn.
const SHARDS: usize = 8;

/// Cells in a cache line.
const LINE: usize = 8;

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; LINE]);

/// The numbers of one set of labels. Counting takes no lock, and threads do not share cache lines.
#[derive(Debug)]
pub(super) struct Series {
    kind: Kind,
    /// Those of the first shard, then those of the next.
    lines: Box<[Line]>,
}

/// The value of a series, over all shards.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// For each bucket, those beyond the last at the end; the count of a counter.
    pub(super) cells: Vec<u64>,
    /// Sum of what a histogram observed.
    pub(super) sum: u64,
}

/// The shard of this thread.
pub(super) fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
    }
    SHARD.with(|shard| *shard)
}

fn cells(kind: Kind) -> usize {
    match kind {
        Kind::Counter(_) => 1,
        // One beyond the last bound, and the sum.
        Kind::Histogram(bounds) => bounds.len() + 2,
    }
}

impl Series {
    pub(super) fn new(kind: Kind) -> Self {
        let lines = cells(kind).div_ceil(LINE) * SHARDS;
        Self { kind, lines: (0..lines).map(|_| Line::default()).collect() }
    }

    /// Counts `amount` more.
    pub(super) fn add(&self, amount: u64) {
        self.bump(0, amount);
    }

    /// Adds an observation to a histogram.
    pub(super) fn observe(&self, value: u64) {
        let Kind::Histogram(bounds) = self.kind else { return self.add(value) };
        self.bump(bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len()), 1);
        self.bump(bounds.len() + 1, value);
    }

    fn bump(&self, cell: usize, amount: u64) {
        let first = self.lines.len() / SHARDS * shard();
        if let Some(cell) = self.lines.get(first + cell / LINE).and_then(|line| line.0.get(cell % LINE)) {
            cell.fetch_add(amount, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self) -> Reading {
        let mut cells = vec![0_u64; cells(self.kind)];
        for shard in self.lines.chunks(self.lines.len() / SHARDS) {
            for (total, cell) in cells.iter_mut().zip(shard.iter().flat_map(|line| &line.0)) {
                *total = total.wrapping_add(cell.load(Ordering::Relaxed));
            }
        }
        let sum = if matches!(self.kind, Kind::Histogram(_)) { cells.pop().unwrap_or_default() } else { 0 };
        Reading { cells, sum }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Reading, Series};
    use crate::prometheus::families::Kind;

    #[test]
    fn threads_count_together() {
        let counter = Arc::new(Series::new(Kind::Counter(1)));
        let threads: Vec<_> = (0..20)
            .map(|_| {
                let counter = Arc::clone(&counter);
                std::thread::spawn(move || (0..1_000).for_each(|_| counter.add(2)))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(counter.read(), Reading { cells: vec![40_000], sum: 0 });
    }

    #[test]
    fn observations_fall_into_the_first_bucket_that_holds_them() {
        let histogram = Series::new(Kind::Histogram(&[1, 5, 10, 20, 30, 40, 50, 60, 70]));
        for value in [0, 1, 2, 5, 6, 70, 71, 1_000] {
            histogram.observe(value);
        }
        let expect = Reading { cells: vec![2, 2, 1, 0, 0, 0, 0, 0, 1, 2], sum: 1_155 };
        assert_eq!(histogram.read(), expect);
    }
}
