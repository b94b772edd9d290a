//! [`Shortage`]: workers learn from it that others wait for connections.

use std::sync::atomic::{AtomicU64, Ordering};

use cardinal_base::Tick;
use tokio::sync::Notify;

/// Workers are asked for idle connections this often at most, milliseconds.
pub(super) const ASKED_EVERY_MS: u64 = 10;

/// Tells workers that others wait for connections that they may have idle.
#[derive(Default)]
pub(crate) struct Shortage {
    pub(super) told: Notify,
    /// When workers were asked last, milliseconds.
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
