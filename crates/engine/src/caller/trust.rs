//! [`Trust`]: the authorities by which the node verifies whom it calls. They follow the generation that is served.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The authorities of the served generation.
#[derive(Debug, Default)]
pub(crate) struct Trust(Mutex<Current>);

#[derive(Debug, Default)]
struct Current {
    /// Counts the changes: what was verified under another number was verified by other authorities.
    number: u64,
    /// In PEM; the system's when `None`.
    authorities: Option<Arc<str>>,
}

impl Trust {
    /// Trusts these authorities from now on (PEM; the system's when `None`).
    pub(crate) fn set(&self, authorities: Option<&str>) {
        let mut current = self.lock();
        if current.authorities.as_deref() != authorities {
            *current = Current { number: current.number + 1, authorities: authorities.map(Arc::from) };
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.lock().number
    }

    pub(super) fn current(&self) -> (u64, Option<Arc<str>>) {
        let current = self.lock();
        (current.number, current.authorities.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
