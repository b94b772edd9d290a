//! [`Trust`]: the certificate authorities by which the node verifies the servers that it calls itself. They follow the
//! generation that is served.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The certificate authorities of the served generation.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    /// In PEM; the system's when `None`.
    authorities: Mutex<Option<Arc<str>>>,
    /// Counts the changes: a server that was verified under another number was verified by other authorities. Changed
    /// only while `authorities` is locked.
    number: AtomicU64,
}

impl Trust {
    /// Trusts these authorities from now on (PEM; the system's when `None`).
    pub(crate) fn set(&self, authorities: Option<&str>) {
        let mut current = self.lock();
        if current.as_deref() != authorities {
            *current = authorities.map(Arc::from);
            self.number.fetch_add(1, Ordering::Release);
        }
    }

    /// The number of the current authorities. Takes no lock.
    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    pub(super) fn current(&self) -> (u64, Option<Arc<str>>) {
        let current = self.lock();
        (self.number(), current.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        self.authorities.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
