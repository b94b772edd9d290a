//! [`Trust`]: the certificate authorities by which the node verifies servers of its own calls. They follow the active
//! generation.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The certificate authorities of the active generation.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    /// PEM; `None` means those of the system.
    authorities: Mutex<Option<Arc<str>>>,
    /// Counts the changes: a server verified under another number was verified by other authorities. Only changed while
    /// `authorities` is locked.
    number: AtomicU64,
}

impl Trust {
    /// Replaces the authorities (PEM; `None` means those of the system).
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
