//! Traffic mirroring: selects requests, buffers their bodies, and counts the results. `http::mirroring` sends the
//! copies.

use std::cell::Cell;
use std::rc::Rc;

use cardinal_ir::policy::Mirror;

#[cfg(test)]
mod tests;

/// Maximum number of copies that a worker is collecting or sending; further requests are not copied.
pub(crate) const IN_FLIGHT_MAX: usize = 128;

/// The outcome of a copy: a label of `cardinal_mirrored_requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The backend has responded.
    Answered,
    /// The backend could not be reached, or did not respond correctly in time.
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
    /// The request asks for a protocol upgrade.
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

/// Whether a request is copied; `random` supplies a random number.
pub(crate) fn is_chosen(mirror: &Mirror, random: impl FnOnce() -> u64) -> bool {
    // NaN selects no requests.
    if mirror.percent >= 100.0 {
        return true;
    }
    // The fraction of a double has 53 bits.
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
    let number = || (random() >> 11) as f64 / (1_u64 << 53) as f64;
    mirror.percent > 0.0 && number() * 100.0 < mirror.percent
}

/// Marks the host of a copy: appends `-shadow` to the name, before the port. IPv6 literals cannot be marked.
pub(crate) fn mark_host(host: &mut String) {
    if host.starts_with('[') || host.is_empty() {
        return;
    }
    let end = host.rfind(':').unwrap_or(host.len());
    host.insert_str(end, "-shadow");
}

/// The number of a worker's copies in flight.
#[derive(Clone, Debug, Default)]
pub(crate) struct InFlight(Rc<Cell<usize>>);

impl InFlight {
    /// Acquires a permit for a copy, if the limit allows.
    pub(crate) fn enter(&self) -> Option<Place> {
        let count = self.0.get();
        (count < IN_FLIGHT_MAX).then(|| {
            self.0.set(count + 1);
            Place(Rc::clone(&self.0))
        })
    }
}

/// The permit of an in-flight copy, released when dropped.
#[derive(Debug)]
pub(crate) struct Place(Rc<Cell<usize>>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
