//! Ejection of addresses that fail real traffic: what is observed of one address, and what follows from it.
//!
//! Observations are atomics and take no lock: a success of an address that has no failures writes nothing but the counts
//! of an interval, which are sharded. Ejections and returns happen under the group's lock, in [`Monitor::eject`] and
//! [`Monitor::settle`]; what rates mean is in [`rates`].

mod rates;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use cardinal_base::Tick;
use cardinal_ir::policy::OutlierDetection;

use crate::group::Outcome;
pub(crate) use rates::{Rate, outliers};

/// What ejected an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Detector {
    /// Statuses of 500 or more in a row.
    Total,
    /// Statuses 502, 503 and 504 in a row.
    Gateway,
    /// Failures to connect, resets and timeouts in a row.
    LocalOrigin,
    /// A success rate far below the mean.
    SuccessRate,
    /// A share of failures over the threshold.
    FailurePercentage,
}

impl Detector {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Total, Self::Gateway, Self::LocalOrigin, Self::SuccessRate, Self::FailurePercentage];

    /// The name in metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Gateway => "gateway",
            Self::LocalOrigin => "local_origin",
            Self::SuccessRate => "success_rate",
            Self::FailurePercentage => "failure_percentage",
        }
    }
}

/// An ejection as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// What caused it.
    pub detector: Detector,
    /// From when on it may end; it ends at the next evaluation after that.
    pub until: Tick,
    /// Ejections in a row, this one included.
    pub times: u32,
}

/// Shards of the counts of an interval.
const SHARDS: usize = 8;

/// What is observed of one address.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    /// Failures in a row: of [`Detector::Total`], [`Detector::Gateway`] and [`Detector::LocalOrigin`].
    rows: [AtomicU32; 3],
    ejected: AtomicBool,
    /// The rest of an ejection is written under the group's lock.
    until: AtomicU64,
    times: AtomicU32,
    detector: AtomicU32,
    /// Present once a detector needs rates.
    counts: OnceLock<Box<[Counts; SHARDS]>>,
}

/// Results of an interval, each with all of them in the low half and the failures in the high half.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Counts {
    external: AtomicU64,
    local: AtomicU64,
}

const ONE_FAILURE: u64 = (1 << 32) | 1;
const ONE_SUCCESS: u64 = 1;

/// Whose failures are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Statuses.
    External,
    /// Connections.
    Local,
}

impl Monitor {
    /// Whether the address is ejected.
    pub(crate) fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// The ejection.
    pub(crate) fn ejection(&self) -> Option<Ejection> {
        let detector = Detector::ALL.get(self.detector.load(Ordering::Relaxed) as usize);
        Some(Ejection {
            detector: *detector.filter(|_| self.is_ejected())?,
            until: Tick(self.until.load(Ordering::Relaxed)),
            times: self.times.load(Ordering::Relaxed),
        })
    }

    /// Takes an outcome in; a detector when failures in a row reach its number. Takes no lock.
    pub(crate) fn observe(&self, spec: &OutlierDetection, outcome: Outcome, shard: usize) -> Option<Detector> {
        // Results of an ejected address are those of requests that began before, or of a panic.
        if self.is_ejected() {
            return None;
        }
        let (split, limit) = (spec.split_local_origin, spec.detectors.local_origin);
        let status = match outcome {
            Outcome::Ok { .. } => return None,
            Outcome::TcpFailure | Outcome::Timeout if split => {
                self.count(Side::Local, ONE_FAILURE, shard);
                return self.row(Detector::LocalOrigin, limit);
            }
            Outcome::TcpFailure => 502,
            Outcome::Timeout => 504,
            Outcome::Connected => 200,
            Outcome::Status(status) => status,
        };
        if split {
            // There is an answer, so there was a connection.
            self.count(Side::Local, ONE_SUCCESS, shard);
            self.reset(Detector::LocalOrigin);
            if outcome == Outcome::Connected {
                return None;
            }
        }
        if status < 500 {
            self.count(Side::External, ONE_SUCCESS, shard);
            self.reset(Detector::Total);
            self.reset(Detector::Gateway);
            return None;
        }
        self.count(Side::External, ONE_FAILURE, shard);
        let gateway = if matches!(status, 502..=504) {
            self.row(Detector::Gateway, spec.detectors.gateway)
        } else {
            self.reset(Detector::Gateway);
            None
        };
        let total = self.row(Detector::Total, spec.detectors.total);
        gateway.or(total)
    }

