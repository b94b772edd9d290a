//! [`ManualClock`]: time that passes only when a test says so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
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
        let mut waiting = self.state.lock();
        let now = self.state.now().plus(by);
        self.state.micros.store(now.0, Ordering::SeqCst);
        if waiting.first_key_value().is_none_or(|((deadline, _), _)| *deadline > now) {
            return;
        }
        let later = waiting.split_off(&(Tick(now.0.saturating_add(1)), 0));
        let due = std::mem::replace(&mut *waiting, later);
        drop(waiting);
        due.into_values().for_each(Waker::wake);
    }

    /// The earliest deadline that a task waits for.
    pub fn next_deadline(&self) -> Option<Tick> {
        self.state.lock().keys().next().map(|(deadline, _)| *deadline)
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
        // Time passes only while this lock is held, so no wake-up is lost.
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
        let waker = self.state.lock().remove(&self.key);
        drop(waker);
    }
}
