//! Deadlines in a coarse timer wheel, one wheel per worker. Moving a deadline is a store to a cell: nothing is
//! allocated, and the clock is only read for short deadlines.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

use cardinal_base::{Clock, Tick};
use std::sync::Arc;

/// Milliseconds per slot. Deadlines fire up to three slots late: one because the time used by [`Timer::arm`] is up to a
/// slot old, for which another one is added, and one because a slot fires as a whole. Short deadlines fire up to one
/// slot late.
pub(crate) const SLOT_MS: u64 = 20;

/// Deadlines shorter than this start at the clock's time, others at the wheel's cached time.
const SHORT_MS: u64 = 10 * SLOT_MS;

/// Number of slots; later deadlines wrap around.
const SLOTS: usize = 4096;

/// No deadline.
const NEVER: u64 = u64::MAX;

/// The deadlines of one worker.
pub struct Wheel {
    clock: Arc<dyn Clock>,
    slots: RefCell<Vec<Vec<Rc<Entry>>>>,
    /// Milliseconds at the last reading of the clock; the wheel itself reads it as long as deadlines are queued.
    seen_ms: Cell<u64>,
    /// Number of the last slot that has fired.
    done: Cell<u64>,
    /// Number of queued entries.
    queued: Cell<usize>,
    /// Wakes the task that advances the wheel when it was idle.
    runner: RefCell<Option<Waker>>,
}

#[derive(Debug)]
struct Entry {
    /// The deadline, milliseconds.
    deadline: Cell<u64>,
    /// Number of the slot in which the entry is queued; [`NEVER`] if it is not queued.
    slot: Cell<u64>,
    /// The index of the entry in that slot.
    place: Cell<usize>,
    waker: RefCell<Option<Waker>>,
}

impl Wheel {
    /// An empty wheel.
    pub fn new(clock: Arc<dyn Clock>) -> Rc<Self> {
        let seen_ms = clock.tick().millis();
        let now = seen_ms / SLOT_MS;
        Rc::new(Self {
            clock,
            seen_ms: Cell::new(seen_ms),
            slots: RefCell::new((0..SLOTS).map(|_| Vec::new()).collect()),
            done: Cell::new(now),
            queued: Cell::new(0),
            runner: RefCell::new(None),
        })
    }

    /// The clock.
    pub fn now(&self) -> Tick {
        let now = self.clock.tick();
        self.seen_ms.set(now.millis());
        now
    }

    /// Milliseconds at the last reading of the clock: as long as the value stays the same, no deadline needs to be
    /// moved.
    pub fn seen_ms(&self) -> u64 {
        self.seen_ms.get()
    }

    /// The time `ms` milliseconds from now.
    fn after(&self, ms: u64) -> u64 {
        if ms < SHORT_MS {
            self.now().millis() + ms
        } else if self.queued.get() == 0 {
            // The wheel is idle, so its cached time is not updated.
            self.now().millis().saturating_add(ms)
        } else {
            self.seen_ms.get().saturating_add(SLOT_MS).saturating_add(ms)
        }
    }

    /// Advances the wheel for as long as the worker lives. To be run as a task of the worker.
    pub async fn run(self: Rc<Self>) {
        loop {
            std::future::poll_fn(|cx| {
                if self.queued.get() > 0 {
                    return std::task::Poll::Ready(());
                }
                *self.runner.borrow_mut() = Some(cx.waker().clone());
                std::task::Poll::Pending
            })
            .await;
            self.clock.sleep(std::time::Duration::from_millis(SLOT_MS)).await;
            self.fire();
        }
    }

    /// Wakes tasks whose deadline has passed.
    pub fn fire(&self) {
        let now_ms = self.now().millis();
        let now = now_ms / SLOT_MS;
        // After a long pause, one round visits every slot.
        let first = (self.done.get() + 1).max(now.saturating_sub(SLOTS as u64 - 1));
        for number in first..=now {
            let Some(entries) = self.slots.borrow_mut().get_mut(index(number)).map(std::mem::take) else { continue };
            self.queued.set(self.queued.get() - entries.len());
            for entry in &entries {
                entry.slot.set(NEVER);
            }
            for entry in entries {
                let deadline = entry.deadline.get();
                if deadline == NEVER {
                    continue;
                }
                if deadline <= now_ms {
                    if let Some(waker) = entry.waker.borrow_mut().take() {
                        waker.wake();
                    }
                } else {
                    self.queue(&entry, deadline);
                }
            }
        }
        self.done.set(now.max(self.done.get()));
    }

