//! [`SharedLimit`]: a limit on how many of something there may be at once, which threads share.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Shards of a limit that is used for each request.
const SHARDS: usize = 8;

/// A limit. Threads take permits through a [`Seat`] each.
///
/// The sum of the permits that are held, that shards have at hand and that are free is always the limit. A thread takes from
/// its shard, then from what is free, then from other shards: nothing is rejected while a permit is at hand anywhere, and
/// never more than the limit is granted.
#[derive(Debug)]
pub struct SharedLimit {
    max: AtomicU32,
    /// Permits that no shard has at hand. Below zero while more are held than a lowered limit allows.
    free: AtomicI64,
    /// Permits at hand; none for a limit that is rarely used.
    shards: Box<[Shard]>,
    /// How many wait for a permit.
    waiting: AtomicU32,
    returned: Notify,
    rejected: AtomicU64,
}

/// On a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard(AtomicI64);

impl Shard {
    fn take(&self) -> bool {
        let one_less = |at_hand: i64| (at_hand > 0).then_some(at_hand - 1);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
    }
}

impl SharedLimit {
    /// A limit that is used for each request.
    pub fn sharded(max: Option<u32>) -> Self {
        Self::with(max, (0..SHARDS).map(|_| Shard::default()).collect())
    }

    /// A limit that is used more rarely: all threads use one counter.
    pub fn plain(max: Option<u32>) -> Self {
        Self::with(max, Box::default())
    }

    fn with(max: Option<u32>, shards: Box<[Shard]>) -> Self {
        let max = max.unwrap_or(u32::MAX);
        Self {
            max: AtomicU32::new(max),
            free: AtomicI64::new(i64::from(max)),
            shards,
            waiting: AtomicU32::new(0),
            returned: Notify::new(),
            rejected: AtomicU64::new(0),
        }
    }

    /// The limit; `None` when there is none.
    pub fn max(&self) -> Option<u32> {
        Some(self.max.load(Ordering::Relaxed)).filter(|max| *max != u32::MAX)
    }

    /// Changes the limit. Permits that are held stay valid. Not to be called by two threads at once.
    pub fn set_max(&self, max: Option<u32>) {
        let max = max.unwrap_or(u32::MAX);
        let before = self.max.swap(max, Ordering::SeqCst);
        if before == max {
            return;
        }
        let at_hand: i64 = self.shards.iter().map(|shard| shard.0.swap(0, Ordering::SeqCst)).sum();
        self.free.fetch_add(at_hand + i64::from(max) - i64::from(before), Ordering::SeqCst);
        self.returned.notify_waiters();
    }

    /// Permits held now.
    pub fn used(&self) -> u64 {
        let at_hand: i64 = self.shards.iter().map(|shard| shard.0.load(Ordering::Relaxed)).sum();
        let max = i64::from(self.max.load(Ordering::Relaxed));
        u64::try_from(max - self.free.load(Ordering::Relaxed) - at_hand).unwrap_or(0)
    }

    /// How often a permit was denied and the caller gave up, ever.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Counts a caller that gave up.
    pub fn reject(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether more wait than there are permits.
    pub fn is_short(&self) -> bool {
        i64::from(self.waiting.load(Ordering::SeqCst)) > self.free.load(Ordering::SeqCst).max(0)
    }

    /// How many wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Resolves when a permit was returned after this call. Only those that hold a [`Waiting`] are told.
    pub fn returned(&self) -> Notified<'_> {
        self.returned.notified()
    }

    /// Permits that move between a shard and the free ones at once.
    fn batch(&self) -> i64 {
        (i64::from(self.max.load(Ordering::Relaxed)) / (SHARDS as i64 * 4)).clamp(1, 64)
    }

    /// Takes a permit, which [`SharedLimit::give`] has to return. Threads with different numbers rarely share a shard.
    /// [`Seat::acquire`] returns it by itself.
    pub fn take(&self, number: usize) -> bool {
        let shard = number % SHARDS;
        if self.shards.get(shard).is_some_and(Shard::take) {
            return true;
        }
        // What moves from a shard to the free ones meanwhile is found by the second round.
        (0..2).any(|_| self.take_free(shard) || self.shards.iter().any(Shard::take))
    }