    /// Counts one more in a row.
    fn row(&self, detector: Detector, limit: u32) -> Option<Detector> {
        let row = self.rows.get(detector as usize).filter(|_| limit > 0)?;
        if row.fetch_add(1, Ordering::Relaxed).saturating_add(1) < limit {
            return None;
        }
        row.store(0, Ordering::Relaxed);
        Some(detector)
    }

    fn reset(&self, detector: Detector) {
        // Written only after a failure: workers share it.
        if let Some(row) = self.rows.get(detector as usize)
            && row.load(Ordering::Relaxed) != 0
        {
            row.store(0, Ordering::Relaxed);
        }
    }

    fn count(&self, side: Side, one: u64, shard: usize) {
        if let Some(counts) = self.counts.get().and_then(|counts| counts.get(shard % SHARDS)) {
            let counter = if side == Side::External { &counts.external } else { &counts.local };
            counter.fetch_add(one, Ordering::Relaxed);
        }
    }

    /// Makes the counts of intervals, where a detector needs them.
    pub(crate) fn prepare(&self, spec: &OutlierDetection) {
        if spec.detectors.success_rate.is_some() || spec.detectors.failure_percentage.is_some() {
            self.counts.get_or_init(Box::default);
        }
    }

    /// Takes the counts of the interval that ends.
    pub(crate) fn take_rate(&self, side: Side) -> Rate {
        let shards = self.counts.get().into_iter().flat_map(|shards| shards.iter());
        shards.fold(Rate::default(), |sum, shard| {
            let counter = if side == Side::External { &shard.external } else { &shard.local };
            let word = counter.swap(0, Ordering::Relaxed);
            Rate { total: sum.total + (word & 0xffff_ffff), failures: sum.failures + (word >> 32) }
        })
    }

    /// Ejects the address. Under the group's lock.
    pub(crate) fn eject(&self, spec: &OutlierDetection, detector: Detector, now: Tick) -> Duration {
        let base = spec.base_ejection_ms;
        let mut times = self.times.load(Ordering::Relaxed);
        // Once the longest time is reached, more ejections do not make the way back longer.
        if base.saturating_mul(u64::from(times)) < spec.max_ejection_ms.saturating_add(base) {
            times = times.saturating_add(1);
        }
        let longest = spec.max_ejection_ms.max(base);
        let lasts_ms = base.saturating_mul(u64::from(times)).min(longest);
        self.times.store(times, Ordering::Relaxed);
        self.until.store(now.plus_millis(lasts_ms).0, Ordering::Relaxed);
        self.detector.store(detector as u32, Ordering::Relaxed);
        self.ejected.store(true, Ordering::Relaxed);
        Duration::from_millis(lasts_ms)
    }

    /// What an interval brings: an ejection that is over ends (`true`), and an address that was not ejected is trusted a
    /// little more. Under the group's lock.
    pub(crate) fn settle(&self, now: Tick) -> bool {
        if self.is_ejected() {
            return Tick(self.until.load(Ordering::Relaxed)) <= now && self.restore();
        }
        let times = self.times.load(Ordering::Relaxed);
        self.times.store(times.saturating_sub(1), Ordering::Relaxed);
        false
    }

    /// Ends an ejection; false when there is none. Under the group's lock.
    pub(crate) fn restore(&self) -> bool {
        self.rows.iter().for_each(|row| row.store(0, Ordering::Relaxed));
        self.ejected.swap(false, Ordering::Relaxed)
    }

    /// Forgets everything. Under the group's lock.
    pub(crate) fn clear(&self) {
        self.times.store(0, Ordering::Relaxed);
        self.restore();
    }
}

/// Whether one more of so many addresses may be ejected when so many are.
pub(crate) fn may_eject(spec: &OutlierDetection, ejected: usize, addresses: usize) -> bool {
    let percent = u128::from(spec.max_ejection_percent.min(100));
    percent > 0 && (ejected == 0 || (ejected as u128 + 1) * 100 <= percent * addresses as u128)
}

#[cfg(test)]
mod tests;
