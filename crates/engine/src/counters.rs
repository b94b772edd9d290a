//! Counters of a worker. Each worker has its own cache lines; readers sum over the workers.

use std::sync::atomic::{AtomicU64, Ordering};

use cardinal_http::FailureKind;

use crate::policy::mirror::Fate;
use crate::policy::retry::Reason;

/// Counters of one worker.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    accepted: AtomicU64,
    refused: AtomicU64,
    requests: AtomicU64,
    active: AtomicU64,
    serving: AtomicU64,
    pool_evictions: AtomicU64,
    failures: [AtomicU64; FailureKind::ALL.len()],
    mirrored: [AtomicU64; Fate::ALL.len()],
    retries: [AtomicU64; Reason::ALL.len()],
    retry_budget_exhausted: AtomicU64,
}

/// Counters of all workers.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Connections accepted since start.
    pub accepted: u64,
    /// Connections closed immediately because of a limit.
    pub refused: u64,
    /// Requests since start.
    pub requests: u64,
    /// Connections open now.
    pub active: u64,
    /// Requests in progress now.
    pub serving: u64,
    /// TLS server names whose upstream connections were evicted in favour of other names.
    pub pool_evictions: u64,
    /// Failures by kind, in the order of [`FailureKind::ALL`].
    pub failures: Vec<(FailureKind, u64)>,
    /// Copies of requests for mirrors, by outcome.
    pub mirrored: Vec<(&'static str, u64)>,
    /// Retries by reason.
    pub retries: Vec<(&'static str, u64)>,
    /// Retries that were not made because a retry budget was exhausted.
    pub retry_budget_exhausted: u64,
}

impl Counters {
    pub(crate) fn accepted(&self) {
        add(&self.accepted, 1);
        add(&self.active, 1);
    }

    pub(crate) fn refused(&self) {
        add(&self.refused, 1);
    }

    pub(crate) fn closed(&self) {
        self.active.store(self.active.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
    }

    pub(crate) fn request_started(&self) {
        add(&self.requests, 1);
        add(&self.serving, 1);
    }

    /// A request that is already counted continues as a tunnel, without its plan.
    pub(crate) fn tunnel_started(&self) {
        add(&self.serving, 1);
    }

    pub(crate) fn request_ended(&self) {
        self.serving.store(self.serving.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
    }

    /// Sets the number of upstream connection classes evicted since the worker started.
    pub(crate) fn pool_evictions(&self, count: u64) {
        self.pool_evictions.store(count, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, kind: FailureKind) {
        if let Some(counter) = self.failures.get(kind as usize) {
            add(counter, 1);
        }
    }

    pub(crate) fn mirrored(&self, fate: Fate) {
        if let Some(counter) = self.mirrored.get(fate as usize) {
            add(counter, 1);
        }
    }

    /// Counts a retry.
    pub(crate) fn retried(&self, reason: Reason) {
        if let Some(counter) = self.retries.get(reason as usize) {
            add(counter, 1);
        }
    }

    /// Counts a retry that the retry budget prevented.
    pub(crate) fn retry_budget_exhausted(&self) {
        add(&self.retry_budget_exhausted, 1);
    }

    pub(crate) fn add_to(&self, totals: &mut Totals) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        totals.accepted += get(&self.accepted);
        totals.refused += get(&self.refused);
        totals.requests += get(&self.requests);
        totals.active += get(&self.active);
        totals.serving += get(&self.serving);
        totals.pool_evictions += get(&self.pool_evictions);
        if totals.failures.is_empty() {
            totals.failures = FailureKind::ALL.iter().map(|kind| (*kind, 0)).collect();
        }
        if totals.retries.is_empty() {
            totals.retries = Reason::ALL.iter().map(|reason| (reason.label(), 0)).collect();
        }
        for ((_, total), counter) in totals.retries.iter_mut().zip(&self.retries) {
            *total += get(counter);
        }
        totals.retry_budget_exhausted += get(&self.retry_budget_exhausted);
        for ((_, total), counter) in totals.failures.iter_mut().zip(&self.failures) {
            *total += get(counter);
        }
        if totals.mirrored.is_empty() {
            totals.mirrored = Fate::ALL.iter().map(|fate| (fate.label(), 0)).collect();
        }
        for ((_, total), counter) in totals.mirrored.iter_mut().zip(&self.mirrored) {
            *total += get(counter);
        }
    }
}

/// Only the worker itself writes, so a load and a store suffice in place of an atomic addition.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}