    fn take_free(&self, shard: usize) -> bool {
        let batch = if self.shards.is_empty() { 1 } else { self.batch() };
        let taken = |free: i64| batch.min(free);
        let fewer = |free: i64| (free > 0).then(|| free - taken(free));
        let Ok(before) = self.free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer) else { return false };
        if let Some(shard) = self.shards.get(shard)
            && taken(before) > 1
        {
            shard.0.fetch_add(taken(before) - 1, Ordering::SeqCst);
        }
        true
    }

    /// Returns what [`SharedLimit::take`] took.
    pub fn give(&self, number: usize) {
        let (shard, batch) = (number % SHARDS, self.batch());
        match self.shards.get(shard) {
            // A small limit has nothing to spare for shards.
            Some(shard) if batch > 1 && self.free.load(Ordering::SeqCst) >= 0 => {
                let at_hand = shard.0.fetch_add(1, Ordering::SeqCst) + 1;
                let fewer = |at_hand: i64| (at_hand > 2 * batch).then_some(at_hand - batch);
                if at_hand > 2 * batch && shard.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer).is_ok() {
                    self.free.fetch_add(batch, Ordering::SeqCst);
                }
            }
            _ => drop(self.free.fetch_add(1, Ordering::SeqCst)),
        }
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.returned.notify_one();
        }
    }
}

/// One thread's access to a limit. Cloning the `Arc` of it touches nothing that other threads touch.
#[derive(Debug)]
pub struct Seat {
    limit: Arc<SharedLimit>,
    shard: usize,
    /// Of those that wait for the limit, the ones of this seat.
    waiting: AtomicU32,
    reusable: Notify,
}

impl Seat {
    /// A seat; threads with different numbers rarely share a shard.
    pub fn new(limit: Arc<SharedLimit>, number: usize) -> Arc<Self> {
        let shard = number % SHARDS;
        Arc::new(Self { limit, shard, waiting: AtomicU32::new(0), reusable: Notify::new() })
    }

    /// The limit.
    pub fn limit(&self) -> &Arc<SharedLimit> {
        &self.limit
    }

    /// A permit, if there is one.
    pub fn acquire(self: &Arc<Self>) -> Option<Permit> {
        self.limit.take(self.shard).then(|| Permit(Arc::clone(self)))
    }

    /// Counts a waiter until the guard is dropped. After this, [`SharedLimit::returned`] tells of permits.
    pub fn wait(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.limit.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(Arc::clone(self))
    }

    /// How many wait at this seat.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Resolves when something that holds a permit can be used again by a waiter of this seat.
    pub fn reusable(&self) -> Notified<'_> {
        self.reusable.notified()
    }

    /// Tells one waiter of this seat that something can be used again.
    pub fn offer(&self) {
        self.reusable.notify_one();
    }
}

/// One of those that the limit allows; returned when dropped.
#[derive(Debug)]
pub struct Permit(Arc<Seat>);

impl Permit {
    /// The seat that it was taken through.
    pub fn seat(&self) -> &Arc<Seat> {
        &self.0
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.limit.give(self.0.shard);
    }
}

/// Somebody who waits for a permit.
#[derive(Debug)]
pub struct Waiting(Arc<Seat>);

