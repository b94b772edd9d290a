//! What the loop counts, read by another thread while it runs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::latency::{Latencies, Recorder};

/// What the loop counts.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(super) answered: AtomicU64,
    pub(super) served: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) retried: AtomicU64,
    pub(super) latencies: Recorder,
    stop: AtomicBool,
}

impl Counts {
    /// Answers that clients got and found right.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Requests that the upstream answered.
    #[cfg(test)]
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Bytes of bodies and messages that clients sent and got, those under way included.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Wrong answers and broken connections.
    pub(crate) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Requests that an HTTP/2 proxy refused or left behind when it closed a connection in order; they were sent again.
    pub(crate) fn retried(&self) -> u64 {
        self.retried.load(Ordering::Relaxed)
    }

    /// Latencies until now, if the load has a rate. Take two and [`Latencies::since`] for a window.
    pub(crate) fn latencies(&self) -> Latencies {
        self.latencies.read()
    }

    /// Ends [`super::Load::run`].
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Adds; there is one writer.
pub(super) fn count(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}