    /// Wakes every task that waits for a deadline, before the deadline, so that all of them check for changes.
    pub fn wake_all(&self) {
        let wakers: Vec<_> =
            self.slots.borrow().iter().flatten().filter_map(|entry| entry.waker.borrow_mut().take()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Queues an entry in the slot after its deadline, unless it is already queued in an earlier slot: from there it is
    /// moved on.
    fn queue(&self, entry: &Rc<Entry>, deadline: u64) {
        let slot = (deadline / SLOT_MS + 1).max(self.done.get() + 1);
        if entry.slot.get() <= slot {
            return;
        }
        self.unqueue(entry);
        if let Some(entries) = self.slots.borrow_mut().get_mut(index(slot)) {
            entry.slot.set(slot);
            entry.place.set(entries.len());
            entries.push(Rc::clone(entry));
            self.queued.set(self.queued.get() + 1);
        }
        if let Some(runner) = self.runner.borrow_mut().take() {
            runner.wake();
        }
    }

    /// Removes an entry from its slot; the last entry of the slot takes over its index.
    fn unqueue(&self, entry: &Entry) {
        let slot = entry.slot.replace(NEVER);
        if slot == NEVER {
            return;
        }
        let mut slots = self.slots.borrow_mut();
        let Some(entries) = slots.get_mut(index(slot)).filter(|entries| entry.place.get() < entries.len()) else {
            return;
        };
        entries.swap_remove(entry.place.get());
        if let Some(moved) = entries.get(entry.place.get()) {
            moved.place.set(entry.place.get());
        }
        self.queued.set(self.queued.get() - 1);
    }
}

#[allow(clippy::cast_possible_truncation, reason = "below SLOTS")]
fn index(slot: u64) -> usize {
    (slot % SLOTS as u64) as usize
}

/// A deadline that one task waits for. Created once per connection and moved as often as needed.
pub struct Timer {
    wheel: Rc<Wheel>,
    entry: Rc<Entry>,
}

impl Timer {
    /// A timer without a deadline.
    pub fn new(wheel: &Rc<Wheel>) -> Self {
        let entry = Entry {
            deadline: Cell::new(NEVER),
            slot: Cell::new(NEVER),
            place: Cell::new(0),
            waker: RefCell::new(None),
        };
        Self { wheel: Rc::clone(wheel), entry: Rc::new(entry) }
    }

    /// Sets the deadline to `ms` from now.
    pub fn arm(&self, ms: u64) {
        let deadline = self.wheel.after(ms);
        self.entry.deadline.set(deadline);
        self.wheel.queue(&self.entry, deadline);
    }

    /// Removes the deadline.
    pub fn disarm(&self) {
        self.entry.deadline.set(NEVER);
    }

    /// Whether the deadline has passed; if not, the task is woken when it has.
    pub fn poll_expired(&self, cx: &Context<'_>) -> bool {
        let deadline = self.entry.deadline.get();
        if deadline == NEVER {
            return false;
        }
        if deadline <= self.wheel.seen_ms.get() {
            return true;
        }
        self.register(cx);
        false
    }

    /// Registers the task for a deadline that was just armed.
    pub fn register(&self, cx: &Context<'_>) {
        let mut waker = self.entry.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Waits until the deadline.
    pub async fn expired(&self) {
        std::future::poll_fn(
            |cx| if self.poll_expired(cx) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending },
        )
        .await;
    }

    /// The result of the future, or `None` if it takes longer than `ms`.
    pub async fn limit<F: Future>(&self, ms: u64, future: F) -> Option<F::Output> {
        self.arm(ms);
        let mut future = std::pin::pin!(future);
        let outcome = std::future::poll_fn(|cx| {
            if let std::task::Poll::Ready(output) = future.as_mut().poll(cx) {
                return std::task::Poll::Ready(Some(output));
            }
            if self.poll_expired(cx) { std::task::Poll::Ready(None) } else { std::task::Poll::Pending }
        })
        .await;
        self.disarm();
        outcome
    }

    /// The wheel of this timer.
    pub fn wheel(&self) -> &Rc<Wheel> {
        &self.wheel
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.wheel.unqueue(&self.entry);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    use cardinal_base::{ManualClock, Rng as _, SeededRng};

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn deadlines_fire_once_and_late_by_three_slots_at_most() {
        let clock = Arc::new(ManualClock::default());
        let wheel = Wheel::new(clock.clone());
        let (counter, timer) = (Arc::new(Counter::default()), Timer::new(&wheel));
        let waker = Waker::from(Arc::clone(&counter));
        let cx = Context::from_waker(&waker);
        let step = |ms| {
            clock.advance(Duration::from_millis(ms));
            wheel.fire();
            counter.0.load(Ordering::SeqCst)
        };
        timer.arm(100);
        assert!(!timer.poll_expired(&cx));
        assert_eq!(step(90), 0);
        // Moved to a later time twice, and then to an earlier one.
        timer.arm(500_000);
        timer.arm(1_000);
        assert!(!timer.poll_expired(&cx));
        assert_eq!(step(980), 0);
        assert_eq!(step(60), 1);
        assert!(timer.poll_expired(&cx));
        timer.disarm();
        assert_eq!(step(600_000), 1);
        assert!(!timer.poll_expired(&cx));
        assert_eq!(wheel.queued.get(), 0);
    }

    #[test]
    fn what_is_dropped_leaves_the_wheel_at_once_and_nothing_else_does() {
        let clock = Arc::new(ManualClock::default());
        let wheel = Wheel::new(clock.clone());
        let mut rng = SeededRng::new(7);
        let mut below = |bound: usize| usize::try_from(rng.below(bound as u64)).unwrap();
        let mut timers: Vec<(Timer, Arc<Counter>)> = Vec::new();
        for _ in 0..20_000 {
            if below(3) > 0 || timers.is_empty() {
                let (timer, counter) = (Timer::new(&wheel), Arc::new(Counter::default()));
                timer.arm(1_000 + below(100) as u64);
                timer.register(&Context::from_waker(&Waker::from(Arc::clone(&counter))));
                timers.push((timer, counter));
            } else {
                timers.swap_remove(below(timers.len()));
            }
            if let Some((timer, _)) = timers.get(below(timers.len())) {
                timer.arm(1_000 + below(100) as u64);
            }
            assert_eq!(wheel.queued.get(), timers.len());
        }
        assert_eq!(wheel.slots.borrow().iter().map(Vec::len).sum::<usize>(), timers.len());
        assert!(timers.iter().all(|(timer, _)| Rc::strong_count(&timer.entry) == 2));
        for _ in 0..100 {
            clock.advance(Duration::from_millis(SLOT_MS));
            wheel.fire();
        }
        assert!(timers.iter().all(|(_, counter)| counter.0.load(Ordering::SeqCst) == 1));
        assert_eq!(wheel.queued.get(), 0);
    }

    #[test]
    fn deadlines_beyond_one_turn_of_the_wheel_hold() {
        let clock = Arc::new(ManualClock::default());
        let wheel = Wheel::new(clock.clone());
        let (counter, timer) = (Arc::new(Counter::default()), Timer::new(&wheel));
        let waker = Waker::from(Arc::clone(&counter));
        let far = SLOT_MS * SLOTS as u64 * 3;
        timer.arm(far);
        assert!(!timer.poll_expired(&Context::from_waker(&waker)));
        let mut passed = 0;
        while counter.0.load(Ordering::SeqCst) == 0 {
            clock.advance(Duration::from_millis(10));
            passed += 10;
            wheel.fire();
        }
        assert!((far..far + 3 * SLOT_MS + 10).contains(&passed), "{passed}");
    }

    /// An advancing wheel reads the clock once per slot: deadlines armed in between, based on the cached time, are not
    /// early, and at most three slots late.
    #[test]
    fn no_deadline_is_early_though_the_clock_is_read_once_a_slot() {
        for ms in [0, 1, 30, SHORT_MS - 1, SHORT_MS, 5_000] {
            for since_look in 0..SLOT_MS {
                let clock = Arc::new(ManualClock::default());
                let wheel = Wheel::new(clock.clone());
                let (counter, timer, other) = (Arc::new(Counter::default()), Timer::new(&wheel), Timer::new(&wheel));
                other.arm(60_000);
                clock.advance(Duration::from_millis(since_look));
                timer.arm(ms);
                let waker = Waker::from(Arc::clone(&counter));
                if timer.poll_expired(&Context::from_waker(&waker)) {
                    assert_eq!(ms, 0);
                    continue;
                }
                clock.advance(Duration::from_millis(SLOT_MS - since_look));
                let mut passed = SLOT_MS - since_look;
                wheel.fire();
                while counter.0.load(Ordering::SeqCst) == 0 {
                    clock.advance(Duration::from_millis(SLOT_MS));
                    passed += SLOT_MS;
                    wheel.fire();
                }
                assert!((ms..=ms + 3 * SLOT_MS).contains(&passed), "{ms} ms took {passed} ms");
                assert!(timer.poll_expired(&Context::from_waker(&waker)));
            }
        }
    }

    #[test]
    fn a_wheel_that_stood_still_does_not_go_by_its_old_time() {
        let clock = Arc::new(ManualClock::default());
        let wheel = Wheel::new(clock.clone());
        clock.advance(Duration::from_secs(3_600));
        let timer = Timer::new(&wheel);
        timer.arm(1_000);
        wheel.fire();
        assert!(!timer.poll_expired(&Context::from_waker(Waker::noop())));
    }
}
