//! [`ManualClock`]: time that passes only when a test says so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::{Clock, Sleep, Tick, UnixMillis};

/// A clock that is advanced manually, for simulation. Tasks of any thread may wait for it.
#[derive(Debug, Default)]
pub struct ManualClock {
    state: Arc<State>,
    unix_start_ms: u64,
}

#[derive(Debug, Default)]
struct State {
    micros: AtomicU64,
    /// Numbers waiters.
    next: AtomicU64,
    /// Tasks that wait or are about to. A clock that nobody waits for moves without a lock.
    waiters: AtomicUsize,
    /// Tasks that wait, by deadline and number.
    waiting: Mutex<BTreeMap<(Tick, u64), Waker>>,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Tick, u64), Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Tick {
        Tick(self.micros.load(Ordering::SeqCst))
    }
}

impl ManualClock {
    /// A clock at tick 0 and this wall time.
    pub fn at(unix: UnixMillis) -> Self {
        Self { state: Arc::default(), unix_start_ms: unix.0 }
    }

    /// Moves both clocks forward, and wakes the tasks whose deadlines have passed, in the order of the deadlines. They
    /// see the new time: the clock does not stop at the deadlines in between.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        if self.state.micros.fetch_add(by, Ordering::SeqCst).checked_add(by).is_none() {
            self.state.micros.store(u64::MAX, Ordering::SeqCst);
        }
        // Who begins to wait is counted before it looks at the clock, so that it is seen here or sees the new time.
        if self.state.waiters.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut waiting = self.state.lock();
        let now = self.state.now();
        if waiting.first_key_value().is_none_or(|((deadline, _), _)| *deadline > now) {
            return;
        }
        let later = waiting.split_off(&(Tick(now.0.saturating_add(1)), 0));
        let due = std::mem::replace(&mut *waiting, later);
        drop(waiting);
        due.into_values().for_each(Waker::wake);
    }

    /// Lets time pass for the tasks of the current thread's runtime: the clock moves from deadline to deadline, and stops
    /// at each until no task has anything left to do. For tests without sockets and other threads.
    pub async fn pass(&self, by: Duration) {
        let end = self.tick().plus(by);
        loop {
            settle().await;
            match self.next_deadline() {
                Some(next) if next <= end => self.advance(next.since(self.tick())),
                _ => break,
            }
        }
        self.advance(end.since(self.tick()));
        settle().await;
    }

    /// Lets time pass in the same way until a future is ready.
    pub async fn pass_until<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        loop {
            tokio::select! {
                biased;
                value = &mut future => return value,
                () = settle() => {}
            }
            if let Some(next) = self.next_deadline() {
                self.advance(next.since(self.tick()));
            }
        }
    }

    /// The earliest deadline that a task waits for.
    pub fn next_deadline(&self) -> Option<Tick> {
        self.state.lock().keys().next().map(|(deadline, _)| *deadline)
    }
}

/// Gives way to the other tasks of the runtime until none of them has anything left to do, by a wide margin.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

impl Clock for ManualClock {
    fn tick(&self) -> Tick {
        self.state.now()
    }

    fn unix(&self) -> UnixMillis {
        UnixMillis(self.unix_start_ms + self.tick().millis())
    }

    fn sleep_until(&self, deadline: Tick) -> Sleep {
        let number = self.state.next.fetch_add(1, Ordering::Relaxed);
        self.state.waiters.fetch_add(1, Ordering::SeqCst);
        Sleep::manual(Waiter { state: Arc::clone(&self.state), key: (deadline, number) })
    }
}

/// A task's wait for a manual clock.
#[derive(Debug)]
pub(super) struct Waiter {
    state: Arc<State>,
    key: (Tick, u64),
}

impl Waiter {
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        // The lock is held from the look at the clock until the waker is known, so no wake-up is lost.
        let mut waiting = self.state.lock();
        if self.state.now() >= self.key.0 {
            return Poll::Ready(());
        }
        waiting.insert(self.key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.state.waiters.fetch_sub(1, Ordering::SeqCst);
        let waker = self.state.lock().remove(&self.key);
        drop(waker);
    }
}