impl Drop for Waiting {
    fn drop(&mut self) {
        let (seat, limit) = (&self.0, &self.0.limit);
        // It may have been told of a permit and taken something else: the next one is told.
        if seat.waiting.fetch_sub(1, Ordering::SeqCst) > 1 {
            seat.reusable.notify_one();
        }
        if limit.waiting.fetch_sub(1, Ordering::SeqCst) > 1 && limit.free.load(Ordering::SeqCst) > 0 {
            limit.returned.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use super::*;

    fn seats(limit: &Arc<SharedLimit>, count: usize) -> Vec<Arc<Seat>> {
        (0..count).map(|n| Seat::new(Arc::clone(limit), n)).collect()
    }

    /// However the permits are spread over shards, exactly the limit is granted.
    #[test]
    fn exactly_the_limit_is_granted() {
        for max in [0, 1, 2, 7, 64, 1_024, 5_000] {
            for limit in [SharedLimit::sharded(Some(max)), SharedLimit::plain(Some(max))] {
                let limit = Arc::new(limit);
                let seats = seats(&limit, 11);
                // Leaves permits at hand in many shards.
                for seat in &seats {
                    let held: Vec<_> = (0..max / 3).map_while(|_| seat.acquire()).collect();
                    drop(held);
                }
                assert_eq!(limit.used(), 0, "{max}");
                for (at, seat) in seats.iter().enumerate() {
                    let held: Vec<_> = (0..=max).map_while(|_| seat.acquire()).collect();
                    assert_eq!(held.len(), max as usize, "seat {at} of {max}");
                    assert_eq!(limit.used(), u64::from(max));
                    assert!(seats[(at + 3) % 11].acquire().is_none());
                }
                assert_eq!(limit.used(), 0);
            }
        }
    }

    #[test]
    fn a_limit_of_one_moves_between_threads() {
        let limit = Arc::new(SharedLimit::sharded(Some(1)));
        let seats = seats(&limit, 3);
        for round in 0..30 {
            let held = seats[round % 3].acquire().unwrap();
            assert!(seats.iter().all(|seat| seat.acquire().is_none()));
            drop(held);
        }
    }

    #[test]
    fn a_changed_limit_counts_what_is_held() {
        let limit = Arc::new(SharedLimit::sharded(Some(100)));
        let seat = Seat::new(Arc::clone(&limit), 0);
        let mut held: Vec<_> = (0..100).map(|_| seat.acquire().unwrap()).collect();
        limit.set_max(Some(10));
        assert_eq!((limit.used(), limit.max()), (100, Some(10)));
        held.truncate(10);
        assert!(seat.acquire().is_none());
        held.truncate(9);
        held.push(seat.acquire().unwrap());
        assert!(seat.acquire().is_none());
        limit.set_max(None);
        assert_eq!(limit.max(), None);
        held.push(seat.acquire().unwrap());
        limit.set_max(Some(11));
        assert!(seat.acquire().is_none());
        drop(held);
        assert_eq!((0..20).map_while(|_| seat.acquire()).collect::<Vec<_>>().len(), 11);
    }

    #[test]
    fn threads_never_hold_more_than_the_limit() {
        for max in [1, 3, 40, 600] {
            let limit = Arc::new(SharedLimit::sharded(Some(max)));
            let held = Arc::new(AtomicI64::new(0));
            let threads: Vec<_> = seats(&limit, 4)
                .into_iter()
                .enumerate()
                .map(|(number, seat)| {
                    let held = Arc::clone(&held);
                    std::thread::spawn(move || {
                        let mut mine = Vec::new();
                        for step in 0..20_000_usize {
                            if (step * 7 + number) % 5 < 3 {
                                if let Some(permit) = seat.acquire() {
                                    let now = held.fetch_add(1, Ordering::SeqCst) + 1;
                                    assert!(now <= i64::from(max), "{now} of {max}");
                                    mine.push(permit);
                                }
                            } else if let Some(permit) = mine.pop() {
                                held.fetch_sub(1, Ordering::SeqCst);
                                drop(permit);
                            }
                        }
                        held.fetch_sub(mine.len() as i64, Ordering::SeqCst);
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(limit.used(), 0);
        }
    }

    #[tokio::test]
    async fn a_waiter_is_told_of_a_permit() {
        let limit = Arc::new(SharedLimit::plain(Some(1)));
        let (one, two) = (Seat::new(Arc::clone(&limit), 0), Seat::new(Arc::clone(&limit), 1));
        let held = one.acquire().unwrap();
        let waiting = two.wait();
        assert!(limit.is_short() && two.acquire().is_none());
        let told = limit.returned();
        drop(held);
        told.await;
        assert!(!limit.is_short());
        drop(two.acquire().unwrap());
        drop(waiting);
        assert_eq!((limit.waiting(), two.waiting()), (0, 0));
    }
}
