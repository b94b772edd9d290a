//! The counters of the load, read by another thread while it runs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::latency::{Latencies, Recorder};

/// The counters of the load.
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
    /// Number of correct responses received by clients.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Number of requests to which the upstream responded.
    #[cfg(test)]
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Number of body and message bytes that clients sent and received, including those in flight.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Number of wrong responses and failed connections.
    pub(crate) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Number of requests that an HTTP/2 proxy refused or left unprocessed during a graceful shutdown; they were sent
    /// again.
    pub(crate) fn retried(&self) -> u64 {
        self.retried.load(Ordering::Relaxed)
    }

    /// Latencies so far, if the load has a rate. Use [`Latencies::since`] for the latencies of a window.
    pub(crate) fn latencies(&self) -> Latencies {
        self.latencies.read()
    }

    /// Stops [`super::Load::run`].
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Adds to a counter; there is one writer.
pub(super) fn count(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}
