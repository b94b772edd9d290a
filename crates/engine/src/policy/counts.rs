//! Counters of policies for `/metrics`.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Actions of policies. The set is closed, because the actions are metric labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// An authorization allowed a request or a connection.
    Allowed,
    /// An authorization denied a request or a connection.
    Denied,
    /// An authorization in shadow mode, or a rule of it, would have denied a request or a connection.
    ShadowDenied,
    /// A rate limit rejected a request or a connection.
    Limited,
    /// A fault delayed a request.
    Delayed,
    /// A fault aborted a request.
    Aborted,
    /// A fault slowed down a response.
    Throttled,
}

impl Event {
    /// All of them.
    pub(crate) const ALL: [Self; 7] =
        [Self::Allowed, Self::Denied, Self::ShadowDenied, Self::Limited, Self::Delayed, Self::Aborted, Self::Throttled];
}

/// Groups of counters. Threads are spread over them, so that workers do not write to the same cache lines.
const STRIPES: usize = 16;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe([AtomicU64; Event::ALL.len()]);

/// Counts of the actions of all policies of a node since the start.
#[derive(Debug, Default)]
pub(crate) struct PolicyCounts([Stripe; STRIPES]);

impl PolicyCounts {
    /// The key of [`Shared::get_or_insert`](cardinal_sdk::Shared::get_or_insert).
    pub(crate) const KEY: &'static str = "policy counts";

    pub(crate) fn add(&self, event: Event) {
        if let Some(counter) = self.0.get(stripe()).and_then(|stripe| stripe.0.get(event as usize)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self, event: Event) -> u64 {
        let counters = self.0.iter().filter_map(|stripe| stripe.0.get(event as usize));
        counters.map(|counter| counter.load(Ordering::Relaxed)).sum()
    }
}

/// The stripe of this thread.
fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
    }
    OWN.with(Cell::get)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn counts_of_all_threads_add_up() {
        let counts = Arc::new(PolicyCounts::default());
        let threads = (0..40).map(|_| {
            let counts = Arc::clone(&counts);
            std::thread::spawn(move || (0..1_000).for_each(|_| counts.add(Event::Denied)))
        });
        threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(Event::ALL.map(|event| counts.get(event)), [0, 40_000, 0, 0, 0, 0, 0]);
    }
}
