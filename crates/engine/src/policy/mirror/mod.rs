//! Mirrors: which requests are copied, how a body is collected on its way, and what became of the copies. `http::mirroring`
//! sends them.

use std::cell::Cell;
use std::rc::Rc;

use cardinal_ir::policy::Mirror;

#[cfg(test)]
mod tests;

/// Copies of a worker that are collected or on their way, at most; those of further requests are dropped.
pub(crate) const IN_FLIGHT_MAX: usize = 128;

/// What became of a copy. The labels of `cardinal_mirrored_requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The backend has answered.
    Answered,
    /// The backend could not be reached, or has not answered properly or in time.
    Failed,
    /// The body is longer than the mirror allows.
    BodyTooLarge,
    /// The request ended before its body was complete.
    BodyIncomplete,
    /// The worker has too many copies in flight.
    InFlightLimit,
    /// The memory budget for bodies is exhausted.
    MemoryLimit,
    /// The backend cannot be used.
    NoBackend,
    /// The request asks for another protocol.
    Upgrade,
}

impl Fate {
    pub(crate) const ALL: [Self; 8] = [
        Self::Answered,
        Self::Failed,
        Self::BodyTooLarge,
        Self::BodyIncomplete,
        Self::InFlightLimit,
        Self::MemoryLimit,
        Self::NoBackend,
        Self::Upgrade,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyIncomplete => "body_incomplete",
            Self::InFlightLimit => "in_flight_limit",
            Self::MemoryLimit => "memory_limit",
            Self::NoBackend => "no_backend",
            Self::Upgrade => "upgrade",
        }
    }
}

/// Whether a request is copied, by a random number.
pub(crate) fn is_chosen(mirror: &Mirror, random: impl FnOnce() -> u64) -> bool {
    // What is not a number is no share.
    if mirror.percent >= 100.0 {
        return true;
    }
    // 53 bits are what the fraction of a double holds.
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
    let number = || (random() >> 11) as f64 / (1_u64 << 53) as f64;
    mirror.percent > 0.0 && number() * 100.0 < mirror.percent
}

/// Marks the host of a copy: `-shadow` behind the name, before the port. Literals of IPv6 addresses cannot be marked.
pub(crate) fn mark_host(host: &mut String) {
    if host.starts_with('[') || host.is_empty() {
        return;
    }
    let end = host.rfind(':').unwrap_or(host.len());
    host.insert_str(end, "-shadow");
}

/// How many copies a worker has in flight.
#[derive(Clone, Debug, Default)]
pub(crate) struct InFlight(Rc<Cell<usize>>);

impl InFlight {
    /// A place for a copy, if there is one.
    pub(crate) fn enter(&self) -> Option<Place> {
        let count = self.0.get();
        (count < IN_FLIGHT_MAX).then(|| {
            self.0.set(count + 1);
            Place(Rc::clone(&self.0))
        })
    }
}

/// A place among the copies in flight, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(Rc<Cell<usize>>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
