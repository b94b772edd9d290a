//! [`Shortage`]: signals to workers that other workers wait for connections.

use std::sync::atomic::{AtomicU64, Ordering};

use cardinal_base::Tick;
use tokio::sync::Notify;

/// Minimum time between two signals to release idle connections, in milliseconds.
pub(super) const ASKED_EVERY_MS: u64 = 10;

/// Signals to workers that other workers wait for connections which they may hold idle.
#[derive(Default)]
pub(crate) struct Shortage {
    pub(super) told: Notify,
    /// Time of the last signal, milliseconds.
    last_ms: AtomicU64,
}

impl Shortage {
    pub(super) fn tell(&self, now: Tick) {
        let last_ms = self.last_ms.load(Ordering::Relaxed);
        if now.millis().saturating_sub(last_ms) >= ASKED_EVERY_MS {
            self.last_ms.store(now.millis(), Ordering::Relaxed);
            self.told.notify_waiters();
        }
    }
}
